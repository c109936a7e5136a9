use super::*;
use crate::judge::Evaluation;
use crate::planner::LeasedTask;
use crate::runner::Turn;
use crate::testkit::{House, bundled, campaign_of};
use chimera_core::approval::{Approval, ApprovalKind, HumanDecision};
use chimera_core::clock::Clock as _;
use chimera_core::ids::SystemIds;
use chimera_core::machine::LeaseEnd;
use chimera_core::ports::Truth as _;
use serde_json::json;

async fn leased() -> (House, LeasedTask) {
    let house = House::with(bundled()).await;
    house.start(campaign_of("Find trends in these posts")).await;
    let leased = house.lease().await.expect("a task");
    (house, leased)
}

fn report(leased: &LeasedTask) -> ExternalReport {
    ExternalReport {
        task_id: leased.task.id,
        result: House::good_output("find-trends"),
        confidence: Some(0.9),
        error_code: None,
        lease_id: None,
        attempt: None,
    }
}

#[tokio::test]
async fn only_the_holder_of_the_live_lease_may_report() {
    let (house, leased) = leased().await;
    let stranger = AgentId::new(&SystemIds);
    let refused = report_external(&house.scheduler, report(&leased), stranger).await.expect_err("not theirs");
    assert_eq!(refused.kind(), AgentErrorKind::Conflict);
    let other = ExternalReport { attempt: Some(7), ..report(&leased) };
    assert_eq!(
        report_external(&house.scheduler, other, house.worker).await.expect_err("stale").kind(),
        AgentErrorKind::Conflict
    );
    let reported = report_external(&house.scheduler, report(&leased), house.worker).await.expect("accepted");
    assert_eq!(reported, Reported { status: TaskState::Judging, hitl_required: false });
    let twice = report_external(&house.scheduler, report(&leased), house.worker).await.expect_err("reported before");
    assert_eq!(twice.kind(), AgentErrorKind::Conflict);
}

#[tokio::test]
async fn a_report_says_whether_a_human_will_be_needed() {
    let (house, leased) = leased().await;
    let unsure = ExternalReport { confidence: Some(0.5), ..report(&leased) };
    let reported = report_external(&house.scheduler, unsure, house.worker).await.expect("accepted");
    assert!(reported.hitl_required);
    house.settle().await;
    assert_eq!(house.open_questions().await.len(), 1);
}

