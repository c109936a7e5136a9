//! The state machine of a task under random histories.

#![allow(clippy::unwrap_used)]

mod support;

use chimera_core::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision};
use chimera_core::change::{Change, Guard, OutboxTopic, Write};
use chimera_core::clock::Timestamp;
use chimera_core::effect::{Effect, EffectKey, EffectState, Matched, SentKey, match_call};
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ids::{AgentId, ApprovalId, EffectId, LeaseId, LineageId, SequentialIds, TaskId};
use chimera_core::journal::Divergence;
use chimera_core::machine::{
    BACKOFF_BASE, BACKOFF_CAP, LeaseEnd, MAX_DEATHS, MAX_RESTARTS, MAX_RETRIES, Refused, TaskEvent, backoff,
    settle_effect, transition,
};
use chimera_core::ports::ToolAnswer;
use chimera_core::skill::SkillState;
use chimera_core::task::{Lease, Task, TaskState};
use chimera_core::verdict::Decision;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;
use support::{context, outcome, skill, step_task, usage, verdict};

/// Whose report it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reporter {
    Holder,
    OldAttempt,
    OtherLease,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Enqueue,
    Lease,
    Heartbeat(Reporter),
    Finish(Reporter),
    Fail(Reporter, FailureKind, bool),
    Suspend(Reporter),
    Diverge(Reporter),
    Expire(LeaseEnd),
    RetryDue,
    Judge(Decision),
    Answer(HumanDecision),
    Cancel,
}

fn reporter() -> impl Strategy<Value = Reporter> {
    prop_oneof![4 => Just(Reporter::Holder), 1 => Just(Reporter::OldAttempt), 1 => Just(Reporter::OtherLease)]
}

fn kind() -> impl Strategy<Value = FailureKind> {
    prop::sample::select(vec![
        FailureKind::InvalidInput,
        FailureKind::Transient,
        FailureKind::Permanent,
        FailureKind::Denied,
        FailureKind::Security,
        FailureKind::Poison,
    ])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Enqueue),
        6 => Just(Op::Lease),
        2 => reporter().prop_map(Op::Heartbeat),
        3 => reporter().prop_map(Op::Finish),
        4 => (reporter(), kind(), any::<bool>()).prop_map(|(who, kind, refused)| Op::Fail(who, kind, refused)),
        3 => reporter().prop_map(Op::Suspend),
        1 => reporter().prop_map(Op::Diverge),
        3 => prop::sample::select(vec![LeaseEnd::WorkerLost, LeaseEnd::HostRestarted, LeaseEnd::HostStopped])
            .prop_map(Op::Expire),
        4 => Just(Op::RetryDue),
        4 => prop::sample::select(vec![
            Decision::Approve, Decision::Retry, Decision::Replan, Decision::Escalate, Decision::Reject,
        ]).prop_map(Op::Judge),
        4 => prop::sample::select(vec![HumanDecision::Approve, HumanDecision::Retry, HumanDecision::Reject])
            .prop_map(Op::Answer),
        1 => Just(Op::Cancel),
    ]
}

/// A task, the question it waits for, and a source of ids.
struct World {
    ids: SequentialIds,
    task: Task,
    question: Option<Approval>,
}

impl World {
    fn new() -> Self {
        let ids = SequentialIds::default();
        let task = step_task(&context(&ids, 0.5));
        Self { ids, task, question: None }
    }

    fn held(&self, who: Reporter) -> (LeaseId, u32) {
        let lease = self.task.lease.as_ref().map_or_else(|| LeaseId::new(&self.ids), |lease| lease.id);
        match who {
            Reporter::Holder => (lease, self.task.attempt),
            Reporter::OldAttempt => (lease, self.task.attempt.wrapping_sub(1)),
            Reporter::OtherLease => (LeaseId::new(&self.ids), self.task.attempt),
        }
    }

