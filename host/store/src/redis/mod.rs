//! What is kept in Redis: the queue, ephemeral memory, rate limits, and notices between processes.
//!
//! Nothing here is the truth: a Redis that comes back empty, or never, loses nothing that the truth does not have (but
//! ephemeral memory, which is no more than that). Opened by the binary and by tests.

mod fault;
mod link;
mod notices;
mod queue;
mod rates;
mod scratch;

pub use link::{Redis, RedisOptions};
pub use notices::{NoticeStats, RedisNotices};
pub use queue::RedisQueue;
pub use rates::RedisRateLimits;
pub use scratch::RedisScratch;

/// A planner's or an agent's name within a key. `#` begins the suffix of a key that goes with another one, so a name that
/// has it can never be taken for such a key.
fn named(prefix: &str, kind: &str, name: &str) -> String {
    format!("{prefix}{kind}:{}", name.replace('#', "##"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_makes_the_key_of_another_ones_suffix() {
        assert_eq!(named("", "task_queue", "main"), "task_queue:main");
        assert_ne!(named("", "task_queue", "main#9"), format!("{}#9", named("", "task_queue", "main")));
        assert_ne!(named("", "task_queue", "main#9"), format!("{}#9", named("", "task_queue", "main#")));
    }
}
