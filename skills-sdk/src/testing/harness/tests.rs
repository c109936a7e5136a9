use super::*;
use crate::types::{Budget, Call, Called};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize, JsonSchema)]
struct Empty {}

#[derive(Serialize, JsonSchema)]
struct Seen {
    seen: Vec<String>,
}

/// Calls everything once, in a fixed order.
fn everything(ctx: &mut Context, _: Empty) -> Result<Outcome<Seen>, Failure> {
    let mut seen = vec![ctx.task_id().to_owned()];
    let social = ctx.mcp("social");
    seen.push(social.list_tools()?[0].name.clone());
    seen.push(social.call("a", json!({"n": 1}))?.text);
    for answer in social.call_all(&[Call::new("b", json!({"i": 0}))?, Call::new("b", json!({"i": 1}))?]) {
        seen.push(answer.map_or_else(|failure| failure.code, |answer| answer.text));
    }
    seen.push(social.read_resource("x://y")?);
    seen.push(ctx.memory().remember("t", json!({"k": 1}))?);
    seen.push(ctx.memory().recall("q", 3)?[0].text.clone());
    seen.push(format!("{:?}", ctx.scratch().get::<u32>("k")?));
    ctx.scratch().put("k", 4)?;
    ctx.scratch().delete("k")?;
    ctx.trends().observe("rust", 1.5, "here")?;
    seen.push(ctx.trends().top(Duration::from_secs(60), 5)?[0].topic.clone());
    let outcome: Outcome<String> = ctx.skills().call("c/d", json!({"x": 1}))?;
    seen.push(format!("{} {}", outcome.output, outcome.confidence));
    let budget = Budget::new().time(Duration::from_millis(1500));
    let called: Called<u32> = ctx.skills().call_within("c/d", 2, budget)?;
    seen.push(format!("{} {:?} {}", called.outcome.output, called.time, called.fuel));
    ctx.memory().forget("m1")?;
    seen.push(ctx.secret_exists("token").to_string());
    ctx.progress(0.5, "half");
    crate::warn!(ctx, "{} things", seen.len());
    Ok(Outcome::new(Seen { seen }))
}

fn everything_recorded() -> Vec<Recorded> {
    vec![
        Recorded::call("mcp.list-tools", json!({"slot": "social"})).answers(json!([{"name": "a"}])),
        Recorded::call("mcp.call-tool", json!({"tool": "a", "arguments": {"n": 1}})).answers(json!({"text": "A"})),
        Recorded::call("mcp.call-tool", json!({"arguments": {"i": 0}})).answers(json!({"text": "B0"})),
        Recorded::call("mcp.call-tool", json!({"arguments": {"i": 1}})).fails(Failure::transient("busy", "later")),
        Recorded::call("mcp.read-resource", json!({"uri": "x://y"})).answers(json!("R")),
        Recorded::call("memory.remember", json!({"text": "t", "metadata": {"k": 1}})).answers(json!("m1")),
        Recorded::call("memory.recall", json!({"query": "q", "limit": 3})).answers(json!([{"id": "m1", "text": "T"}])),
        Recorded::call("scratch.get", json!({"key": "k"})),
        Recorded::call("scratch.put", json!({"key": "k", "value": 4})),
        Recorded::call("scratch.delete", json!({"key": "k"})),
        Recorded::call("trends.observe", json!({"topic": "rust", "weight": 1.5, "source": "here"})),
        Recorded::call("trends.top", json!({"window_seconds": 60, "limit": 5}))
            .answers(json!([{"topic": "wasm", "weight": 2.0, "count": 3}])),
        Recorded::call("skills.call", json!({"name": "c/d", "input": {"x": 1}}))
            .answers(json!({"output": "O", "confidence": 0.5, "evidence": []})),
        Recorded::call("skills.call", json!({"name": "c/d", "input": 2, "budget": {"time_ms": 1500}}))
            .answers(json!({"output": 3, "time_ms": 4, "fuel": 5})),
        Recorded::call("memory.forget", json!({"id": "m1"})),
        Recorded::call("secrets.exists", json!({"name": "token"})).answers(json!(true)),
    ]
}

#[test]
fn every_call_gets_its_recorded_answer() {
    let run = Harness::new(everything_recorded()).task_id("t-1").run(everything, Empty {});
    let expected = ["t-1", "a", "A", "B0", "busy", "R", "m1", "T", "None", "wasm", "O 0.5", "3 4ms 5", "true"];
    assert_eq!(run.outcome().output.seen, expected);
    assert_eq!(run.progress, [(0.5, "half".to_owned())]);
    assert_eq!(run.logs, [(Level::Warn, "13 things".to_owned())]);
}

#[test]
fn a_missing_a_wrong_and_a_left_over_answer_are_each_named() {
    let problems = |answers: Vec<Recorded>| {
        let Err(error) = Harness::new(answers).try_run(everything, Empty {}) else {
            panic!("the run agreed with its recording");
        };
        error.to_string()
    };
    let missing = problems(vec![]);
    assert!(missing.contains("call 1, `mcp.list-tools`") && missing.contains("no answer is recorded"), "{missing}");

    let mut wrong = everything_recorded();
    wrong.swap(0, 4);
    let wrong = problems(wrong);
    assert!(wrong.contains("but `mcp.read-resource` is recorded next"), "{wrong}");

    let mut other_args = everything_recorded();
    other_args[1] = Recorded::call("mcp.call-tool", json!({"arguments": {"n": 2}}));
    let other_args = problems(other_args);
    assert!(other_args.contains("$.arguments.n: expected 2, found 1"), "{other_args}");

    let mut shape = everything_recorded();
    shape[4] = Recorded::call("mcp.read-resource", json!({})).answers(json!(7));
    assert!(problems(shape).contains("does not have the call's shape"));

    let mut extra = everything_recorded();
    extra.push(Recorded::call("scratch.delete", json!({})));
    let extra = problems(extra);
    assert!(extra.contains("1 recorded answers were never asked for: `scratch.delete`"), "{extra}");
}

#[test]
fn the_same_seed_gives_the_same_numbers_and_the_clock_stands() {
    fn numbers(ctx: &mut Context, _: Empty) -> Result<Outcome<(u64, u64, u64)>, Failure> {
        let now = ctx.now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(Outcome::new((ctx.random_u64(), ctx.random_u64(), now)))
    }
    let run = |seed| Harness::new(vec![]).seed(seed).run(numbers, Empty {}).outcome().output;
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
    assert_ne!(run(1).0, run(1).1);
    assert_eq!(run(1).2, DEFAULT_CLOCK);
}

#[test]
fn a_run_is_told_its_limits() {
    fn told(ctx: &mut Context, _: Empty) -> Result<Outcome<u64>, Failure> {
        Ok(Outcome::new(ctx.limits().fuel))
    }
    let limits = Limits { fuel: 7, ..Limits::default() };
    assert_eq!(Harness::new(vec![]).limits(limits).run(told, Empty {}).outcome().output, 7);
    assert_eq!(Harness::new(vec![]).run(told, Empty {}).outcome().output, Limits::default().fuel);
}

#[test]
fn time_left_starts_at_the_budget_and_falls() {
    fn left(ctx: &mut Context, _: Empty) -> Result<Outcome<(u128, u128)>, Failure> {
        let first = ctx.time_left().as_millis();
        std::thread::sleep(Duration::from_millis(5));
        Ok(Outcome::new((first, ctx.time_left().as_millis())))
    }
    let run = Harness::new(vec![]).time_left(Duration::from_millis(2)).run(left, Empty {});
    assert_eq!(run.outcome().output, (2, 0));
}
