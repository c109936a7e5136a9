//! Calls of a guest, bare and whole in turn: how long each takes, and what two threads make of them.
//!
//! A bare call is the engine's alone; a whole one is [`Sandbox::run`] with its limits, log capture and journal, and the
//! request is made within the time that counts. Batches of both alternate, so the machine's mood is in both. Called by the
//! benchmark of the sandbox.

use super::guests::{Guest, ports};
use crate::cli::error::{CliError, CliResult};
use chimera_core::ports::HostPorts;
use chimera_sandbox::floor::{Bare, Gate};
use chimera_sandbox::{Prepared, RunEnd, Sandbox};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls of one kind in a row before it is the other's turn.
const BATCH: usize = 50;

/// A guest that can be called both ways.
#[derive(Clone)]
pub(super) struct Callee {
    guest: Guest,
    sandbox: Sandbox,
    prepared: Arc<Prepared>,
    bare: Bare,
    text: Arc<str>,
    ports: HostPorts,
}

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the engine alone.
    Bare,
    /// By the sandbox.
    Whole,
}

/// Sorted times of calls.
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// The time that so many of a hundred calls stay within, in microseconds.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).map_or(f64::NAN, |time| time.as_nanos() as f64 / 1000.0)
    }
}

impl Callee {
    pub(super) async fn new(guest: Guest, sandbox: &Sandbox) -> CliResult<Self> {
        let prepared = guest.prepare(sandbox).await?;
        let bare = Bare::new(sandbox, &prepared, Arc::new(Gate::new())).map_err(wrong)?;
        let text = guest.input.to_string().into();
        let callee = Self { guest, sandbox: sandbox.clone(), prepared, bare, text, ports: ports() };
        // The first call of each kind finds what is wrong, and warms up.
        callee.call(Way::Bare).await.and(callee.call(Way::Whole).await).map_err(wrong)?;
        Ok(callee)
    }

    async fn call(&self, way: Way) -> Result<(), String> {
        match way {
            Way::Bare => self.bare.call(&self.text).await.map(drop),
            Way::Whole => {
                let request = self.guest.request(self.guest.input.clone());
                match self.sandbox.run(&self.prepared, request, self.ports.clone()).await.end {
                    RunEnd::Finished(_) => Ok(()),
                    end => Err(format!("the guest ended with {end:?}")),
                }
            }
        }
    }

    /// The times of so many calls of each kind, taken in turn: bare, whole.
    pub(super) async fn times(&self, calls: usize) -> CliResult<(Times, Times)> {
        let (mut bare, mut whole) = (Vec::with_capacity(calls), Vec::with_capacity(calls));
        while bare.len() < calls {
            for (way, times) in [(Way::Bare, &mut bare), (Way::Whole, &mut whole)] {
                for _ in 0..BATCH.min(calls) {
                    let started = Instant::now();
                    self.call(way).await.map_err(wrong)?;
                    times.push(started.elapsed());
                }
            }
        }
        bare.sort_unstable();
        whole.sort_unstable();
        Ok((Times(bare), Times(whole)))
    }

    /// What two threads do of one's work, bare and whole: medians over rounds that alternate. Many short rounds: the speed
    /// of a machine that is not alone changes from second to second, and must not change between one and two.
    pub(super) async fn scaling(&self, rounds: usize, span: Duration) -> CliResult<(f64, f64)> {
        let (mut bare, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            for (way, found) in [(Way::Bare, &mut bare), (Way::Whole, &mut whole)] {
                let one = self.rate(way, 1, span).await?;
                let two = self.rate(way, 2, span).await?;
                found.push(two / one);
            }
        }
        Ok((median(bare), median(whole)))
    }

    /// Calls a second over all tasks.
    async fn rate(&self, way: Way, tasks: usize, span: Duration) -> CliResult<f64> {
        let started = Instant::now();
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let callee = self.clone();
                tokio::spawn(async move {
                    let mut calls = 0_u64;
                    while started.elapsed() < span {
                        callee.call(way).await?;
                        calls += 1;
                        // A task that never waits would keep its thread from starting the other one.
                        tokio::task::consume_budget().await;
                    }
                    Ok::<_, String>(calls)
                })
            })
            .collect();
        let mut calls = 0;
        for task in running {
            calls += task.await.map_err(|error| wrong(error.to_string()))?.map_err(wrong)?;
        }
        Ok(calls as f64 / started.elapsed().as_secs_f64())
    }
}

fn median(mut found: Vec<f64>) -> f64 {
    found.sort_unstable_by(f64::total_cmp);
    found.get(found.len() / 2).copied().unwrap_or(f64::NAN)
}

fn wrong(why: String) -> CliError {
    CliError::failed(format!("the guest cannot be measured: {why}"), "build it again; a guest must answer its input")
}
