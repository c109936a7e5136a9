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
mod outcome;
mod runtime;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod types;

pub use chimera_skill_macros::skill;
pub use context::{Context, Mcp, Memory, Scratch, Skills, Trends};
pub use failure::{Failure, FailureKind};
pub use outcome::Outcome;
pub use runtime::{SkillInput, SkillOutput, describe};
pub use schemars;
pub use serde;
pub use serde_json;
pub use types::{Answer, Call, Level, MemoryItem, Tool, Trend};

/// What the expansion of `#[skill]` uses; no promise is made about it.
#[doc(hidden)]
pub mod __rt {
    pub use crate::runtime::*;
}

/// Everything that most skills use: `use chimera_skill::prelude::*;`.
pub mod prelude {
    pub use crate::{Answer, Call, Context, Failure, FailureKind, Level, Outcome, debug, error, info, skill, warn};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::json;
}
