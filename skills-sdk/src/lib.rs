//! Write a skill for Chimera: one typed Rust function becomes a sandboxed WebAssembly component.
//! This crate never decides what a skill may do; the host links, limits, grants and journals every call.
//! Authors of skills depend on it, together with `serde` and `schemars`, and on nothing else of Chimera.
//!
//! # A skill
//!
//! ```
//! use chimera_skill::prelude::*;
//!
//! /// What the skill works on. The comments become the descriptions of the JSON Schema.
//! #[derive(Deserialize, JsonSchema)]
//! pub struct Input {
//!     /// The text to shout.
//!     pub text: String,
//!     /// How many exclamation marks to add.
//!     #[serde(default = "one")]
//!     pub marks: usize,
//! }
//!
//! /// What the skill makes of it.
//! #[derive(Serialize, JsonSchema)]
//! pub struct Output {
//!     /// The shouted text.
//!     pub text: String,
//! }
//!
//! fn one() -> usize {
//!     1
//! }
//!
//! /// Shouts a text.
//! #[chimera_skill::skill]
//! pub fn shout(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
//!     if input.text.trim().is_empty() {
//!         return Err(Failure::invalid_input("empty-text", "There is nothing to shout."));
//!     }
//!     info!(ctx, "shouting {} bytes", input.text.len());
//!     let already = input.text.chars().filter(|c| c.is_uppercase()).count();
//!     let letters = input.text.chars().filter(|c| c.is_alphabetic()).count();
//!     let text = input.text.to_uppercase() + &"!".repeat(input.marks);
//!     Ok(Outcome::new(Output { text })
//!         .confidence(if letters == 0 { 0.2 } else { 0.95 })
//!         .evidence(format!("{already} of {letters} letters were capital already")))
//! }
//!
//! // The same function runs natively in tests:
//! use chimera_skill::testing::Harness;
//! let run = Harness::new(vec![]).run(shout, Input { text: "hello".into(), marks: 2 });
//! assert_eq!(run.outcome().output.text, "HELLO!!");
//! assert_eq!(run.logs[0].1, "shouting 5 bytes");
//! ```
//!
//! Built for `wasm32-wasip2` as a `cdylib`, this crate is a component that exports `chimera:skill/runner` and
//! `chimera:skill/describe`, and imports only the interfaces that the skill calls. Beside `Cargo.toml` lies
//! `skill.toml`, the manifest: name, version, what the skill may reach, its limits, and its self-tests.
//! `chimera skill new` writes all of it; `chimera skill build` builds, describes and seals it.
//!
//! # Talking to the outside
//!
//! ```
//! use chimera_skill::prelude::*;
//! use chimera_skill::testing::{Harness, Recorded};
//! use serde_json::json;
//! # #[derive(Deserialize, JsonSchema)] pub struct Input { pub query: String }
//! # #[derive(Serialize, JsonSchema)] pub struct Output { pub found: usize }
//!
//! #[derive(Deserialize)]
//! struct Found { posts: Vec<String> }
//!
//! #[chimera_skill::skill]
//! pub fn search(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
//!     let found: Found = ctx.mcp("social").call_as("search_posts", json!({"query": input.query}))?;
//!     Ok(Outcome::new(Output { found: found.posts.len() }))
//! }
//!
//! let recorded = vec![
//!     Recorded::call("mcp.call-tool", json!({"slot": "social", "tool": "search_posts"}))
//!         .answers(json!({"structured": {"posts": ["a", "b"]}})),
//! ];
//! let run = Harness::new(recorded).run(search, Input { query: "rust".into() });
//! assert_eq!(run.outcome().output.found, 2);
//! ```
//!
//! # Other skills, within a budget
//!
//! [`Skills::call`] runs another skill; [`Skills::call_within`] gives it a [`Budget`], so that enough is left for what
//! comes after it, and tells what it used. [`Context::limits`] says what this run itself may use.
//!
//! ```
//! use chimera_skill::prelude::*;
//! use chimera_skill::testing::{Harness, Recorded};
//! use serde_json::{Value, json};
//! use std::time::Duration;
//! # #[derive(Deserialize, JsonSchema)] pub struct Input { pub text: String }
//! # #[derive(Serialize, JsonSchema)] pub struct Output { pub summary: Value }
//!
//! #[chimera_skill::skill]
//! pub fn shorten(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
//!     let budget = Budget::new().time(Duration::from_secs(2)).fuel(ctx.limits().fuel / 2);
//!     let called = ctx.skills().call_within("chimera/summarize", json!({"texts": [input.text]}), budget)?;
//!     info!(ctx, "the summary took {:?}", called.time);
//!     Ok(Outcome::new(Output { summary: called.outcome.output }).confidence(called.outcome.confidence))
//! }
//!
//! let recorded = Recorded::call("skills.call", json!({"budget": {"time_ms": 2000, "fuel": 1_000_000_000}}))
//!     .answers(json!({"output": "short", "confidence": 0.8, "time_ms": 30, "fuel": 12_000}));
//! let run = Harness::new(vec![recorded]).run(shorten, Input { text: "long".into() });
//! assert_eq!(run.outcome().confidence, 0.8);
//! ```
//!
//! # A judge
//!
//! A judge gives an opinion on a finished task, and can reach nothing but the log. Its `skill.toml` says `world = "judge"`.
//!
//! ```
//! use chimera_skill::prelude::*;
//! use chimera_skill::testing::Harness;
//! use serde_json::json;
//!
//! #[derive(Deserialize)]
//! struct Draft { text: String }
//!
//! /// Sends drafts back that are too short to say anything.
//! #[chimera_skill::judge]
//! pub fn long_enough(ctx: &mut JudgeContext, case: Case) -> Result<Verdict, Failure> {
//!     let draft: Draft = case.output_as()?;
//!     info!(ctx, "{} bytes", draft.text.len());
//!     if draft.text.len() < 20 {
//!         return Ok(Verdict::retry("The draft is too short to say anything.").confidence(0.9));
//!     }
//!     Ok(Verdict::approve("The draft is long enough."))
//! }
//!
//! let case = Case { output: json!({"text": "Hi."}), ..Case::default() };
//! let run = Harness::new(vec![]).judge(long_enough, case);
//! assert_eq!(run.outcome().output.decision, Decision::Retry);
//! ```
//!
//! # Errors
//!
//! A skill returns a [`Failure`] whose [`FailureKind`] decides what happens next; `?` turns JSON and number errors
//! into one. A panic becomes a trap, which the host treats as a permanent failure; its message is logged.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

