//! The signals that end long work early: Ctrl-C, and SIGTERM.
//!
//! Whoever asks ends the work, not the process: what was made for it is still taken away in order. It ends nothing by
//! itself. Called by the demo and
//! by `skill run --watch`.

use crate::cli::error::{CliError, CliResult};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears the signals from when it is made: one that comes between two works ends the second.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(crate) fn new() -> CliResult<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| CliError::failed(format!("signals cannot be listened to: {error}"), ""))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Does something unless a signal comes first: then it is dropped.
    pub(crate) async fn unless_asked<T>(&mut self, work: impl Future<Output = CliResult<T>>) -> CliResult<T> {
        let by = tokio::select! {
            done = work => return done,
            by = self.heard() => by,
        };
        Err(CliError::failed(format!("stopped by {by}"), "nothing is left running"))
    }

    /// Waits for a signal; its name.
    pub(crate) async fn heard(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
