//! A world for the gateway's tests: a real store, a task that is leased as by a worker, and real servers.

#![allow(dead_code, clippy::unwrap_used, reason = "shared by several tests, which may end with a panic")]

pub mod hostile;

use chimera_core::approval::{Answer, Approval, ApprovalState, HumanDecision};
use chimera_core::audit::{Actor, AuditEvent};
use chimera_core::campaign::new_task;
use chimera_core::change::{Change, Committed, Context, Write};
use chimera_core::clock::{Clock, SystemClock};
use chimera_core::digest::Digest;
use chimera_core::effect::Effect;
use chimera_core::failure::Failure;
use chimera_core::grant::{Grant, Permits, SlotGrant, ToolMode, ToolPolicy};
use chimera_core::ids::{AgentId, ApprovalId, GrantId, IdSource, LeaseId, LineageId, SpecId, SystemIds, TaskId};
use chimera_core::machine::{LeaseEnd, TaskEvent, settle_effect, transition};
use chimera_core::manifest::Manifest;
use chimera_core::ports::{ApprovalFilter, HostError, Invocation, McpGateway, McpPort, ToolAnswer, ToolCall, Truth};
use chimera_core::skill::SkillRef;
use chimera_core::task::{Lease, Task, TaskSpec, TaskState, Usage};
use chimera_mcp::social::{Post, read_posts};
use chimera_mcp::{Gateway, Idempotency, ServerCatalog, ServerConfig};
use chimera_store::{SqliteOptions, SqliteStore};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const SOCIAL: &str = env!("CARGO_BIN_EXE_chimera-social");

pub struct World {
    pub truth: Arc<dyn Truth>,
    pub gateway: Gateway,
    pub task: TaskId,
    pub lineage: LineageId,
    pub skill: SkillRef,
    pub manifest: Arc<Manifest>,
    pub worker: AgentId,
    pub state: PathBuf,
    pub folder: tempfile::TempDir,
}

/// One attempt of a worker.
pub struct Attempt {
    pub port: Arc<dyn McpPort>,
    pub lease: LeaseId,
    pub number: u32,
}

/// `social` with its key as an argument, as the demo uses it.
pub fn social(state: &std::path::Path, args: &[&str]) -> ServerConfig {
    let mut config = ServerConfig::new("social", SOCIAL);
    config.args = ["--state", state.to_str().unwrap()].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    if !args.contains(&"--no-idempotency") {
        config.idempotency = Idempotency::Argument("idempotency_key".to_owned());
    }
    config
}

impl World {
    /// With `social`, started with these arguments besides its state.
    pub async fn social(args: &[&str]) -> Self {
        Self::with(|state| social(state, args)).await
    }

