//! Identifiers: 16 bytes each, shown as 32 hex digits. None of them is a secret.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// From 32 lower-case hex digits.
            pub fn parse(text: &str) -> Option<Self> {
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
                Some(Self(bytes.try_into().ok()?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id! {
    /// One request, for the log, the audit and the caller.
    RequestId
}
id! {
    /// One policy decision; a refusal tells it to the caller, the audit log has the reason under it.
    DecisionId
}
id! {
    /// One session, that is one token and what it is renewed to.
    SessionId
}
id! {
    /// One store, from its init to its end. Bound into every sealed record.
    StoreId
}
