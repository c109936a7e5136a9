//! Servers that behave as none should: each call ends with a clear failure, and the ledger stays true.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

mod support;

use chimera_core::approval::ApprovalKind;
use chimera_core::clock::{Clock as _, SystemClock};
use chimera_core::effect::EffectState;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::grant::{Grant, Permits, ToolMode, ToolPolicy};
use chimera_core::ports::HostError;
use chimera_mcp::{Idempotency, ServerState};
use serde_json::json;
use std::time::{Duration, Instant};
use support::{World, call, hostile, publish, soon};

/// Not a test: what this program is when it is started as a server.
#[test]
fn be_a_hostile_server() {
    hostile::serve_if_asked();
}

const SENT_FREELY: &[(&str, ToolMode)] = &[("publish_post", ToolMode::Effect)];

async fn world(mode: &str) -> World {
    let world = World::with(|state| hostile::server(mode, state)).await;
    world.grant(SENT_FREELY).await;
    world
}

async fn reading_fails(mode: &str) -> Failure {
    let world = world(mode).await;
    let failure = world.attempt().await.failure(call(0, "list_posts", json!({}))).await;
    assert!(failure.message.starts_with("server `social`: "), "{}", failure.message);
    failure
}

#[tokio::test]
async fn noise_before_the_conversation_and_the_old_revision_are_borne() {
    let world = world("honest").await;
    let status = world.gateway.servers().remove(0);
    assert_eq!((status.state, status.protocol.as_deref()), (ServerState::Running, Some("2025-06-18")));
    assert_eq!(status.implementation.as_deref(), Some("hostile 1"));
    let answer = world.attempt().await.call(call(0, "list_posts", json!({}))).await.unwrap();
    assert_eq!(answer.text, "done");
}

#[tokio::test]
async fn a_message_without_end_breaks_the_connection() {
    let failure = reading_fails("huge-line").await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, chimera_mcp::codes::ANSWER_UNUSABLE));
    assert!(failure.message.contains("more than 4 MiB"), "{}", failure.message);
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_too_deep_is_refused() {
    for (mode, expected) in [("huge-answer", "larger than 1024 KiB"), ("deep", "deeper than 64")] {
        let failure = reading_fails(mode).await;
        assert_eq!(failure.code, chimera_mcp::codes::ANSWER_UNUSABLE);
        assert!(failure.message.contains(expected), "{}", failure.message);
    }
}

#[tokio::test]
async fn garbage_breaks_the_connection() {
    let failure = reading_fails("garbage").await;
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.message.contains("not MCP messages"), "{}", failure.message);
}

#[tokio::test]
async fn silence_ends_with_the_servers_limit() {
    let started = Instant::now();
    let failure = reading_fails("silent").await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, chimera_mcp::codes::SERVER_TIMEOUT));
    assert!(started.elapsed() >= Duration::from_millis(1500));
}

/// What cannot be written to it must not hold up whoever calls, and it is not called again as it is.
#[tokio::test]
async fn a_server_that_stops_reading_is_given_up() {
    let world = world("deaf").await;
    let attempt = world.attempt().await;
    let large = json!({ "text": "x".repeat(600 << 10) });
    for (ordinal, arguments) in [(0, json!({})), (1, large)] {
        let call = attempt.failure(call(ordinal, "list_posts", arguments));
        let failure = tokio::time::timeout(Duration::from_secs(10), call).await.expect("the call never ends");
        assert_eq!(failure.code, chimera_mcp::codes::SERVER_TIMEOUT, "{}", failure.message);
    }
    assert_ne!(world.gateway.servers()[0].state, ServerState::Running);
}

#[tokio::test]
async fn other_answers_than_asked_for_are_failures() {
    for (mode, code) in [
        ("refuses", chimera_mcp::codes::SERVER_REFUSED),
        ("wants-input", chimera_mcp::codes::SERVER_REFUSED),
        ("other-shape", chimera_mcp::codes::ANSWER_UNUSABLE),
        ("dies", codes::UNREACHABLE),
    ] {
        assert_eq!(reading_fails(mode).await.code, code, "{mode}");
    }
}

#[tokio::test]
async fn a_server_that_never_greets_is_given_up_and_left_alone_for_a_while() {
    let world = World::with(|state| {
        let mut config = hostile::server("mute", state);
        config.start_timeout = Duration::from_millis(500);
        config
    })
    .await;
    let error = world.gateway.tools("social").await.unwrap_err().to_string();
    assert!(error.contains("did not greet within 500 ms") || error.contains("still starting"), "{error}");
    let until = Instant::now() + Duration::from_secs(20);
    while world.gateway.servers()[0].state != ServerState::Failed {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.gateway.servers()[0].failures, 1);
    let policy = ToolPolicy { mode: ToolMode::Read, pin: None };
    world.put_grant([("list_posts".to_owned(), policy)].into()).await;
    let failure = world.attempt().await.failure(call(0, "list_posts", json!({}))).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, codes::UNREACHABLE));
    assert!(failure.retry_after_ms.is_some());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let world = World::with(|_| chimera_mcp::ServerConfig::new("social", "/nowhere/at-all")).await;
    let error = world.gateway.tools("social").await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/at-all") && error.contains("could not be started"), "{error}");
    let error = world.gateway.tools("bank").await.unwrap_err().to_string();
    assert!(error.contains("no MCP server `bank`") && error.contains("`social`"), "{error}");
}

