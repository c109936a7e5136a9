//! Any sequence of events: final states are final, attempts and revisions only grow, late reports are fenced off.
//! Knows nothing of the store; a change is only looked at.
//! Run by `cargo fuzz run machine`.

#![no_main]

use chimera_core::approval::{Answer, Approval, ApprovalKind, HumanDecision};
use chimera_core::audit::Actor;
use chimera_core::campaign::new_task;
use chimera_core::change::{Change, Context, Guard, Write};
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ids::{AgentId, ApprovalId, CampaignId, EffectId, LeaseId, SequentialIds, StepId};
use chimera_core::journal::Divergence;
use chimera_core::machine::{LeaseEnd, MAX_DEATHS, MAX_RESTARTS, MAX_RETRIES, Refused, TaskEvent, transition};
use chimera_core::skill::SkillRef;
use chimera_core::task::{Lease, Outcome, Task, TaskState, Usage};
use chimera_core::verdict::{Decision, Verdict};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq, Arbitrary)]
enum Reporter {
    Holder,
    OldAttempt,
    NextAttempt,
    OtherLease,
    /// Who held the task before.
    Earlier,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Kind {
    InvalidInput,
    Transient,
    Permanent,
    Denied,
    Refused,
    Security,
    Poison,
}

/// Why a lease ends without a report.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum End {
    WorkerLost,
    HostRestarted,
    HostStopped,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Op {
    Enqueue,
    Lease,
    Heartbeat(Reporter, i64),
    Finish(Reporter),
    Fail(Reporter, Kind, Option<u64>),
    Suspend(Reporter),
    Diverge(Reporter),
    Expire(End),
    RetryDue,
    Judge(u8),
    Answer(u8, bool),
    Cancel,
    Wait(u32),
}

struct World {
    ids: SequentialIds,
    now: i64,
    chance: f64,
    task: Task,
    question: Option<Approval>,
    /// The lease and attempt of everyone who ever held the task.
    holders: Vec<(LeaseId, u32)>,
}

impl World {
    fn new() -> Self {
        let ids = SequentialIds::default();
        let cx =
            Context { now: Timestamp::from_millis(1_780_000_000_000), ids: &ids, actor: Actor::System, chance: 0.5 };
        let task = Task { campaign: Some(CampaignId::new(&ids)), step: Some(StepId::new(&ids)), ..new_task(&cx) };
        Self { ids, now: 1_780_000_000_000, chance: 0.5, task, question: None, holders: Vec::new() }
    }

    fn context(&self) -> Context<'_> {
        Context { now: Timestamp::from_millis(self.now), ids: &self.ids, actor: Actor::System, chance: self.chance }
    }

    fn report(&self, who: Reporter) -> (LeaseId, u32) {
        let lease = self.task.lease.as_ref().map_or_else(|| LeaseId::new(&self.ids), |lease| lease.id);
        match who {
            Reporter::Holder => (lease, self.task.attempt),
            Reporter::OldAttempt => (lease, self.task.attempt.wrapping_sub(1)),
            Reporter::NextAttempt => (lease, self.task.attempt + 1),
            Reporter::OtherLease => (LeaseId::new(&self.ids), self.task.attempt),
            Reporter::Earlier => self.holders.first().copied().unwrap_or((LeaseId::new(&self.ids), 0)),
        }
    }

