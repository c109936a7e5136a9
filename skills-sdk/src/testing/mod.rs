//! Runs a skill natively, with recorded answers in place of the host: what `cargo test` in a skill's crate uses.
//! It reaches no server and no file but the crate's own `skill.toml`; what was not recorded fails the test.
//! Called by the tests of skills, never by a skill itself, and not there on `wasm32`.
//!
//! A recorded answer names the call, a JSON subset of its arguments, and the answer or the failure. Answers are
//! consumed in order; a call that was not recorded, and an answer that nobody asked for, fail the test.
//! `call_all` consumes one `mcp.call-tool` for each of its calls, in order. Log lines and progress are collected.
//!
//! | call | arguments | answer |
//! |---|---|---|
//! | `mcp.list-tools` | `slot` | `[{name, description, input_schema}]` |
//! | `mcp.call-tool` | `slot`, `tool`, `arguments` | `{text, structured, is_error}`, each optional |
//! | `mcp.read-resource` | `slot`, `uri` | text |
//! | `memory.remember` | `text`, `metadata` | the id |
//! | `memory.recall` | `query`, `limit` | `[{id, text, metadata, score}]` |
//! | `memory.forget` | `id` | none |
//! | `scratch.get` | `key` | the value, or none |
//! | `scratch.put` | `key`, `value` | none |
//! | `scratch.delete` | `key` | none |
//! | `trends.observe` | `topic`, `weight`, `source` | none |
//! | `trends.top` | `window_seconds`, `limit` | `[{topic, weight, count}]` |
//! | `skills.call` | `name`, `input`, and if it has one `budget` with `time_ms` and `fuel` | `{output, confidence, evidence, time_ms, fuel}`, all but the output optional |
//! | `secrets.exists` | `name` | true or false |

mod harness;
mod manifest;
mod recorded;
mod selftest;
pub(crate) mod tape;

pub use crate::{__run_judge_selftests as run_judge_selftests, __run_selftests as run_selftests};
pub use harness::{Harness, HarnessError, Run};
pub use recorded::{Recorded, subset};
pub use selftest::{SelftestError, SelftestFailure, judge_selftests, selftests};

/// Runs every `[[selftest]]` of the calling crate's `skill.toml` natively and fails the test with a list of those
/// that did not pass. Also checks that `Cargo.toml` and `skill.toml` name the same version.
///
/// ```no_run
/// # use chimera_skill::prelude::*;
/// # #[derive(Deserialize, JsonSchema)] pub struct Input {}
/// # #[derive(Serialize, JsonSchema)] pub struct Output {}
/// # pub fn hello(_: &mut Context, _: Input) -> Result<Outcome<Output>, Failure> { Ok(Outcome::new(Output {})) }
/// #[test]
/// fn selftests() {
///     chimera_skill::testing::run_selftests!(hello);
/// }
/// # fn main() { chimera_skill::testing::run_selftests!(hello); }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __run_selftests {
    ($skill:expr) => {
        $crate::__run_selftests!(selftests, $skill)
    };
    ($selftests:ident, $skill:expr) => {
        match $crate::testing::$selftests(
            ::std::env!("CARGO_MANIFEST_DIR"),
            ::std::option::Option::Some(::std::env!("CARGO_PKG_VERSION")),
            $skill,
        ) {
            ::std::result::Result::Ok(names) => {
                ::std::println!("{} self-tests passed: {}", names.len(), names.join(", "));
            }
            ::std::result::Result::Err(error) => ::std::panic!("{error}"),
        }
    };
}

/// The same for a judge: see [`judge_selftests`] for what its self-tests hold.
///
/// ```no_run
/// # use chimera_skill::prelude::*;
/// # pub fn strict(_: &mut JudgeContext, _: Case) -> Result<Verdict, Failure> { Ok(Verdict::approve("fine")) }
/// #[test]
/// fn selftests() {
///     chimera_skill::testing::run_judge_selftests!(strict);
/// }
/// # fn main() { chimera_skill::testing::run_judge_selftests!(strict); }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __run_judge_selftests {
    ($judge:expr) => {
        $crate::__run_selftests!(judge_selftests, $judge)
    };
}
