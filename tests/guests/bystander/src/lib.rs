//! A skill that looks for what another one remembered and kept, and returns what it finds.
//! It remembers and keeps nothing itself.
//! Installed and run by the end-to-end tests of the interfaces.

use chimera_skill::prelude::*;
use chimera_skill::serde_json::Value;

/// What to look for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What to recall.
    pub query: String,
    /// The scratch key to read.
    pub key: String,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// How many memories.
    pub recalled: usize,
    /// What is kept under the key.
    pub kept: Value,
}

/// Looks for what is not its own.
#[chimera_skill::skill]
pub fn look_on(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    let recalled = ctx.memory().recall(&input.query, 50)?.len();
    let kept = ctx.scratch().get::<Value>(&input.key)?.unwrap_or_default();
    Ok(Outcome::new(Output { recalled, kept }).confidence(0.95))
}
