//! Every effect happens at most once: the gateway against the real `social`, a real store and core's own state machine.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

mod support;

use chimera_core::approval::{Approval, ApprovalKind, ApprovalState, HumanDecision};
use chimera_core::audit::verify;
use chimera_core::effect::{Effect, EffectState};
use chimera_core::failure::{FailureKind, codes};
use chimera_core::grant::ToolMode;
use chimera_core::ids::{SystemIds, TaskId};
use chimera_core::ports::{HostError, McpGateway};
use serde_json::json;
use std::time::{Duration, Instant};
use support::{World, call, publish, soon};

const SENT_FREELY: &[(&str, ToolMode)] = &[("publish_post", ToolMode::Effect)];

#[tokio::test]
async fn reading_needs_a_grant_and_then_nothing_else() {
    let world = World::social(&[]).await;
    let attempt = world.attempt().await;
    let denied = attempt.failure(call(0, "list_posts", json!({}))).await;
    assert_eq!((denied.kind, denied.code.as_str()), (FailureKind::Denied, codes::NOT_GRANTED));
    let command = "chimera grant add chimera/publish-post --slot social --server social --tool list_posts";
    assert!(denied.message.contains(command), "{}", denied.message);

    world.grant(&[]).await;
    let answer = attempt.call(call(1, "list_posts", json!({}))).await.unwrap();
    assert_eq!(answer.structured, Some(json!({ "posts": [] })));
    assert!(!answer.is_error);
    let tools = attempt.port.list_tools("social", soon()).await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["list_posts", "publish_post", "search_posts"]);
    assert!(tools[1].input_schema["properties"].get("idempotency_key").is_none(), "the host's argument is not shown");
}

#[tokio::test]
async fn beyond_the_manifest_is_a_security_violation() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let attempt = world.attempt().await;
    for reach in [call(0, "delete_everything", json!({})), support::call(1, "publish_post", json!({}))] {
        let reach =
            if reach.ordinal == 1 { chimera_core::ports::ToolCall { slot: "bank".to_owned(), ..reach } } else { reach };
        let failure = attempt.failure(reach).await;
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Security, codes::NOT_DECLARED));
    }
    assert!(matches!(
        attempt.port.read_resource("social", "file:///etc/passwd", soon()).await,
        Err(HostError::Failure(failure)) if failure.kind == FailureKind::Security
    ));
}

#[tokio::test]
async fn an_effect_waits_for_a_human_is_sent_once_and_then_answered_from_the_ledger() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let first = world.attempt().await;
    let question = first.question(publish(0, "hello")).await;
    assert_eq!(world.texts(), Vec::<String>::new());
    let approval = world.approval(question).await;
    assert_eq!(approval.kind, ApprovalKind::Effect);
    assert_eq!(approval.title, "Let `chimera/publish-post` call social.publish_post?");
    let payload =
        json!({ "server": "social", "slot": "social", "tool": "publish_post", "arguments": { "text": "hello" } });
    assert_eq!(approval.payload, payload);
    assert_eq!(first.question(publish(0, "hello")).await, question, "asking again asks nobody again");
    world.suspend(&first, question).await;
    world.approve(question).await;

    let second = world.attempt().await;
    let answer = second.call(publish(0, "hello")).await.unwrap();
    let id = answer.structured.clone().unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(world.posts()[0].id, id);
    assert_eq!(second.call(publish(0, "hello")).await.unwrap(), answer);

    world.gateway.shutdown().await;
    let third = world.attempt().await;
    assert_eq!(third.call(publish(0, "hello")).await.unwrap(), answer, "the recorded answer needs no server");
    assert_eq!(world.texts(), ["hello"]);
    let effects = world.effects().await;
    assert_eq!((effects.len(), effects[0].state, effects[0].attempt), (1, EffectState::Done, 2));
    let told: Vec<_> = world.actions().await.into_iter().filter(|action| action.starts_with("effect.")).collect();
    assert_eq!(told, ["effect.gated", "effect.intent", "effect.done"]);
    let log = world.audit().await;
    verify(None, &log).unwrap();
    assert!(!serde_json::to_string(&log).unwrap().contains("hello"), "the audit log holds no arguments");
}

