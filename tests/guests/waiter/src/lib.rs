//! A skill that waits in a host call: it asks a tool and returns what that answers.
//! It does nothing else.
//! What `chimera bench` parks ten thousand of.

use chimera_skill::prelude::*;
use chimera_skill::serde_json::json;

/// Who waits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Told to the gate.
    pub number: u32,
}

/// What the gate said.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The text of its answer.
    pub answer: String,
}

/// Waits.
#[chimera_skill::skill]
pub fn wait(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    let answer = ctx.mcp("gate").call("wait", json!({ "number": input.number }))?;
    Ok(Outcome::new(Output { answer: answer.text }).confidence(1.0))
}
