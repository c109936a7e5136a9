//! The threads that guests compute on.
//!
//! A guest that computes keeps its thread for a whole tick at a time. On the threads that also serve callers, as many such
//! guests as there are threads would leave nobody to read a request in between; on threads of their own they share with
//! the others only the processor, and the kernel sees to that. Whatever comes with a run (loading its component, waiting for
//! its host calls) may be done here as well. Kept by the sandbox; used by whoever has a guest run beside other work.

use crate::config::SandboxError;
use crate::turns::take_usual_turns;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// After how many turns of its tasks a thread looks at its clock and its connections: each turn may last a tick.
const TURNS: u32 = 2;

/// Threads of their own.
#[derive(Debug)]
pub(crate) struct GuestThreads(Option<Runtime>);

impl GuestThreads {
    /// As many as there are cores.
    pub(crate) fn start() -> Result<Self, SandboxError> {
        let runtime = Builder::new_multi_thread()
            .thread_name("chimera-guest")
            .event_interval(TURNS)
            .on_thread_start(take_usual_turns)
            .enable_all()
            .build()
            .map_err(|error| SandboxError::engine(format!("no threads for guests: {error}")))?;
        Ok(Self(Some(runtime)))
    }

    /// Has a future run on these threads. It ends when nobody waits for it any more, or the sandbox goes away.
    pub(crate) fn spawn<F>(&self, future: F) -> AbortOnDropHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        AbortOnDropHandle::new(match &self.0 {
            Some(runtime) => runtime.spawn(future),
            // Only while it is being dropped.
            None => tokio::spawn(future),
        })
    }
}

impl Drop for GuestThreads {
    /// Waits for nobody: it may be dropped by a thread that must not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
