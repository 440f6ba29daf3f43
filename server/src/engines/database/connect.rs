//! A connection to the database: encrypted, to whom it should be, and within a time.

use std::{io, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_postgres::{Client, Config, NoTls, config::SslMode};

use super::{Error, records::Configuration};
use crate::{
    model::{Invalid, SecretBytes},
    tls::{Trust, Untrusted},
};

/// From the name to the end of the login; across a continent it takes a tenth of that.
const CONNECT: Duration = Duration::from_secs(5);
/// "May we speak TLS?", a message of PostgreSQL's protocol: its length and its number.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// What holds for each session. Nothing here waits for somebody who holds a lock for long, or leaves one behind.
const SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
    SET idle_in_transaction_session_timeout = '20s'; SET standard_conforming_strings = on";

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where and how to connect, checked.
pub(super) struct Route {
    host: Host,
    port: u16,
    /// None: without TLS.
    trust: Option<Trust>,
    place: String,
}

enum Host {
    Tcp(String),
    /// The socket itself.
    Unix(String),
}

impl Route {
    pub(super) fn of(configuration: &Configuration) -> Result<Self, Invalid> {
        let Configuration { host, port, plaintext, ca_pem, .. } = configuration;
        let wrong = |problem: String| Err(Invalid::new("host", problem));
        if host.is_empty() || host.len() > 255 || host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong("is no name; expected one, an address, or the folder of a Unix socket".to_owned());
        }
        let port = u16::try_from(*port).map_err(|_| Invalid::new("port", format!("is {port}")))?;
        let place = configuration.place();
        if host.starts_with('/') {
            if !ca_pem.is_empty() || !plaintext {
                let problem = "is a Unix socket, which PostgreSQL does not encrypt; expected plaintext (--plaintext) and no CA";
                return wrong(problem.to_owned());
            }
            let host = Host::Unix(format!("{host}/.s.PGSQL.{port}"));
            return Ok(Self { host, port, trust: None, place });
        }
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let trust = match (plaintext, ca_pem.as_str()) {
            (true, "") if loopback => None,
            (true, "") => {
                let problem = "is allowed on a Unix socket or a loopback address only";
                return Err(Invalid::new("plaintext", problem));
            }
            (true, _) => return Err(Invalid::new("plaintext", "needs no CA; expected one of the two")),
            (false, "") => Some(Trust::in_system().ok_or_else(|| {
                Invalid::new("ca_pem", "is empty, and the system of the server trusts nobody either")
            })?),
            (false, pem) => Some(
                Trust::in_pem(pem)
                    .ok_or_else(|| Invalid::new("ca_pem", "has no certificates, or one that is unusable"))?,
            ),
        };
        Ok(Self { host: Host::Tcp(host.clone()), port, trust, place })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Logs in.
    pub(super) async fn connect(
        &self,
        user: &str,
        database: &str,
        password: &SecretBytes,
    ) -> Result<Client, Error> {
        let late =
            |_| Error::unavailable(&self.place, format!("does not answer within {} s", CONNECT.as_secs()));
        timeout(CONNECT, self.log_in(user, database, password)).await.map_err(late)?
    }

    async fn log_in(&self, user: &str, database: &str, password: &SecretBytes) -> Result<Client, Error> {
        let stream = self.stream().await?;
        let mut config = Config::new();
        config.user(user).dbname(database).password(password.expose());
        config.application_name("strongroom").ssl_mode(SslMode::Disable);
        let of = |error| Error::of_database(&self.place, &error, &[]);
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(of)?;
        // Ends with its client. What broke it, the client says to whoever uses it.
        tokio::spawn(async move { connection.await.is_ok() });
        client.batch_execute(SESSION).await.map_err(of)?;
        Ok(client)
    }

    async fn stream(&self) -> Result<Box<dyn Io>, Error> {
        let away = |error: io::Error| Error::unavailable(&self.place, format!("cannot be reached: {error}"));
        let host = match &self.host {
            Host::Unix(socket) => return Ok(Box::new(UnixStream::connect(socket).await.map_err(away)?)),
            Host::Tcp(host) => host,
        };
        let mut tcp = TcpStream::connect((host.as_str(), self.port)).await.map_err(away)?;
        // Small questions must not wait for more; without it they are only slower.
        let _ = tcp.set_nodelay(true);
        let Some(trust) = &self.trust else { return Ok(Box::new(tcp)) };
        tcp.write_all(&SSL_REQUEST).await.map_err(away)?;
        // One byte and no more: what follows it in the clear would be somebody else's (CVE-2021-23222).
        let answer = tcp.read_u8().await.map_err(away)?;
        if answer != b'S' {
            return Err(Error::refused(&self.place, "does not speak TLS; switch it on there (ssl = on)"));
        }
        match trust.connect(host, tcp).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(Untrusted::Io(error)) => Err(away(error)),
            Err(other) => Err(Error::refused(&self.place, format!("is not trusted: {other}"))),
        }
    }
}
