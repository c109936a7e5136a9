//! The attribute macro, used as an author uses it, in every shape that it accepts.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use chimera_skill::prelude::*;
use chimera_skill::testing::Harness;
use chimera_skill::{describe, skill};

/// What to greet.
#[derive(Deserialize, JsonSchema)]
pub struct Input {
    /// Who is greeted.
    pub name: String,
    /// In what tone.
    #[serde(default)]
    pub tone: Tone,
}

/// A tone.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tone {
    /// Friendly.
    #[default]
    Friendly,
    /// Formal.
    Formal,
}

/// The greeting.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The greeting itself.
    pub text: String,
}

type Answer<T> = Result<Outcome<T>, Failure>;

/// Greets.
#[skill]
pub fn greet(ctx: &mut Context, Input { name, tone }: Input) -> Result<Outcome<Output>, Failure> {
    info!(ctx, "greeting {name}");
    let text = match tone {
        Tone::Friendly => format!("Hi {name}"),
        Tone::Formal => format!("Good day, {name}"),
    };
    Ok(Outcome::new(Output { text }))
}

mod other {
    use super::*;

    #[chimera_skill::skill(crate = ::chimera_skill)]
    fn aliased(_: &mut chimera_skill::Context, input: Input) -> Answer<Output> {
        Err(Failure::permanent("never", input.name))
    }

    #[test]
    fn an_alias_and_a_path_work() {
        let input = Input { name: "x".into(), tone: Tone::Formal };
        assert_eq!(Harness::new(vec![]).run(aliased, input).failure().code, "never");
    }
}

#[test]
fn the_function_stays_callable() {
    let input = Input { name: "Ada".into(), tone: Tone::Formal };
    let run = Harness::new(vec![]).run(greet, input);
    assert_eq!(run.outcome().output.text, "Good day, Ada");
    assert_eq!(run.logs, [(Level::Info, "greeting Ada".to_owned())]);
}

#[test]
fn json_goes_in_and_out_as_on_the_host() {
    let run = Harness::new(vec![]).try_run_json(greet, &json!({"name": "Ada"})).unwrap();
    assert_eq!(run.outcome().output, json!({"text": "Hi Ada"}));
    let run = Harness::new(vec![]).try_run_json(greet, &json!({"name": "Ada", "tone": "loud"})).unwrap();
    let failure = run.failure();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::InvalidInput, "input-mismatch"));
    assert!(failure.message.contains("`tone`") && failure.message.contains("loud"), "{failure}");
}

#[test]
fn the_description_says_what_goes_in_and_out() {
    let described = describe(greet);
    assert_eq!(described["input"]["required"], json!(["name"]));
    assert_eq!(described["input"]["properties"]["name"]["description"], "Who is greeted.");
    assert_eq!(described["output"]["properties"]["text"]["type"], "string");
}
