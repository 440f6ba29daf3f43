//! The policy engine against a naive oracle, written apart from it: random policies, paths and verbs, no difference allowed.

use std::io;

use strongroom_server::policy::oracle;

use crate::figures::Figure;

/// Asks `questions` random questions.
///
/// # Errors
/// The oracle could not make up a valid policy: a fault of the harness.
pub fn run(questions: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let differences = oracle::compare(seed, questions).map_err(io::Error::other)?;
    Ok(vec![Figure::never(
        "policy engine against a naive oracle: differences",
        differences,
        "differences",
        questions,
    )])
}
