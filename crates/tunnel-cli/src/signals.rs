//! SIGINT and SIGTERM: peers are told before the program ends.

use crate::failure::Failure;

/// Runs a command until it is done, or a signal asks the program to end.
pub(crate) async fn until_asked_to_end(
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::select! {
        result = command => result,
        failure = asked_to_end() => Err(failure),
    }
}

#[cfg(unix)]
async fn asked_to_end() -> Failure {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // The signals end the process as ever.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Failure::Signal { name: "SIGINT", number: 2 },
        _ = terminate.recv() => Failure::Signal { name: "SIGTERM", number: 15 },
    }
}

#[cfg(not(unix))]
async fn asked_to_end() -> Failure {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Failure::Signal { name: "Ctrl-C", number: 2 },
        Err(_) => std::future::pending().await,
    }
}