    fn event(&self, op: Op) -> (TaskEvent, Option<Approval>) {
        let event = match op {
            Op::Enqueue | Op::Wait(_) => TaskEvent::Enqueued,
            Op::Lease => TaskEvent::Leased {
                lease: Lease {
                    id: LeaseId::new(&self.ids),
                    worker: AgentId::new(&self.ids),
                    until: Timestamp::from_millis(self.now + 45_000),
                },
            },
            Op::Heartbeat(who, until) => {
                let (lease, attempt) = self.report(who);
                TaskEvent::Heartbeat { lease, attempt, until: Timestamp::from_millis(until) }
            }
            Op::Finish(who) => {
                let (lease, attempt) = self.report(who);
                let outcome = Outcome { output: json!({}), confidence: 0.9, evidence: Vec::new() };
                TaskEvent::Finished { lease, attempt, outcome, usage: usage() }
            }
            Op::Fail(who, kind, retry_after_ms) => {
                let (lease, attempt) = self.report(who);
                let failure = Failure { retry_after_ms, ..failure(kind) };
                TaskEvent::Failed { lease, attempt, failure, usage: usage(), skill: skill() }
            }
            Op::Suspend(who) => {
                let (lease, attempt) = self.report(who);
                let cx = self.context();
                let mut asked = Approval::about_task(ApprovalKind::Effect, &self.task, "post?", "", json!({}), &cx);
                asked.effect = Some(EffectId::new(&self.ids));
                return (TaskEvent::Suspended { lease, attempt, approval: asked.id, usage: usage() }, Some(asked));
            }
            Op::Diverge(who) => {
                let (lease, attempt) = self.report(who);
                let divergence =
                    Divergence { ordinal: 1, recorded: "scratch.get".to_owned(), asked: "scratch.put".to_owned() };
                TaskEvent::Diverged { lease, attempt, divergence, usage: usage() }
            }
            Op::Expire(end) => {
                let cause = match end {
                    End::WorkerLost => LeaseEnd::WorkerLost,
                    End::HostRestarted => LeaseEnd::HostRestarted,
                    End::HostStopped => LeaseEnd::HostStopped,
                };
                TaskEvent::LeaseExpired { cause }
            }
            Op::RetryDue => TaskEvent::RetryDue,
            Op::Judge(which) => TaskEvent::Judged { verdict: verdict(which) },
            Op::Answer(which, is_the_question) => self.answer(which, is_the_question),
            Op::Cancel => TaskEvent::Cancelled { reason: "enough".to_owned() },
        };
        (event, None)
    }

    fn answer(&self, which: u8, is_the_question: bool) -> TaskEvent {
        let other = || {
            let cx = self.context();
            Approval::about_task(ApprovalKind::Verdict, &self.task, "?", "", json!({}), &cx)
        };
        let approval = self.question.clone().filter(|_| is_the_question).unwrap_or_else(other);
        let decision = [HumanDecision::Approve, HumanDecision::Retry, HumanDecision::Reject][usize::from(which % 3)];
        let answer = Answer { decision, edited: None, note: None };
        TaskEvent::Answered { approval, answer, effect: None, skill: skill() }
    }

    fn apply(&mut self, op: Op) -> Result<Change, Refused> {
        let (event, asked) = self.event(op);
        let lease = match &event {
            TaskEvent::Leased { lease } => Some(lease.id),
            _ => None,
        };
        let (next, change) = transition(&self.task, event, &self.context())?;
        if let Some(lease) = lease {
            self.holders.push((lease, next.attempt));
        }
        let written = change.writes.iter().find_map(|write| match write {
            Write::PutApproval(approval) if Some(approval.id) == next.waiting_on => Some(approval.clone()),
            _ => None,
        });
        self.task = next;
        self.question = if self.task.waiting_on.is_some() { asked.or(written) } else { None };
        Ok(change)
    }
}

fn skill() -> SkillRef {
    SkillRef {
        name: "acme/echo".parse().expect("a name"),
        version: "1.0.0".parse().expect("a version"),
        digest: Digest::of(b"echo"),
    }
}

fn usage() -> Usage {
    Usage { wall_ms: 3, fuel: 100, peak_memory_bytes: 1 << 16, host_calls: 2, mcp_calls: 1 }
}

fn failure(kind: Kind) -> Failure {
    let (kind, code) = match kind {
        Kind::InvalidInput => (FailureKind::InvalidInput, "some-code"),
        Kind::Transient => (FailureKind::Transient, "some-code"),
        Kind::Permanent => (FailureKind::Permanent, "some-code"),
        Kind::Denied => (FailureKind::Denied, "some-code"),
        Kind::Refused => (FailureKind::Denied, codes::REFUSED),
        Kind::Security => (FailureKind::Security, "some-code"),
        Kind::Poison => (FailureKind::Poison, "some-code"),
    };
    Failure::new(kind, code, "no")
}