#[tokio::test]
async fn what_a_human_edited_is_what_is_sent() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let first = world.attempt().await;
    let question = first.question(publish(0, "helo")).await;
    world.suspend(&first, question).await;
    world.decide(question, HumanDecision::Approve, Some(json!({ "text": "hello" }))).await;
    let second = world.attempt().await;
    second.call(publish(0, "helo")).await.unwrap();
    second.call(publish(0, "helo")).await.unwrap();
    assert_eq!(world.texts(), ["hello"]);
}

#[tokio::test]
async fn what_a_human_edited_must_fit_the_tool() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let first = world.attempt().await;
    let question = first.question(publish(0, "hello")).await;
    world.suspend(&first, question).await;
    world.decide(question, HumanDecision::Approve, Some(json!({ "txet": "hello" }))).await;
    // No guest can mend a human's mistake: the human is asked again, and told why.
    let second = world.attempt().await;
    let again = second.question(publish(0, "hello")).await;
    assert_ne!(again, question);
    let asked = world.approval(again).await;
    assert_eq!((asked.kind, &asked.payload["arguments"]), (ApprovalKind::Effect, &json!({ "text": "hello" })));
    assert!(asked.reason.contains("do not fit"), "{}", asked.reason);
    assert_eq!(world.effects().await[0].state, EffectState::Gated);
    assert_eq!(world.open_approvals().await.len(), 1);
    world.suspend(&second, again).await;
    world.decide(again, HumanDecision::Approve, Some(json!({ "text": "hello, mended" }))).await;
    world.attempt().await.call(publish(0, "hello")).await.unwrap();
    assert_eq!(world.texts(), ["hello, mended"]);
}

#[tokio::test]
async fn an_error_of_the_server_does_not_bind_a_fresh_start_for_ever() {
    let world = World::social(&["--posts-per-minute", "1"]).await;
    world.grant(SENT_FREELY).await;
    let first = world.attempt().await;
    first.call(publish(0, "one")).await.unwrap();
    let limited = first.call(publish(1, "two")).await.unwrap();
    assert!(limited.is_error, "{limited:?}");
    let replay = world.attempt().await;
    replay.call(publish(0, "one")).await.unwrap();
    assert_eq!(replay.call(publish(1, "two")).await.unwrap(), limited, "a replay sees what the run before it saw");

    let held = world.attempt().await;
    let afresh = world.gateway.open(world.invocation(Some(held.lease), held.number, 1));
    assert!(!afresh.call_tool(publish(0, "one"), soon()).await.unwrap().is_error);
    let Err(HostError::Suspend(question)) = afresh.call_tool(publish(1, "two"), soon()).await else {
        panic!("the old error is not the answer for ever, and nothing is sent again unasked");
    };
    let asked = world.approval(question).await;
    assert_eq!((asked.kind, &asked.payload["earlier_answer"]["is_error"]), (ApprovalKind::Effect, &json!(true)));
    assert_eq!(world.texts(), ["one"]);
    // The minute is over.
    let posts = std::fs::read_to_string(&world.state).unwrap();
    let created = world.posts()[0].created_at.clone().unwrap();
    std::fs::write(&world.state, posts.replace(&created, "2020-01-01T00:00:00Z")).unwrap();
    world.approve(question).await;
    let held = world.attempt().await;
    let port = world.gateway.open(world.invocation(Some(held.lease), held.number, 1));
    port.call_tool(publish(0, "one"), soon()).await.unwrap();
    assert!(!port.call_tool(publish(1, "two"), soon()).await.unwrap().is_error);
    assert_eq!(world.texts(), ["one", "two"]);
}