    /// The event, and the question that the gateway would have written along with it.
    fn event(&self, op: Op) -> (TaskEvent, Option<Approval>) {
        let event = match op {
            Op::Enqueue => TaskEvent::Enqueued,
            Op::Lease => {
                let until = Timestamp::from_millis(support::NOW + 45_000);
                TaskEvent::Leased {
                    lease: Lease { id: LeaseId::new(&self.ids), worker: AgentId::new(&self.ids), until },
                }
            }
            Op::Heartbeat(who) => {
                let (lease, attempt) = self.held(who);
                TaskEvent::Heartbeat { lease, attempt, until: Timestamp::from_millis(support::NOW + 60_000) }
            }
            Op::Finish(who) => {
                let (lease, attempt) = self.held(who);
                TaskEvent::Finished { lease, attempt, outcome: outcome(json!({})), usage: usage() }
            }
            Op::Fail(who, kind, refused) => {
                let (lease, attempt) = self.held(who);
                let code = if refused { codes::REFUSED } else { "some-code" };
                TaskEvent::Failed {
                    lease,
                    attempt,
                    failure: Failure::new(kind, code, "no"),
                    usage: usage(),
                    skill: skill(),
                }
            }
            Op::Suspend(who) => {
                let (lease, attempt) = self.held(who);
                let cx = context(&self.ids, 0.5);
                let mut asked = Approval::about_task(ApprovalKind::Effect, &self.task, "post?", "", json!({}), &cx);
                asked.effect = Some(EffectId::new(&self.ids));
                return (TaskEvent::Suspended { lease, attempt, approval: asked.id, usage: usage() }, Some(asked));
            }
            Op::Diverge(who) => {
                let (lease, attempt) = self.held(who);
                let divergence =
                    Divergence { ordinal: 1, recorded: "mcp.call-tool".to_owned(), asked: "scratch.get".to_owned() };
                TaskEvent::Diverged { lease, attempt, divergence, usage: usage() }
            }
            Op::Expire(cause) => TaskEvent::LeaseExpired { cause },
            Op::RetryDue => TaskEvent::RetryDue,
            Op::Judge(decision) => TaskEvent::Judged { verdict: verdict(decision) },
            Op::Answer(decision) => {
                let cx = context(&self.ids, 0.5);
                let approval = self.question.clone().unwrap_or_else(|| {
                    Approval::about_task(ApprovalKind::Verdict, &self.task, "?", "", json!({}), &cx)
                });
                let answer = Answer { decision, edited: None, note: None };
                TaskEvent::Answered { approval, answer, effect: None, skill: skill() }
            }
            Op::Cancel => TaskEvent::Cancelled { reason: "enough".to_owned() },
        };
        (event, None)
    }

    fn apply(&mut self, op: Op, chance: f64) -> Result<Change, Refused> {
        let (event, asked) = self.event(op);
        let (next, change) = transition(&self.task, event, &context(&self.ids, chance))?;
        let written = change.writes.iter().find_map(|write| match write {
            Write::PutApproval(approval) if Some(approval.id) == next.waiting_on => Some(approval.clone()),
            _ => None,
        });
        self.task = next;
        self.question = if self.task.waiting_on.is_some() { asked.or(written) } else { None };
        Ok(change)
    }
}

fn sends(change: &Change, topic: OutboxTopic) -> bool {
    change.writes.iter().any(|write| matches!(write, Write::PutOutbox(row) if row.topic == topic))
}

