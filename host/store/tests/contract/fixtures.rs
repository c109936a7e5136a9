//! Nouns to write: each valid, each with ids of its own.

use chimera_core::approval::{Approval, ApprovalKind};
use chimera_core::audit::{Actor, AuditDraft, ReviewStatus};
use chimera_core::campaign::{Campaign, CampaignPolicy, CampaignState, DEFAULT_PLANNER, new_task};
use chimera_core::change::{Change, Context, Outbox, OutboxTopic, Write};
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::effect::{Effect, EffectKey, EffectState, SentKey};
use chimera_core::grant::{CallGrant, Grant, Permits, SlotGrant, ToolMode, ToolPolicy};
use chimera_core::ids::*;
use chimera_core::journal::JournalEntry;
use chimera_core::manifest::{Limits, Manifest};
use chimera_core::plan::{PlannedStep, Question, Step, StepState};
use chimera_core::records::*;
use chimera_core::route::{Canary, CanaryTerms, Route};
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_core::task::{Task, TaskSpec};
use chimera_core::template::Template;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

/// A moment that all tests start at.
pub fn start() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
}

/// So many milliseconds after [`start`].
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(start().as_millis() + millis)
}

pub fn cx() -> Context<'static> {
    Context { now: start(), ids: &SystemIds, actor: Actor::System, chance: 0.5 }
}

pub fn skill() -> SkillRef {
    SkillRef {
        name: "acme/trend-scan".parse().unwrap(),
        version: semver::Version::new(0, 1, 0),
        digest: Digest::of(b"a component"),
    }
}

pub fn version(skill: SkillRef) -> SkillVersion {
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": { "name": skill.name, "version": skill.version, "summary": "Scans", "license": "MIT", "effects": "read" },
        "io": { "input": { "type": "object", "maximum": 1e21 }, "output": { "type": "object" } },
        "capabilities": { "mcp": [{ "slot": "social", "tools": ["search_posts"], "reason": "to find posts" }] }
    }))
    .unwrap();
    SkillVersion { skill, manifest: Arc::new(manifest), state: SkillState::Active, size: 1234, installed_at: start() }
}

pub fn spec() -> TaskSpec {
    TaskSpec {
        id: SpecId::new(&SystemIds),
        goal: "find what people talk about".to_owned(),
        skill: skill(),
        input: json!({ "zebra": 1, "apple": 0.1, "deep": [{ "π": "✓" }] }),
        limits: Limits::default(),
        expect: Some(json!({ "ok": true })),
    }
}

/// A task and the spec it needs.
pub fn task() -> (TaskSpec, Task) {
    let spec = spec();
    let task = Task { spec_id: spec.id, ..new_task(&cx()) };
    (spec, task)
}

pub fn campaign() -> Campaign {
    Campaign {
        id: CampaignId::new(&SystemIds),
        title: "Launch".to_owned(),
        goal: "make it known".to_owned(),
        state: CampaignState::Running,
        inputs: json!({ "posts": [1, 2, 3] }).as_object().unwrap().clone(),
        answers: serde_json::Map::new(),
        questions: vec![Question { key: "who".into(), step: None, text: "For whom?".into(), schema: json!({}) }],
        policy: CampaignPolicy::default(),
        explicit: None,
        planner_id: DEFAULT_PLANNER.to_owned(),
        plan_ms: Some(12),
        failure: None,
        rev: 0,
        created_at: start(),
        updated_at: start(),
        finished_at: None,
    }
}

pub fn step(campaign: CampaignId, position: u32) -> Step {
    Step {
        id: StepId::new(&SystemIds),
        campaign,
        lineage: LineageId::new(&SystemIds),
        planned: PlannedStep {
            key: format!("step-{position}"),
            title: "Look around".to_owned(),
            skill: skill(),
            input: serde_json::from_value::<Template>(json!({ "n": 1 })).unwrap(),
            depends_on: BTreeSet::new(),
            reason: "it fits".to_owned(),
            expect: None,
            limits: Limits::default(),
        },
        state: StepState::Waiting,
        task: None,
        replans: 0,
        position,
    }
}

pub fn approval() -> Approval {
    Approval::open(ApprovalKind::Question, "What?", "nobody knows", json!({ "schema": {} }), &cx())
}

