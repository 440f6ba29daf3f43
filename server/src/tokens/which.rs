//! What can be revoked, by its name; and where such a revocation is kept.

use crate::{
    auth::{KINDS, users},
    barrier::{Address, RecordKind},
    model::{Invalid, SessionId},
};

/// A revocation of sessions.
pub(super) const REVOCATION: RecordKind = RecordKind::new(49, "Revocation");

/// Longest uid of a pod.
const POD_BYTES: usize = 64;
/// Longest text of a principal: `kubernetes/`, and three Kubernetes names.
const PRINCIPAL_BYTES: usize = 600;

/// What to revoke.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// One session, with whatever it was renewed to.
    Session(SessionId),
    /// Everybody who has or had this name, whatever their uid: `userpass/alice`.
    Principal(Box<str>),
    /// Everything a method vouched for: `userpass`, `root`.
    Method(Box<str>),
    /// All sessions of the pod with this uid.
    Pod(Box<str>),
}

impl Which {
    /// A session by the text of its id.
    ///
    /// # Errors
    /// Not 32 lower-case hex digits.
    pub fn session(id: &str) -> Result<Self, Invalid> {
        let id = SessionId::parse(id);
        id.map(Self::Session).ok_or_else(|| Invalid::new("session_id", "is not 32 lower-case hex digits"))
    }

    /// A principal by its text. A method nobody knows is refused: a typing error would revoke nothing, and say nothing.
    ///
    /// # Errors
    /// Not the text of a principal.
    pub fn principal(text: &str) -> Result<Self, Invalid> {
        let problem = "is not a principal; expected method/name, such as userpass/alice, or root";
        let known = match text.split_once('/') {
            None => text == "root",
            Some((method, name)) => is_method(method) && !name.is_empty(),
        };
        if !known || text.len() > PRINCIPAL_BYTES || text.chars().any(char::is_control) {
            return Err(Invalid::new("principal", problem));
        }
        users::check_principal(text)
            .map_err(|invalid| Invalid::new("principal", format!("has a name that {}", invalid.problem)))?;
        Ok(Self::Principal(text.into()))
    }

    /// A method by its name.
    ///
    /// # Errors
    /// There is no such method.
    pub fn method(name: &str) -> Result<Self, Invalid> {
        if name != "root" && !is_method(name) {
            return Err(Invalid::new("method", "is not the name of an auth method"));
        }
        Ok(Self::Method(name.into()))
    }

    /// A pod by its uid.
    ///
    /// # Errors
    /// Not a uid.
    pub fn pod(uid: &str) -> Result<Self, Invalid> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=POD_BYTES).contains(&uid.len()) || !uid.bytes().all(fits) {
            return Err(Invalid::new("pod", "is not the uid of a pod; expected a UUID, as whoami shows it"));
        }
        Ok(Self::Pod(uid.into()))
    }

    /// For the audit log: `session ID`, `principal userpass/alice`, `method userpass`, `pod UID`.
    pub fn describe(&self) -> String {
        match self {
            Which::Session(id) => format!("{SESSION} {id}"),
            Which::Principal(principal) => format!("{PRINCIPAL} {principal}"),
            Which::Method(method) => format!("{METHOD} {method}"),
            Which::Pod(uid) => format!("{POD} {uid}"),
        }
    }

    pub(super) fn address(&self) -> Address {
        let (folder, name) = match self {
            Which::Session(id) => (SESSION, id.to_string().into()),
            Which::Principal(principal) => (PRINCIPAL, principal.clone()),
            Which::Method(method) => (METHOD, method.clone()),
            Which::Pod(uid) => (POD, uid.clone()),
        };
        Address { kind: REVOCATION, folder: folder.into(), name, part: 0 }
    }

    pub(super) fn from_record(folder: &str, name: &str) -> Option<Self> {
        match folder {
            SESSION => SessionId::parse(name).map(Self::Session),
            PRINCIPAL => Some(Self::Principal(name.into())),
            METHOD => Some(Self::Method(name.into())),
            POD => Some(Self::Pod(name.into())),
            _ => None,
        }
    }
}

const SESSION: &str = "session";
const PRINCIPAL: &str = "principal";
const METHOD: &str = "method";
const POD: &str = "pod";
/// Where records are.
pub(super) const FOLDERS: [&str; 4] = [SESSION, PRINCIPAL, METHOD, POD];

fn is_method(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name)
}
