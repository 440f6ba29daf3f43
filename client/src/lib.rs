//! The Strongroom client library: log in, read, write and watch secrets from Rust applications.
//!
//! ```no_run
//! use strongroom_client::{Client, ErrorKind, SecretBytes, SecretState, StreamExt};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("https://strongroom.example:7420")
//!     .ca_file("/etc/strongroom/ca.pem")
//!     .userpass("alice", SecretBytes::from(std::env::var("PASSWORD")?))
//!     .connect()
//!     .await?;
//!
//! let secret = client.get("secret/app/db").await?;
//! let password: &SecretBytes = secret.get("password").ok_or("no password in it")?;
//! let user: &str = secret.text("username").ok_or("no user name in it")?;
//! # let _ = (password, user);
//!
//! // Only if nobody has written since.
//! let put = client
//!     .put("secret/app/db")
//!     .value("password", SecretBytes::from(String::from("correct horse")))
//!     .expected_version(secret.version)
//!     .send()
//!     .await;
//! match put {
//!     Ok(written) => println!("version {}", written.current_version),
//!     Err(error) if matches!(error.kind(), ErrorKind::VersionMismatch { .. }) => println!("{error}"),
//!     Err(error) => return Err(error.into()),
//! }
//!
//! // The value now, then each change of it; the stream reconnects by itself.
//! let mut states = client.watch_secret("secret/app/db");
//! while let Some(state) = states.next().await {
//!     match state? {
//!         SecretState::Value(secret) => println!("now at version {}", secret.version),
//!         SecretState::Gone(why) => println!("{why}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A [`Client`] is cheap to clone and shares one connection and one session. The session is renewed in the background
//! until the last clone is dropped. Reads and puts are repeated when that is safe, within the timeout of the call.
//!
//! The feature `blocking` adds the module `blocking`, for programs that are not asynchronous. The library needs Rust 1.91 or
//! later (`rust-version` in its `Cargo.toml`); a later version of Rust is asked for only with a new minor version of the library.
//! Its interface is listed in `tests/api.txt`: what an application sees changes only together with that list and the changelog.
//!
//! Secret values are [`SecretBytes`], which are wiped when dropped and cannot be printed by accident. The library
//! cannot wipe the buffers of the TLS and HTTP/2 layers below it.

// Others read these docs; in the other crates an empty comment would be worse than none.
#![warn(missing_docs)]

mod answer;
pub mod audit_verify;
#[cfg(feature = "blocking")]
pub mod blocking;
mod calls;
mod client;
mod error;
mod session;
mod transport;
pub mod volume;

#[cfg(test)]
mod fake;

// The public API. Files inside the crate import from each other and not from here.
pub use answer::ResultStream;
pub use calls::{
    audit::{Audit, AuditQuery},
    auth::{Auth, Sessions, User},
    database::{
        ConfigureDatabase, Database, DatabaseAccount, DatabaseConfiguration, DatabasePassword, DatabaseRole,
        DatabaseUser, PutDatabaseRole,
    },
    follow::{Gone, SecretState},
    kept_lease::{KeptLease, LeaseState},
    lease::{Issued, Lease, LeaseInfo, LeaseSelector, Leases, Revoked},
    pki::{
        Certificate, Crl, IssueCertificate, IssuedCertificate, NewPkiIssuer, Pki, PkiIssuer, PkiRole,
        PutPkiRole, RevokedCertificate,
    },
    policy::{Allowed, Decision, ObjectName, Policy, PolicyAction, PolicyChange},
    random::Random,
    secrets::{ListPage, Metadata, Patch, Put, Secret, UpdateMetadata, VersionInfo},
    sys::{Initialized, Mount, MountState, Scrub, SealKind, ServerStatus, Sys},
    transit::{
        Ciphertext, CreateKey, DataKey, KeyVersion, Plaintext, SignatureEncoding, StreamError, Transit,
        TransitKey, UpdateKey,
    },
    watch::{Change, ChangeKind, Current},
    wrapping::{Content, Unwrapped, Wrapped, Wrapping},
};
pub use client::{Builder, Client};
pub use error::{Error, ErrorKind};
pub use futures_util::{StreamExt, TryStreamExt};
pub use session::{Login, Pod, Session, Whoami, credentials::KUBERNETES_TOKEN_FILE};
pub use strongroom_proto::{Reason, SecretBytes, limits};