#[tokio::test]
async fn bad_reports_are_refused_or_fail_the_attempt() {
    let (house, leased) = leased().await;
    for confidence in [None, Some(1.5), Some(f64::NAN)] {
        let bad = ExternalReport { confidence, ..report(&leased) };
        assert_eq!(
            report_external(&house.scheduler, bad, house.worker).await.expect_err("invalid").kind(),
            AgentErrorKind::Invalid
        );
    }
    let deep = (0..=MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
    let error = report_external(&house.scheduler, ExternalReport { result: deep, ..report(&leased) }, house.worker)
        .await
        .expect_err("could not be read again");
    assert_eq!(error.kind(), AgentErrorKind::Invalid);
    assert!(error.to_string().contains("nested deeper than 64"), "{error}");
    let wrong = ExternalReport { result: json!({ "nothing": 1 }), ..report(&leased) };
    let reported = report_external(&house.scheduler, wrong, house.worker).await.expect("accepted as a failure");
    assert_eq!(reported.status, TaskState::Failed);
    let task = house.scheduler.task(leased.task.id).await.expect("there");
    assert_eq!(task.failure.expect("why").code, codes::OUTPUT_INVALID);
}

#[tokio::test]
async fn a_transient_error_code_is_retried() {
    let (house, leased) = leased().await;
    let failed = ExternalReport { error_code: Some("transient:flaky".into()), confidence: None, ..report(&leased) };
    let reported = report_external(&house.scheduler, failed, house.worker).await.expect("accepted");
    assert_eq!(reported.status, TaskState::RetryWait);
}

#[test]
fn error_codes_mean_kinds_and_the_hosts_own_are_not_for_others() {
    assert_eq!(failure_of("transient").kind, FailureKind::Transient);
    assert_eq!(failure_of("rate-limited").kind, FailureKind::Transient);
    assert_eq!(failure_of("denied:no-key").kind, FailureKind::Denied);
    assert_eq!(failure_of("denied:no-key").code, "no-key");
    assert_eq!(failure_of("security").kind, FailureKind::Permanent);
    assert_eq!(failure_of("poison:x").kind, FailureKind::Permanent);
    assert_eq!(failure_of("").code, "unknown");
}

#[tokio::test]
async fn evaluating_changes_nothing_and_is_never_laxer() {
    let (house, leased) = leased().await;
    let early = house.judge.evaluate(leased.task.id, Some(0.9), None).await.expect_err("nothing reported");
    assert_eq!(early.kind(), AgentErrorKind::Conflict);
    report_external(&house.scheduler, ExternalReport { confidence: Some(0.5), ..report(&leased) }, house.worker)
        .await
        .expect("accepted");
    let lax: Evaluation = house.judge.evaluate(leased.task.id, Some(1.0), None).await.expect("an opinion");
    assert!(!lax.approved && lax.escalation, "{lax:?}");
    let error = house.judge.evaluate(leased.task.id, None, Some("denied")).await.expect("an opinion");
    assert!(!error.approved && error.escalation);
    assert_eq!(house.scheduler.task(leased.task.id).await.expect("there").state, TaskState::Judging);
}

/// A run that reports to be parked after its question was decided; the state of its task then.
async fn parked_too_late(decision: HumanDecision) -> TaskState {
    let (house, leased) = leased().await;
    let lease = leased.task.lease.clone().expect("a lease");
    let cx = house.scheduler.context(Actor::System);
    let reason = "it changes the world";
    let open = Approval::about_task(ApprovalKind::Effect, &leased.task, "Send?", reason, json!({}), &cx);
    house.write(vec![Write::PutApproval(open.clone())]).await;
    house.answer(&open, decision, None).await;
    let failure = Failure::new(FailureKind::Transient, "never", "never told");
    let executed = Executed { end: RunEnd::Suspended(open.id), ..Executed::failed(failure, leased.spec.skill.clone()) };
    report_run(&house.scheduler, &leased, &lease, None, executed).await.expect("reported").state
}

#[tokio::test]
async fn a_run_that_is_parked_for_a_decided_question_is_run_again_or_rejected() {
    assert_eq!(parked_too_late(HumanDecision::Approve).await, TaskState::RetryWait, "nobody would have woken it");
    assert_eq!(parked_too_late(HumanDecision::Reject).await, TaskState::Rejected, "a no is a no");
}

/// What a local worker reports of a run that returned this, and the events of its task.
async fn reported_in_one(confidence: f64) -> (Task, Vec<String>, House) {
    let (house, leased) = leased().await;
    let lease = leased.task.lease.clone().expect("a lease");
    let version = house.store.skills(Some(&leased.spec.skill.name)).await.expect("read").remove(0);
    let outcome = Outcome { output: House::good_output("find-trends"), confidence, evidence: Vec::new() };
    let failure = Failure::new(FailureKind::Transient, "never", "never told");
    let executed = Executed {
        end: RunEnd::Finished(outcome),
        manifest: Some(version.manifest),
        ..Executed::failed(failure, leased.spec.skill.clone())
    };
    let before = house.clock.now();
    let done = report_run(&house.scheduler, &leased, &lease, None, executed).await.expect("reported");
    assert!(done.updated_at >= before);
    let events = house.store.audit_of(leased.task.campaign, leased.task.id, 100).await.expect("read");
    (done, events.into_iter().map(|event| event.draft.action.into_owned()).collect(), house)
}

#[tokio::test]
async fn a_local_report_carries_its_verdict_and_leaves_the_judge_nothing() {
    let (done, events, house) = reported_in_one(0.95).await;
    assert_eq!((done.state, done.attempt), (TaskState::Approved, 1));
    assert_eq!(events[events.len() - 3..], ["task.leased", "task.reported", "task.approved"]);
    assert_eq!(house.judge.turn().await.expect("judges"), Turn::Idle, "no row was written for it");
    let kept = house.store.task(done.id).await.expect("read").expect("there");
    assert_eq!(kept, done);
    assert!(kept.verdict.is_some() && kept.lease.is_none());
}

#[tokio::test]
async fn a_local_report_that_a_human_must_look_at_asks_at_once() {
    let (done, events, house) = reported_in_one(0.5).await;
    assert_eq!(done.state, TaskState::AwaitingApproval);
    assert_eq!(events.last().map(String::as_str), Some("task.escalated"));
    let asked = house.store.approval(done.waiting_on.expect("a question")).await.expect("read").expect("there");
    assert_eq!((asked.task, asked.state), (Some(done.id), ApprovalState::Open));
}

#[tokio::test]
async fn a_local_report_of_a_lost_lease_is_refused_whole() {
    let (house, leased) = leased().await;
    let lease = leased.task.lease.clone().expect("a lease");
    let version = house.store.skills(Some(&leased.spec.skill.name)).await.expect("read").remove(0);
    let lost = TaskEvent::LeaseExpired { cause: LeaseEnd::HostStopped };
    let requeued = house.scheduler.apply(leased.task.id, lost, Actor::System).await.expect("taken back");
    let outcome = Outcome { output: House::good_output("find-trends"), confidence: 0.95, evidence: Vec::new() };
    let failure = Failure::new(FailureKind::Transient, "never", "never told");
    let executed = Executed {
        end: RunEnd::Finished(outcome),
        manifest: Some(version.manifest),
        ..Executed::failed(failure, leased.spec.skill.clone())
    };
    let refused = report_run(&house.scheduler, &leased, &lease, None, executed).await.expect_err("fenced off");
    assert_eq!(refused.kind(), AgentErrorKind::Conflict);
    assert_eq!(house.store.task(leased.task.id).await.expect("read"), Some(requeued));
}