    /// With one server, bound to the slot `social` by nothing yet.
    pub async fn with(server: impl FnOnce(&std::path::Path) -> ServerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("social.jsonl");
        let mut catalog = ServerCatalog::new();
        catalog.add(server(&state)).unwrap();
        let truth: Arc<dyn Truth> =
            Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap());
        let gateway = Gateway::new(truth.clone(), Arc::new(SystemClock), Arc::new(SystemIds), &catalog);
        let manifest = Arc::new(manifest());
        let skill = SkillRef {
            name: manifest.skill.name.clone(),
            version: manifest.skill.version.clone(),
            digest: Digest::of(b"component"),
        };
        let cx = context(Actor::System);
        let spec = TaskSpec {
            id: SpecId::new(&SystemIds),
            goal: "publish".to_owned(),
            skill: skill.clone(),
            input: json!({}),
            limits: manifest.limits,
            expect: None,
        };
        let task = Task { spec_id: spec.id, state: TaskState::Queued, ..new_task(&cx) };
        let mut change = Change::new();
        change.write(Write::PutSpec(spec));
        change.write(Write::PutTask(task.clone()));
        apply(&*truth, change).await;
        let worker = AgentId::new(&SystemIds);
        Self { truth, gateway, task: task.id, lineage: task.lineage, skill, manifest, worker, state, folder }
    }

    pub async fn task(&self) -> Task {
        self.truth.task(self.task).await.unwrap().unwrap()
    }

    async fn event(&self, event: TaskEvent, actor: Actor) {
        let (_, change) = transition(&self.task().await, event, &context(actor)).unwrap();
        apply(&*self.truth, change).await;
    }

    /// A worker takes the task; one that holds it loses it.
    pub async fn attempt(&self) -> Attempt {
        if self.task().await.state == TaskState::Running {
            self.event(TaskEvent::LeaseExpired { cause: LeaseEnd::HostRestarted }, Actor::System).await;
        }
        let lease =
            Lease { id: LeaseId::new(&SystemIds), worker: self.worker, until: SystemClock.now().plus(Lease::DURATION) };
        let id = lease.id;
        self.event(TaskEvent::Leased { lease }, Actor::Worker(self.worker)).await;
        let task = self.task().await;
        let port = self.gateway.open(self.invocation(Some(id), task.attempt, task.epoch));
        Attempt { port, lease: id, number: task.attempt }
    }

    pub fn invocation(&self, lease: Option<LeaseId>, attempt: u32, epoch: u32) -> Invocation {
        Invocation {
            task: self.task,
            campaign: None,
            lineage: self.lineage,
            lease,
            attempt,
            epoch,
            agent: self.worker,
            skill: self.skill.clone(),
            manifest: self.manifest.clone(),
        }
    }

    /// The run stopped at a question.
    pub async fn suspend(&self, attempt: &Attempt, approval: ApprovalId) {
        let (lease, attempt) = (attempt.lease, attempt.number);
        let event = TaskEvent::Suspended { lease, attempt, approval, usage: Usage::default() };
        self.event(event, Actor::Worker(self.worker)).await;
    }

    /// A human decides what the task waits for.
    pub async fn decide(&self, id: ApprovalId, decision: HumanDecision, edited: Option<Value>) {
        let approval = self.approval(id).await;
        let effect = match approval.effect {
            Some(effect) => self.truth.effect(effect).await.unwrap(),
            None => None,
        };
        let answer = Answer { decision, edited, note: None };
        if self.task().await.waiting_on == Some(id) {
            let event = TaskEvent::Answered { approval, answer, effect, skill: self.skill.clone() };
            self.event(event, Actor::Operator("ann".to_owned())).await;
        } else {
            let cx = context(Actor::Operator("ann".to_owned()));
            let mut change = Change::new();
            change.write(Write::PutApproval(approval.decided(&answer, &cx)));
            if let Some(settled) = effect.and_then(|effect| settle_effect(effect, &approval, &answer, &cx)) {
                change.write(Write::PutEffect(settled));
            }
            apply(&*self.truth, change).await;
        }
    }

    pub async fn approve(&self, id: ApprovalId) {
        self.decide(id, HumanDecision::Approve, None).await;
    }

    pub async fn approval(&self, id: ApprovalId) -> Approval {
        self.truth.approval(id).await.unwrap().unwrap()
    }

    pub async fn open_approvals(&self) -> Vec<Approval> {
        let filter = ApprovalFilter { state: Some(ApprovalState::Open), ..ApprovalFilter::default() };
        self.truth.approvals(&filter).await.unwrap()
    }

    pub async fn effects(&self) -> Vec<Effect> {
        self.truth.effects(self.lineage).await.unwrap()
    }

    pub async fn put_effect(&self, effect: Effect) {
        let mut change = Change::new();
        change.write(Write::PutEffect(effect));
        apply(&*self.truth, change).await;
    }

    pub async fn put_approval(&self, approval: Approval) {
        let mut change = Change::new();
        change.write(Write::PutApproval(approval));
        apply(&*self.truth, change).await;
    }

    pub async fn audit(&self) -> Vec<AuditEvent> {
        self.truth.audit(None, 0, 1000).await.unwrap()
    }

    pub async fn actions(&self) -> Vec<String> {
        self.audit().await.into_iter().map(|event| event.draft.action.into_owned()).collect()
    }

    /// Grants what the gateway proposes, with these modes.
    pub async fn grant(&self, overrides: &[(&str, ToolMode)]) {
        let overrides = overrides.iter().map(|(tool, mode)| ((*tool).to_owned(), *mode)).collect();
        let server = self.gateway.servers()[0].name.clone();
        let tools = self.gateway.propose_grant(&self.manifest, "social", &server, &overrides).await.unwrap();
        self.put_grant(tools).await;
    }

    pub async fn put_grant(&self, tools: BTreeMap<String, ToolPolicy>) {
        let grant = Grant {
            id: GrantId::new(&SystemIds),
            skill: self.skill.name.clone(),
            campaign: None,
            permits: Permits::Slot(SlotGrant {
                slot: "social".to_owned(),
                server: self.gateway.servers()[0].name.clone(),
                tools,
                resources: Default::default(),
            }),
            granted_by: Actor::Operator("ann".to_owned()),
            granted_at: SystemClock.now(),
            expires_at: None,
            revoked_at: None,
        };
        let mut change = Change::new();
        change.write(Write::PutGrant(grant));
        apply(&*self.truth, change).await;
    }

    pub fn posts(&self) -> Vec<Post> {
        read_posts(&self.state).unwrap()
    }

    pub fn texts(&self) -> Vec<String> {
        self.posts().into_iter().map(|post| post.text).collect()
    }
}

