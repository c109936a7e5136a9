//! Failpoints: named places where a test can have the process killed as by `kill -9`.
//!
//! `CHIMERA_FAILPOINT=name=3` sends this process SIGKILL the third time it comes by `name`. Compiled to nothing in
//! release builds. Called right before and after every commit, every send, and every acknowledgement.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        at: u64,
        passed: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("CHIMERA_FAILPOINT").ok()?;
        let (name, at) = text.split_once('=').unwrap_or((&text, "1"));
        Some(Armed { name: name.to_owned(), at: at.parse().ok()?, passed: AtomicU64::new(0) })
    });

    pub(super) fn hit(name: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else { return };
        if armed.passed.fetch_add(1, Ordering::SeqCst) + 1 == armed.at {
            eprintln!("failpoint {name} reached: killing this process");
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

/// Passes the failpoint `name`.
#[inline]
pub fn hit(name: &str) {
    #[cfg(debug_assertions)]
    armed::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}
