//! The part of WASI 0.2 that is real: clocks, waiting, random numbers.
//!
//! Everything a guest can learn here is the same when its run is replayed: readings and waits are journalled, random
//! numbers come from the journalled seed. A replayed wait does not wait again. Nothing here reaches the network, a file
//! or the environment. Called by guests; linked in [`crate::link`].

use crate::run::RunEnd;
use crate::state::{Host, State};
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, LimitName, codes};
use chimera_core::journal::{AnswerText, JournalEntry};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::io::poll;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

/// Most random bytes of one call.
const MAX_RANDOM: u64 = 1 << 20;
/// Most random bytes of one run.
const MAX_RANDOM_OF_RUN: u64 = 64 << 20;
/// What a clock reading asks for: nothing.
static NOTHING: LazyLock<Digest> = LazyLock::new(|| Digest::of_json(&Value::Null));

/// A fresh context: no arguments, no environment, no files; output goes to the run's log.
pub(crate) fn context(logs: &crate::logs::LogSink) -> WasiCtx {
    use crate::logs::{Output, Stream};
    WasiCtxBuilder::new().stdout(Output::new(logs, Stream::Stdout)).stderr(Output::new(logs, Stream::Stderr)).build()
}

/// The run's random numbers: streams of ChaCha20 (RFC 8439) under the journalled seed, so that a replayed run gets the
/// same. Most runs ask for none, so a stream is made when it is first asked for.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    secure: Option<ChaCha20Rng>,
    insecure: Option<ChaCha20Rng>,
    /// Bytes given so far.
    given: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, secure: None, insecure: None, given: 0 }
    }

    fn stream(seed: u64, number: u64) -> ChaCha20Rng {
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        random.set_stream(number);
        random
    }

    fn secure(&mut self) -> &mut ChaCha20Rng {
        self.secure.get_or_insert_with(|| Self::stream(self.seed, 0))
    }

    fn insecure(&mut self) -> &mut ChaCha20Rng {
        self.insecure.get_or_insert_with(|| Self::stream(self.seed, 1))
    }
}

impl State {
    /// Takes so many random bytes from the run's budget.
    fn spend_random(&mut self, bytes: u64) -> wasmtime::Result<usize> {
        let given = &mut self.random.given;
        *given = given.saturating_add(bytes);
        let reached = if bytes > MAX_RANDOM {
            Some((MAX_RANDOM, bytes, "at once"))
        } else if *given > MAX_RANDOM_OF_RUN {
            Some((MAX_RANDOM_OF_RUN, *given, "in one run"))
        } else {
            None
        };
        match reached {
            Some((max, used, when)) => {
                let message = format!("the skill asked for {used} random bytes {when}; at most {max} are given");
                let failure = Failure::new(FailureKind::Permanent, codes::LIMIT, message);
                Err(self.host.end(RunEnd::Failed(failure.limit(LimitName::Random, max, used))))
            }
            None => Ok(bytes as usize),
        }
    }
}

impl random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; self.spend_random(len)?];
        self.random.secure().fill_bytes(&mut bytes);
        Ok(bytes)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.spend_random(8)?;
        Ok(self.random.secure().next_u64())
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; self.spend_random(len)?];
        self.random.insecure().fill_bytes(&mut bytes);
        Ok(bytes)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.spend_random(8)?;
        Ok(self.random.insecure().next_u64())
    }
}

impl insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let mut stream = Random::stream(self.random.seed, 2);
        Ok((stream.next_u64(), stream.next_u64()))
    }
}

/// The guest's monotonic clock: nanoseconds since the run's start, set forward while a journal is replayed, so that it
/// never shows less than it showed before.
#[derive(Debug)]
pub(crate) struct GuestClock {
    started: Instant,
    ahead: AtomicU64,
}

impl GuestClock {
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, ahead: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        elapsed.saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// The clock has shown this before.
    fn catch_up(&self, shown: u64) {
        let behind = shown.saturating_sub(self.now());
        self.ahead.fetch_add(behind, Ordering::Relaxed);
    }

    /// How long until the clock shows this.
    fn until(&self, shown: u64) -> Duration {
        Duration::from_nanos(shown.saturating_sub(self.now()))
    }
}

/// What a guest's clocks last showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: u64,
}

/// How a wait ended, as the journal has it.
#[derive(Serialize, Deserialize)]
struct Waited {
    /// Indices of what is ready.
    ready: Vec<u32>,
    /// What the monotonic clock showed then.
    at: u64,
}

/// A call of WASI that is being answered.
enum Look<T> {
    /// The journal has it.
    Recorded(T),
    /// It happens now, with this number.
    Live(u32),
    /// The run has made too many readings.
    Spent,
}

impl Host {
    fn look<T: DeserializeOwned>(
        &mut self,
        call: &'static str,
        request: &Digest,
        waits: usize,
    ) -> wasmtime::Result<Look<T>> {
        if !self.recorder.spend_reading(waits) {
            return Ok(Look::Spent);
        }
        let ordinal = self.recorder.next_ordinal();
        let recorded = self.recorder.recall(ordinal, call, request);
        let recorded = recorded.map_err(|divergence| self.end(RunEnd::Diverged(divergence)))?;
        self.tell_audience();
        let Some(answer) = recorded else { return Ok(Look::Live(ordinal)) };
        match self.replay(answer)? {
            Ok(value) => Ok(Look::Recorded(value)),
            Err(_) => Err(self.corrupt(call)),
        }
    }

