//! Keeps a loop alive: wakes it, waits for it, logs what goes wrong, and never lets it die before it is told to.
//!
//! It knows nothing of what the loop does. Called by the swarm for every background loop.

use crate::error::AgentError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// First pause after an error; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What one turn of a loop found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something was done: there may be more.
    Worked,
    /// Something was done, and nothing was left when it was begun.
    Drained,
    /// Nothing to do.
    Idle,
}

impl Turn {
    /// Of a turn that was given so many things of at most so many.
    pub(crate) fn of(given: usize, most: u32) -> Self {
        match given {
            0 => Self::Idle,
            _ if given < most as usize => Self::Drained,
            _ => Self::Worked,
        }
    }
}

/// Runs `turn` until `cancel`: again at once while it works, else when woken or after `poll`.
pub(crate) async fn run<F, Fut>(
    name: &'static str,
    cancel: CancellationToken,
    wake: &Notify,
    poll: Duration,
    mut turn: F,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Turn, AgentError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let done = tokio::select! {
            () = cancel.cancelled() => return,
            done = AssertUnwindSafe(turn()).catch_unwind() => done,
        };
        let wait = match done {
            Ok(Ok(Turn::Worked)) => {
                pause = FIRST_PAUSE;
                // A loop that always finds work must still let the others on.
                tokio::task::yield_now().await;
                continue;
            }
            // What came while it was done has woken it already.
            Ok(Ok(Turn::Drained | Turn::Idle)) => {
                pause = FIRST_PAUSE;
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = wake.notified() => continue,
                    () = tokio::time::sleep(poll) => continue,
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(name, %error, "the loop goes on after an error");
                pause
            }
            Err(_) => {
                tracing::error!(name, "the loop goes on after a panic");
                pause
            }
        };
        pause = (pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Does many things, at most `at_once` at a time; the answers come as they are ready. Boxed, because the compiler cannot
/// yet see that streams of borrowing closures may cross threads.
pub(crate) async fn all<T: Send>(jobs: Vec<BoxFuture<'_, T>>, at_once: usize) -> Vec<T> {
    futures::stream::iter(jobs).buffer_unordered(at_once).collect().await
}
