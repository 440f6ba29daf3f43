//! The mode of a file, parsed once.

use std::fmt;

/// Permission bits: readable by the owner, not writable by everybody, nothing above them (setuid, setgid, sticky).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u32);

/// Why a text is not a mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMode {
    /// Not three octal digits after a 0.
    #[error("is {0:?}; expected octal digits in quotes, such as \"0440\"")]
    NotOctal(String),
    /// Setuid, setgid or sticky.
    #[error("is {0:?}; setuid, setgid and sticky bits are not allowed")]
    Special(String),
    /// Everybody could write.
    #[error("is {0:?}; a secret that everybody can write is not allowed")]
    WorldWritable(String),
    /// The owner could not read.
    #[error("is {0:?}; the owner has to be able to read: 0400 at least")]
    Unreadable(String),
}

impl Mode {
    /// `0400`
    pub const OWNER: Self = Self(0o400);
    /// `0440`
    pub const OWNER_AND_GROUP: Self = Self(0o440);

    /// Reads `0440` or `440`.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidMode> {
        let shown = || text.chars().take(16).collect::<String>();
        let is_octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let bits = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
        match bits.ok_or_else(|| InvalidMode::NotOctal(shown()))? {
            bits if bits > 0o777 => Err(InvalidMode::Special(shown())),
            bits if bits & 0o002 != 0 => Err(InvalidMode::WorldWritable(shown())),
            bits if bits & 0o400 == 0 => Err(InvalidMode::Unreadable(shown())),
            bits => Ok(Self(bits)),
        }
    }

    /// For `fchmod`.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether the group can read.
    pub fn lets_group_read(self) -> bool {
        self.0 & 0o040 != 0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_harmless() {
        for (text, shown) in [("0400", "0400"), ("440", "0440"), ("0644", "0644"), ("0775", "0775")] {
            assert_eq!(Mode::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "0", "04", "00400", "0o400", "+400", "0800", "r--", " 0400", "0400 "] {
            assert!(matches!(Mode::parse(text), Err(InvalidMode::NotOctal(_))), "{text:?}");
        }
        assert!(matches!(Mode::parse("4755"), Err(InvalidMode::Special(_))));
        assert!(matches!(Mode::parse("0666"), Err(InvalidMode::WorldWritable(_))));
        assert!(matches!(Mode::parse("0040"), Err(InvalidMode::Unreadable(_))));
    }
}