pub fn effect(lineage: LineageId, ordinal: u32) -> Effect {
    Effect {
        id: EffectId::new(&SystemIds),
        key: EffectKey {
            lineage,
            ordinal,
            tool: "social/publish_post".to_owned(),
            arguments_hash: Digest::of(b"args"),
        },
        campaign: None,
        task: TaskId::new(&SystemIds),
        attempt: 1,
        epoch: 0,
        arguments: json!({ "text": "hello" }),
        state: EffectState::Intent,
        sent_key: SentKey::default(),
        answer: None,
        approval: None,
        created_at: start(),
        updated_at: start(),
    }
}

pub fn grant() -> Grant {
    Grant {
        id: GrantId::new(&SystemIds),
        skill: skill().name,
        campaign: None,
        permits: Permits::Slot(SlotGrant {
            slot: "social".to_owned(),
            server: "social".to_owned(),
            tools: BTreeMap::from([("search_posts".to_owned(), ToolPolicy { mode: ToolMode::Read, pin: None })]),
            resources: BTreeSet::new(),
        }),
        granted_by: Actor::Operator("eve: the operator".to_owned()),
        granted_at: start(),
        expires_at: None,
        revoked_at: None,
    }
}

/// A grant of the other kind, of the same skill, and younger.
pub fn call_grant() -> Grant {
    let callee = "acme/callee".parse().expect("a name");
    let version = "^0.1, <0.1.7".parse().expect("a requirement");
    Grant {
        permits: Permits::Call(CallGrant { callee, version }),
        granted_at: at(1),
        expires_at: Some(at(60_000)),
        ..grant()
    }
}

pub fn agent() -> Agent {
    Agent {
        id: AgentId::new(&SystemIds),
        name: "worker one".to_owned(),
        role: AgentRole::Worker,
        status: AgentStatus::Active,
        last_seen: start(),
        created_at: start(),
    }
}

pub fn token(scope: TokenScope, secret: &str) -> ApiToken {
    ApiToken {
        id: TokenId::new(&SystemIds),
        hash: Digest::of(secret.as_bytes()),
        scope,
        name: "laptop".to_owned(),
        created_at: start(),
        revoked_at: None,
    }
}

pub fn memory(agent: AgentId) -> MemoryItem {
    MemoryItem {
        id: Uuid::now_v7(),
        agent,
        text: "cats are liked".to_owned(),
        metadata: json!({ "z": 1, "a": 2 }),
        created_at: start(),
    }
}

pub fn trend(topic: &str, weight: f64, observed_at: Timestamp) -> TrendItem {
    TrendItem {
        id: Uuid::now_v7(),
        agent: AgentId::from_uuid(Uuid::nil()),
        topic: topic.to_owned(),
        weight,
        source: "test".to_owned(),
        observed_at,
    }
}

pub fn entry(ordinal: u32, answer: &str) -> JournalEntry {
    JournalEntry {
        ordinal,
        call: "mcp.call-tool".into(),
        request: Digest::of(answer.as_bytes()),
        answer: (&json!({ "ok": answer })).into(),
    }
}

pub fn outbox(topic: OutboxTopic, priority: u8, available_at: Timestamp) -> Outbox {
    let (_, task) = task();
    Outbox { priority, available_at, ..Outbox::for_task(topic, &task, &cx()) }
}

pub fn draft(campaign: Option<CampaignId>, action: &'static str) -> AuditDraft {
    AuditDraft {
        campaign,
        task: None,
        action: action.into(),
        actor: Actor::System,
        at: start(),
        review: ReviewStatus::None,
        detail: json!({ "n": 0.1 }),
    }
}

/// A change of only these writes.
pub fn writes(writes: impl IntoIterator<Item = Write>) -> Change {
    Change { writes: writes.into_iter().collect(), ..Change::default() }
}

/// A change that makes a task with its spec.
pub fn creation(spec: &TaskSpec, task: &Task) -> Change {
    writes([Write::PutSpec(spec.clone()), Write::PutTask(task.clone())])
}

/// A route to this version, on which the version is on trial too.
pub fn route(skill: &SkillRef) -> Route {
    let terms = CanaryTerms::of_share(10);
    let canary = Canary { version: skill.version.clone(), terms, runs: 0, failures: 0, started_at: start() };
    let route = Route::new(skill.name.clone(), start()).activated(&skill.version, start());
    Route { canary: Some(canary), ..route }
}
