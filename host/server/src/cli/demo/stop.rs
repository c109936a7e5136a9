//! The signals that end a demo early: Ctrl-C, and SIGTERM.
//!
//! Whoever asks ends the work, not the process: what was made for it is still taken away in order. It ends nothing by
//! itself. Called by the demo.

use crate::cli::error::{CliError, CliResult};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears the signals from when it is made: one that comes between two works ends the second.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> CliResult<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| CliError::failed(format!("signals cannot be listened to: {error}"), ""))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Does something unless a signal comes first: then it is dropped.
    pub(super) async fn unless_asked<T>(&mut self, work: impl Future<Output = CliResult<T>>) -> CliResult<T> {
        let by = tokio::select! {
            done = work => return done,
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        };
        Err(CliError::failed(format!("stopped by {by}"), "nothing is left running"))
    }
}