#[tokio::test]
async fn a_later_task_of_the_step_asks_for_itself() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let first = world.attempt().await;
    let question = first.question(publish(0, "hello")).await;
    // The question was left open by a task that is over; the row is another task's now.
    let other = TaskId::new(&SystemIds);
    world.put_approval(Approval { task: Some(other), ..world.approval(question).await }).await;
    let second = world.attempt().await;
    let own = second.question(publish(0, "hello")).await;
    assert_ne!(own, question, "nobody would wake this task");
    assert_eq!(world.approval(question).await.state, ApprovalState::Cancelled);
    assert_eq!(world.approval(own).await.task, Some(world.task));
    assert_eq!(world.open_approvals().await.len(), 1);
    world.suspend(&second, own).await;
    world.approve(own).await;
    world.attempt().await.call(publish(0, "hello")).await.unwrap();
    assert_eq!(world.texts(), ["hello"]);
}

#[tokio::test]
async fn a_rejected_effect_is_not_sent() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let first = world.attempt().await;
    let question = first.question(publish(0, "hello")).await;
    // The run goes on to the refusal, as when two effects were asked for at once; no guest can pass over it.
    world.decide(question, HumanDecision::Reject, None).await;
    let failure = first.end(publish(0, "hello")).await;
    let expected = (FailureKind::Denied, codes::REFUSED);
    let stale = world.attempt().await.end(publish(0, "hello")).await;
    assert_eq!((failure.kind, failure.code.as_str()), expected);
    assert_eq!((stale.kind, stale.code.as_str()), expected);
    assert_eq!(world.texts(), Vec::<String>::new());
    assert_eq!(world.effects().await[0].state, EffectState::Refused);
}

#[tokio::test]
async fn arguments_are_checked_before_anyone_is_asked() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let attempt = world.attempt().await;
    for wrong in [json!({}), json!({ "text": 7 }), json!([]), json!({ "text": "" })] {
        let failure = attempt.failure(call(0, "publish_post", wrong.clone())).await;
        assert_eq!(failure.kind, FailureKind::InvalidInput, "{wrong}");
    }
    assert!(world.effects().await.is_empty() && world.open_approvals().await.is_empty());
}

#[tokio::test]
async fn a_run_outside_a_task_sends_no_effect() {
    let world = World::social(&[]).await;
    world.grant(SENT_FREELY).await;
    let port = world.gateway.open(world.invocation(None, 0, 0));
    port.call_tool(call(0, "list_posts", json!({})), soon()).await.unwrap();
    let result = port.call_tool(publish(1, "hello"), soon()).await;
    assert!(
        matches!(result, Err(HostError::Failure(failure)) if failure.code == chimera_mcp::codes::EFFECT_OUTSIDE_TASK)
    );
    assert!(world.effects().await.is_empty());
}

#[tokio::test]
async fn an_unfinished_effect_is_asked_again_where_the_server_knows_its_key() {
    let world = World::social(&["--delay-ms", "60000"]).await;
    world.grant(SENT_FREELY).await;
    let first = world.attempt().await;
    // The call is cut after the server has published and before it has answered.
    let cut = first.port.call_tool(publish(0, "hello"), Instant::now() + Duration::from_secs(5)).await;
    assert!(matches!(cut, Err(HostError::End(failure)) if failure.kind == FailureKind::Transient));
    assert_eq!(world.texts(), ["hello"]);
    assert_eq!(world.effects().await[0].state, EffectState::Intent);

    let quick = restarted(&world, &[]).await;
    let second = quick.attempt().await;
    let answer = second.call(publish(0, "hello")).await.unwrap();
    assert_eq!(answer.structured.unwrap()["id"], json!(world.posts()[0].id));
    assert_eq!(world.texts(), ["hello"]);
    assert_eq!(quick.effects().await[0].state, EffectState::Done);
    assert!(quick.actions().await.contains(&"effect.resent".to_owned()));
}

