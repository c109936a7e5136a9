//! A skill that answers its input: JSON in, JSON out, nothing in between.
//! It reaches nothing.
//! What `chimera bench` measures the cost of a call with.

use chimera_skill::prelude::*;

/// What to answer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    /// Any text.
    pub text: String,
}

/// Answers its input.
#[chimera_skill::skill]
pub fn echo(_: &mut Context, input: Echo) -> Result<Outcome<Echo>, Failure> {
    Ok(Outcome::new(input).confidence(1.0))
}