pub fn context(actor: Actor) -> Context<'static> {
    let ids: &'static dyn IdSource = &SystemIds;
    Context { now: SystemClock.now(), ids, actor, chance: 0.5 }
}

pub async fn apply(truth: &dyn Truth, change: Change) {
    assert_eq!(truth.commit(change).await.unwrap(), Committed::Applied);
}

/// A manifest that declares the three tools of `social` on a slot of that name.
pub fn manifest() -> Manifest {
    Manifest::from_value(json!({
        "manifest": 1,
        "skill": {
            "name": "chimera/publish-post", "version": "0.1.0", "summary": "Publishes.", "license": "MIT", "effects": "write",
        },
        "io": { "input": {}, "output": {} },
        "capabilities": { "mcp": [{
            "slot": "social", "tools": ["search_posts", "list_posts", "publish_post"],
            "resources": ["social://about"], "reason": "to publish",
        }] },
    }))
    .unwrap()
}

pub fn publish(ordinal: u32, text: &str) -> ToolCall {
    call(ordinal, "publish_post", json!({ "text": text }))
}

pub fn call(ordinal: u32, tool: &str, arguments: Value) -> ToolCall {
    ToolCall { ordinal, slot: "social".to_owned(), tool: tool.to_owned(), arguments }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(25)
}

impl Attempt {
    pub async fn call(&self, call: ToolCall) -> Result<ToolAnswer, HostError> {
        self.port.call_tool(call, soon()).await
    }

    /// The question at which a call stops.
    pub async fn question(&self, call: ToolCall) -> ApprovalId {
        match self.call(call).await {
            Err(HostError::Suspend(approval)) => approval,
            other => panic!("expected a question, got {other:?}"),
        }
    }

    /// The failure with which a call ends the run; the guest is not told.
    pub async fn end(&self, call: ToolCall) -> Failure {
        match self.call(call).await {
            Err(HostError::End(failure)) => failure,
            other => panic!("expected the end of the run, got {other:?}"),
        }
    }

    /// The failure that a call has for an answer.
    pub async fn failure(&self, call: ToolCall) -> Failure {
        match self.call(call).await {
            Err(HostError::Failure(failure)) => failure,
            other => panic!("expected a failure, got {other:?}"),
        }
    }
}
