//! Digests, times, subset matching, grants, text, and the recorded ports.

#![allow(clippy::unwrap_used)]

mod support;

use chimera_core::clock::{Clock as _, ManualClock, Timestamp};
use chimera_core::digest::Digest;
use chimera_core::journal::JournalEntry;
use chimera_core::json::{check_schema, contains};
use chimera_core::manifest::{RecordedAnswer, SelfTest};
use chimera_core::ports::{
    AskedBudget, Budget, Called, HostError, Journal as _, McpPort as _, MemoryPort as _, ScratchPort as _,
    SecretsPort as _, SkillsPort as _, ToolCall, TrendsPort as _,
};
use chimera_core::recorded::{MISMATCH, Recorded};
use chimera_core::skill::SkillName;
use chimera_core::text::{floor_char_boundary, printable, truncated};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use support::ready;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().rev().map(|(key, item)| (key.clone(), reversed(item))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
        scalar => scalar.clone(),
    }
}

proptest! {
    #[test]
    fn the_order_of_keys_does_not_change_a_digest(value in any_json()) {
        prop_assert_eq!(Digest::of_json(&value), Digest::of_json(&reversed(&value)));
    }

    #[test]
    fn different_values_have_different_digests(a in any_json(), b in any_json()) {
        prop_assert_eq!(Digest::of_json(&a) == Digest::of_json(&b), a == b);
    }

    #[test]
    fn a_digest_is_read_back(bytes in any::<Vec<u8>>()) {
        let digest = Digest::of(&bytes);
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        prop_assert_eq!(serde_json::from_value::<Digest>(json!(digest)).unwrap(), digest);
    }

    #[test]
    fn every_value_contains_itself(value in any_json()) {
        prop_assert!(contains(&value, &value));
        prop_assert!(contains(&reversed(&value), &value));
    }

    #[test]
    fn a_time_is_read_back(millis in 0..253_402_300_799_999_i64, later in any::<u64>()) {
        let at = Timestamp::from_millis(millis);
        prop_assert_eq!(Timestamp::parse(&at.to_string()), Ok(at));
        let then = at.plus(Duration::from_millis(later));
        prop_assert!(then >= at && then <= Timestamp::MAX);
        prop_assert!(then.since(at) <= Duration::from_millis(later));
        prop_assert_eq!(at.since(then), Duration::ZERO);
    }

    #[test]
    fn names_are_read_back_or_refused(text in "[a-z0-9/-]{0,20}|.{0,20}") {
        if let Ok(name) = text.parse::<SkillName>() {
            prop_assert_eq!(name.as_str(), &text);
            prop_assert_eq!(format!("{}/{}", name.namespace(), name.name()), text);
        }
    }

    #[test]
    fn text_is_cut_at_characters(text in ".{0,40}", max in 0..60_usize) {
        let cut = truncated(text.clone(), max);
        prop_assert!(cut.len() <= max && text.starts_with(&cut));
        prop_assert!(text.is_char_boundary(floor_char_boundary(&text, max)));
        prop_assert!(!printable(&text).chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    }
}

#[test]
fn subsets_are_objects_in_part_and_arrays_as_a_whole() {
    let value = json!({ "a": 1, "b": [{ "c": 2, "d": 3 }, 4] });
    assert!(contains(&value, &json!({ "b": [{ "c": 2.0 }, 4] })));
    for wrong in
        [json!({ "b": [4] }), json!({ "b": [4, { "c": 2 }] }), json!({ "e": null }), json!([]), json!({ "a": "1" })]
    {
        assert!(!contains(&value, &wrong), "{wrong}");
    }
}

#[test]
fn a_violated_schema_is_told_with_the_path() {
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["m"] });
    let told = check_schema(&schema, &json!({ "n": "x" })).unwrap_err();
    assert!(told.contains("`/n`") && told.contains("\"m\""), "{told}");
    assert!(check_schema(&json!({ "type": 5 }), &json!(1)).unwrap_err().contains("the schema cannot be used"));
}

