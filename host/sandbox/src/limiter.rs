//! Bounds what a guest allocates: memory over *all* memories of the component, elements over all its tables.
//!
//! The engine's own limits are per memory and per table, so a component could ask for its limit several times over; here
//! everything is added up. It never frees anything, as a guest cannot give anything back. Called by the engine whenever a
//! guest grows, and asked by the run which limit was behind its end.

use crate::engine::{MAX_CORE_INSTANCES, MAX_ELEMENTS_OF_TABLE, MAX_MEMORIES, MAX_TABLES};
use chimera_core::failure::{LimitName, LimitReached};
use wasmtime::{ResourceLimiter, Trap};

/// Growth of one kind beyond its limit is refused this often before the run ends: a guest may do with less, but one that
/// does nothing else than ask is stopped.
const REFUSALS: u32 = 16;
/// Table elements over all tables of a component.
const MAX_TABLE_ELEMENTS: usize = 600_000;
/// What a guest that gives up may still be granted, in bytes: for the message that says so.
const LAST_WORDS: usize = 1 << 20;
/// The same in table elements.
const LAST_ELEMENTS: usize = 1_000;

/// The error that ends a run which kept asking for more than a limit allows.
#[derive(Debug, thiserror::Error)]
#[error("the skill kept asking for more than its limit")]
struct KeptAsking(LimitReached);

/// When growth was asked for.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// Which it was of all the growths of the run.
    number: u64,
    /// Calls of ports that the guest had made before.
    calls: u32,
    /// It was what a memory or table begins with: without it there is no guest.
    at_start: bool,
}

/// A growth that was refused.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    reached: LimitReached,
    moment: Moment,
    /// What had been granted of the kind before.
    granted: usize,
}

/// What a guest has of one kind.
#[derive(Debug)]
struct Growth {
    name: LimitName,
    limit: usize,
    last_words: usize,
    granted: usize,
    refusals: u32,
    last: Option<Refusal>,
}

impl Growth {
    fn new(name: LimitName, limit: usize, last_words: usize) -> Self {
        Self { name, limit, last_words, granted: 0, refusals: 0, last: None }
    }

    /// May it grow so? What is granted is counted.
    fn grow(&mut self, current: usize, desired: usize, moment: Moment) -> wasmtime::Result<bool> {
        let total = self.granted.saturating_add(desired.saturating_sub(current));
        if total > self.limit {
            return self.refuse(self.limit, total, moment);
        }
        self.granted = total;
        Ok(true)
    }

    fn refuse(&mut self, max: usize, wanted: usize, moment: Moment) -> wasmtime::Result<bool> {
        let reached = LimitReached { name: self.name, max: max as u64, used: wanted as u64 };
        self.last = Some(Refusal { reached, moment, granted: self.granted });
        self.refusals += 1;
        if self.refusals > REFUSALS { Err(wasmtime::Error::new(KeptAsking(reached))) } else { Ok(false) }
    }

    /// The last refusal, unless the guest went on with its work after it: it called a port, or did with less and got that.
    fn unanswered(&self, calls: u32) -> Option<Refusal> {
        self.last.filter(|last| last.moment.calls == calls && self.granted - last.granted <= self.last_words)
    }
}

/// Adds up what one run allocates.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Growth,
    elements: Growth,
    /// Calls of ports that the guest has made.
    calls: u32,
    growths: u64,
}

impl Limiter {
    /// For a run that may have so many bytes of memory.
    pub(crate) fn new(memory: usize) -> Self {
        Self {
            memory: Growth::new(LimitName::Memory, memory, LAST_WORDS),
            elements: Growth::new(LimitName::Tables, MAX_TABLE_ELEMENTS, LAST_ELEMENTS),
            calls: 0,
            growths: 0,
        }
    }

    /// The same limiter, told how many calls of ports the guest has made.
    pub(crate) fn after(&mut self, calls: u32) -> &mut Self {
        self.calls = calls;
        self
    }

    /// Most linear memory at once, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.memory.granted as u64
    }

    /// The limit that is behind the end of a run with this error, if one is; `calls` as in [`Limiter::after`].
    ///
    /// Certain are a guest that kept asking and one that could not even start. Else most languages trap when an allocation
    /// fails, so a trap is laid to the last refusal if it is one that such a failure brings (giving up; or, where the result
    /// was used unchecked, an access out of bounds of what did not grow), and if the guest did not go on with its work in
    /// between. What a guest allocates and calls is the same when it is replayed, and so is this answer.
    pub(crate) fn behind(&self, error: &wasmtime::Error, calls: u32) -> Option<LimitReached> {
        if let Some(KeptAsking(reached)) = error.downcast_ref() {
            return Some(*reached);
        }
        let trap = error.downcast_ref::<Trap>();
        [&self.memory, &self.elements]
            .into_iter()
            .filter_map(|growth| growth.unanswered(calls))
            .filter(|refusal| match trap {
                Some(trap) => follows(*trap, refusal.reached.name),
                None => refusal.moment.at_start,
            })
            .max_by_key(|refusal| refusal.moment.number)
            .map(|refusal| refusal.reached)
    }

    fn moment(&mut self, current: usize) -> Moment {
        self.growths += 1;
        Moment { number: self.growths, calls: self.calls, at_start: current == 0 }
    }
}

/// Is it a trap that a refused growth of this kind brings?
fn follows(trap: Trap, refused: LimitName) -> bool {
    match trap {
        Trap::UnreachableCodeReached => true,
        Trap::MemoryOutOfBounds => refused == LimitName::Memory,
        Trap::TableOutOfBounds | Trap::IndirectCallToNull => refused == LimitName::Tables,
        _ => false,
    }
}