#[tokio::test]
async fn an_unfinished_effect_is_a_question_where_the_server_takes_no_key() {
    let world = World::social(&["--delay-ms", "60000", "--no-idempotency"]).await;
    world.grant(SENT_FREELY).await;
    let first = world.attempt().await;
    let cut = first.port.call_tool(publish(0, "hello"), Instant::now() + Duration::from_secs(5)).await;
    let Err(HostError::Suspend(question)) = cut else { panic!("{cut:?}") };
    let approval = world.approval(question).await;
    assert_eq!(approval.kind, ApprovalKind::UnknownEffect);
    assert_eq!(approval.payload["arguments"], json!({ "text": "hello" }));
    world.suspend(&first, question).await;

    let quick = restarted(&world, &["--no-idempotency"]).await;
    // The human looked and saw it: this is what the tool answered.
    quick.decide(question, HumanDecision::Approve, Some(json!({ "id": "seen" }))).await;
    let second = quick.attempt().await;
    assert_eq!(second.call(publish(0, "hello")).await.unwrap().structured, Some(json!({ "id": "seen" })));
    assert_eq!(world.texts(), ["hello"]);
}

#[tokio::test]
async fn an_unknown_effect_is_asked_about_once_and_sent_again_only_on_a_humans_word() {
    let world = World::social(&["--no-idempotency"]).await;
    world.grant(SENT_FREELY).await;
    let first = world.attempt().await;
    first.call(publish(0, "hello")).await.unwrap();
    // As after a kill between intent and outcome.
    let lost = Effect { state: EffectState::Intent, answer: None, ..world.effects().await.remove(0) };
    world.put_effect(lost).await;

    let second = world.attempt().await;
    let question = second.question(publish(0, "hello")).await;
    assert_eq!(second.question(publish(0, "hello")).await, question);
    let third = world.attempt().await;
    assert_eq!(third.question(publish(0, "hello")).await, question, "one question for one effect");
    assert_eq!(world.open_approvals().await.len(), 1);
    assert_eq!(world.texts(), ["hello"]);
    world.suspend(&third, question).await;
    // It did not happen, says the human.
    world.approve(question).await;
    let fourth = world.attempt().await;
    fourth.call(publish(0, "hello")).await.unwrap();
    fourth.call(publish(0, "hello")).await.unwrap();
    assert_eq!(world.texts(), ["hello", "hello"]);
}

#[tokio::test]
async fn another_turn_is_a_question_even_where_effects_are_sent_freely() {
    let world = World::social(&[]).await;
    world.grant(SENT_FREELY).await;
    let first = world.attempt().await;
    first.call(publish(0, "one")).await.unwrap();
    let second = world.attempt().await;
    let question = second.question(publish(0, "two")).await;
    let approval = world.approval(question).await;
    assert_eq!(approval.kind, ApprovalKind::Divergence);
    assert_eq!(approval.payload["earlier"][0]["arguments"], json!({ "text": "one" }));
    assert_eq!(approval.payload["arguments"], json!({ "text": "two" }));
    assert_eq!(world.texts(), ["one"]);
    world.suspend(&second, question).await;
    world.approve(question).await;
    let third = world.attempt().await;
    third.call(publish(0, "two")).await.unwrap();
    assert_eq!(world.texts(), ["one", "two"]);
    // A run that asks for the first again, as the journal answered it, may go on to a new one.
    let fourth = world.attempt().await;
    fourth.port.replayed(&publish(0, "one")).await;
    fourth.port.replayed(&publish(0, "two")).await;
    fourth.call(publish(1, "three")).await.unwrap();
    assert_eq!(world.texts(), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_yes_does_not_cover_what_happened_after_it() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let first = world.attempt().await;
    let question = first.question(publish(0, "one")).await;
    world.suspend(&first, question).await;
    world.approve(question).await;
    // The next run takes another turn, which a human allows as well; both were never meant.
    let second = world.attempt().await;
    let other = second.question(publish(0, "two")).await;
    world.suspend(&second, other).await;
    world.approve(other).await;
    let third = world.attempt().await;
    third.call(publish(0, "two")).await.unwrap();
    let fourth = world.attempt().await;
    let again = fourth.question(publish(0, "one")).await;
    assert_eq!(world.approval(again).await.kind, ApprovalKind::Divergence);
    assert_eq!(world.texts(), ["two"]);
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_writes_no_intent() {
    let world = World::social(&[]).await;
    world.grant(SENT_FREELY).await;
    let stale = world.attempt().await;
    let current = world.attempt().await;
    let failure = stale.end(publish(0, "hello")).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, chimera_mcp::codes::LEASE_LOST));
    assert!(world.effects().await.is_empty());
    current.call(publish(0, "hello")).await.unwrap();
    assert_eq!(world.texts(), ["hello"]);
}