fn check_step(before: &Task, after: &Task, change: &Change, op: Op) -> Result<(), TestCaseError> {
    prop_assert!(!before.state.is_final(), "{op:?} left the final state {:?}", before.state);
    prop_assert_eq!(after.rev, before.rev + 1);
    prop_assert_eq!(change.guards.first(), Some(&Guard::TaskRev(before.id, before.rev)));
    prop_assert_eq!(change.writes.last(), Some(&Write::PutTask(after.clone())));
    prop_assert_eq!((after.id, after.lineage, after.spec_id), (before.id, before.lineage, before.spec_id));
    let leased = u32::from(matches!(op, Op::Lease));
    prop_assert_eq!(after.attempt, before.attempt + leased, "only a lease is a new attempt");
    prop_assert_eq!(after.lease.is_some(), after.state == TaskState::Running);
    prop_assert_eq!(after.waiting_on.is_some(), after.state == TaskState::AwaitingApproval);
    prop_assert_eq!(after.run_after.is_some(), after.state == TaskState::RetryWait, "a time to wait for is left over");
    if after.state == TaskState::RetryWait {
        let at = after.run_after.unwrap();
        prop_assert!(at >= after.updated_at && at <= after.updated_at.plus(BACKOFF_CAP));
    }
    prop_assert!(after.retries <= MAX_RETRIES && after.deaths <= MAX_DEATHS && after.restarts <= MAX_RESTARTS);
    prop_assert_eq!(after.deaths, before.deaths + u32::from(matches!(op, Op::Expire(LeaseEnd::WorkerLost))));
    prop_assert_eq!(after.restarts, before.restarts + u32::from(matches!(op, Op::Expire(LeaseEnd::HostRestarted))));
    if matches!(op, Op::Expire(_)) {
        let is_poisoned = after.deaths >= MAX_DEATHS || after.restarts >= MAX_RESTARTS;
        prop_assert_eq!(after.state, if is_poisoned { TaskState::Failed } else { TaskState::Queued });
    }
    prop_assert!(after.usage.fuel >= before.usage.fuel && after.usage.wall_ms >= before.usage.wall_ms);
    let became_queued = after.state == TaskState::Queued && !matches!(op, Op::Enqueue);
    prop_assert_eq!(sends(change, OutboxTopic::Dispatch), became_queued, "a queued task must be put on a queue again");
    prop_assert_eq!(sends(change, OutboxTopic::Judge), after.state == TaskState::Judging);
    prop_assert_eq!(sends(change, OutboxTopic::Replan), after.state == TaskState::Failed);
    let quiet = matches!(op, Op::Enqueue | Op::Heartbeat(_));
    prop_assert_eq!(change.audit.len(), usize::from(!quiet), "each thing that happens is told once");
    prop_assert!(change.audit.iter().all(|told| told.task == Some(after.id) && told.campaign == after.campaign));
    Ok(())
}

fn check_epoch(before: &Task, after: &Task, op: Op, question: Option<&Approval>) -> Result<(), TestCaseError> {
    let afresh = match op {
        // Waiting for a human about an effect: the journal is replayed up to the call.
        Op::Answer(HumanDecision::Approve) => {
            after.state == TaskState::Queued && question.is_some_and(|asked| asked.effect.is_none())
        }
        Op::Answer(HumanDecision::Retry) => true,
        _ => after.state == TaskState::RetryWait,
    };
    prop_assert_eq!(after.epoch, before.epoch + u32::from(afresh), "{:?}", op);
    Ok(())
}

