//! A skill that uses the interface its input names, and returns what the host answered.
//! It judges nothing: whether an answer is right is for the test to say.
//! Installed and run by the end-to-end tests of the interfaces.

use chimera_skill::prelude::*;
use chimera_skill::serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// What to do, and with what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Which interface to use, and how.
    pub mode: Mode,
    /// A scratch key, a topic, or the name of a skill or a secret.
    #[serde(default)]
    pub key: String,
    /// What to remember, to look for, to summarise or to publish.
    #[serde(default)]
    pub texts: Vec<String>,
    /// A scratch value, or metadata of a memory.
    #[serde(default)]
    pub value: Value,
    /// How much of each topic was seen.
    #[serde(default)]
    pub weights: Vec<f64>,
}

/// One use of one interface.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Remembers each text with the value as metadata.
    Remember,
    /// Recalls what is closest to the first text.
    Recall,
    /// Forgets the memories with the ids in the texts.
    Unremember,
    /// Keeps the value under the key.
    Keep,
    /// Reads what is kept under the key.
    Look,
    /// Forgets the key.
    Forget,
    /// Observes the key as a topic, once for each weight.
    Observe,
    /// The strongest topics of the last hour.
    Top,
    /// Calls the skill named by the key with the texts.
    Call,
    /// Calls that skill with the first weight as its fuel; says what it used, or the failure.
    CallWithin,
    /// What this run may use.
    Limits,
    /// Fails, with the value as the details.
    Fail,
    /// Lists the tools of the slot.
    Tools,
    /// Searches posts for the first text.
    Search,
    /// Publishes all texts in one batch.
    Publish,
    /// Is the secret named by the key configured?
    Secret,
    /// Reports progress and logs at every level.
    Report,
    /// Reads the clock and random numbers.
    Chance,
}

/// What the host answered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The answer, in the shape of the interface.
    pub answer: Value,
}

/// Uses one interface of the contract.
#[chimera_skill::skill]
pub fn exercise(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    let first = input.texts.first().map(String::as_str).unwrap_or_default();
    let answer = match input.mode {
        Mode::Remember => remember(ctx, &input)?,
        Mode::Recall => json!(ctx.memory().recall(first, 10)?),
        Mode::Unremember => {
            input.texts.iter().try_for_each(|id| ctx.memory().forget(id))?;
            json!(input.texts.len())
        }
        Mode::Keep => {
            ctx.scratch().put(&input.key, &input.value)?;
            json!(ctx.scratch().get::<Value>(&input.key)?)
        }
        Mode::Look => json!({ "kept": ctx.scratch().get::<Value>(&input.key)? }),
        Mode::Forget => {
            ctx.scratch().delete(&input.key)?;
            json!({ "kept": ctx.scratch().get::<Value>(&input.key)? })
        }
        Mode::Observe => {
            for weight in &input.weights {
                ctx.trends().observe(&input.key, *weight, "the tests")?;
            }
            json!(input.weights.len())
        }
        Mode::Top => json!(ctx.trends().top(Duration::from_secs(3600), 10)?),
        Mode::Call => call(ctx, &input)?,
        Mode::CallWithin => call_within(ctx, &input)?,
        Mode::Limits => {
            let limits = ctx.limits();
            json!({ "time_s": limits.time.as_secs(), "fuel": limits.fuel, "memory_mb": limits.memory_mb,
                "output_kb": limits.output_kb, "mcp_calls": limits.mcp_calls })
        }
        Mode::Fail => return Err(Failure::invalid_input("asked-to", "It was asked to.").details(&input.value)),
        Mode::Tools => json!(ctx.mcp("social").list_tools()?),
        Mode::Search => ctx.mcp("social").call_as("search_posts", json!({ "query": first }))?,
        Mode::Publish => publish(ctx, &input.texts)?,
        Mode::Secret => json!(ctx.secret_exists(&input.key)),
        Mode::Report => report(ctx),
        Mode::Chance => chance(ctx)?,
    };
    Ok(Outcome::new(Output { answer }).confidence(0.95).evidence("the host answered"))
}

fn remember(ctx: &Context, input: &Input) -> Result<Value, Failure> {
    let ids: Result<Vec<String>, Failure> =
        input.texts.iter().map(|text| ctx.memory().remember(text, &input.value)).collect();
    Ok(json!(ids?))
}

fn call(ctx: &Context, input: &Input) -> Result<Value, Failure> {
    let told: Outcome<Value> = ctx.skills().call(&input.key, json!({ "texts": input.texts, "max_sentences": 1 }))?;
    Ok(json!({ "output": told.output, "confidence": told.confidence, "evidence": told.evidence }))
}

fn call_within(ctx: &Context, input: &Input) -> Result<Value, Failure> {
    let fuel = input.weights.first().map_or(0, |weight| *weight as u64);
    let budget = Budget::new().time(Duration::from_secs(5)).fuel(fuel);
    let asked = json!({ "texts": input.texts, "max_sentences": 1 });
    match ctx.skills().call_within::<Value>(&input.key, asked, budget) {
        Ok(Called { outcome, fuel, .. }) => Ok(json!({ "output": outcome.output, "fuel": fuel })),
        Err(failure) => Ok(json!({ "failed": failure.code, "details": failure.details })),
    }
}

fn publish(ctx: &Context, texts: &[String]) -> Result<Value, Failure> {
    let calls: Result<Vec<Call>, Failure> =
        texts.iter().map(|text| Call::new("publish_post", json!({ "text": text }))).collect();
    let mut posts = Vec::new();
    for answer in ctx.mcp("social").call_all(&calls?) {
        posts.push(answer?.ok()?.parse::<Value>()?);
    }
    Ok(json!(posts))
}

fn report(ctx: &Context) -> Value {
    ctx.progress(0.25, "a quarter");
    debug!(ctx, "a line for debugging");
    info!(ctx, "a line for watching");
    warn!(ctx, "an odd line");
    error!(ctx, "a wrong line");
    ctx.progress(f64::NAN, "no number at all");
    ctx.progress(1.0, "done");
    json!("reported")
}

fn chance(ctx: &Context) -> Result<Value, Failure> {
    let left = ctx.time_left();
    let now = ctx.now().duration_since(UNIX_EPOCH).map_err(|_| Failure::permanent("clock", "before 1970"))?;
    let later = ctx.now().duration_since(UNIX_EPOCH).map_err(|_| Failure::permanent("clock", "before 1970"))?;
    Ok(json!({
        "now_s": now.as_secs(),
        "forward": later >= now,
        "left_ms": u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        "shrinks": ctx.time_left() <= left,
        "random": [ctx.random_u64().to_string(), ctx.random_u64().to_string()],
    }))
}
