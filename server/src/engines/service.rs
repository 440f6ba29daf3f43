//! How an engine is reached over the wire: its service, as data. An engine reads its own messages and writes its own
//! answers; whatever carries them knows neither.

use std::any::Any;

use bytes::{Buf, BufMut};
use prost::{DecodeError, EncodeError, Message};

use super::{EngineError, Fields, Operation};
use crate::model::{Invalid, Path};

/// The service of one kind of engine. `service!` makes it.
pub struct Service {
    /// `strongroom.v1.Secrets`
    pub name: &'static str,
    pub rpcs: &'static [Rpc],
}

/// One RPC. Whoever calls it must have a session, and the server its keys; nothing an engine does is for strangers.
pub struct Rpc {
    /// `Secrets.Get`: as in the audit log and in metrics. A wire has its own address for it.
    pub name: &'static str,
    /// How many answers there are.
    pub answers: Answers,
    /// Its largest message. What is long needs room that others need too, so it is no larger than it has to be.
    pub request_bytes: usize,
    /// Reads its message. Bytes that are not such a message are an error; what cannot be parsed is told only to callers who
    /// are known.
    pub read: fn(&mut dyn Buf) -> Result<Asked, DecodeError>,
}

/// How many answers an RPC has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    One,
    /// Any number, for as long as the caller wants.
    Many,
}

/// What a message asks for: where, and what.
pub type Asked = Result<(Vec<Path>, Box<dyn Operation>), Invalid>;

/// What an engine answers, in its own words.
pub trait Reply: Any + Send {
    /// How much of it is in memory, about, where it can be much.
    fn bytes(&self) -> usize {
        0
    }

    /// Writes it as a message of the engine's service.
    ///
    /// # Errors
    /// `into` has no room for it.
    fn write(self: Box<Self>, into: &mut dyn BufMut) -> Result<(), EncodeError>;

    /// What was issued, by names: of a reply to [`super::Engine::issues`].
    fn fields(self: Box<Self>) -> Option<Fields> {
        None
    }

    /// The version that was written or read, for the audit log.
    fn version(&self) -> Option<u64> {
        None
    }

    /// What was made that has no lease to name it, for the audit log: a serial, for example. Never a secret.
    fn made(&self) -> Option<String> {
        None
    }
}

/// Reads a message and hands it to `parse`.
///
/// # Errors
/// The bytes are not such a message.
pub fn read<M: Message + Default>(
    bytes: &mut dyn Buf,
    parse: impl FnOnce(M) -> Asked,
) -> Result<Asked, DecodeError> {
    Ok(parse(M::decode(bytes)?))
}

/// An operation at one path.
///
/// # Errors
/// The path is none.
pub fn at(path: &str, operation: impl Operation) -> Asked {
    Ok((vec![Path::parse_field("path", path)?], Box::new(operation)))
}

/// An engine's own operation, from what the wire brought. The mount may be one of another kind.
///
/// # Errors
/// It is for another kind.
pub fn own<O: Operation>(operation: Box<dyn Operation>) -> Result<O, EngineError> {
    let operation: Box<dyn Any> = operation;
    operation.downcast().map(|operation| *operation).map_err(|_| EngineError::WrongEngine)
}

/// The table of a service: a row for each RPC, with how many answers it has, its largest message and what reads that.
macro_rules! service {
    ($service:literal; $($method:literal $answers:ident $bytes:ident $parse:expr;)*) => {
        $crate::engines::Service {
            name: concat!("strongroom.v1.", $service),
            rpcs: &[$($crate::engines::Rpc {
                name: concat!($service, ".", $method),
                answers: $crate::engines::Answers::$answers,
                request_bytes: $bytes,
                read: |bytes| $crate::engines::read(bytes, $parse),
            },)*],
        }
    };
}
pub(crate) use service;
