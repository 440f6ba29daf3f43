//! A role: rules under a name. All of its rules, paths and segments lie one after the other in one piece of memory, and
//! their texts in another: a decision in a large set waits for nothing as long as for memory.

use std::{fmt, sync::Arc};

use super::{
    pattern::{Parsed, Pattern, Segment},
    verbs::{Effect, Verbs},
};

#[derive(PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: Arc<str>,
    steps: Box<[Step]>,
    text: Box<str>,
}

/// What stands in a role, in the order of its text. Eight bytes, so that eight of them come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next so many steps are its paths.
    Rule {
        verbs: Verbs,
        effect: Effect,
        steps: u32,
    },
    /// The next so many steps are its segments; its text begins there.
    Path {
        segments: u8,
        length: u16,
        start: u32,
    },
    Segment(Segment),
}

const _: () = assert!(size_of::<Step>() == 8);

/// Verbs on paths, allowed or denied.
#[derive(Clone, Copy)]
pub(super) struct RoleRule<'a> {
    pub(super) verbs: Verbs,
    pub(super) effect: Effect,
    text: &'a str,
    steps: &'a [Step],
}

/// A rule as it is read.
pub(super) struct ParsedRule<'a> {
    pub(super) paths: Vec<Parsed<'a>>,
    pub(super) verbs: Verbs,
    pub(super) effect: Effect,
}

impl Role {
    /// At most 256 rules of 64 paths, of at most 512 bytes and 17 segments each, so all numbers fit.
    pub(super) fn new(name: Arc<str>, rules: Vec<ParsedRule<'_>>) -> Self {
        let (mut steps, mut text) = (Vec::new(), String::new());
        for ParsedRule { paths, verbs, effect } in rules {
            let mut inner = Vec::new();
            for path in paths {
                let (path, segments) = path.into_parts();
                inner.push(Step::Path {
                    segments: u8::try_from(segments.len()).unwrap_or(u8::MAX),
                    length: u16::try_from(path.len()).unwrap_or(u16::MAX),
                    start: u32::try_from(text.len()).unwrap_or(u32::MAX),
                });
                inner.extend(segments.into_iter().map(Step::Segment));
                text.push_str(path);
            }
            steps.push(Step::Rule { verbs, effect, steps: u32::try_from(inner.len()).unwrap_or(u32::MAX) });
            steps.append(&mut inner);
        }
        Self { name, steps: steps.into(), text: text.into() }
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = RoleRule<'_>> {
        let (text, mut rest) = (&*self.text, &*self.steps);
        std::iter::from_fn(move || {
            let (&Step::Rule { verbs, effect, steps: length }, after) = rest.split_first()? else {
                return None;
            };
            let steps;
            (steps, rest) = after.split_at_checked(usize::try_from(length).ok()?)?;
            Some(RoleRule { verbs, effect, text, steps })
        })
    }

    /// The paths of all rules.
    pub(super) fn paths(&self) -> impl Iterator<Item = Pattern<'_>> {
        self.rules().flat_map(RoleRule::paths)
    }
}

impl<'a> RoleRule<'a> {
    pub(super) fn paths(self) -> impl Iterator<Item = Pattern<'a>> {
        let (text, mut rest) = (self.text, self.steps);
        std::iter::from_fn(move || {
            let (&Step::Path { segments: count, length, start }, after) = rest.split_first()? else {
                return None;
            };
            let start = usize::try_from(start).ok()?;
            let segments;
            (segments, rest) = after.split_at_checked(count.into())?;
            Some(Pattern::new(text.get(start..start + usize::from(length))?, segments))
        })
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