fn verdict(which: u8) -> Verdict {
    let all = [Decision::Approve, Decision::Retry, Decision::Replan, Decision::Escalate, Decision::Reject];
    let decision = all[usize::from(which) % all.len()];
    Verdict { decision, confidence: 0.8, reason: "so it is".to_owned(), checks: Vec::new(), took_ms: 1 }
}

/// Is this a report of someone who does not hold the task?
fn is_stale(op: Op, before: &Task, reported: Option<(LeaseId, u32)>) -> bool {
    let is_report = matches!(op, Op::Heartbeat(..) | Op::Finish(_) | Op::Fail(..) | Op::Suspend(_) | Op::Diverge(_));
    is_report && reported.is_none_or(|(lease, attempt)| !before.is_held_by(lease, attempt))
}

fn reporter_of(op: Op) -> Option<Reporter> {
    match op {
        Op::Heartbeat(who, _) | Op::Finish(who) | Op::Fail(who, ..) | Op::Suspend(who) | Op::Diverge(who) => Some(who),
        _ => None,
    }
}

fn check(before: &Task, after: &Task, change: &Change, op: Op) {
    assert!(!before.state.is_final(), "{op:?} left the final state {:?}", before.state);
    assert_eq!(after.rev, before.rev + 1);
    assert_eq!(change.guards.first(), Some(&Guard::TaskRev(before.id, before.rev)));
    assert_eq!(change.writes.last(), Some(&Write::PutTask(after.clone())));
    assert_eq!(after.attempt, before.attempt + u32::from(matches!(op, Op::Lease)), "only a lease is a new attempt");
    assert!(after.epoch == before.epoch || after.epoch == before.epoch + 1);
    assert_eq!(after.lease.is_some(), after.state == TaskState::Running);
    assert_eq!(after.waiting_on.is_some(), after.state == TaskState::AwaitingApproval);
    assert_eq!(after.run_after.is_some(), after.state == TaskState::RetryWait, "{op:?}");
    assert!(after.retries <= MAX_RETRIES && after.deaths <= MAX_DEATHS && after.restarts <= MAX_RESTARTS);
    assert_eq!(after.deaths, before.deaths + u32::from(matches!(op, Op::Expire(End::WorkerLost))));
    assert_eq!(after.restarts, before.restarts + u32::from(matches!(op, Op::Expire(End::HostRestarted))));
    assert!(after.state != TaskState::Running || (after.deaths < MAX_DEATHS && after.restarts < MAX_RESTARTS));
    assert_eq!(after.lineage, before.lineage);
    let asked: Vec<ApprovalId> = change
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::PutApproval(approval) => Some(approval.id),
            _ => None,
        })
        .collect();
    assert!(asked.len() <= 1, "one event asks or answers one question");
}

fuzz_target!(|input: (f64, Vec<Op>)| {
    let (chance, ops) = input;
    let mut world = World::new();
    world.chance = if chance.is_finite() { chance } else { 0.5 };
    for op in ops.into_iter().take(256) {
        if let Op::Wait(seconds) = op {
            world.now += i64::from(seconds) * 1000;
            continue;
        }
        let before = world.task.clone();
        let held = before.lease.as_ref().map(|lease| (lease.id, before.attempt));
        let reported = match reporter_of(op) {
            Some(Reporter::Holder) => held,
            Some(Reporter::Earlier) => world.holders.first().copied(),
            _ => None,
        };
        match world.apply(op) {
            Ok(change) => {
                assert!(!is_stale(op, &before, reported), "{op:?} was accepted late");
                check(&before, &world.task, &change, op);
            }
            Err(refused) => {
                assert_eq!(world.task, before, "a refused event changes nothing");
                let is_late = is_stale(op, &before, reported);
                assert_eq!(is_late, matches!(refused, Refused::Fenced { .. }), "{op:?}: {refused}");
                assert!(!matches!(op, Op::Cancel) || before.state.is_final(), "{refused}");
            }
        }
    }
});