    fn hold(&mut self, ordinal: u32, call: &'static str, request: Digest, answer: impl Serialize) {
        // Numbers always have a text.
        let answer = AnswerText::ok(&answer).unwrap_or_else(|_| (&Value::Null).into());
        self.recorder.hold(JournalEntry { ordinal, call: call.into(), request, answer });
    }

    fn corrupt(&mut self, call: &str) -> wasmtime::Error {
        let message = format!("the journal's answer to {call} makes no sense");
        self.end(RunEnd::Failed(Failure::new(FailureKind::Permanent, codes::HOST, message)))
    }

    fn wall(&mut self) -> wasmtime::Result<Timestamp> {
        const CALL: &str = "wasi.wall-clock";
        self.last_reading.wall = match self.look::<i64>(CALL, &NOTHING, 0)? {
            Look::Recorded(millis) => Timestamp::from_millis(millis),
            Look::Live(ordinal) => {
                let now = self.ports.clock.now();
                self.hold(ordinal, CALL, *NOTHING, now.as_millis());
                now
            }
            Look::Spent => self.last_reading.wall,
        };
        Ok(self.last_reading.wall)
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        const CALL: &str = "wasi.monotonic-clock";
        self.last_reading.monotonic = match self.look(CALL, &NOTHING, 0)? {
            Look::Recorded(shown) => {
                self.clock.catch_up(shown);
                shown
            }
            Look::Live(ordinal) => {
                let now = self.clock.now();
                self.hold(ordinal, CALL, *NOTHING, now);
                now
            }
            Look::Spent => self.last_reading.monotonic,
        };
        Ok(self.last_reading.monotonic)
    }

    /// A wait for so many things that an earlier run ended already, or its number.
    fn before_wait(
        &mut self,
        call: &'static str,
        request: &Digest,
        waits: usize,
    ) -> wasmtime::Result<Result<Vec<u32>, u32>> {
        match self.look::<Waited>(call, request, waits)? {
            Look::Recorded(waited) => {
                self.clock.catch_up(waited.at);
                Ok(Ok(waited.ready))
            }
            Look::Live(ordinal) => Ok(Err(ordinal)),
            Look::Spent => {
                let limit = crate::recorder::MAX_READINGS;
                let message = format!(
                    "the skill read clocks and waited more than {limit} times (waiting for many things at once counts as \
                     several)"
                );
                let failure = Failure::new(FailureKind::Permanent, codes::CALL_LIMIT, message);
                let (max, used) = (limit.into(), self.recorder.readings().into());
                Err(self.end(RunEnd::Failed(failure.limit(LimitName::Readings, max, used))))
            }
        }
    }

    fn after_wait(&mut self, ordinal: u32, call: &'static str, request: Digest, ready: &[u32]) {
        let waited = Waited { ready: ready.to_vec(), at: self.clock.now() };
        self.hold(ordinal, call, request, waited);
    }
}

impl wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let millis = u64::try_from(self.host.wall()?.as_millis()).unwrap_or(0);
        Ok(wall_clock::Datetime { seconds: millis / 1000, nanoseconds: (millis % 1000) as u32 * 1_000_000 })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.host.monotonic()
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = self.table.push(Timer { when, clock: self.host.clock.clone() })?;
        subscribe(&mut self.table, timer)
    }

    fn subscribe_duration(&mut self, span: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.host.clock.now().saturating_add(span);
        self.subscribe_instant(when)
    }
}

/// Ready once the guest's clock shows a moment. It asks the clock each time it is waited for, because a replay sets the
/// clock forward.
struct Timer {
    when: u64,
    clock: std::sync::Arc<GuestClock>,
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        let left = self.clock.until(self.when);
        if !left.is_zero() {
            // Longer than any deadline is as good as forever.
            tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
        }
    }
}

impl poll::Host for State {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        const CALL: &str = "wasi.poll";
        let asked = pollables.len();
        let request = Digest::of_json(&json!(asked));
        match self.host.before_wait(CALL, &request, asked)? {
            Ok(ready) => {
                let in_range = ready.iter().all(|index| (*index as usize) < asked);
                if in_range { Ok(ready) } else { Err(self.host.corrupt(CALL)) }
            }
            Err(ordinal) => {
                let ready = poll::Host::poll(&mut self.table, pollables).await?;
                self.host.after_wait(ordinal, CALL, request, &ready);
                Ok(ready)
            }
        }
    }
}

impl poll::HostPollable for State {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        const CALL: &str = "wasi.pollable-ready";
        match self.host.before_wait(CALL, &NOTHING, 1)? {
            Ok(ready) => Ok(!ready.is_empty()),
            Err(ordinal) => {
                let ready = poll::HostPollable::ready(&mut self.table, pollable).await?;
                self.host.after_wait(ordinal, CALL, *NOTHING, if ready { &[0] } else { &[] });
                Ok(ready)
            }
        }
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        const CALL: &str = "wasi.pollable-block";
        if let Err(ordinal) = self.host.before_wait(CALL, &NOTHING, 1)? {
            poll::HostPollable::block(&mut self.table, pollable).await?;
            self.host.after_wait(ordinal, CALL, *NOTHING, &[0]);
        }
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(&mut self.table, pollable)
    }
}