#[tokio::test]
async fn an_effect_without_an_answer_is_a_question_and_is_never_sent_again() {
    for mode in ["silent", "dies", "huge-line", "garbage", "other-shape"] {
        let world = world(mode).await;
        let first = world.attempt().await;
        let question = first.question(publish(0, "hello")).await;
        assert_eq!(world.approval(question).await.kind, ApprovalKind::UnknownEffect, "{mode}");
        let second = world.attempt().await;
        assert_eq!(second.question(publish(0, "hello")).await, question, "{mode}");
        assert_eq!(world.texts().len(), 1, "{mode}");
        assert_eq!(world.effects().await[0].state, EffectState::Intent, "{mode}");
    }
}

#[tokio::test]
async fn an_effect_that_the_server_refused_was_not_done_and_may_be_asked_for_again() {
    let world = world("refuses").await;
    let attempt = world.attempt().await;
    let failure = attempt.failure(publish(0, "hello")).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, chimera_mcp::codes::SERVER_REFUSED));
    assert_eq!(world.effects().await[0].state, EffectState::NotDone);
    attempt.failure(publish(0, "hello")).await;
    assert_eq!(world.effects().await.len(), 1);
}

#[tokio::test]
async fn an_effect_that_broke_inside_or_answered_too_much_counts_as_done() {
    for (mode, is_error) in [("breaks", true), ("huge-answer", false), ("deep", false)] {
        let world = world(mode).await;
        let attempt = world.attempt().await;
        let answer = attempt.call(publish(0, "hello")).await.unwrap();
        assert_eq!(answer.is_error, is_error, "{mode}");
        assert!(answer.text.len() <= 4096 && answer.structured.is_none(), "{mode}");
        assert_eq!(attempt.call(publish(0, "hello")).await.unwrap(), answer);
        assert_eq!(world.texts().len(), 1, "{mode}");
    }
}

#[tokio::test]
async fn a_tool_that_changed_since_it_was_granted_is_quarantined() {
    let world = world("changing").await;
    let attempt = world.attempt().await;
    for _ in 0..2 {
        let failure = attempt.failure(publish(0, "hello")).await;
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Denied, chimera_mcp::codes::TOOL_CHANGED));
        assert!(failure.message.contains("chimera mcp tools social"), "{}", failure.message);
    }
    assert_eq!(world.texts().len(), 0);
    assert!(world.effects().await.is_empty());
    assert!(world.actions().await.contains(&"grant.tool_changed".to_owned()));
}

#[tokio::test]
async fn a_schema_that_only_refers_to_itself_ends() {
    let world = world("recursive").await;
    // Whatever the validator makes of it, the host lives and says something.
    let result = world.attempt().await.call(call(0, "list_posts", json!({}))).await;
    assert!(matches!(result, Ok(_) | Err(HostError::Failure(_))), "{result:?}");
}

#[tokio::test]
async fn a_key_is_believed_only_where_the_tool_takes_it() {
    let world = World::with(|state| {
        let mut config = hostile::server("silent", state);
        config.idempotency = Idempotency::Argument("idempotency_key".to_owned());
        config
    })
    .await;
    world.grant(SENT_FREELY).await;
    let question = world.attempt().await.question(publish(0, "hello")).await;
    assert_eq!(world.approval(question).await.kind, ApprovalKind::UnknownEffect);
}

#[tokio::test]
async fn a_granted_resource_is_read() {
    let world = world("honest").await;
    let attempt = world.attempt().await;
    let denied = attempt.port.read_resource("social", "social://about", soon()).await;
    assert!(matches!(denied, Err(HostError::Failure(failure)) if failure.code == codes::NOT_GRANTED
        && failure.message.contains("--resource social://about")));
    let mut grant = world.truth.grants(None).await.unwrap().remove(0);
    let Permits::Slot(slot) = &mut grant.permits else { panic!("{grant:?}") };
    slot.resources.insert("social://about".to_owned());
    let put = async |grant| {
        let mut change = chimera_core::change::Change::new();
        change.write(chimera_core::change::Write::PutGrant(grant));
        support::apply(&*world.truth, change).await;
    };
    put(grant.clone()).await;
    assert_eq!(attempt.port.read_resource("social", "social://about", soon()).await.unwrap(), "about");
    put(Grant { expires_at: Some(SystemClock.now()), ..grant }).await;
    let over = attempt.port.read_resource("social", "social://about", soon()).await;
    assert!(matches!(over, Err(HostError::Failure(failure)) if failure.code == codes::NOT_GRANTED));
}

#[tokio::test]
async fn shutting_down_ends_the_process() {
    let world = world("honest").await;
    let pid = world.gateway.servers()[0].pid.unwrap();
    world.gateway.shutdown().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_err(), "the server's process is gone");
    assert_eq!(world.gateway.servers()[0].state, ServerState::Closed);
}
