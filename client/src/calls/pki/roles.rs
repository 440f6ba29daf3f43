//! Roles of the engine pki: which certificates may be had, by whom, and for how long.

use std::time::Duration;

use strongroom_proto::{v1, v1::pki_client::PkiClient};

use super::Pki;
use crate::{answer::ResultStream, calls::pages::paths, client::Client, error::Error, transport::Mode};

/// Which certificates may be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PkiRole {
    /// The path of the role.
    pub path: String,
    /// The path of the issuer; empty = the default one.
    pub issuer: String,
    /// DNS names, with `*` for any one label and `{{namespace}}` and the like for who asks.
    pub dns: Vec<String>,
    /// URIs, the same way.
    pub uris: Vec<String>,
    /// Networks that addresses may be of.
    pub networks: Vec<String>,
    /// Whether certificates may have names that begin with `*.` themselves.
    pub wildcards: bool,
    /// Kinds of keys; the first is what is made.
    pub keys: Vec<String>,
    /// Whether they are good for servers.
    pub server: bool,
    /// Whether they are good for clients.
    pub client: bool,
    /// How long a certificate is good if nobody says.
    pub ttl: Duration,
    /// How long it may be good.
    pub max_ttl: Duration,
    /// Whether each has a lease.
    pub lease: bool,
}

/// A role, made by [`Pki::put_role`].
#[must_use = "nothing is written before send()"]
pub struct PutPkiRole<'a> {
    client: &'a Client,
    message: v1::PutPkiRoleRequest,
}

impl<'a> Pki<'a> {
    /// Begins a role, or one in the place of another.
    pub fn put_role(&self, path: impl Into<String>) -> PutPkiRole<'a> {
        let message = v1::PutPkiRoleRequest { path: path.into(), ..Default::default() };
        PutPkiRole { client: self.0, message }
    }

    /// A role.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn role(&self, path: &str) -> Result<PkiRole, Error> {
        let message = v1::GetPkiRoleRequest { path: path.to_owned() };
        let call = self.0.session();
        let answer = call
            .call(Mode::READ, message, |ch, rq| async move { PkiClient::new(ch).get_role(rq).await })
            .await?;
        Ok(role(answer))
    }

    /// Forgets a role. Certificates that it issued stay good.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none.
    pub async fn delete_role(&self, path: &str) -> Result<(), Error> {
        let message = v1::DeletePkiRoleRequest { path: path.to_owned() };
        let call = self.0.session();
        call.call(Mode::WRITE, message, |ch, rq| async move { PkiClient::new(ch).delete_role(rq).await })
            .await?;
        Ok(())
    }

    /// The paths of all roles below a folder, or a mount, sorted. Pages are fetched as the stream is read.
    pub fn roles(&self, folder: impl Into<String>) -> ResultStream<String> {
        paths(self.0, folder.into(), |client, path, page_token| async move {
            let message = v1::ListPkiRolesRequest { path, page_token };
            let call = client.session();
            let answer = call
                .call(Mode::READ, message, |ch, rq| async move { PkiClient::new(ch).list_roles(rq).await })
                .await?;
            Ok((answer.paths, answer.next_page_token))
        })
    }
}

impl PutPkiRole<'_> {
    /// The path of the issuer, unless it is the default one.
    pub fn issuer(mut self, path: impl Into<String>) -> Self {
        self.message.issuer = path.into();
        self
    }

    /// DNS names that certificates may have: `*` stands for any one label, `{{namespace}}` and the like for who asks.
    pub fn dns(mut self, patterns: Vec<String>) -> Self {
        self.message.dns = patterns;
        self
    }

    /// URIs that certificates may have, the same way, such as `spiffe://example.org/ns/{{namespace}}/sa/{{serviceaccount}}`.
    pub fn uris(mut self, patterns: Vec<String>) -> Self {
        self.message.uris = patterns;
        self
    }

    /// Networks that addresses may be of, such as `10.0.0.0/8`.
    pub fn networks(mut self, networks: Vec<String>) -> Self {
        self.message.networks = networks;
        self
    }

    /// Certificates may have names that begin with `*.` themselves.
    pub fn wildcards(mut self, wildcards: bool) -> Self {
        self.message.wildcards = wildcards;
        self
    }

    /// Kinds of keys, of which the first is made: `ecdsa-p256`, if nothing is said.
    pub fn keys(mut self, keys: Vec<String>) -> Self {
        self.message.keys = keys;
        self
    }

    /// Whether they are good for servers, for clients; for both, if nothing is said.
    pub fn usages(mut self, server: bool, client: bool) -> Self {
        (self.message.server, self.message.client) = (server, client);
        self
    }

    /// How long a certificate is good if nobody says; a day, if nothing is said.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.message.ttl_seconds = ttl.as_secs();
        self
    }

    /// How long it may be good; 30 days, if nothing is said.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.message.max_ttl_seconds = ttl.as_secs();
        self
    }

    /// Each certificate has a lease, and is revoked when that ends: with the pod or the session that asked for it.
    pub fn lease(mut self, lease: bool) -> Self {
        self.message.lease = lease;
        self
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if a pattern cannot be meant.
    pub async fn send(self) -> Result<PkiRole, Error> {
        let call = self.client.session();
        // The same role twice is the same.
        let answer = call
            .call(Mode::READ, self.message, |ch, rq| async move { PkiClient::new(ch).put_role(rq).await })
            .await?;
        Ok(role(answer))
    }
}

fn role(answer: v1::PkiRole) -> PkiRole {
    PkiRole {
        path: answer.path,
        issuer: answer.issuer,
        dns: answer.dns,
        uris: answer.uris,
        networks: answer.networks,
        wildcards: answer.wildcards,
        keys: answer.keys,
        server: answer.server,
        client: answer.client,
        ttl: Duration::from_secs(answer.ttl_seconds),
        max_ttl: Duration::from_secs(answer.max_ttl_seconds),
        lease: answer.lease,
    }
}
