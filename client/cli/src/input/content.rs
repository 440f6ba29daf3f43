//! Secrets from files and from standard input. Never from the command line itself, where every process of the machine can
//! read them.

use std::{
    io::{self, IsTerminal, Read},
    path::Path,
};

use strongroom_client::{SecretBytes, limits};

use super::prompt;
use crate::failure::Failure;

/// One byte more than any secret may have, so that a larger one is noticed and not cut.
const LARGEST: u64 = limits::REQUEST_BYTES as u64 + 1;

/// Many secrets in one file: those of a large namespace, with room to spare.
const LARGEST_OF_MANY: u64 = 64 << 20;

/// The whole content, byte for byte; `-` is standard input.
pub(crate) fn whole(file: &Path) -> Result<SecretBytes, Failure> {
    up_to(LARGEST, file)?
        .ok_or_else(|| Failure::usage(format!("{} is larger than any secret may be", name(file))))
}

/// The same of a file that may have many secrets in it.
pub(crate) fn whole_of_many(file: &Path) -> Result<SecretBytes, Failure> {
    let problem = || Failure::usage(format!("{} is larger than {} MiB", name(file), LARGEST_OF_MANY >> 20));
    up_to(LARGEST_OF_MANY, file)?.ok_or_else(problem)
}

/// How a file is called.
pub(crate) fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// Nothing if it is as large as that, or larger.
fn up_to(largest: u64, file: &Path) -> Result<Option<SecretBytes>, Failure> {
    // The capacity is reserved first, so that growing leaves no half-read copy behind.
    let mut bytes = Vec::with_capacity(limits::SECRET_BYTES + 1);
    let read = if file == Path::new("-") {
        io::stdin().lock().take(largest).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(largest).read_to_end(&mut bytes))
    };
    let secret = SecretBytes::new(bytes);
    read.map_err(|error| Failure::local(name(file), error))?;
    Ok(Some(secret).filter(|secret| (secret.len() as u64) < largest))
}

/// A password, share or token from a file: without the line break at its end.
pub(crate) fn word(file: &Path) -> Result<SecretBytes, Failure> {
    whole(file).map(trimmed)
}

/// Shares from files, one on each line; without files from standard input, or one typed by a person.
pub(crate) fn shares(files: &[impl AsRef<Path>]) -> Result<Vec<SecretBytes>, Failure> {
    if files.is_empty() && io::stdin().is_terminal() {
        return Ok(vec![trimmed(prompt::hidden("Share")?)]);
    }
    let mut shares = Vec::new();
    let stdin = [Path::new("-")];
    let files: Vec<&Path> =
        if files.is_empty() { stdin.to_vec() } else { files.iter().map(AsRef::as_ref).collect() };
    for file in files {
        shares.extend(lines(&whole(file)?));
    }
    if shares.is_empty() {
        return Err(Failure::usage("no share was given"));
    }
    Ok(shares)
}

fn lines(text: &SecretBytes) -> Vec<SecretBytes> {
    text.expose()
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(SecretBytes::from)
        .collect()
}

/// Without the line break that editors and `echo` leave at the end.
pub(crate) fn trimmed(secret: SecretBytes) -> SecretBytes {
    let text = secret.expose();
    match text.trim_ascii() {
        same if same.len() == text.len() => secret,
        inner => SecretBytes::from(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_loses_its_line_break_and_content_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "correct horse\n").unwrap();
        assert_eq!(word(&path).unwrap().expose(), b"correct horse");
        assert_eq!(whole(&path).unwrap().expose(), b"correct horse\n");
    }

    #[test]
    fn shares_stand_one_on_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shares");
        std::fs::write(&path, "srs1-a\r\n\n srs1-b \n").unwrap();
        let shares = shares(&[path]).unwrap();
        let texts: Vec<_> = shares.iter().map(|share| share.expose_str().unwrap()).collect();
        assert_eq!(texts, ["srs1-a", "srs1-b"]);
    }

    #[test]
    fn what_is_too_large_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::write(&path, vec![b'x'; limits::REQUEST_BYTES + 10]).unwrap();
        assert!(whole(&path).err().unwrap().to_string().contains("larger"));
    }
}
