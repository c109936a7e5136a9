//! How soon the process gives memory back that it no longer uses.
//!
//! The C library's allocator learns from large allocations that are freed: after the bytes of one large component it keeps
//! tens of megabytes of free memory in every arena. Here it is told not to learn. And it gives back only what is free at
//! an arena's end, so one small thing that outlives a million others keeps all of their memory: a thread looks now and
//! then whether the process has grown, and gives back what is free in between. It holds no memory itself and touches none
//! that is in use. Rust's part of the program allocates elsewhere (`mimalloc`), which gives back by itself, and all of it when
//! told to. Called once, by programs that take strangers' components.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use glibc::give_memory_back;

/// Makes the process give memory back to the system when it is freed. Does nothing here: the allocator is not that of the
/// GNU C library.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_memory_back() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::sync::Once;
    use std::time::{Duration, Instant};

    /// Allocations from this size on are mapped by themselves, and go back to the system when they are freed.
    const MAPPED_FROM: libc::c_int = 1 << 20;
    /// Free memory that an arena keeps at its end.
    const KEPT_FREE: libc::c_int = 4 << 20;
    /// How often the process looks at its own size.
    const LOOK: Duration = Duration::from_secs(2);
    /// Growth that is not worth the trouble: bytes.
    const LITTLE: u64 = 4 << 20;
    /// Growth that is looked into even while the process still grows: bytes.
    const MUCH: u64 = 32 << 20;
    /// The process has stopped growing when it grew by no more than this between two looks: bytes.
    const STEADY: u64 = 1 << 20;

    /// Makes the process give memory back to the system when it is freed: large pieces at once, what lies between others
    /// within seconds. To be called at its start; called again, it does nothing.
    pub fn give_memory_back() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            set_allocator();
            let keeper = std::thread::Builder::new().name("chimera-heap".to_owned()).spawn(keep);
            if let Err(error) = keeper {
                tracing::warn!(%error, "freed memory is given back late: the thread for it cannot be started");
            }
        });
    }

    #[expect(unsafe_code, reason = "the allocator has no safe settings")]
    fn set_allocator() {
        for (setting, value) in [(libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, KEPT_FREE)] {
            // SAFETY: `mallopt` takes two numbers, locks the allocator itself, and leaves every allocation as it is. It
            // fails only by changing nothing.
            let _ = unsafe { libc::mallopt(setting, value) };
        }
    }

    /// Looks at the process's size for as long as it lives.
    fn keep() {
        // Without /proc there is nothing to go by.
        let Some(size) = anonymous() else { return };
        let mut watch = Watch { given_back: size, last: size };
        loop {
            std::thread::sleep(LOOK);
            let Some(before) = anonymous() else { return };
            if watch.is_due(before) {
                let started = Instant::now();
                trim();
                let took = started.elapsed();
                let after = anonymous().unwrap_or(before);
                watch.given_back(after);
                tracing::debug!(before, after, ?took, "free memory was given back");
            }
        }
    }

    /// Resident memory of the process that no file is behind, in bytes.
    fn anonymous() -> Option<u64> {
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let mut pages = statm.split_ascii_whitespace().skip(1).map(|number| number.parse::<u64>().ok());
        let (resident, of_files) = (pages.next()??, pages.next()??);
        Some(resident.saturating_sub(of_files) * page_size())
    }

    #[expect(unsafe_code, reason = "the standard library does not know the size of a page")]
    fn page_size() -> u64 {
        // SAFETY: `sysconf` takes a number and reads nothing of this process.
        u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    }

    #[expect(unsafe_code, reason = "the allocators have no safe settings")]
    fn trim() {
        // SAFETY: `mi_collect` gives back what no allocation uses, of this thread's heap and of what threads that ended left
        // behind; every allocation stays as it is. In a program whose allocator is another one there is nothing to give back.
        unsafe { libmimalloc_sys::mi_collect(true) };
        // SAFETY: `malloc_trim` locks each arena while it gives that one's free pages back, and leaves every allocation
        // as it is.
        let _ = unsafe { libc::malloc_trim(0) };
    }

    /// When to give back: the allocator cannot say what of its free memory is resident, but the process's size can.
    struct Watch {
        /// The size after memory was given back last.
        given_back: u64,
        /// The size at the last look.
        last: u64,
    }

    impl Watch {
        /// Is the process larger than what memory was last given back for, and not just growing? While it grows, what is
        /// free is soon used again; but not for ever.
        fn is_due(&mut self, size: u64) -> bool {
            // What left by itself is no room to grow back into.
            self.given_back = self.given_back.min(size);
            let grown = size - self.given_back;
            let is_steady = size <= self.last.saturating_add(STEADY);
            self.last = size;
            grown >= MUCH || (grown >= LITTLE && is_steady)
        }

        fn given_back(&mut self, size: u64) {
            (self.given_back, self.last) = (size, size);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const MIB: u64 = 1 << 20;

        #[test]
        fn memory_is_given_back_when_the_process_has_grown_and_grows_no_more() {
            let mut watch = Watch { given_back: 50 * MIB, last: 50 * MIB };
            assert!(!watch.is_due(53 * MIB), "that is little");
            assert!(!watch.is_due(60 * MIB), "it grows");
            assert!(watch.is_due(60 * MIB), "it has stopped growing");
            watch.given_back(58 * MIB);
            assert!(!watch.is_due(58 * MIB), "the rest is in use");
            assert!(watch.is_due(90 * MIB), "it grows for too long");
        }

        #[test]
        fn a_process_that_shrank_may_not_grow_back_unseen() {
            let mut watch = Watch { given_back: 90 * MIB, last: 90 * MIB };
            assert!(!watch.is_due(50 * MIB));
            assert!(!watch.is_due(60 * MIB));
            assert!(watch.is_due(60 * MIB));
        }

        #[test]
        fn the_size_is_that_of_this_process() {
            let size = anonymous().unwrap();
            assert!((64 << 10..64 << 30).contains(&size), "{size}");
        }
    }
}