/// What a memory's or a table's own maximum forbids is refused without counting, so nothing is granted that then fails and
/// would have to be taken back.
impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let moment = self.moment(current);
        self.memory.grow(current, desired, moment)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The pool's table is the maximum of one that declares none or a larger one.
        let own = maximum.filter(|maximum| *maximum < MAX_ELEMENTS_OF_TABLE);
        if own.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let moment = self.moment(current);
        if desired > MAX_ELEMENTS_OF_TABLE {
            return self.elements.refuse(MAX_ELEMENTS_OF_TABLE, desired, moment);
        }
        self.elements.grow(current, desired, moment)
    }

    // The pool has refused components with more when they were loaded; the same numbers hold here.
    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trap(trap: Trap) -> wasmtime::Error {
        trap.into()
    }

    fn memory(max: u64, used: u64) -> Option<LimitReached> {
        Some(LimitReached { name: LimitName::Memory, max, used })
    }

    fn tables(max: u64, used: u64) -> Option<LimitReached> {
        Some(LimitReached { name: LimitName::Tables, max, used })
    }

    #[test]
    fn memories_are_added_up() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap(), "a second memory counts too");
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.peak(), 100);
        assert_eq!(limiter.behind(&trap(Trap::UnreachableCodeReached), 0), memory(100, 120));
    }

    #[test]
    fn what_its_own_maximum_forbids_takes_nothing_and_is_no_limit() {
        let mut limiter = Limiter::new(100);
        for _ in 0..100 {
            assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
            assert!(!limiter.table_growing(0, 60, Some(50)).unwrap());
        }
        assert_eq!(limiter.behind(&trap(Trap::UnreachableCodeReached), 0), None);
        assert!(limiter.memory_growing(0, 100, Some(100)).unwrap());
        assert!(limiter.table_growing(0, 50, Some(50)).unwrap());
    }

    #[test]
    fn asking_again_and_again_for_one_kind_ends_the_run() {
        let mut limiter = Limiter::new(0);
        for _ in 0..REFUSALS {
            assert!(!limiter.memory_growing(1, 2, None).unwrap());
            assert!(!limiter.table_growing(1, MAX_ELEMENTS_OF_TABLE + 1, None).unwrap());
        }
        let ended = limiter.memory_growing(1, 2, None).unwrap_err();
        assert_eq!(limiter.behind(&ended, 7), memory(0, 1));
        let ended = limiter.table_growing(1, MAX_ELEMENTS_OF_TABLE + 1, None).unwrap_err();
        assert_eq!(limiter.behind(&ended, 7), tables(60_000, 60_001));
    }

    #[test]
    fn one_table_and_all_tables_have_limits_of_their_own() {
        let mut limiter = Limiter::new(0);
        for _ in 0..10 {
            assert!(limiter.table_growing(0, 60_000, Some(60_000)).unwrap());
        }
        assert!(!limiter.table_growing(59_999, 60_000, Some(60_000)).unwrap());
        assert_eq!(limiter.behind(&trap(Trap::TableOutOfBounds), 0), tables(600_000, 600_001));
        assert!(!limiter.table_growing(60_000, 70_000, Some(60_000)).unwrap());
        assert_eq!(limiter.behind(&trap(Trap::TableOutOfBounds), 0), tables(60_000, 70_000));
    }

    #[test]
    fn a_trap_is_laid_to_the_refusal_that_brings_it() {
        let mut limiter = Limiter::new(2 << 20);
        assert!(!limiter.memory_growing(1, 1 << 30, None).unwrap());
        assert!(!limiter.table_growing(1, 100_000, None).unwrap());
        let name = |trap: Trap| limiter.behind(&trap.into(), 0).map(|reached| reached.name);
        assert_eq!(name(Trap::UnreachableCodeReached), Some(LimitName::Tables), "the last one");
        assert_eq!(name(Trap::MemoryOutOfBounds), Some(LimitName::Memory));
        assert_eq!(name(Trap::TableOutOfBounds), Some(LimitName::Tables));
        assert_eq!(name(Trap::IntegerDivisionByZero), None);
        assert_eq!(limiter.behind(&wasmtime::Error::msg("it was not what a memory begins with"), 0), None);
    }

    #[test]
    fn a_guest_that_went_on_is_not_at_its_limit() {
        let gave_up = || trap(Trap::UnreachableCodeReached);
        let mut limiter = Limiter::new(4 << 20);
        assert!(!limiter.after(3).memory_growing(1, 1 << 30, None).unwrap());
        assert!(limiter.behind(&gave_up(), 3).is_some());
        assert!(limiter.behind(&gave_up(), 4).is_none(), "it called a port");
        assert!(limiter.memory_growing(0, LAST_WORDS, None).unwrap());
        assert!(limiter.behind(&gave_up(), 3).is_some(), "it may say so");
        assert!(limiter.memory_growing(0, 1, None).unwrap());
        assert!(limiter.behind(&gave_up(), 3).is_none(), "it did with less");
    }

    #[test]
    fn what_cannot_start_is_at_its_limit() {
        let mut limiter = Limiter::new(1 << 20);
        assert!(!limiter.memory_growing(0, 2 << 20, None).unwrap());
        assert_eq!(limiter.behind(&wasmtime::Error::msg("minimum size"), 0), memory(1 << 20, 2 << 20));
    }
}
