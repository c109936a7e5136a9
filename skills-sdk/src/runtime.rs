//! What runs around a skill: JSON in, typed call, JSON out, and the description of its types.
//! It does no work of its own and keeps nothing between calls; each call of a skill has a fresh instance.
//! The expansion of `#[skill]` calls it on `wasm32`, the test harness calls the same steps natively.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::outcome::{Outcome, clipped_evidence};

/// What can be the input of a skill; every type that derives both traits is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the input of a skill",
    label = "derive `Deserialize` and `JsonSchema` for this type",
    note = "`use chimera_skill::prelude::*;` brings both derives into scope"
)]
pub trait SkillInput: DeserializeOwned + JsonSchema {}
impl<T: DeserializeOwned + JsonSchema> SkillInput for T {}

/// What can be the output of a skill; every type that derives both traits is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the output of a skill",
    label = "derive `Serialize` and `JsonSchema` for this type",
    note = "`use chimera_skill::prelude::*;` brings both derives into scope"
)]
pub trait SkillOutput: Serialize + JsonSchema {}
impl<T: Serialize + JsonSchema> SkillOutput for T {}

/// Compiles only for an input type.
pub fn assert_input<I: SkillInput>() {}

/// Compiles only for an output type.
pub fn assert_output<O: SkillOutput>() {}

/// Compiles only for a skill.
pub fn assert_skill<I: SkillInput, O: SkillOutput>(_skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>) {}

/// The JSON Schemas (draft 2020-12) of a skill's types: an object with `input` and `output`.
#[must_use]
pub fn describe<I: SkillInput, O: SkillOutput>(
    _skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>,
) -> Value {
    let settings = || SchemaSettings::draft2020_12().with(|it| it.inline_subschemas = true);
    let input: Schema = settings().for_deserialize().into_generator().into_root_schema_for::<I>();
    let output: Schema = settings().for_serialize().into_generator().into_root_schema_for::<O>();
    json!({"input": input, "output": output})
}

/// Reads the input; a mismatch names the path and what was expected there.
///
/// # Errors
/// `invalid-input`/`input-mismatch`.
pub(crate) fn decode<I: DeserializeOwned>(text: &str) -> Result<I, Failure> {
    let mismatch = |path: &str, error: &serde_json::Error| {
        let place = if path == "." { "The input".to_owned() } else { format!("The input at `{path}`") };
        Failure::invalid_input("input-mismatch", format!("{place} does not match the skill's input schema: {error}."))
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let input = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| mismatch(&error.path().to_string(), error.inner()))?;
    reader.end().map_err(|error| mismatch(".", &error))?;
    Ok(input)
}

/// # Errors
/// `permanent`/`confidence-range` for what is not 0 to 1.
pub(crate) fn check_confidence(confidence: f64) -> Result<(), Failure> {
    if (0.0..=1.0).contains(&confidence) {
        return Ok(());
    }
    let message = format!("The skill gave the confidence {confidence}; it must lie between 0 and 1.");
    Err(Failure::permanent("confidence-range", message))
}

/// Checks the confidence, bounds the evidence and serialises the output.
///
/// # Errors
/// `permanent`/`confidence-range`, or `permanent`/`json` for an output that is no JSON.
pub(crate) fn encode<O: Serialize>(outcome: Outcome<O>) -> Result<Outcome<String>, Failure> {
    check_confidence(outcome.confidence)?;
    Ok(Outcome {
        output: serde_json::to_string(&outcome.output)?,
        confidence: outcome.confidence,
        evidence: clipped_evidence(outcome.evidence),
    })
}

#[cfg(target_arch = "wasm32")]
pub use guest::*;

#[cfg(target_arch = "wasm32")]
mod guest {
    use std::time::Duration;

    pub use crate::__bindings::chimera::skill::types::{
        Failure as WireFailure, Outcome as WireOutcome, Task as WireTask,
    };
    pub use crate::__bindings::exports::chimera::skill::describe::Guest as DescribeGuest;
    pub use crate::__bindings::exports::chimera::skill::runner::Guest as RunnerGuest;

    use super::*;
    use crate::host::Host;
    use crate::types::Level;

    /// The `run` export: one task, start to end.
    pub fn run<I: SkillInput, O: SkillOutput>(
        task: WireTask,
        skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>,
    ) -> Result<WireOutcome, WireFailure> {
        log_panics();
        let input = decode(&task.input)?;
        let budget = Duration::from_millis(task.time_left_ms);
        let mut context = Context::new(task.id, task.campaign, budget, task.limits.into(), Host);
        let outcome = encode(skill(&mut context, input)?)?;
        Ok(WireOutcome { output: outcome.output, confidence: outcome.confidence, evidence: outcome.evidence })
    }

    /// A panic ends as a trap; this way the log says where it came from.
    pub(crate) fn log_panics() {
        std::panic::set_hook(Box::new(|panic| Host.log(Level::Error, &panic.to_string())));
    }

    /// The `describe` export.
    pub fn describe_json<I: SkillInput, O: SkillOutput>(
        skill: impl Fn(&mut Context, I) -> Result<Outcome<O>, Failure>,
    ) -> String {
        describe(skill).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Input {
        /// The posts.
        #[allow(dead_code)]
        posts: Vec<Post>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Post {
        /// Its id.
        #[allow(dead_code)]
        id: String,
    }

    #[derive(Serialize, JsonSchema)]
    struct Output {
        /// How many.
        count: usize,
    }

    fn count(_: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
        Ok(Outcome::new(Output { count: input.posts.len() }))
    }

    #[test]
    fn a_mismatch_names_path_and_expectation() {
        let failure = decode::<Input>(r#"{"posts":[{"id":"a"},{"id":7}]}"#).unwrap_err();
        assert_eq!(failure.code, "input-mismatch");
        assert!(failure.message.contains("`posts[1].id`"), "{failure}");
        assert!(failure.message.contains("expected a string"), "{failure}");
        assert!(decode::<Input>("[").is_err());
        assert!(decode::<Input>(r#"{"posts":[]} x"#).is_err());
        assert!(decode::<Input>(r#"{"posts":[]}"#).is_ok());
    }

    #[test]
    fn confidence_lies_between_0_and_1() {
        for wrong in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            let failure = encode(Outcome::new(1).confidence(wrong)).unwrap_err();
            assert_eq!(failure.code, "confidence-range");
        }
        for right in [0.0, 0.5, 1.0] {
            assert_eq!(encode(Outcome::new(1).confidence(right)).unwrap().output, "1");
        }
    }

    #[test]
    fn the_description_is_inlined_draft_2020_12() {
        let described = describe(count);
        let input = &described["input"];
        assert_eq!(input["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(input["properties"]["posts"]["description"], "The posts.");
        assert_eq!(input["properties"]["posts"]["items"]["properties"]["id"]["type"], "string");
        assert!(!described.to_string().contains("$ref"), "{described}");
        assert_eq!(described["output"]["required"][0], "count");
    }
}
