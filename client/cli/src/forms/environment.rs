//! Files of environment variables: `.env` files are read and written, lines for a shell and for `docker run --env-file` are
//! only written. No variable is expanded: a `$` in a value is a `$`. The crates that read such files (dotenvy 0.15) put variables
//! of this process into values and quote the line in their errors; here that would change a secret, and show it.

use std::str::Chars;

use strongroom_client::SecretBytes;
use zeroize::Zeroizing;

use super::{Document, Values};
use crate::failure::Failure;

/// For whom variables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `KEY=value`, in quotes where it needs them; what `read` reads.
    Env,
    /// `export KEY='value'`
    Shell,
    /// `KEY=value`, where nothing can be quoted.
    Docker,
}

/// Whether a variable of the environment can be called that.
pub(crate) fn is_variable(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.starts_with(|first: char| first.is_ascii_digit()) && !name.is_empty() && name.bytes().all(good)
}

/// A line for each value.
pub(crate) fn write(values: &Values, dialect: Dialect) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // A character becomes four bytes at most, so that the text never grows out of wiped memory.
    let length = values.iter().map(|(key, value)| 4 * value.len() + key.len() + "export =''\n".len()).sum();
    let mut lines = Zeroizing::new(Vec::with_capacity(length));
    for (key, value) in values {
        let no = |problem: &str| Failure::usage(format!("the key {key:?} {problem}"));
        if !is_variable(key) {
            return Err(no("cannot be the name of an environment variable: A-Z a-z 0-9 _"));
        }
        let text = value.expose_str().map_err(|_| no("is not text; get it with --key"))?;
        if text.contains('\0') {
            return Err(no("has a zero byte, which no environment variable can have"));
        }
        match dialect {
            Dialect::Env => {
                lines.extend_from_slice(key.as_bytes());
                lines.push(b'=');
                quote(&mut lines, text);
            }
            Dialect::Shell => {
                lines.extend_from_slice(b"export ");
                lines.extend_from_slice(key.as_bytes());
                lines.extend_from_slice(b"='");
                text.bytes().for_each(|byte| match byte {
                    b'\'' => lines.extend_from_slice(br"'\''"),
                    other => lines.push(other),
                });
                lines.push(b'\'');
            }
            Dialect::Docker if text.contains(['\n', '\r']) => {
                return Err(no("has a line break, which this form cannot hold; use -o env or -o shell"));
            }
            Dialect::Docker => {
                lines.extend_from_slice(key.as_bytes());
                lines.push(b'=');
                lines.extend_from_slice(text.as_bytes());
            }
        }
        lines.push(b'\n');
    }
    Ok(lines)
}

/// In the quotes that most readers of such files understand alike.
fn quote(lines: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,=".contains(&byte);
    if text.bytes().all(plain) {
        lines.extend_from_slice(text.as_bytes());
    } else if !text.contains(['\'', '\\', '\n', '\r', '\t']) {
        lines.push(b'\'');
        lines.extend_from_slice(text.as_bytes());
        lines.push(b'\'');
    } else {
        lines.push(b'"');
        text.bytes().for_each(|byte| match byte {
            b'\n' => lines.extend_from_slice(br"\n"),
            b'\r' => lines.extend_from_slice(br"\r"),
            b'\t' => lines.extend_from_slice(br"\t"),
            b'"' | b'\\' | b'$' | b'`' => lines.extend_from_slice(&[b'\\', byte]),
            other => lines.push(other),
        });
        lines.push(b'"');
    }
}

/// Reads a `.env` file: `KEY=value`, an `export` before it, `#` and what follows, and values in quotes, also over several
/// lines. In double quotes, `\n \r \t \" \\ \$` and a backslash before a backtick stand for one character.
pub(crate) fn read(document: &Document<'_>) -> Result<Values, Failure> {
    let text = document.text()?;
    let mut reader = Reader { rest: text.trim_start_matches('\u{feff}').chars(), line: 1 };
    let mut values = Values::new();
    while reader.skip_to_assignment() {
        let line = reader.line;
        let key = reader.key().map_err(|problem| document.wrong(line, problem))?;
        let value = reader.value().map_err(|problem| document.wrong_key(line, &key, problem))?;
        if values.contains_key(&key) {
            return Err(document.wrong_key(line, &key, "appears twice"));
        }
        values.insert(key, value);
    }
    if values.is_empty() {
        return Err(Failure::usage(format!("{} has no keys", document.name)));
    }
    Ok(values)
}

