//! Memory that one small thing keeps in the middle of much that was freed goes back to the system all the same.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use std::time::{Duration, Instant};

/// Resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn what_is_free_between_things_in_use_is_given_back() {
    const PIECES: usize = 8_000;
    const PIECE: usize = 10_000;
    const SLACK: u64 = 16 << 20;
    chimera_sandbox::give_memory_back();
    // A thread of its own has an arena of its own, as every worker of a server has.
    let worker = std::thread::spawn(|| {
        let before = resident();
        let pieces: Vec<Vec<u8>> = (0..PIECES).map(|piece| vec![piece as u8; PIECE]).collect();
        let last: Box<[u8]> = vec![7; 100].into();
        let peak = resident();
        assert!(peak > before + (PIECES * PIECE / 2) as u64, "{before}, {peak}");
        drop(pieces);
        let started = Instant::now();
        while resident() > before + SLACK {
            assert!(started.elapsed() < Duration::from_secs(30), "{before} became {peak} and is {}", resident());
            std::thread::sleep(Duration::from_millis(50));
        }
        last
    });
    assert_eq!(worker.join().unwrap()[0], 7);
}