fn check_approved(after: &Task, op: Op, question: Option<&Approval>) -> Result<(), TestCaseError> {
    if after.state == TaskState::Approved {
        let by_judge = matches!(op, Op::Judge(Decision::Approve));
        let by_human = matches!(op, Op::Answer(HumanDecision::Approve))
            && question.is_some_and(|asked| asked.kind == ApprovalKind::Verdict);
        prop_assert!(by_judge || by_human, "{op:?} approved the task");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_histories_keep_every_rule(ops in prop::collection::vec((op(), 0.0..=1.0_f64), 1..80)) {
        let mut world = World::new();
        for (op, chance) in ops {
            let before = world.task.clone();
            let question = world.question.clone();
            match world.apply(op, chance) {
                Ok(change) => {
                    check_step(&before, &world.task, &change, op)?;
                    check_epoch(&before, &world.task, op, question.as_ref())?;
                    check_approved(&world.task, op, question.as_ref())?;
                }
                Err(refused) => {
                    prop_assert_eq!(&world.task, &before);
                    prop_assert!(!matches!(op, Op::Cancel) || before.state.is_final(), "{}", refused);
                }
            }
        }
    }

    #[test]
    fn stale_reports_are_fenced_in_every_state(
        ops in prop::collection::vec(op(), 0..40),
        stale in prop_oneof![Just(Reporter::OldAttempt), Just(Reporter::OtherLease)],
        which in 0..5_usize,
    ) {
        let mut world = World::new();
        for op in ops {
            let _ = world.apply(op, 0.5);
        }
        let report = [
            Op::Heartbeat(stale), Op::Finish(stale), Op::Fail(stale, FailureKind::Transient, false),
            Op::Suspend(stale), Op::Diverge(stale),
        ][which];
        let refused = world.apply(report, 0.5).unwrap_err();
        prop_assert!(matches!(refused, Refused::Fenced { .. }), "{}", refused);
    }

    #[test]
    fn backoff_stays_within_its_bounds(retries in any::<u32>(), chance in any::<f64>()) {
        let delay = backoff(retries, if chance.is_nan() { 0.0 } else { chance });
        let ceiling = BACKOFF_BASE.saturating_mul(2_u32.saturating_pow(retries.min(16))).min(BACKOFF_CAP);
        prop_assert!(delay <= ceiling);
    }

    #[test]
    fn an_escalated_question_stays_open_and_undecided(times in 1..50_u32, step in 0..100_000_000_u64) {
        let ids = SequentialIds::default();
        let cx = context(&ids, 0.5);
        let mut asked = Approval::open(ApprovalKind::Effect, "post?", "", json!({}), &cx);
        let mut now = cx.now;
        for _ in 0..times {
            now = now.plus(Duration::from_millis(step));
            let later = asked.escalated(now);
            prop_assert_eq!(later.state, ApprovalState::Open);
            prop_assert!(later.decided_by.is_none() && later.deadline > now);
            asked = later;
        }
        prop_assert_eq!(asked.escalations, times);
    }
}

#[test]
fn every_state_is_reachable_and_final_states_have_no_arrow() {
    let all = [
        Op::Enqueue,
        Op::Lease,
        Op::Finish(Reporter::Holder),
        Op::Fail(Reporter::Holder, FailureKind::Transient, false),
        Op::Fail(Reporter::Holder, FailureKind::Permanent, false),
        Op::Suspend(Reporter::Holder),
        Op::RetryDue,
        Op::Expire(LeaseEnd::WorkerLost),
        Op::Judge(Decision::Approve),
        Op::Judge(Decision::Reject),
        Op::Judge(Decision::Escalate),
        Op::Answer(HumanDecision::Approve),
        Op::Answer(HumanDecision::Reject),
        Op::Cancel,
    ];
    let mut seen: HashSet<TaskState> = HashSet::from([TaskState::Pending]);
    // Paths of up to five events reach everything.
    let mut paths: Vec<Vec<Op>> = vec![Vec::new()];
    for _ in 0..4 {
        let mut longer = Vec::new();
        for path in &paths {
            for op in all {
                let mut world = World::new();
                path.iter().for_each(|op| drop(world.apply(*op, 0.5)));
                if world.apply(op, 0.5).is_ok() && seen.insert(world.task.state) | (path.len() < 3) {
                    longer.push(path.iter().copied().chain([op]).collect());
                }
            }
        }
        paths = longer;
    }
    assert_eq!(seen.len(), TaskState::ALL.len(), "{seen:?}");
    for state in TaskState::ALL.into_iter().filter(|state| state.is_final()) {
        for op in all {
            let mut world = World::new();
            world.task.state = state;
            assert!(world.apply(op, 0.5).is_err(), "{op:?} leaves {state:?}");
        }
    }
}

fn running() -> World {
    let mut world = World::new();
    world.apply(Op::Enqueue, 0.5).unwrap();
    world.apply(Op::Lease, 0.5).unwrap();
    world
}

#[test]
fn a_task_whose_workers_keep_dying_is_poisoned() {
    let mut world = running();
    for death in 1..=MAX_DEATHS {
        world.apply(Op::Expire(LeaseEnd::WorkerLost), 0.5).unwrap();
        assert_eq!(world.task.deaths, death);
        if death < MAX_DEATHS {
            world.apply(Op::Lease, 0.5).unwrap();
        }
    }
    assert_eq!(world.task.state, TaskState::Failed);
    assert_eq!(world.task.failure.unwrap().kind, FailureKind::Poison);
}

#[test]
fn a_stop_of_the_host_is_nobodys_fault_and_keeps_the_journal() {
    let mut world = running();
    for _ in 0..20 {
        world.apply(Op::Expire(LeaseEnd::HostStopped), 0.5).unwrap();
        world.apply(Op::Lease, 0.5).unwrap();
    }
    assert_eq!((world.task.deaths, world.task.restarts, world.task.epoch, world.task.attempt), (0, 0, 0, 21));
}

#[test]
fn a_task_that_takes_the_host_down_again_and_again_is_poisoned() {
    let mut world = running();
    for restart in 1..=MAX_RESTARTS {
        assert_eq!(world.task.state, TaskState::Running, "before restart {restart}");
        world.apply(Op::Expire(LeaseEnd::HostRestarted), 0.5).unwrap();
        assert_eq!((world.task.restarts, world.task.deaths, world.task.epoch), (restart, 0, 0));
        let _ = world.apply(Op::Lease, 0.5);
    }
    assert_eq!(world.task.state, TaskState::Failed);
    let failure = world.task.failure.unwrap();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Poison, codes::POISON));
    assert!(failure.message.contains("the host ended without notice 10 times"), "{}", failure.message);
}

