//! The life of a process: from the start of the runtime to the exit code, and the signals that ask for the end.

use std::{fmt::Display, future::Future, process::ExitCode};

use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    harden::{Needs, harden},
    log::{self, Level, LogFormat},
};

/// The exit code of a process whose configuration was refused; nothing was started.
pub const EXIT_CONFIG: u8 = 2;

/// Starts the log, whose level can be changed, and hardens the process: what comes before anything else.
///
/// # Errors
/// The log cannot be started. That was told; the process is to end with this code.
#[expect(clippy::print_stderr, reason = "without a log there is only standard error")]
pub fn prepare(format: LogFormat, level: &str, needs: Needs) -> Result<Level, ExitCode> {
    let level = log::start(format, level).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(EXIT_CONFIG)
    })?;
    harden(needs);
    Ok(level)
}

/// Lives a life on the runtime, to its end. `who` is for the log: `the server`.
pub fn live<E: Display>(
    who: &str,
    runtime: &mut Builder,
    life: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    let ended = match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(life),
        Err(error) => {
            tracing::error!(%error, "{who} has no runtime");
            return ExitCode::FAILURE;
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "{who} cannot continue");
            ExitCode::FAILURE
        }
    }
}

/// Cancelled by SIGTERM and SIGINT. To be called within a runtime.
pub fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let stop = stop.clone();
        at_each(kind, move || {
            tracing::info!("stopping");
            stop.cancel();
        });
    }
    stop
}

/// Lets SIGHUP do this, and SIGUSR1 and SIGUSR2 nothing but a line in the log: whoever says nothing of these three is ended
/// by them. To be called within a runtime, before anything that takes time.
pub fn survive_signals(hangup: impl Fn() + Send + 'static) {
    at_each(SignalKind::hangup(), hangup);
    for (kind, signal) in [(SignalKind::user_defined1(), "SIGUSR1"), (SignalKind::user_defined2(), "SIGUSR2")]
    {
        at_each(kind, move || tracing::info!(signal, "this signal means nothing here and is ignored"));
    }
}

fn at_each(kind: SignalKind, act: impl Fn() + Send + 'static) {
    match signal(kind) {
        Ok(mut signals) => {
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    act();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "a signal cannot be handled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_an_orderly_end_and_a_failure_is_told() {
        let mut runtime = Builder::new_current_thread();
        let asked = live("the test", &mut runtime, async {
            let stop = stop_on_signal();
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::TERM).map_err(|e| e.to_string())?;
            stop.cancelled().await;
            Ok::<(), String>(())
        });
        assert_eq!(asked, ExitCode::SUCCESS);
        assert_eq!(live("the test", &mut runtime, async { Err("broken") }), ExitCode::FAILURE);
    }
}
