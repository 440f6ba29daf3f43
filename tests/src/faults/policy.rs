//! The policy engine against a naive oracle, written apart from it: random policies, paths and verbs, no difference allowed.

use std::io;

use strongroom_server::policy::oracle;

use crate::figures::Figure;

/// Asks `questions` random questions; stops at the first difference and shows it.
///
/// # Errors
/// Never; a difference is a figure.
#[expect(clippy::print_stderr, reason = "the table gives the number, this the question")]
pub fn run(questions: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let differences = match oracle::compare(seed, questions) {
        Ok(_allowed) => 0,
        Err(question) => {
            eprintln!("{question}");
            1
        }
    };
    Ok(vec![Figure::never("policy engine against a naive oracle", differences, "differences", questions)])
}
