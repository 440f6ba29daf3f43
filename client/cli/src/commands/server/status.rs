//! `status`: the state of the server, which it tells to anybody.

use serde_json::json;
use strongroom_client::ServerStatus;

use crate::{
    context::Context,
    failure::Failure,
    output::{Output, Presentation},
};

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let status = context.anonymous().await?.sys().status().await?;
    show(&context.output, &status)?;
    // For scripts: a server that does not serve is not a success.
    if status.initialized && !status.sealed { Ok(()) } else { Err(Failure::NotServing) }
}

pub(crate) fn show(output: &Output, status: &ServerStatus) -> Result<(), Failure> {
    let value = json!({
        "initialized": status.initialized,
        "sealed": status.sealed,
        "seal": status.seal,
        "shares": status.shares,
        "threshold": status.threshold,
        "progress": status.progress,
        "version": status.version,
        "key_term": status.key_term,
        "store_id": status.store_id,
    });
    let mut pairs = vec![("state", state(status)), ("version", status.version.clone())];
    if status.initialized {
        let seal = match status.threshold {
            0 => status.seal.clone(),
            threshold => format!("{}, {threshold} of {} shares", status.seal, status.shares),
        };
        pairs.extend([("seal", seal), ("store", status.store_id.clone())]);
    }
    if status.initialized && !status.sealed {
        pairs.push(("key term", status.key_term.to_string()));
    }
    output.show(&value, Presentation::Pairs(pairs))
}

pub(crate) fn state(status: &ServerStatus) -> String {
    match (status.initialized, status.sealed, status.threshold) {
        (false, ..) => "not initialised".into(),
        (true, false, _) => "unsealed".into(),
        (true, true, 0) => "sealed".into(),
        (true, true, threshold) => format!("sealed: {} of {threshold} shares given", status.progress),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_a_sentence() {
        let mut status = ServerStatus::default();
        assert_eq!(state(&status), "not initialised");
        (status.initialized, status.sealed, status.threshold, status.progress) = (true, true, 3, 1);
        assert_eq!(state(&status), "sealed: 1 of 3 shares given");
        status.sealed = false;
        assert_eq!(state(&status), "unsealed");
    }
}