// The generated bindings name this crate as an author's crate would.
#[cfg(target_arch = "wasm32")]
extern crate self as chimera_skill;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[path = "bindings.rs"]
pub mod __bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use wit_bindgen::rt as __wit_rt;
mod context;
mod failure;
mod host;
mod judge;
mod outcome;
mod runtime;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod types;

pub use chimera_skill_macros::{judge, skill};
pub use context::{Context, Mcp, Memory, Scratch, Skills, Trends};
pub use failure::{Failure, FailureKind};
pub use judge::{Case, Decision, JudgeContext, Verdict};
pub use outcome::Outcome;
pub use runtime::{SkillInput, SkillOutput, describe};
pub use schemars;
pub use serde;
pub use serde_json;
pub use types::{Answer, Budget, Call, Called, Level, Limits, MemoryItem, Tool, Trend};

/// What the expansions of `#[skill]` and `#[judge]` use; no promise is made about it.
#[doc(hidden)]
pub mod __rt {
    pub use crate::judge::assert_judge;
    #[cfg(target_arch = "wasm32")]
    pub use crate::judge::guest::*;
    pub use crate::runtime::*;
}

/// Everything that most skills use: `use chimera_skill::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Answer, Budget, Call, Called, Case, Context, Decision, Failure, FailureKind, JudgeContext, Level, Outcome,
        Verdict, debug, error, info, judge, skill, warn,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::json;
}
