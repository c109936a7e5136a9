//! How soon the process gives memory back that it no longer uses.
//!
//! The C library's allocator learns from large allocations that are freed: after the bytes of one large component it keeps
//! tens of megabytes of free memory in every arena. Here it is told not to learn. It allocates nothing itself. Called once,
//! by programs that take strangers' components.

/// Allocations from this size on are mapped by themselves, and go back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 1 << 20;
/// Free memory that an arena keeps at its end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_FREE: libc::c_int = 4 << 20;

/// Makes the process give large pieces of memory back to the system when they are freed. To be called at its start; does
/// nothing where the allocator is not that of the GNU C library.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the allocator has no safe settings")
)]
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        for (setting, value) in [(libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, KEPT_FREE)] {
            // SAFETY: `mallopt` takes two numbers, locks the allocator itself, and leaves every allocation as it is. It
            // fails only by changing nothing.
            let _ = unsafe { libc::mallopt(setting, value) };
        }
    }
}
