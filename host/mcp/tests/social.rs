//! The sample server by itself: both revisions of the protocol, spoken to byte by byte.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

mod support;

use chimera_core::grant::ToolMode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use support::{World, call, soon};

struct Conversation {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Conversation {
    fn begin(args: &[&str]) -> Self {
        let mut child = Command::new(support::SOCIAL)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    fn say(&mut self, message: Value) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{message}").unwrap();
        stdin.flush().unwrap();
    }

    fn ask(&mut self, id: u32, method: &str, params: Value) -> Value {
        self.say(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success(), "it ends when its input does");
    }
}

#[test]
fn the_old_revision_is_spoken_and_the_end_of_input_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("posts.jsonl");
    let mut social = Conversation::begin(&["--state", state.to_str().unwrap()]);
    let greeting = social.ask(
        1,
        "initialize",
        json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        }),
    );
    assert_eq!(greeting["result"]["serverInfo"]["name"], "chimera-social");
    social.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    let published = social.ask(
        2,
        "tools/call",
        json!({
            "name": "publish_post", "arguments": { "text": "hello", "idempotency_key": "k" },
        }),
    );
    let again = social.ask(
        3,
        "tools/call",
        json!({
            "name": "publish_post", "arguments": { "text": "hello" }, "_meta": { "chimera/idempotency-key": "k" },
        }),
    );
    assert_eq!(published["result"]["structuredContent"], again["result"]["structuredContent"]);
    let too_long =
        social.ask(4, "tools/call", json!({ "name": "publish_post", "arguments": { "text": "x".repeat(501) } }));
    assert_eq!(too_long["result"]["isError"], true);
    assert!(too_long["result"]["content"][0]["text"].as_str().unwrap().contains("501 characters"));
    let limit = social.ask(5, "tools/call", json!({ "name": "list_posts", "arguments": { "limit": 0 } }));
    assert!(limit["result"]["content"][0]["text"].as_str().unwrap().contains("1 to 1000"));
    social.end();
    let posts = chimera_mcp::social::read_posts(&state).unwrap();
    assert_eq!(posts.len(), 1);
    assert_eq!(published["result"]["structuredContent"]["id"], posts[0].id.as_str());
}

#[test]
fn an_input_that_ends_before_anything_was_said_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("posts.jsonl");
    Conversation::begin(&["--state", state.to_str().unwrap()]).end();
}

#[tokio::test]
async fn the_gateway_speaks_the_stateless_revision_with_it() {
    let world = World::social(&[]).await;
    let tools = world.gateway.tools("social").await.unwrap();
    let hints: BTreeMap<_, _> = tools.iter().map(|tool| (tool.info.name.as_str(), tool.read_only_hint)).collect();
    assert_eq!(hints, [("list_posts", true), ("publish_post", false), ("search_posts", true)].into());
    assert_eq!(world.gateway.servers()[0].protocol.as_deref(), Some("2026-07-28"));
    assert_eq!(world.gateway.tools("social").await.unwrap(), tools, "the pins are stable");
}

#[tokio::test]
async fn a_proposal_asks_a_human_for_everything_that_is_not_marked_read_only() {
    let world = World::social(&[]).await;
    let proposed = world.gateway.propose_grant(&world.manifest, "social", "social", &BTreeMap::new()).await.unwrap();
    let modes: Vec<_> = proposed.iter().map(|(tool, policy)| (tool.as_str(), policy.mode)).collect();
    let expected = [
        ("list_posts", ToolMode::Read),
        ("publish_post", ToolMode::EffectWithApproval),
        ("search_posts", ToolMode::Read),
    ];
    assert_eq!(modes, expected);
    assert!(proposed.values().all(|policy| policy.pin.is_some()));
    let wide = [("drop_all".to_owned(), ToolMode::Effect)].into();
    let error = world.gateway.propose_grant(&world.manifest, "social", "social", &wide).await.unwrap_err();
    assert!(error.to_string().contains("cannot widen a manifest"), "{error}");
    let error = world.gateway.propose_grant(&world.manifest, "bank", "social", &BTreeMap::new()).await.unwrap_err();
    assert!(error.to_string().contains("declares no slot `bank`; it declares: `social`"), "{error}");
}

#[tokio::test]
async fn a_server_without_keys_does_not_advertise_them() {
    let world = World::social(&["--no-idempotency"]).await;
    let tools = world.gateway.tools("social").await.unwrap();
    let publish = tools.iter().find(|tool| tool.info.name == "publish_post").unwrap();
    assert!(!publish.info.input_schema.to_string().contains("idempotency"), "{}", publish.info.input_schema);
}

#[tokio::test]
async fn seeded_posts_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed.jsonl");
    let lines: Vec<String> = (0..50)
        .map(|at| {
            json!({ "id": at, "text": format!("post {at} about {}", if at % 2 == 0 { "tea" } else { "rain" }) })
                .to_string()
        })
        .collect();
    std::fs::write(&seed, lines.join("\n")).unwrap();
    let world = World::social(&["--seed", seed.to_str().unwrap()]).await;
    world.grant(&[]).await;
    let attempt = world.attempt().await;
    let answer =
        attempt.port.call_tool(call(0, "search_posts", json!({ "query": "tea", "limit": 30 })), soon()).await.unwrap();
    let posts = answer.structured.unwrap()["posts"].as_array().unwrap().clone();
    assert_eq!(posts.len(), 25);
    assert!(posts.iter().all(|post| post["text"].as_str().unwrap().contains("tea")));
    assert!(world.truth.effects(world.lineage).await.unwrap().is_empty(), "reading is not in the ledger");
}
