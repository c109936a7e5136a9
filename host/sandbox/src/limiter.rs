//! Bounds what a guest allocates: memory over *all* memories of the component, tables, instances.
//!
//! The engine's own limits are per memory, so a component could ask for its limit several times over; here everything is
//! added up. It never frees anything. Called by the engine whenever a guest grows.

use chimera_core::failure::{LimitName, LimitReached};
use wasmtime::ResourceLimiter;

/// Growth beyond the limit is refused this often before the run ends: a guest may free and try again, but one that does
/// nothing else is stopped.
const REFUSALS: u32 = 16;
/// Table elements over all tables of a component.
const MAX_TABLE_ELEMENTS: usize = 600_000;

/// Core instances, memories and tables of one component; a Python one has up to 40, 8 and 30.
pub(crate) const MAX_INSTANCES: usize = 64;
/// Memories of one component.
const MAX_MEMORIES: usize = 16;

/// The error that ends a run which kept asking for more memory.
#[derive(Debug, thiserror::Error)]
#[error("the skill kept asking for more memory than its limit")]
pub(crate) struct MemoryRefused;

/// Adds up what one run allocates.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: usize,
    used: usize,
    peak: usize,
    last_granted: usize,
    elements: usize,
    refusals: u32,
    /// What was refused last.
    refused: Option<LimitReached>,
}

impl Limiter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: 0, peak: 0, last_granted: 0, elements: 0, refusals: 0, refused: None }
    }

    /// Most linear memory at once, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak as u64
    }

    /// What was refused last, if growth ever was.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        self.refused
    }

    fn refuse(&mut self, name: LimitName, max: usize, wanted: usize) -> wasmtime::Result<bool> {
        self.last_granted = 0;
        self.refusals += 1;
        self.refused = Some(LimitReached { name, max: max as u64, used: wanted as u64 });
        if self.refusals > REFUSALS { Err(wasmtime::Error::new(MemoryRefused)) } else { Ok(false) }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        match self.used.checked_add(more).filter(|total| *total <= self.limit) {
            Some(total) => {
                self.used = total;
                self.peak = self.peak.max(total);
                self.last_granted = more;
                Ok(true)
            }
            None => self.refuse(LimitName::Memory, self.limit, self.used.saturating_add(more)),
        }
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        // Granted here, but not by the memory's own maximum or the system: it was not used after all.
        self.used = self.used.saturating_sub(std::mem::take(&mut self.last_granted));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        match self.elements.checked_add(more).filter(|total| *total <= MAX_TABLE_ELEMENTS) {
            Some(total) => {
                self.elements = total;
                Ok(true)
            }
            None => self.refuse(LimitName::Tables, MAX_TABLE_ELEMENTS, self.elements.saturating_add(more)),
        }
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_added_up() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap(), "a second memory counts too");
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.peak(), 100);
        let reached = LimitReached { name: LimitName::Memory, max: 100, used: 120 };
        assert_eq!(limiter.refused(), Some(reached));
    }

    #[test]
    fn a_growth_that_failed_is_given_back() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, Some(50)).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("over its own maximum")).unwrap();
        assert!(limiter.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn asking_again_and_again_ends_the_run() {
        let mut limiter = Limiter::new(0);
        let refusals = (0..).take_while(|_| limiter.memory_growing(0, 1, None).is_ok()).count();
        assert_eq!(refusals, REFUSALS as usize);
    }
}