#[test]
fn a_task_written_before_restarts_were_counted_reads_as_none() {
    let mut written = serde_json::to_value(&World::new().task).unwrap();
    written.as_object_mut().unwrap().remove("restarts").unwrap();
    assert_eq!(serde_json::from_value::<Task>(written).unwrap().restarts, 0);
}

#[test]
fn transient_failures_are_retried_so_often_and_no_more() {
    let mut world = running();
    for retry in 1..=MAX_RETRIES {
        world.apply(Op::Fail(Reporter::Holder, FailureKind::Transient, false), 1.0).unwrap();
        assert_eq!((world.task.state, world.task.retries, world.task.epoch), (TaskState::RetryWait, retry, retry));
        world.apply(Op::RetryDue, 0.5).unwrap();
        assert!(world.task.run_after.is_none());
        world.apply(Op::Lease, 0.5).unwrap();
    }
    world.apply(Op::Fail(Reporter::Holder, FailureKind::Transient, false), 1.0).unwrap();
    assert_eq!(world.task.state, TaskState::Failed);
}

#[test]
fn a_task_that_is_cancelled_while_it_waits_has_no_time_to_run_any_more() {
    let mut world = running();
    world.apply(Op::Fail(Reporter::Holder, FailureKind::Transient, false), 1.0).unwrap();
    world.apply(Op::Cancel, 0.5).unwrap();
    assert_eq!((world.task.state, world.task.run_after), (TaskState::Cancelled, None));
}

#[test]
fn a_server_that_names_a_time_is_not_asked_before_it() {
    let mut world = running();
    let (lease, attempt) = world.held(Reporter::Holder);
    let failure = Failure::new(FailureKind::Transient, "rate-limited", "slow down").retry_after(90_000);
    let event = TaskEvent::Failed { lease, attempt, failure, usage: usage(), skill: skill() };
    let (task, _) = transition(&world.task, event, &context(&world.ids, 0.0)).unwrap();
    assert_eq!(task.run_after.unwrap().as_millis(), support::NOW + 90_000);
    world.task = task;
}