fn answers(list: Value) -> Vec<RecordedAnswer> {
    serde_json::from_value(list).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

fn call(tool: &str, arguments: Value) -> ToolCall {
    ToolCall { ordinal: 0, slot: "social".to_owned(), tool: tool.to_owned(), arguments }
}

#[test]
fn recorded_answers_come_in_order_for_every_port() {
    let recorded = Recorded::new(answers(json!([
        { "call": "mcp.list-tools", "args": { "slot": "social" },
          "answer": [{ "name": "search", "description": "d", "input_schema": {} }] },
        { "call": "mcp.call-tool", "args": { "tool": "search", "arguments": { "q": "x" } }, "answer": { "text": "found" } },
        { "call": "mcp.read-resource", "answer": "body" },
        { "call": "memory.remember", "args": { "text": "t" }, "answer": "id-1" },
        { "call": "memory.recall", "args": { "limit": 2 }, "answer": [{ "id": "id-1", "text": "t", "score": 0.5 }] },
        { "call": "scratch.get", "args": { "key": "k" } },
        { "call": "scratch.put", "args": { "key": "k", "value": [1] } },
        { "call": "scratch.delete" },
        { "call": "trends.observe", "args": { "topic": "rust", "weight": 2, "source": "s" } },
        { "call": "trends.top", "args": { "window_seconds": 60, "limit": 3 },
          "answer": [{ "topic": "rust", "weight": 2.0, "count": 1 }] },
        { "call": "skills.call", "args": { "name": "acme/echo", "budget": { "fuel": 1 } },
          "answer": { "output": 1, "confidence": 0.5, "evidence": [], "fuel": 7, "time_ms": 3 } },
        { "call": "skills.call", "answer": { "output": 2 } },
        { "call": "secrets.exists", "args": { "name": "token" }, "answer": true },
        { "call": "scratch.get", "failure": { "kind": "transient", "code": "away", "message": "later" } },
    ])));
    assert_eq!(ready(recorded.list_tools("social", soon())).unwrap()[0].name, "search");
    let answer = ready(recorded.call_tool(call("search", json!({ "q": "x", "more": 1 })), soon())).unwrap();
    assert_eq!((answer.text.as_str(), answer.structured, answer.is_error), ("found", None, false));
    assert_eq!(ready(recorded.read_resource("social", "post://1", soon())).unwrap(), "body");
    assert_eq!(ready(recorded.remember(0, "t", json!({}))).unwrap(), "id-1");
    let hits = ready(recorded.recall("q", 2)).unwrap();
    assert_eq!((hits[0].item.text.as_str(), hits[0].score), ("t", 0.5));
    assert_eq!(ready(recorded.get("k")).unwrap(), None);
    ready(recorded.put("k", json!([1]))).unwrap();
    ready(recorded.delete("k")).unwrap();
    ready(recorded.observe(0, "rust", 2.0, "s")).unwrap();
    assert_eq!(ready(recorded.top(Duration::from_secs(60), 3)).unwrap()[0].count, 1);
    let asked = AskedBudget { time_ms: None, fuel: Some(1) };
    let budget = Budget { deadline: soon(), fuel: 1, calls: 1, asked };
    let called = ready(SkillsPortCall(&recorded).call("acme/echo", json!(5), budget));
    assert_eq!((called.result.unwrap().output, called.fuel, called.wall_ms), (json!(1), 7, 3));
    let called = ready(SkillsPortCall(&recorded).call("acme/echo", json!(5), budget));
    assert_eq!((called.result.unwrap().confidence, called.fuel), (1.0, 0));
    assert!(ready(recorded.exists("token")));
    let HostError::Failure(failure) = ready(recorded.get("k")).unwrap_err() else { panic!("no failure") };
    assert_eq!(failure.code, "away");
    recorded.finish().unwrap();
}

/// `SkillsPort::call` beside the other ports' methods.
struct SkillsPortCall<'r>(&'r Recorded);

impl SkillsPortCall<'_> {
    async fn call(&self, name: &str, input: Value, budget: Budget) -> Called {
        self.0.call(0, &name.parse().unwrap(), input, budget).await
    }
}

#[test]
fn what_was_not_recorded_is_a_mismatch_and_stays_one() {
    let code = |result: Result<Option<Value>, HostError>| match result.unwrap_err() {
        HostError::Failure(failure) => failure.code,
        HostError::End(failure) => panic!("{failure:?}"),
        HostError::Suspend(_) => panic!("suspended"),
    };
    let get = json!({ "call": "scratch.get", "args": { "key": "a" }, "answer": 1 });
    let recorded = Recorded::new(answers(json!([get])));
    assert_eq!(code(ready(recorded.get("b"))), MISMATCH);
    assert_eq!(ready(recorded.get("a")).unwrap(), Some(json!(1)), "the right call still gets its answer");
    assert_eq!(code(ready(recorded.get("a"))), MISMATCH);
    assert!(!ready(recorded.exists("token")));
    let told = recorded.finish().unwrap_err();
    for part in [
        r#"host call 0 was `scratch.get` with {"key":"b"}, but the recorded arguments are {"key":"a"}"#,
        "host call 1 was `scratch.get` with {\"key\":\"a\"}, but no recorded answer is left",
        "`secrets.exists`",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let recorded = Recorded::new(answers(json!([get])));
    assert_eq!(recorded.finish().unwrap_err(), "1 recorded answer(s) were never asked for, first: scratch.get");
    let recorded = Recorded::new(answers(json!([{ "call": "mcp.call-tool", "answer": 5 }])));
    ready(recorded.call_tool(call("x", json!({})), soon())).unwrap_err();
    assert!(recorded.finish().unwrap_err().contains("the recorded answer of `mcp.call-tool` is 5"));
}

#[test]
fn a_recorded_run_has_its_own_clock_seed_and_journal() {
    let test: SelfTest =
        serde_json::from_value(json!({ "name": "t", "input": 1, "clock": "2027-05-06T07:08:09Z", "seed": 42 }))
            .unwrap();
    let recorded = Recorded::new(Vec::new());
    let ports = recorded.host_ports(&test);
    assert_eq!((ports.clock.now().to_string().as_str(), ports.seed), ("2027-05-06T07:08:09Z", 42));
    let plain: SelfTest = serde_json::from_value(json!({ "name": "t", "input": 1 })).unwrap();
    assert_eq!(recorded.host_ports(&plain).clock.now().to_string(), "2026-01-01T00:00:00Z");
    assert!(ready(recorded.load()).unwrap().is_empty());
    let entry = JournalEntry { ordinal: 0, call: "c".into(), request: Digest::of(b""), answer: (&json!({})).into() };
    ready(recorded.append(vec![entry.clone()])).unwrap();
    assert_eq!(recorded.journalled(), [entry]);
    recorded.finish().unwrap();
}

#[test]
fn a_manual_clock_moves_only_when_told() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    assert_eq!(clock.now(), clock.now());
    clock.advance(Duration::from_secs(2));
    assert_eq!(clock.now().as_millis(), 2000);
}
