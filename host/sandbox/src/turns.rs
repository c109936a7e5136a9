//! How long a thread may keep the processor while others wait for it.
//!
//! A task passes through many threads on its way, each of which works for some microseconds. Beside guests that compute and
//! a compiler, the kernel would let each of them wait for a whole turn of the others, some milliseconds. So the serving
//! process asks for short turns, which are also given sooner, and its guests' threads and compiling children for the usual
//! ones again. Only
//! wishes: Linux before 6.12, and every other system, does not know them, and nothing depends on them. Called by the binary
//! before it starts its threads, by the guests' threads and by the compiling child.

#[cfg(target_os = "linux")]
use std::time::Duration;

/// The shortest turn that Linux grants (`sched_setattr(2)`, `sched_runtime` of a normal thread).
#[cfg(target_os = "linux")]
const SHORT: Duration = Duration::from_micros(100);

/// Asks for short turns, for this thread and all that it starts from now on.
pub fn take_short_turns() {
    #[cfg(target_os = "linux")]
    if let Err(error) = set(libc::SCHED_OTHER, niceness(), SHORT) {
        tracing::debug!(%error, "the kernel grants no short turns");
    }
}

/// Asks for turns of the usual length again, for this thread.
pub(crate) fn take_usual_turns() {
    #[cfg(target_os = "linux")]
    let _ = set(libc::SCHED_OTHER, niceness(), Duration::ZERO);
}

/// Asks for turns of the usual length, which interrupt nobody, and for no more of the processor than this `nice` gives.
pub(crate) fn take_long_turns(at_least: i32) {
    let niceness = niceness().max(at_least);
    // In this order: should the second be refused, the first still counts.
    let _ = rustix::process::setpriority_process(None, niceness);
    #[cfg(target_os = "linux")]
    let _ = set(libc::SCHED_BATCH, niceness, Duration::ZERO);
}

/// How nice this process is now.
fn niceness() -> i32 {
    rustix::process::getpriority_process(None).unwrap_or(0)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe wrapper knows this call")]
fn set(policy: libc::c_int, niceness: i32, turn: Duration) -> std::io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy.unsigned_abs(),
        sched_flags: 0,
        sched_nice: niceness,
        sched_priority: 0,
        sched_runtime: u64::try_from(turn.as_nanos()).unwrap_or(0),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes from a structure that is that long and lives until the call returns; it changes
    // how this thread is scheduled and nothing else.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn threads_inherit_the_wish_and_a_child_takes_it_back() {
        let turn_of = || -> Option<u64> {
            let told = std::fs::read_to_string("/proc/thread-self/sched").ok()?;
            let line = told.lines().find(|line| line.starts_with("se.slice"))?;
            line.rsplit(' ').next()?.parse().ok()
        };
        let outer = std::thread::spawn(move || {
            take_short_turns();
            let inherited = std::thread::spawn(turn_of).join().expect("a turn");
            take_long_turns(5);
            (inherited, turn_of())
        });
        // Some kernels do not tell; those that do must tell this.
        if let (Some(short), Some(usual)) = outer.join().expect("turns") {
            assert!(short <= usual, "{short} {usual}");
        }
    }
}
