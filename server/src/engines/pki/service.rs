//! The service Pki: from messages to operations and from outputs to messages. No decisions.

use bytes::BufMut;
use prost::{EncodeError, Message};
use strongroom_proto::v1;

use super::{
    Operation, Output, authority, der,
    issue::{Asked as AskedFor, Issued, Signed},
    issuers::{self, Described, NewIssuer},
    names::Names,
    request::Request,
    revoke::{self, Which},
    role::{self, Role},
};
use crate::{
    engines::{Asked, Fields, Reply, Service, at, service},
    limits::SMALL_REQUEST_BYTES,
    model::{Invalid, Path, SecretBytes},
};

pub(super) const SERVICE: Service = service! { "Pki";
    "CreateIssuer" One SMALL_REQUEST_BYTES create;
    "ImportIssuer" One SMALL_REQUEST_BYTES import;
    "SetSigned"    One SMALL_REQUEST_BYTES |asked: v1::SetSignedPkiIssuerRequest| at(&asked.path, Operation::SetSigned { chain_pem: asked.chain_pem });
    "GetIssuer"    One SMALL_REQUEST_BYTES |asked: v1::GetPkiIssuerRequest| at(&asked.path, Operation::DescribeIssuer);
    "ListIssuers"  One SMALL_REQUEST_BYTES |asked: v1::ListPkiIssuersRequest| at(&asked.path, Operation::ListIssuers { page_token: token(asked.page_token) });
    "SetDefault"   One SMALL_REQUEST_BYTES |asked: v1::SetDefaultPkiIssuerRequest| at(&asked.path, Operation::SetDefault);
    "SignIssuer"   One SMALL_REQUEST_BYTES sign_issuer;
    "Revoke"       One SMALL_REQUEST_BYTES revoke;
    "GetCrl"       One SMALL_REQUEST_BYTES |asked: v1::GetPkiCrlRequest| at(&asked.path, Operation::Crl { delta: asked.delta });
    "PutRole"      One SMALL_REQUEST_BYTES put_role;
    "GetRole"      One SMALL_REQUEST_BYTES |asked: v1::GetPkiRoleRequest| at(&asked.path, Operation::DescribeRole);
    "DeleteRole"   One SMALL_REQUEST_BYTES |asked: v1::DeletePkiRoleRequest| at(&asked.path, Operation::DeleteRole);
    "ListRoles"    One SMALL_REQUEST_BYTES |asked: v1::ListPkiRolesRequest| at(&asked.path, Operation::ListRoles { page_token: token(asked.page_token) });
    "Issue"        One SMALL_REQUEST_BYTES issue;
    "Sign"         One SMALL_REQUEST_BYTES sign;
};

fn create(message: v1::CreatePkiIssuerRequest) -> Asked {
    let key = if message.key.is_empty() { "ecdsa-p256" } else { &message.key };
    if key == "rsa" {
        return Err(Invalid::new("key", "is rsa, which is not made here; import one"));
    }
    let new = NewIssuer {
        subject: issuers::subject(&message.subject)?,
        kind: role::key_kind("key", key)?,
        ttl: issuers::ttl(message.ttl_seconds, true)?,
        path_length: issuers::path_length(message.path_length)?,
        intermediate: message.intermediate,
        crl_url: issuers::crl_url(message.crl_url)?,
    };
    at(&message.path, Operation::CreateIssuer(new))
}

fn import(message: v1::ImportPkiIssuerRequest) -> Asked {
    let key_pem =
        message.key_pem.map(SecretBytes::from).ok_or_else(|| Invalid::new("key_pem", "is missing"))?;
    let crl_url = issuers::crl_url(message.crl_url)?;
    at(&message.path, Operation::ImportIssuer { key_pem, chain_pem: message.chain_pem, crl_url })
}

fn sign_issuer(message: v1::SignPkiIssuerRequest) -> Asked {
    let operation = Operation::SignIssuer {
        request: Box::new(Request::parse(&message.csr_pem)?),
        ttl: issuers::ttl(message.ttl_seconds, false)?,
        path_length: issuers::path_length(message.path_length)?,
    };
    at(&message.path, operation)
}

fn revoke(message: v1::RevokePkiRequest) -> Asked {
    let which = match (message.serial.as_str(), message.certificate_pem) {
        (serial, certificate) if certificate.is_empty() => Which::Serial(revoke::serial(serial)?),
        ("", certificate) => Which::Certificate(certificate),
        _ => {
            return Err(Invalid::new("serial", "is given together with a certificate; expected one of them"));
        }
    };
    at(&message.path, Operation::Revoke { which, reason: revoke::reason(&message.reason)? })
}

fn put_role(message: v1::PutPkiRoleRequest) -> Asked {
    let role = Role {
        issuer: message.issuer,
        dns: message.dns,
        uris: message.uris,
        networks: message.networks,
        wildcards: message.wildcards,
        keys: message.keys,
        server: message.server,
        client: message.client,
        ttl: message.ttl_seconds,
        max_ttl: message.max_ttl_seconds,
        lease: message.lease,
    };
    at(&message.path, Operation::PutRole(Role::parse(&message.path, role)?))
}