#[test]
fn a_security_violation_suspends_the_version_and_asks() {
    let mut world = running();
    let change = world.apply(Op::Fail(Reporter::Holder, FailureKind::Security, false), 0.5).unwrap();
    assert!(change.writes.contains(&Write::SetSkillState(skill(), SkillState::Suspended)));
    assert_eq!(world.question.as_ref().unwrap().kind, ApprovalKind::Security);
    let change = world.apply(Op::Answer(HumanDecision::Approve), 0.5).unwrap();
    assert!(change.writes.contains(&Write::SetSkillState(skill(), SkillState::Active)));
    assert_eq!((world.task.state, world.task.epoch), (TaskState::Queued, 1));
}

#[test]
fn what_a_human_refused_is_rejected_and_not_asked_again() {
    let mut world = running();
    world.apply(Op::Fail(Reporter::Holder, FailureKind::Denied, true), 0.5).unwrap();
    assert_eq!(world.task.state, TaskState::Rejected);
}

#[test]
fn an_answer_counts_once_and_only_for_the_question_waited_for() {
    let mut world = running();
    world.apply(Op::Suspend(Reporter::Holder), 0.5).unwrap();
    let asked = world.question.clone().unwrap();
    let answer = Answer { decision: HumanDecision::Approve, edited: None, note: None };
    let cx = context(&world.ids, 0.5);
    let others = [
        Approval { id: ApprovalId::new(&world.ids), ..asked.clone() },
        Approval { state: ApprovalState::Rejected, ..asked.clone() },
        Approval { state: ApprovalState::Approved, ..asked.clone() },
    ];
    for other in others {
        let event = TaskEvent::Answered { approval: other, answer: answer.clone(), effect: None, skill: skill() };
        assert!(matches!(transition(&world.task, event, &cx), Err(Refused::NoArrow { .. })));
    }
    let event = TaskEvent::Answered { approval: asked.clone(), answer, effect: None, skill: skill() };
    let (task, change) = transition(&world.task, event, &cx).unwrap();
    assert!(change.guards.contains(&Guard::ApprovalOpen(asked.id)));
    assert_eq!((task.state, task.epoch), (TaskState::Queued, 0), "the journal is replayed up to the call");
}

