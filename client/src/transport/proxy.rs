//! An HTTP proxy between client and server: asked with CONNECT for a way through, it then passes on what is encrypted. It
//! learns the server's name and nothing else.

use std::io;

use data_encoding::BASE64;
use strongroom_proto::SecretBytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zeroize::Zeroizing;

use super::endpoint::Place;
use crate::error::Error;

/// The longest answer to CONNECT, as long as the headers that web servers take.
const ANSWER_BYTES: usize = 8 << 10;
/// Where a proxy listens if its address does not say so.
const PORT: u16 = 80;

/// A proxy.
pub(crate) struct Proxy {
    pub(crate) place: Place,
    /// `name:password`, where the proxy wants to know.
    credentials: Option<SecretBytes>,
}

impl Proxy {
    /// From `http://host:port`, or `http://name:password@host:port`.
    ///
    /// # Errors
    /// It is something else. The text may hold a password and is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::config("the proxy's address is not of the form http://host:port");
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(SecretBytes::from(credentials.as_bytes())), place),
            None => (None, rest),
        };
        Ok(Self { place: Place::parse(place, PORT).ok_or_else(wrong)?, credentials })
    }

    /// Asks for a way to `server`.
    pub(crate) async fn pass(&self, stream: &mut TcpStream, server: &Place) -> io::Result<()> {
        let mut request = Zeroizing::new(format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n"));
        if let Some(credentials) = &self.credentials {
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&Zeroizing::new(BASE64.encode(credentials.expose())));
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte: what comes after the empty line belongs to TLS.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= ANSWER_BYTES {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            answer.push(stream.read_u8().await?);
        }
        let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if status.len() == 3 && status.starts_with(b"2") {
            return Ok(());
        }
        Err(io::Error::other(format!("the proxy refused with status {}", String::from_utf8_lossy(status))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_proxies() {
        let plain = Proxy::parse("http://proxy:3128/").unwrap();
        assert_eq!((plain.place.to_string(), plain.credentials.is_none()), ("proxy:3128".into(), true));
        let known = Proxy::parse("http://me:hidden@proxy").unwrap();
        assert_eq!(known.place.to_string(), "proxy:80");
        assert_eq!(known.credentials.unwrap().expose(), b"me:hidden");
        for wrong in ["proxy:3128", "https://proxy", "socks5://me:hidden@proxy", "http://me:hidden@"] {
            let error = Proxy::parse(wrong).err().unwrap().to_string();
            assert!(error.contains("http://host:port") && !error.contains("hidden"), "{error}");
        }
    }
}
