//! Data of any size, encrypted here with a key that only the server can open. It is sealed in chunks, each with its number and
//! whether it is the last (the STREAM construction: Hoang, Reyhanitabar, Rogaway and Vizár, 2015), so that none can be
//! changed, moved, repeated, left out or cut off.
//!
//! ```text
//! "strongroom file 1\n" | u16 n | path of the key, n bytes | u16 n | encrypted data key, n bytes | chunks
//! chunk = AES-256-GCM of 64 KiB (the last one of less, or of nothing) | tag 16; nonce = u88 number from 0 | u8 1 if last
//! key   = HKDF-SHA256-Expand(data key, everything before the chunks)
//! ```

use std::io;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk},
};
use strongroom_proto::{SecretBytes, limits::PATH_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{Ciphertext, Transit};
use crate::error::Error;

const MAGIC: &[u8] = b"strongroom file 1\n";
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
/// An encrypted data key has some 170 characters.
const DATA_KEY_BYTES: usize = 1024;

/// Why a stream could not be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server could not help.
    #[error(transparent)]
    Server(#[from] Error),
    /// It does not begin as such a stream does.
    #[error("this was not encrypted with strongroom: it does not begin with \"strongroom file 1\"")]
    Foreign,
    /// It was encrypted with another key than the one that is expected.
    #[error("it was encrypted with the key {path}, not with the expected one")]
    OtherKey {
        /// The path of the key that it names.
        path: String,
    },
    /// Something of it was changed, or its end is missing. What was written before is what was encrypted.
    #[error("it was changed or cut off {bytes} bytes after its beginning")]
    Damaged {
        /// How much was decrypted before.
        bytes: u64,
    },
}

/// Seals and opens chunks, in order.
struct Chunks {
    key: LessSafeKey,
    next: u64,
}

impl Chunks {
    fn new(data_key: &SecretBytes, header: &[u8]) -> Result<Self, StreamError> {
        let secret = Prk::new_less_safe(HKDF_SHA256, data_key.expose());
        let info = [header];
        let key = secret.expand(&info, &AES_256_GCM).map_err(|_| StreamError::Foreign)?;
        Ok(Self { key: LessSafeKey::new(UnboundKey::from(key)), next: 0 })
    }

    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        let [_, _, _, number @ .., mark] = &mut nonce;
        number.copy_from_slice(&self.next.to_be_bytes());
        *mark = u8::from(last);
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    async fn seal_all(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<u64, StreamError> {
        let (mut bytes, mut chunk) = (0, read(&mut from, CHUNK).await?);
        loop {
            bytes += chunk.len() as u64;
            // Whether it is the last, only the next one says.
            let next = read(&mut from, if chunk.len() < CHUNK { 0 } else { CHUNK }).await?;
            let last = next.is_empty();
            let nonce = self.nonce(last);
            let sealed = self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut *chunk);
            sealed.map_err(|_| io::Error::other("a chunk cannot be encrypted"))?;
            to.write_all(&chunk).await?;
            if last {
                to.flush().await?;
                return Ok(bytes);
            }
            chunk = next;
        }
    }

    async fn open_all(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<u64, StreamError> {
        const SEALED: usize = CHUNK + TAG;
        let (mut bytes, mut chunk) = (0, read(&mut from, SEALED).await?);
        loop {
            let next = read(&mut from, if chunk.len() < SEALED { 0 } else { SEALED }).await?;
            let last = next.is_empty();
            let nonce = self.nonce(last);
            let opened = self.key.open_in_place(nonce, Aad::empty(), &mut chunk);
            let opened = opened.map_err(|_| StreamError::Damaged { bytes })?;
            to.write_all(opened).await?;
            bytes += opened.len() as u64;
            if last {
                to.flush().await?;
                return Ok(bytes);
            }
            chunk = next;
        }
    }
}

impl Transit<'_> {
    /// Encrypts everything that `from` has, with a data key of the key at `path`. Returns how many bytes it was.
    ///
    /// # Errors
    /// See [`StreamError`]. What was written then is of no use.
    pub async fn encrypt_stream(
        &self,
        path: &str,
        from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<u64, StreamError> {
        let data_key = self.data_key(path, MAGIC).await?;
        let mut header = MAGIC.to_vec();
        for part in [path, &data_key.ciphertext] {
            let length = u16::try_from(part.len()).map_err(|_| StreamError::Foreign)?;
            header.extend_from_slice(&length.to_be_bytes());
            header.extend_from_slice(part.as_bytes());
        }
        to.write_all(&header).await?;
        Chunks::new(&data_key.plaintext, &header)?.seal_all(from, to).await
    }

    /// Decrypts what [`encrypt_stream`](Self::encrypt_stream) wrote; `path` is the key that it must have been encrypted with,
    /// if it matters. Returns how many bytes it was.
    ///
    /// # Errors
    /// See [`StreamError`]. Everything that was written is what was encrypted, but it may not be all of it.
    pub async fn decrypt_stream(
        &self,
        path: Option<&str>,
        mut from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
    ) -> Result<u64, StreamError> {
        let mut header = read(&mut from, MAGIC.len()).await?.to_vec();
        if header != MAGIC {
            return Err(StreamError::Foreign);
        }
        let named = part(&mut from, &mut header, PATH_BYTES).await?;
        if path.is_some_and(|path| path != named) {
            return Err(StreamError::OtherKey { path: named });
        }
        let ciphertext = part(&mut from, &mut header, DATA_KEY_BYTES).await?;
        let ciphertext = Ciphertext::from(ciphertext).associated_data(MAGIC);
        Chunks::new(&self.decrypt(&named, ciphertext).await?, &header)?.open_all(from, to).await
    }
}

/// `length` bytes, or what there is until the end.
async fn read(from: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for the tag, so that nothing is left behind when it is appended.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + TAG));
    from.take(length as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// A text with its length before it; also appended to `header`.
async fn part(
    from: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
    most: usize,
) -> Result<String, StreamError> {
    let length = read(from, 2).await?;
    let &[high, low] = &length[..] else { return Err(StreamError::Foreign) };
    let wanted = usize::from(u16::from_be_bytes([high, low]));
    let text = if wanted <= most { read(from, wanted).await? } else { Zeroizing::default() };
    if text.len() != wanted {
        return Err(StreamError::Foreign);
    }
    header.extend_from_slice(&length);
    header.extend_from_slice(&text);
    String::from_utf8(text.to_vec()).map_err(|_| StreamError::Foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"a header";

    fn chunks(key: u8) -> Chunks {
        Chunks::new(&SecretBytes::from(vec![key; 32]), HEADER).unwrap()
    }

    async fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        let bytes = chunks(7).seal_all(plaintext, &mut sealed).await.unwrap();
        assert_eq!(bytes, plaintext.len() as u64);
        sealed
    }

    /// What comes out before it ends or breaks, and whether it ended.
    async fn opened(sealed: &[u8]) -> (Vec<u8>, bool) {
        let mut opened = Vec::new();
        let ended = chunks(7).open_all(sealed, &mut opened).await.is_ok();
        (opened, ended)
    }

    fn plaintext(length: usize) -> Vec<u8> {
        (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn whatever_its_length_it_comes_out_as_it_went_in() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7] {
            let plaintext = plaintext(length);
            let sealed = sealed(&plaintext).await;
            assert_eq!(sealed.len(), length + TAG * length.div_ceil(CHUNK).max(1));
            assert!(opened(&sealed).await == (plaintext, true), "{length}");
        }
    }

    #[tokio::test]
    async fn nothing_is_changed_moved_left_out_or_cut_off() {
        const SEALED: usize = CHUNK + TAG;
        let plaintext = plaintext(2 * CHUNK + 100);
        let sealed = sealed(&plaintext).await;
        let refused = async |changed: &[u8], what: &str| {
            let (opened, ended) = opened(changed).await;
            assert!(!ended, "{what}");
            assert!(plaintext.starts_with(&opened), "{what}: something else came out");
        };
        for cut in [0, 1, TAG, SEALED - 1, SEALED, SEALED + 1, 2 * SEALED, sealed.len() - 1] {
            refused(&sealed[..cut], &format!("cut at {cut}")).await;
        }
        for flip in [0, 9, SEALED, 2 * SEALED, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[flip] ^= 1;
            refused(&changed, &format!("flipped at {flip}")).await;
        }
        let (first, rest) = sealed.split_at(SEALED);
        let (second, last) = rest.split_at(SEALED);
        refused(&[second, first, last].concat(), "exchanged").await;
        refused(&[first, last].concat(), "left out").await;
        refused(&[first, first, second, last].concat(), "repeated").await;
        refused(&[&sealed[..], b"x"].concat(), "longer").await;
        refused(&[&sealed[..], last].concat(), "two ends").await;
        let other = Chunks::new(&SecretBytes::from(vec![7; 32]), b"another header").unwrap();
        assert!(other.open_all(&sealed[..], Vec::new()).await.is_err());
        assert!(chunks(8).open_all(&sealed[..], Vec::new()).await.is_err());
    }

    /// Files of today stay readable. The vector comes from another implementation.
    #[tokio::test]
    async fn the_format_is_as_it_was() {
        let vector = include_str!("../../../../tests/vectors/transit-chunks.hex");
        let sealed = data_encoding::HEXLOWER.decode(vector.trim_end().as_bytes()).unwrap();
        let mut opened = Vec::new();
        chunks(7).open_all(&sealed[..], &mut opened).await.unwrap();
        assert_eq!(opened, b"hello");
        let mut again = Vec::new();
        chunks(7).seal_all(&b"hello"[..], &mut again).await.unwrap();
        assert_eq!(again, sealed);
    }
}