fn issue(message: v1::IssuePkiRequest) -> Asked {
    let names = Names::parse(message.dns, message.uris, &message.ips)?;
    at(&message.path, Operation::Issue { asked: AskedFor::Key(names), ttl: message.ttl_seconds })
}

fn sign(message: v1::SignPkiRequest) -> Asked {
    let request = Box::new(Request::parse(&message.csr_pem)?);
    at(&message.path, Operation::Issue { asked: AskedFor::Request(request), ttl: message.ttl_seconds })
}

fn token(text: String) -> Option<String> {
    Some(text).filter(|token| !token.is_empty())
}

impl Reply for Output {
    fn bytes(&self) -> usize {
        match self {
            Self::Crl { lists, delta: false } => lists.full.len(),
            Self::Crl { lists, delta: true } => lists.delta.len(),
            _ => 0,
        }
    }

    fn made(&self) -> Option<String> {
        match self {
            Self::Signed(signed, _) | Self::Issued(Issued { signed, .. }, _) => Some(signed.told()),
            _ => None,
        }
    }

    /// As the files of a Secret of the type kubernetes.io/tls are called.
    fn fields(self: Box<Self>) -> Option<Fields> {
        let Self::Issued(issued, lease) = *self else { return None };
        let Signed { certificate_pem, chain_pem, not_after, .. } = issued.signed;
        let text = |text: &str| SecretBytes::from(text.as_bytes());
        let last = chain_pem.rfind("-----BEGIN").and_then(|at| chain_pem.get(at..)).unwrap_or_default();
        let values = vec![
            ("tls.key", issued.key_pem?),
            ("tls.crt", text(&format!("{certificate_pem}{chain_pem}"))),
            ("ca.crt", text(last)),
        ];
        Some(Fields { values, ends: lease.is_none().then_some(not_after) })
    }

    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        match *self {
            Self::Issuer(described) => issuer(described).encode(&mut into),
            Self::Issuers { paths, next } => {
                let (paths, next_page_token) = page(&paths, next);
                v1::ListPkiIssuersResponse { paths, next_page_token }.encode(&mut into)
            }
            Self::Signed(made, lease) => signed(made, lease).encode(&mut into),
            Self::Issued(issued, lease) => {
                let key_pem = issued.key_pem.map(Into::into);
                v1::PkiIssued { key_pem, signed: Some(signed(issued.signed, lease)) }.encode(&mut into)
            }
            Self::Revoked { serial, at_ms } => {
                v1::RevokePkiResponse { serial, revoked_at_ms: at_ms }.encode(&mut into)
            }
            Self::Crl { lists, delta } => v1::PkiCrl {
                crl: if delta { lists.delta.clone() } else { lists.full.clone() },
                number: lists.number,
                this_update_ms: lists.this_update.as_millis(),
                next_update_ms: lists.next_update.as_millis(),
            }
            .encode(&mut into),
            Self::Role { path, role } => described(&path, role).encode(&mut into),
            Self::RoleDeleted => v1::DeletePkiRoleResponse {}.encode(&mut into),
            Self::Roles { paths, next } => {
                let (paths, next_page_token) = page(&paths, next);
                v1::ListPkiRolesResponse { paths, next_page_token }.encode(&mut into)
            }
        }
    }
}

fn issuer(described: Described) -> v1::PkiIssuer {
    let Described { path, issuer, is_default } = described;
    let csr_pem = match issuer.csr.as_slice() {
        [] => String::new(),
        csr => der::pem("CERTIFICATE REQUEST", csr),
    };
    v1::PkiIssuer {
        path: path.to_string(),
        key: authority::key_name(&issuer).to_owned(),
        chain_pem: authority::chain_pem(&issuer.chain),
        csr_pem,
        not_after_ms: authority::described(&issuer.chain).map_or(0, |(_, until)| until.as_millis()),
        is_default,
        subject: issuer.subject,
        crl_url: issuer.crl_url,
    }
}

fn signed(made: Signed, lease: Option<v1::Lease>) -> v1::PkiSigned {
    v1::PkiSigned {
        certificate_pem: made.certificate_pem,
        chain_pem: made.chain_pem,
        serial: made.serial,
        not_after_ms: made.not_after.as_millis(),
        lease,
    }
}

fn described(path: &Path, role: Role) -> v1::PkiRole {
    v1::PkiRole {
        path: path.to_string(),
        issuer: role.issuer,
        dns: role.dns,
        uris: role.uris,
        networks: role.networks,
        wildcards: role.wildcards,
        keys: role.keys,
        server: role.server,
        client: role.client,
        ttl_seconds: role.ttl,
        max_ttl_seconds: role.max_ttl,
        lease: role.lease,
    }
}

fn page(paths: &[Path], next: Option<String>) -> (Vec<String>, String) {
    (paths.iter().map(ToString::to_string).collect(), next.unwrap_or_default())
}
