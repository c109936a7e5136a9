//! Values that several tests start from.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use chimera_core::audit::Actor;
use chimera_core::campaign::{Campaign, CampaignPolicy, CampaignState, new_task};
use chimera_core::change::Context;
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::ids::{CampaignId, IdSource, LineageId, StepId};
use chimera_core::manifest::Limits;
use chimera_core::plan::{PlannedStep, Step, StepState};
use chimera_core::skill::SkillRef;
use chimera_core::task::{Outcome, Task, Usage};
use chimera_core::template::Template;
use chimera_core::verdict::{Decision, Verdict};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Poll, Waker};

/// A moment in 2026.
pub const NOW: i64 = 1_780_000_000_000;

pub fn context(ids: &dyn IdSource, chance: f64) -> Context<'_> {
    Context { now: Timestamp::from_millis(NOW), ids, actor: Actor::System, chance }
}

pub fn skill() -> SkillRef {
    SkillRef { name: "acme/echo".parse().unwrap(), version: "1.0.0".parse().unwrap(), digest: Digest::of(b"echo") }
}

pub fn outcome(output: Value) -> Outcome {
    Outcome { output, confidence: 0.9, evidence: vec!["because".to_owned()] }
}

pub fn usage() -> Usage {
    Usage { wall_ms: 3, fuel: 100, peak_memory_bytes: 1 << 16, host_calls: 2, mcp_calls: 1 }
}

pub fn verdict(decision: Decision) -> Verdict {
    Verdict { decision, confidence: 0.8, reason: "so it is".to_owned(), checks: Vec::new(), took_ms: 1 }
}

/// A task that belongs to a step of a campaign.
pub fn step_task(cx: &Context<'_>) -> Task {
    Task { campaign: Some(CampaignId::new(cx.ids)), step: Some(StepId::new(cx.ids)), ..new_task(cx) }
}

pub fn campaign(cx: &Context<'_>) -> Campaign {
    Campaign {
        id: CampaignId::new(cx.ids),
        title: "t".to_owned(),
        goal: "g".to_owned(),
        state: CampaignState::Running,
        inputs: Map::new(),
        answers: Map::new(),
        questions: Vec::new(),
        policy: CampaignPolicy::default(),
        explicit: None,
        planner_id: "main".to_owned(),
        plan_ms: None,
        failure: None,
        rev: 7,
        created_at: cx.now,
        updated_at: cx.now,
        finished_at: None,
    }
}

pub fn planned(key: &str, input: Value, depends_on: BTreeSet<String>) -> PlannedStep {
    PlannedStep {
        key: key.to_owned(),
        title: format!("do {key}"),
        skill: skill(),
        input: Template(input),
        depends_on,
        reason: "it fits".to_owned(),
        expect: None,
        limits: Limits::default(),
    }
}

pub fn step(campaign: &Campaign, planned: PlannedStep, position: u32, cx: &Context<'_>) -> Step {
    Step {
        id: StepId::new(cx.ids),
        campaign: campaign.id,
        lineage: LineageId::new(cx.ids),
        planned,
        state: StepState::Waiting,
        task: None,
        replans: 0,
        position,
    }
}

/// Waits for a future that never really waits.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a recorded port waits for nothing"),
    }
}

/// A number of the shape that a proptest index gives.
pub fn pick<T>(items: &[T], number: usize) -> Option<&T> {
    if items.is_empty() { None } else { items.get(number % items.len()) }
}

pub fn object(pairs: &[(&str, Value)]) -> Value {
    let mut map = Map::new();
    for (key, value) in pairs {
        map.insert((*key).to_owned(), value.clone());
    }
    json!(map)
}