fn effect(state: EffectState) -> Effect {
    let ids = SequentialIds::default();
    let key = EffectKey {
        lineage: LineageId::new(&ids),
        ordinal: 0,
        tool: "social/publish_post".to_owned(),
        arguments_hash: chimera_core::digest::Digest::of_json(&json!({ "text": "hi" })),
    };
    Effect {
        id: EffectId::new(&ids),
        key,
        campaign: None,
        task: TaskId::new(&ids),
        attempt: 1,
        epoch: 0,
        arguments: json!({ "text": "hi" }),
        state,
        sent_key: SentKey::default(),
        answer: None,
        approval: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

#[test]
fn a_decision_about_an_effect_says_what_becomes_of_it() {
    use EffectState::{Done, Gated, Intent, NotDone, Refused as No};
    use HumanDecision::{Approve, Reject, Retry};
    let ids = SequentialIds::default();
    let cx = context(&ids, 0.5);
    let told = json!({ "id": "17" });
    let cases = [
        (ApprovalKind::Effect, Gated, Approve, None, Some(Gated)),
        (ApprovalKind::Effect, Gated, Approve, Some(json!({ "text": "hello" })), Some(Gated)),
        (ApprovalKind::Effect, Gated, Reject, None, Some(No)),
        (ApprovalKind::Effect, Gated, Retry, None, Some(NotDone)),
        (ApprovalKind::UnknownEffect, Intent, Approve, None, Some(Gated)),
        (ApprovalKind::UnknownEffect, Intent, Approve, Some(told.clone()), Some(Done)),
        (ApprovalKind::UnknownEffect, Intent, Reject, None, Some(No)),
        (ApprovalKind::UnknownEffect, Intent, Retry, None, None),
        (ApprovalKind::UnknownEffect, Done, Approve, None, None),
        (ApprovalKind::Effect, Done, Reject, None, None),
    ];
    for (kind, before, decision, edited, after) in cases {
        let asked = Approval::open(kind, "?", "", json!({}), &cx);
        let answer = Answer { decision, edited: edited.clone(), note: None };
        let settled = settle_effect(effect(before), &asked, &answer, &cx);
        assert_eq!(settled.as_ref().map(|effect| effect.state), after, "{kind:?} {before:?} {decision:?}");
        let Some(settled) = settled else { continue };
        match (kind, edited) {
            (ApprovalKind::Effect, Some(edited)) => assert_eq!(settled.arguments, edited),
            (ApprovalKind::UnknownEffect, Some(told)) => {
                assert_eq!(settled.answer, Some(ToolAnswer::told_by_human(told)));
            }
            _ => assert_eq!(settled.arguments, json!({ "text": "hi" })),
        }
    }
}

proptest! {
    #[test]
    fn a_replayed_run_never_sends_an_effect_twice(
        states in prop::collection::vec(
            prop::sample::select(vec![
                EffectState::Gated, EffectState::Intent, EffectState::Done, EffectState::NotDone, EffectState::Refused,
            ]), 0..6),
        asked_again in prop::collection::vec(any::<bool>(), 6),
        ordinal in 0..8_u32,
    ) {
        let ids = SequentialIds::default();
        let earlier: Vec<Effect> = states
            .iter()
            .zip(0..)
            .map(|(state, ordinal)| {
                let mut effect = effect(*state);
                effect.id = EffectId::new(&ids);
                effect.key.ordinal = ordinal;
                effect
            })
            .collect();
        let consumed: BTreeSet<EffectId> =
            earlier.iter().zip(&asked_again).filter(|(_, again)| **again).map(|(effect, _)| effect.id).collect();
        let key = EffectKey { ordinal, ..effect(EffectState::Gated).key };
        let may_have_happened =
            |effect: &&Effect| matches!(effect.state, EffectState::Done | EffectState::Intent | EffectState::Refused);
        match match_call(&earlier, &consumed, &key) {
            Matched::Same(same) => prop_assert_eq!(&same.key, &key),
            Matched::New => {
                prop_assert!(earlier.iter().all(|effect| effect.key != key));
                prop_assert!(earlier.iter().filter(may_have_happened).all(|effect| consumed.contains(&effect.id)));
            }
            Matched::Diverged(left) => prop_assert!(may_have_happened(&left) && !consumed.contains(&left.id)),
        }
    }
}

#[test]
fn a_report_and_its_verdict_can_be_one_change() {
    let ids = SequentialIds::default();
    let cx = context(&ids, 0.5);
    let lease = Lease { id: LeaseId::new(&ids), worker: AgentId::new(&ids), until: cx.now.plus(Lease::DURATION) };
    let (held, _) = transition(&step_task(&cx), TaskEvent::Leased { lease: lease.clone() }, &cx).unwrap();
    let finished = TaskEvent::Finished {
        lease: lease.id,
        attempt: held.attempt,
        outcome: outcome(json!({ "x": 1 })),
        usage: usage(),
    };
    let (reported, mut change) = transition(&held, finished, &cx).unwrap();
    let judged = TaskEvent::Judged { verdict: verdict(Decision::Approve) };
    let (judged, second) = transition(&reported, judged, &cx).unwrap();
    let (first_audit, second_audit) = (change.audit.clone(), second.audit.clone());
    change.guard(Guard::CampaignRev(held.campaign.unwrap(), 3));
    change.then(second);
    // What it was decided from is asked for, and nothing in between, which nobody else has seen.
    assert_eq!(change.guards, [Guard::TaskRev(held.id, held.rev), Guard::CampaignRev(held.campaign.unwrap(), 3)]);
    let tasks: Vec<&Task> = change
        .writes
        .iter()
        .filter_map(|write| if let Write::PutTask(task) = write { Some(task) } else { None })
        .collect();
    assert_eq!(tasks, [&judged]);
    assert_eq!(judged.rev, held.rev + 2);
    assert_eq!(change.audit, [first_audit, second_audit].concat(), "both are told of");
}
