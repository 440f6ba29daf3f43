//! How long what a role issues lives: what is good where nothing is said, what is possible, and what somebody may ask for.

use crate::model::Invalid;

/// Of one kind of engine, in seconds.
pub(super) struct Bounds {
    /// If nobody says.
    pub(super) ttl: u64,
    /// The same of the longest that anybody may ask for.
    pub(super) max_ttl: u64,
    pub(super) shortest: u64,
    pub(super) longest: u64,
}

impl Bounds {
    /// How long, and how long at most, for a role that says so; 0 = it says nothing.
    pub(super) fn of_role(&self, ttl: u64, max_ttl: u64) -> Result<(u64, u64), Invalid> {
        let or = |given: u64, default: u64| if given == 0 { default } else { given };
        let max_ttl = or(max_ttl, self.max_ttl.max(ttl));
        let ttl = or(ttl, self.ttl.min(max_ttl));
        let (shortest, longest) = (self.shortest, self.longest);
        for (field, seconds) in [("max_ttl_seconds", max_ttl), ("ttl_seconds", ttl)] {
            if !(shortest..=longest).contains(&seconds) {
                return Err(Invalid::new(field, format!("is {seconds}; expected {shortest} to {longest}")));
            }
        }
        if ttl > max_ttl {
            let problem = format!("is {ttl}, which is more than max_ttl_seconds, {max_ttl}");
            return Err(Invalid::new("ttl_seconds", problem));
        }
        Ok((ttl, max_ttl))
    }

    /// For somebody who asked for `asked`, of a role that says `ttl` and at most `max_ttl`.
    pub(super) fn of_asked(&self, asked: Option<u64>, ttl: u64, max_ttl: u64) -> Result<u64, Invalid> {
        match asked {
            None => Ok(ttl),
            Some(asked) if (self.shortest..=max_ttl).contains(&asked) => Ok(asked),
            Some(asked) => {
                let problem =
                    format!("is {asked}; expected {} to {max_ttl}, which the role allows", self.shortest);
                Err(Invalid::new("ttl_seconds", problem))
            }
        }
    }
}
