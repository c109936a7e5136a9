//! Admission: who may start a run, and who waits or is told to come back.
//!
//! The pool behind it has a place for every run that is admitted here, so a guest never meets the pool's own limits. A
//! component with many memories takes many places. A skill that runs within another one takes a place of a second kind
//! and never waits for it: callers could otherwise fill every place and wait for each other. Called by every run.

use crate::codes;
use chimera_core::failure::{Failure, FailureKind};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;

/// After this long a run that found no place may be tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

tokio::task_local! {
    /// Set while a run waits for another skill.
    pub(crate) static WITHIN_CALLER: ();
}

/// Places for running guests.
pub(crate) struct Places {
    /// For runs that somebody outside asked for.
    runs: Semaphore,
    /// For runs that a run asked for.
    callees: Semaphore,
    most: u32,
    most_callees: u32,
}

/// No place was found.
#[derive(Debug)]
pub(crate) struct Full;

impl Places {
    /// So many places of each kind.
    pub(crate) fn new(most: u32, most_callees: u32) -> Self {
        let semaphore = |places: u32| Semaphore::new(places as usize);
        Self { runs: semaphore(most), callees: semaphore(most_callees), most, most_callees }
    }

    /// Takes as many places as the component weighs; gives them back when dropped. A run from outside waits for them
    /// until its deadline.
    pub(crate) async fn enter(&self, weight: u32, deadline: Instant) -> Result<SemaphorePermit<'_>, Full> {
        if WITHIN_CALLER.try_with(|()| ()).is_ok() {
            return self.callees.try_acquire_many(weight.min(self.most_callees)).map_err(|_| Full);
        }
        match until(deadline, self.runs.acquire_many(weight.min(self.most))).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }
}

/// What a run without a place is told.
pub(crate) fn busy() -> Failure {
    let message = "every place for a running skill is taken; it may work later";
    Failure::new(FailureKind::Transient, codes::BUSY, message)
        .retry_after(u64::try_from(RETRY_AFTER.as_millis()).unwrap_or(u64::MAX))
}

/// As [`tokio::time::timeout_at`], but what is ready at once costs no timer.
pub(crate) async fn until<F: Future>(deadline: Instant, work: F) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    match futures::poll!(work.as_mut()) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => tokio::time::timeout_at(deadline.into(), work).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_heavy_component_takes_many_places_and_a_callee_none_of_them() {
        let places = Places::new(4, 4);
        let soon = || Instant::now() + Duration::from_millis(20);
        let heavy = places.enter(3, soon()).await.unwrap();
        assert!(places.enter(2, soon()).await.is_err(), "three of four are taken");
        let light = places.enter(1, soon()).await.unwrap();
        WITHIN_CALLER
            .scope((), async {
                let callee = places.enter(4, soon()).await.unwrap();
                assert!(places.enter(1, soon()).await.is_err(), "a callee does not wait");
                drop(callee);
            })
            .await;
        drop((heavy, light));
        // One that weighs more than there is takes all there is.
        assert!(places.enter(40, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_given_back() {
        let places = std::sync::Arc::new(Places::new(1, 1));
        let place = places.enter(1, Instant::now()).await.unwrap();
        let waiting = {
            let places = places.clone();
            tokio::spawn(async move { places.enter(1, Instant::now() + Duration::from_secs(30)).await.is_ok() })
        };
        tokio::task::yield_now().await;
        drop(place);
        assert!(waiting.await.unwrap());
    }
}