struct Reader<'a> {
    rest: Chars<'a>,
    line: u64,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += u64::from(next == Some('\n'));
        next
    }

    /// What comes next as long as it is `good`.
    fn take(&mut self, good: impl Fn(char) -> bool) -> &'a str {
        let text = self.rest.as_str();
        let end = text.find(|c| !good(c)).unwrap_or(text.len());
        let (taken, rest) = text.split_at(end);
        self.line += taken.bytes().map(|byte| u64::from(byte == b'\n')).sum::<u64>();
        self.rest = rest.chars();
        taken
    }

    /// Whether there is another one, behind blank lines and comments.
    fn skip_to_assignment(&mut self) -> bool {
        loop {
            self.take(char::is_whitespace);
            match self.peek() {
                Some('#') => drop(self.take(|c| c != '\n')),
                other => return other.is_some(),
            }
        }
    }

    fn key(&mut self) -> Result<String, &'static str> {
        let is_blank = |c| matches!(c, ' ' | '\t');
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let mut key = self.take(is_key);
        if key == "export" && self.peek().is_some_and(is_blank) {
            self.take(is_blank);
            key = self.take(is_key);
        }
        self.take(is_blank);
        if key.is_empty() || self.next() != Some('=') {
            return Err("expected KEY=VALUE, with a key of A-Z a-z 0-9 . _ -");
        }
        self.take(is_blank);
        Ok(key.to_owned())
    }

    fn value(&mut self) -> Result<SecretBytes, &'static str> {
        let value = match self.peek() {
            Some(quote @ ('\'' | '`')) => {
                self.next();
                let value = self.take(|c| c != quote);
                self.next().ok_or("has an opening quote without an end")?;
                SecretBytes::from(value.as_bytes())
            }
            Some('"') => self.escaped()?,
            _ => return Ok(self.plain()),
        };
        self.take(|c| matches!(c, ' ' | '\t' | '\r'));
        match self.peek() {
            None | Some('\n' | '#') => Ok(value),
            Some(_) => Err("has something behind its closing quote"),
        }
    }

    fn escaped(&mut self) -> Result<SecretBytes, &'static str> {
        self.next();
        let mut value = Zeroizing::new(String::with_capacity(self.rest.as_str().len()));
        loop {
            match self.next().ok_or("has an opening quote without an end")? {
                '"' => return Ok(SecretBytes::from(value.as_bytes())),
                '\\' => match self.next().ok_or("has an opening quote without an end")? {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    't' => value.push('\t'),
                    same @ ('"' | '\\' | '$' | '`') => value.push(same),
                    other => value.extend(['\\', other]),
                },
                other => value.push(other),
            }
        }
    }

    /// To the end of the line, or to a comment: a `#` behind a blank.
    fn plain(&mut self) -> SecretBytes {
        let line = self.take(|c| c != '\n');
        let comment = [" #", "\t#"].iter().filter_map(|start| line.find(start)).min();
        let value = if line.starts_with('#') {
            ""
        } else {
            line.get(..comment.unwrap_or(line.len())).unwrap_or(line)
        };
        SecretBytes::from(value.trim_end().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Values, Failure> {
        read(&Document { name: ".env", bytes: &SecretBytes::from(text.as_bytes()) })
    }

    #[test]
    fn a_file_as_people_write_it() {
        let text = "\u{feff}# for the shop\n\nexport USER=shop # not root\r\nURL=postgres://a:b@c/d#e\n  EMPTY=\nNONE= # x\n\
                    RAW='a $b \\n # c'\nKEY=\"-----BEGIN\\nline\nlast\\\"\\$\\q\" # end\nTICK=`it's`\nSPACED = x y \nexport=1\nlast.one-2=é";
        let values = parse(text).unwrap();
        let expected = [
            ("USER", "shop"),
            ("URL", "postgres://a:b@c/d#e"),
            ("EMPTY", ""),
            ("NONE", ""),
            ("RAW", "a $b \\n # c"),
            ("KEY", "-----BEGIN\nline\nlast\"$\\q"),
            ("TICK", "it's"),
            ("SPACED", "x y"),
            ("export", "1"),
            ("last.one-2", "é"),
        ];
        for (key, value) in expected {
            assert_eq!(values[key].expose_str(), Ok(value), "{key}");
        }
        assert_eq!(values.len(), expected.len());
    }

    #[test]
    fn a_mistake_has_its_line_and_its_key_and_never_the_value() {
        for (text, told) in [
            ("", ".env is empty"),
            ("# nothing\n", ".env has no keys"),
            ("A=1\n\nhunter2 hunter2\n", ".env, line 3: expected KEY=VALUE"),
            ("export A\n", "line 1: expected"),
            ("A='x\ny'\nB=\"hunter2\n\n", "line 3: the key \"B\" has an opening quote without an end"),
            ("A='hunter2'b\n", "line 1: the key \"A\" has something behind"),
            ("A=1\nA=hunter2\n", "line 2: the key \"A\" appears twice"),
        ] {
            let sentence = parse(text).err().unwrap().to_string();
            assert!(sentence.contains(told) && !sentence.contains("hunter2"), "{sentence}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let texts = [
            "",
            "plain",
            "a b",
            "it's",
            "\"",
            "$HOME `x` \\",
            "line\nline\r\n\ttab",
            "a#b #c",
            "é 'ü'",
            " x ",
        ];
        let values: Values = texts
            .iter()
            .enumerate()
            .map(|(at, text)| (format!("K{at}"), SecretBytes::from(text.as_bytes())))
            .collect();
        let written = write(&values, Dialect::Env).unwrap();
        let read = parse(std::str::from_utf8(&written).unwrap()).unwrap();
        for (key, value) in &values {
            assert_eq!(read[key].expose_str(), value.expose_str(), "{key}");
        }
    }

    #[test]
    fn each_reader_gets_its_own_form() {
        let one = |text: &str, dialect| {
            let values = Values::from([("K".to_owned(), SecretBytes::from(text.as_bytes()))]);
            write(&values, dialect).map(|lines| String::from_utf8(lines.to_vec()).unwrap())
        };
        assert_eq!(one("it's $5", Dialect::Shell).unwrap(), "export K='it'\\''s $5'\n");
        assert_eq!(one("it's \"$5\"", Dialect::Docker).unwrap(), "K=it's \"$5\"\n");
        assert_eq!(one("it's $5", Dialect::Env).unwrap(), "K=\"it's \\$5\"\n");
        assert!(one("a\nb", Dialect::Docker).unwrap_err().to_string().contains("\"K\" has a line break"));
        for (key, value) in [("a-b", &b"x"[..]), ("1a", b"x"), ("A", b"\xff"), ("A", b"\0")] {
            let values = Values::from([(key.to_owned(), SecretBytes::from(value))]);
            assert!(write(&values, Dialect::Shell).unwrap_err().to_string().contains(key));
        }
    }
}