#[tokio::test]
async fn the_outcome_of_an_attempt_that_became_stale_is_accepted() {
    let world = World::social(&["--delay-ms", "1500", "--no-idempotency"]).await;
    world.grant(SENT_FREELY).await;
    let stale = world.attempt().await;
    let sending = tokio::spawn({
        let port = stale.port.clone();
        async move { port.call_tool(publish(0, "hello"), soon()).await }
    });
    published(&world).await;
    let current = world.attempt().await;
    let question = current.question(publish(0, "hello")).await;
    world.suspend(&current, question).await;
    let answer = sending.await.unwrap().unwrap();
    assert_eq!(world.effects().await[0].state, EffectState::Done);
    // The human answers a question that has answered itself; nothing is sent again.
    world.approve(question).await;
    let last = world.attempt().await;
    assert_eq!(last.call(publish(0, "hello")).await.unwrap(), answer);
    assert_eq!(world.texts(), ["hello"]);
}

#[tokio::test]
async fn the_outcome_of_a_call_whose_guest_was_dropped_is_recorded_all_the_same() {
    let world = World::social(&["--delay-ms", "500", "--no-idempotency"]).await;
    world.grant(SENT_FREELY).await;
    let attempt = world.attempt().await;
    tokio::select! {
        answer = attempt.call(publish(0, "hello")) => panic!("it cannot be answered yet: {answer:?}"),
        () = published(&world) => {}
    }
    assert_eq!(world.effects().await[0].state, EffectState::Intent);
    let until = Instant::now() + Duration::from_secs(20);
    while world.effects().await[0].state != EffectState::Done {
        assert!(Instant::now() < until, "the outcome was not recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.attempt().await.call(publish(0, "hello")).await.unwrap();
    assert_eq!(world.texts(), ["hello"]);
}

#[tokio::test]
async fn a_server_that_is_killed_in_between_is_started_again_and_holds_one_post() {
    let world = World::social(&["--delay-ms", "700"]).await;
    world.grant(SENT_FREELY).await;
    let attempt = world.attempt().await;
    let sending = tokio::spawn({
        let port = attempt.port.clone();
        async move { port.call_tool(publish(0, "hello"), soon()).await }
    });
    published(&world).await;
    kill(world.gateway.servers()[0].pid.unwrap());
    let failure = sending.await.unwrap();
    assert!(matches!(failure, Err(HostError::End(failure)) if failure.code == codes::EFFECT_UNKNOWN));
    let answer = loop {
        match attempt.call(publish(0, "hello")).await {
            Ok(answer) => break answer,
            Err(HostError::End(failure)) if failure.kind == FailureKind::Transient => {
                tokio::time::sleep(Duration::from_millis(failure.retry_after_ms.unwrap_or(10))).await;
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(answer.structured.unwrap()["id"], json!(world.posts()[0].id));
    assert_eq!(world.texts(), ["hello"]);
}

#[tokio::test]
async fn a_tools_own_error_is_an_answer_that_is_recorded() {
    let world = World::social(&["--posts-per-minute", "1"]).await;
    world.grant(SENT_FREELY).await;
    let attempt = world.attempt().await;
    attempt.call(publish(0, "one")).await.unwrap();
    let limited = attempt.call(publish(1, "two")).await.unwrap();
    assert!(limited.is_error && limited.text.contains("rate limited"), "{limited:?}");
    assert_eq!(attempt.call(publish(1, "two")).await.unwrap(), limited);
    assert_eq!(world.texts(), ["one"]);
}

#[tokio::test]
async fn calls_at_once_are_each_their_own_effect() {
    let world = World::social(&[]).await;
    world.grant(SENT_FREELY).await;
    let attempt = world.attempt().await;
    let calls = (0..8).map(|at| attempt.call(publish(at, &format!("post {at}"))));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    let mut texts = world.texts();
    texts.sort();
    assert_eq!(texts, (0..8).map(|at| format!("post {at}")).collect::<Vec<_>>());
    assert_eq!(world.effects().await.len(), 8);
}

#[tokio::test]
async fn a_server_that_cannot_be_started_has_done_nothing_and_the_yes_still_stands() {
    let world = World::social(&[]).await;
    world.grant(&[]).await;
    let first = world.attempt().await;
    let question = first.question(publish(0, "hello")).await;
    world.suspend(&first, question).await;
    world.approve(question).await;
    world.gateway.shutdown().await;
    let failure = world.attempt().await.failure(publish(0, "hello")).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, codes::UNREACHABLE));
    let again = restarted(&world, &[]).await;
    again.attempt().await.call(publish(0, "hello")).await.unwrap();
    assert_eq!(again.texts(), ["hello"]);
    assert_eq!(again.approval(question).await.state, ApprovalState::Approved);
}

/// The server cannot be asked what became of the first send: the run ends, instead of telling a guest that would go on.
#[tokio::test]
async fn what_may_have_happened_is_settled_before_anything_else_is_asked_for() {
    let world = World::social(&["--no-idempotency"]).await;
    world.grant(SENT_FREELY).await;
    world.attempt().await.call(publish(0, "hello")).await.unwrap();
    let lost = Effect { state: EffectState::Intent, answer: None, ..world.effects().await.remove(0) };
    world.put_effect(lost).await;
    world.gateway.shutdown().await;
    let failure = world.attempt().await.end(publish(0, "hello")).await;
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Transient, codes::UNREACHABLE));

    let again = restarted(&world, &["--no-idempotency"]).await;
    let question = again.attempt().await.question(publish(0, "hello")).await;
    assert_eq!(again.approval(question).await.kind, ApprovalKind::UnknownEffect);
    assert_eq!(again.texts(), ["hello"]);
}

/// The operator lets the server take keys after a call was sent without one: it cannot know that call again.
#[tokio::test]
async fn a_key_that_was_not_sent_at_first_does_not_help_later() {
    let world = World::social(&["--delay-ms", "60000", "--no-idempotency"]).await;
    world.grant(SENT_FREELY).await;
    let first = world.attempt().await;
    // The guest is dropped while the server holds its answer back, and the host dies with the call under way.
    let cut = tokio::time::timeout(Duration::from_secs(2), first.call(publish(0, "hello"))).await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(world.effects().await[0].state, EffectState::Intent);

    let keyed = restarted(&world, &[]).await;
    keyed.grant(SENT_FREELY).await;
    let question = keyed.attempt().await.question(publish(0, "hello")).await;
    assert_eq!(keyed.approval(question).await.kind, ApprovalKind::UnknownEffect);
    assert_eq!(world.texts(), ["hello"]);
}

/// The same world after its gateway was replaced, as by a restart of the host.
async fn restarted(world: &World, args: &[&str]) -> World {
    world.gateway.shutdown().await;
    let mut catalog = chimera_mcp::ServerCatalog::new();
    catalog.add(support::social(&world.state, args)).unwrap();
    let gateway = chimera_mcp::Gateway::new(
        world.truth.clone(),
        std::sync::Arc::new(chimera_core::clock::SystemClock),
        std::sync::Arc::new(chimera_core::ids::SystemIds),
        &catalog,
    );
    World {
        truth: world.truth.clone(),
        gateway,
        task: world.task,
        lineage: world.lineage,
        skill: world.skill.clone(),
        manifest: world.manifest.clone(),
        worker: world.worker,
        state: world.state.clone(),
        folder: tempfile::tempdir().unwrap(),
    }
}

/// Until the server has published.
async fn published(world: &World) {
    while world.posts().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
