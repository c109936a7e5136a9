//! A whole swarm over a real store, registry and sandbox, with guests written as WebAssembly text.

use chimera_agents::fleet::Fleet;
use chimera_agents::planner::campaign_file::{LimitsWish, NewCampaign};
use chimera_agents::planner::{AssignSpec, AssignStatus};
use chimera_agents::report::campaign_report;
use chimera_agents::swarm::{Swarm, SwarmDeps, SwarmHandle};
use chimera_agents::worker::ports::agent_of;
use chimera_agents::worker::replay::{Replayer, Verdict};
use chimera_core::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision};
use chimera_core::audit::Actor;
use chimera_core::campaign::CampaignState;
use chimera_core::change::{Change, Committed, Write};
use chimera_core::clock::{Clock, SystemClock, Timestamp};
use chimera_core::failure::{FailureKind, LimitName, LimitReached, codes};
use chimera_core::grant::{CallGrant, Grant, Permits};
use chimera_core::ids::{GrantId, SystemIds, TaskId};
use chimera_core::manifest::Manifest;
use chimera_core::ports::{
    ApprovalFilter, Budget, Deny, Invocation, McpGateway, McpPort, Queue, SkillIndex, Truth, TruthScratch,
};
use chimera_core::records::AgentRole;
use chimera_core::records::ScratchItem;
use chimera_core::skill::{SkillRef, SkillState};
use chimera_core::task::{Task, TaskState};
use chimera_index::{LexicalIndex, LexicalMemory};
use chimera_registry::{FolderBlobs, Registry, embed_manifest};
use chimera_sandbox::{Sandbox, SandboxConfig};
use chimera_store::{MemoryQueue, SqliteOptions, SqliteStore};
use serde_json::{Value, json};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const PRELUDE: &str = r#"
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (local.get $at))"#;
const RUN: &str = r#"(func (export "chimera:skill/runner@0.1.0#run")
    (param i32 i32 i32 i32 i32) (param $input i32) (param $length i32) (param i64) (result i32)"#;
/// Returns its input, with confidence 0.9.
const ECHO: &str = r"(i32.store (i32.const 24) (local.get $input)) (i32.store (i32.const 28) (local.get $length))
    (f64.store (i32.const 32) (f64.const 0.9)) (i32.const 16)";
/// Calls `test/echo` with its input and returns what that returned: the two results have the same layout.
const CALL: &str = r"(call $call (i32.const 8) (i32.const 9) (local.get $input) (local.get $length) (i32.const 1024)) (i32.const 1024)";
/// Returns what is under the key `k` in scratch.
const SCRATCH: &str = r"(call $get (i32.const 8) (i32.const 1) (i32.const 104))
    (i32.store (i32.const 24) (i32.load (i32.const 116))) (i32.store (i32.const 28) (i32.load (i32.const 120)))
    (f64.store (i32.const 32) (f64.const 0.9)) (i32.const 16)";

fn component(imports: &str, core_imports: &str, data: &str, body: &str) -> Vec<u8> {
    component_against("0.1.0", imports, core_imports, data, (RUN, body))
}

fn component_against(
    version: &str,
    imports: &str,
    core_imports: &str,
    data: &str,
    (run, body): (&str, &str),
) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_path(wit.join(format!("chimera-skill-{version}"))).expect("the contract");
    let world = format!("package test:made;\nworld made {{ {imports} export chimera:skill/runner@{version}; }}");
    let package = resolve.push_str("made.wit", &world).expect("a world");
    let world = resolve.select_world(&[package], Some("made")).expect("a world");
    let mut core = wat::parse_str(format!("(module {core_imports} {PRELUDE} {data} {run} {body}))")).expect("a module");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false).expect("metadata");
    ComponentEncoder::default().module(&core).expect("a module").validate(true).encode().expect("a component")
}

/// Opens nothing; for one skill it panics, as a broken part of the host would.
struct Gateway;

impl McpGateway for Gateway {
    fn open(&self, invocation: Invocation) -> Arc<dyn McpPort> {
        assert_ne!(invocation.skill.name.as_str(), "test/panics", "a part of the host is broken");
        Arc::new(Deny)
    }
}

struct House {
    store: SqliteStore,
    registry: Arc<Registry>,
    sandbox: Sandbox,
    index: Arc<LexicalIndex>,
    _folder: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.expect("a store");
        let sandbox = Sandbox::new(SandboxConfig { max_concurrent: 8, ..SandboxConfig::default() }).expect("a sandbox");
        let index = Arc::new(LexicalIndex::new());
        let blobs = Arc::new(FolderBlobs::open(folder.path().join("blobs")).expect("blobs"));
        let registry = Arc::new(Registry::new(
            Arc::new(store.clone()),
            blobs,
            sandbox.clone(),
            index.clone(),
            Arc::new(SystemClock),
            Arc::new(SystemIds),
        ));
        Self { store, registry, sandbox, index, _folder: folder }
    }

    async fn install(&self, name: &str, component: &[u8], over: Value) -> SkillRef {
        let mut manifest = json!({
            "manifest": 1,
            "skill": { "name": name, "version": "0.1.0", "summary": "Made by a test.", "license": "MIT", "effects": "none" },
            "io": { "input": { "type": "object" }, "output": {} },
            "limits": { "time_ms": 5000, "fuel": 50_000_000_000_u64 },
        });
        for (key, value) in over.as_object().expect("an object") {
            manifest[key] = value.clone();
        }
        let bytes = embed_manifest(component, &Manifest::from_value(manifest).expect("a manifest"));
        self.registry.install(bytes, operator()).await.expect("installed").version.skill
    }

    /// Lets a skill call another.
    async fn allow(&self, caller: &str, callee: &str, version: &str, expires_at: Option<Timestamp>) -> Grant {
        let grant = Grant {
            id: GrantId::new(&SystemIds),
            skill: caller.parse().expect("a name"),
            campaign: None,
            permits: Permits::Call(CallGrant {
                callee: callee.parse().expect("a name"),
                version: version.parse().expect("a requirement"),
            }),
            granted_by: operator(),
            granted_at: SystemClock.now(),
            expires_at,
            revoked_at: None,
        };
        self.put(grant.clone()).await;
        grant
    }

    async fn put(&self, grant: Grant) {
        let change = Change { writes: vec![Write::PutGrant(grant)], ..Change::new() };
        assert_eq!(self.store.commit(change).await.expect("committed"), Committed::Applied);
    }

    async fn swarm(&self, workers: usize) -> SwarmHandle {
        let truth: Arc<dyn Truth> = Arc::new(self.store.clone());
        let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
        let skill_index: Arc<dyn SkillIndex> = self.index.clone();
        Swarm::start(SwarmDeps {
            truth: truth.clone(),
            queue,
            registry: self.registry.clone(),
            sandbox: self.sandbox.clone(),
            gateway: Arc::new(Gateway),
            skill_index,
            memory_index: Arc::new(LexicalMemory::new()),
            scratch: Arc::new(TruthScratch::new(truth)),
            secrets: Arc::new(Deny),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            workers,
            planner_id: "main".to_owned(),
            roles: [AgentRole::Planner, AgentRole::Worker, AgentRole::Judge].into(),
            fleet: Fleet::Alone,
        })
        .await
        .expect("started")
    }

    async fn task(&self, id: TaskId) -> Task {
        self.store.task(id).await.expect("read").expect("there")
    }

    /// Gives a task to the swarm and waits until it is in one of these states.
    async fn run(
        &self,
        swarm: &SwarmHandle,
        skill: &str,
        input: Value,
        limits: Option<LimitsWish>,
        until: &[TaskState],
    ) -> Task {
        let id = TaskId::new(&SystemIds);
        let spec = AssignSpec { skill: skill.to_owned(), input, limits, goal: None, expect: None };
        swarm.scheduler().assign(id, spec, 5, None, operator()).await.expect("assigned");
        eventually(|| async move {
            let task = self.task(id).await;
            until.contains(&task.state).then_some(task)
        })
        .await
    }
}

fn operator() -> Actor {
    Actor::Operator("ada".to_owned())
}

const ENDS: &[TaskState] = &[TaskState::Approved, TaskState::Failed, TaskState::Rejected];

async fn eventually<T, F, Fut>(mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it never came about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_runs_its_skills_and_ends_with_a_report() {
    let house = House::new().await;
    house.install("test/echo", &component("", "", "", ECHO), json!({})).await;
    let swarm = house.swarm(2).await;
    let new = NewCampaign::from_yaml(
        r#"
goal: echo twice
inputs: { word: { text: hello } }
steps:
  - { id: one, skill: test/echo, input: { said: "${inputs.word.text}" } }
  - { id: two, skill: test/echo, input: { again: "${steps.one.output.said}" }, expect: { again: hello } }
"#,
    )
    .expect("readable");
    let campaign = swarm.scheduler().create_campaign(new, operator()).await.expect("created").id;
    let state = eventually(|| async {
        let state = house.store.campaign(campaign).await.expect("read").expect("there").state;
        state.is_final().then_some(state)
    })
    .await;
    assert_eq!(state, CampaignState::Completed);
    let report = campaign_report(&house.store, campaign).await.expect("a report");
    assert!(report.audit.valid);
    assert_eq!(report.tasks.len(), 2);
    assert!(report.tasks.iter().all(|task| task.fuel > 0 && task.peak_memory_bytes > 0 && task.attempts == 1));
    assert!(report.timings.total_ms.is_some() && report.timings.verdict_ms_max < Some(3000));
    swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_is_reported_and_the_next_task_runs() {
    let house = House::new().await;
    house.install("test/echo", &component("", "", "", ECHO), json!({})).await;
    house.install("test/spins", &component("", "", "", "(loop $again (br $again)) unreachable"), json!({})).await;
    house.install("test/traps", &component("", "", "", "unreachable"), json!({})).await;
    house.install("test/panics", &component("", "", "", ECHO), json!({})).await;
    let typed = json!({ "io": { "input": { "type": "object" }, "output": { "type": "object", "required": ["x"] } } });
    house.install("test/typed", &component("", "", "", ECHO), typed).await;
    let swarm = house.swarm(1).await;

    let short = Some(LimitsWish { time_ms: Some(300), ..LimitsWish::default() });
    let started = Instant::now();
    let spun = house.run(&swarm, "test/spins", json!({}), short, ENDS).await;
    assert_eq!(spun.failure.expect("why").code, codes::DEADLINE);
    assert!(
        spun.usage.wall_ms < 1300 || started.elapsed() > Duration::from_secs(5),
        "dropped within a second: {:?}",
        spun.usage
    );

    let trapped = house.run(&swarm, "test/traps", json!({}), None, ENDS).await;
    assert_eq!(trapped.failure.expect("why").code, codes::TRAP);

    let panicked = house.run(&swarm, "test/panics", json!({}), None, ENDS).await;
    let failure = panicked.failure.expect("why");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, codes::HOST));

    let untyped = house.run(&swarm, "test/typed", json!({ "y": 1 }), None, ENDS).await;
    assert_eq!(untyped.failure.expect("why").code, codes::OUTPUT_INVALID);

    let echoed = house.run(&swarm, "test/echo", json!({ "a": [1, 2] }), None, ENDS).await;
    assert_eq!(echoed.state, TaskState::Approved);
    assert_eq!(echoed.outcome.expect("an outcome").output, json!({ "a": [1, 2] }));
    swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_is_named_to_who_assigned() {
    let house = House::new().await;
    house.install("test/spins", &component("", "", "", "(loop $again (br $again)) unreachable"), json!({})).await;
    let swarm = house.swarm(1).await;
    let spec = AssignSpec { skill: "test/spins".into(), input: json!({}), limits: None, goal: None, expect: None };
    let first = TaskId::new(&SystemIds);
    swarm.scheduler().assign(first, spec.clone(), 5, None, operator()).await.expect("assigned");
    eventually(|| async { (house.task(first).await.state == TaskState::Running).then_some(()) }).await;
    let again = swarm.scheduler().assign(first, spec.clone(), 5, None, operator()).await.expect("the same");
    assert_eq!(again.status, AssignStatus::Assigned);
    assert!(swarm.workers().contains(&again.assigned_worker_id.expect("a worker")));
    let second = swarm.scheduler().assign(TaskId::new(&SystemIds), spec, 5, None, operator()).await.expect("queued");
    assert_eq!((second.status, second.assigned_worker_id), (AssignStatus::Queued, None), "the only worker is busy");
    swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_that_was_stopped_goes_on_where_it_was() {
    let house = House::new().await;
    house.install("test/spins", &component("", "", "", "(loop $again (br $again)) unreachable"), json!({})).await;
    let swarm = house.swarm(1).await;
    let id = TaskId::new(&SystemIds);
    let limits = Some(LimitsWish { time_ms: Some(2000), ..LimitsWish::default() });
    let spec = AssignSpec { skill: "test/spins".into(), input: json!({}), limits, goal: None, expect: None };
    swarm.scheduler().assign(id, spec, 5, None, operator()).await.expect("assigned");
    eventually(|| async { (house.task(id).await.state == TaskState::Running).then_some(()) }).await;
    let workers = swarm.workers();
    swarm.shutdown().await;
    let stopped = house.task(id).await;
    assert_eq!((stopped.state, stopped.lease), (TaskState::Queued, None), "stopping reports nothing and gives it back");
    let swarm = house.swarm(1).await;
    assert_eq!(swarm.workers(), workers, "the same workers");
    let task = eventually(|| async {
        let task = house.task(id).await;
        ENDS.contains(&task.state).then_some(task)
    })
    .await;
    assert_eq!((task.attempt, task.deaths, task.restarts), (2, 0, 0), "a stop counts against nobody");
    swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_skill_may_call_what_it_declares_and_nothing_else() {
    let house = House::new().await;
    house.install("test/echo", &component("", "", "", ECHO), json!({})).await;
    let caller = caller(CALL);
    let declares = |name: &str| json!({ "capabilities": { "skills": [{ "name": name, "version": "^0.1" }] } });
    house.install("test/caller", &caller, declares("test/echo")).await;
    house.allow("test/caller", "test/echo", "*", None).await;
    let cheat = house.install("test/cheat", &caller, declares("test/other")).await;
    let swarm = house.swarm(1).await;
    let called = house.run(&swarm, "test/caller", json!({ "to": "echo" }), None, ENDS).await;
    assert_eq!(called.outcome.expect("an outcome").output, json!({ "to": "echo" }));

    let caught = house.run(&swarm, "test/cheat", json!({}), None, &[TaskState::AwaitingApproval]).await;
    assert_eq!(caught.failure.expect("why").kind, FailureKind::Security);
    let version = || async {
        let versions = house.store.skills(Some(&cheat.name)).await.expect("read");
        versions.into_iter().find(|version| version.skill == cheat).expect("there")
    };
    assert_eq!(version().await.state, SkillState::Suspended);
    let filter = ApprovalFilter { state: Some(ApprovalState::Open), ..ApprovalFilter::default() };
    let open: Approval = house.store.approvals(&filter).await.expect("read").remove(0);
    assert_eq!(open.kind, ApprovalKind::Security);
    let reject = Answer { decision: HumanDecision::Reject, edited: None, note: Some("no".into()) };
    swarm.hitl().decide(open.id, reject, operator()).await.expect("decided");
    assert_eq!(house.task(caught.id).await.state, TaskState::Rejected);
    assert_eq!(version().await.state, SkillState::Suspended, "it stays");
    swarm.shutdown().await;
}

/// A skill that calls `test/echo` once, or for ever.
fn caller(body: &str) -> Vec<u8> {
    component(
        "import chimera:skill/skills@0.1.0;",
        r#"(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))"#,
        r#"(data (i32.const 8) "test/echo")"#,
        body,
    )
}

fn calls_echo() -> Value {
    json!({ "capabilities": { "skills": [{ "name": "test/echo", "version": "*" }] } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declared_call_needs_a_grant_that_is_in_force() {
    let house = House::new().await;
    let echo = component("", "", "", ECHO);
    house.install("test/echo", &echo, json!({})).await;
    house.install("test/caller", &caller(CALL), calls_echo()).await;
    let swarm = house.swarm(1).await;
    let run = async || {
        let ends = [ENDS, &[TaskState::AwaitingApproval]].concat();
        house.run(&swarm, "test/caller", json!({ "to": "echo" }), None, &ends).await
    };
    let denied = async |why: &str| {
        let task = run().await;
        assert_eq!(task.state, TaskState::AwaitingApproval, "{why}: {task:?}");
        let failure = task.failure.clone().expect("why");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Denied, codes::NOT_GRANTED), "{why}");
        assert!(failure.message.contains("chimera grant add test/caller --skill test/echo"), "{why}: {failure}");
        task
    };
    let allowed = async |why: &str| {
        let task = run().await;
        assert_eq!(task.state, TaskState::Approved, "{why}: {:?}", task.failure);
    };
    let first = denied("nothing is granted").await;
    house.allow("test/echo", "test/caller", "*", None).await;
    house.allow("test/caller", "test/other", "*", None).await;
    denied("other calls are granted").await;
    house.allow("test/caller", "test/echo", "*", Some(SystemClock.now())).await;
    denied("the grant has expired").await;
    let soon = SystemClock.now().plus(Duration::from_secs(3_600));
    let grant = house.allow("test/caller", "test/echo", "^0.1", Some(soon)).await;
    allowed("the grant covers it").await;

    // The question that was asked is answered with a yes: the task runs again, and this time it may.
    let question = first.waiting_on.expect("a question");
    let asked = house.store.approval(question).await.expect("read").expect("there");
    assert_eq!(asked.kind, ApprovalKind::Denied);
    let approve = Answer { decision: HumanDecision::Approve, edited: None, note: None };
    swarm.hitl().decide(question, approve, operator()).await.expect("decided");
    let again = eventually(|| async {
        let task = house.task(first.id).await;
        ENDS.contains(&task.state).then_some(task)
    })
    .await;
    assert_eq!(again.state, TaskState::Approved, "{:?}", again.failure);

    // A version that the grant is not for.
    let newer = json!({ "skill": { "name": "test/echo", "version": "0.2.0", "summary": "Made by a test.",
        "license": "MIT", "effects": "none" } });
    let newer = house.install("test/echo", &component("", "", "(data (i32.const 900) \"2\")", ECHO), newer).await;
    house.registry.activate(&newer.name, &newer.version, operator()).await.expect("activated");
    let other = denied("the grant is for another version").await;
    let message = other.failure.expect("why").message;
    assert!(message.contains("`^0.1`, not for 0.2.0") && message.ends_with("test/echo@^0.2.0"), "{message}");
    let any = house.allow("test/caller", "test/echo", "*", None).await;
    allowed("every version is granted").await;
    for grant in [grant, any] {
        house.put(Grant { revoked_at: Some(SystemClock.now()), ..grant }).await;
    }
    denied("the grants were taken back").await;
    swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_needs_a_grant_of_its_own_and_a_replay_needs_none() {
    let house = House::new().await;
    house.install("test/echo", &component("", "", "", ECHO), json!({})).await;
    house.install("test/caller", &caller(CALL), calls_echo()).await;
    let outer = component(
        "import chimera:skill/skills@0.1.0;",
        r#"(import "chimera:skill/skills@0.1.0" "call" (func $call (param i32 i32 i32 i32 i32)))"#,
        r#"(data (i32.const 8) "test/caller")"#,
        &CALL.replace("(i32.const 9)", "(i32.const 11)"),
    );
    let declares = json!({ "capabilities": { "skills": [{ "name": "test/caller", "version": "*" }] } });
    house.install("test/outer", &outer, declares).await;
    let grant = house.allow("test/outer", "test/caller", "*", None).await;
    let swarm = house.swarm(1).await;
    let asking = house.run(&swarm, "test/outer", json!({ "n": 1 }), None, &[TaskState::AwaitingApproval]).await;
    let failure = asking.failure.expect("why");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Denied, codes::NOT_GRANTED));
    assert!(failure.message.contains("skill test/caller: no grant lets `test/caller` call"), "{failure}");
    let inner = house.allow("test/caller", "test/echo", "*", None).await;
    let done = house.run(&swarm, "test/outer", json!({ "n": 1 }), None, ENDS).await;
    assert_eq!(done.outcome.expect("an outcome").output, json!({ "n": 1 }));

    // What was answered once is answered so again, whatever is granted now.
    for grant in [grant, inner] {
        house.put(Grant { revoked_at: Some(SystemClock.now()), ..grant }).await;
    }
    let replayer = Replayer::new(Arc::new(house.store.clone()), house.registry.clone(), house.sandbox.clone());
    for task in [done.id, asking.id] {
        let replay = replayer.replay(task, None, None).await.expect("replayed");
        assert_eq!(replay.verdict, Verdict::Identical);
    }
    swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_one_task_are_counted_over_all_of_its_skills() {
    let house = House::new().await;
    house.install("test/echo", &component("", "", "", ECHO), json!({})).await;
    let endless = CALL.replacen("(call", "(loop $more (global.set $top (i32.const 8192)) (call", 1);
    let endless = format!("{} (br $more)) unreachable", endless.trim_end_matches("(i32.const 1024)").trim_end());
    house.install("test/endless", &caller(&endless), calls_echo()).await;
    house.allow("test/endless", "test/echo", "*", None).await;
    let swarm = house.swarm(1).await;
    let task = house.run(&swarm, "test/endless", json!({}), None, ENDS).await;
    let failure = task.failure.expect("why");
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, codes::CALL_LIMIT));
    let most = u64::from(Budget::MAX_CALLS);
    assert_eq!(failure.limit, Some(LimitReached { name: LimitName::SkillCalls, max: most, used: most + 1 }));
    let journal = house.store.journal(task.id, task.epoch).await.expect("read");
    let calls = journal.iter().filter(|entry| entry.call == "skills.call").count();
    assert_eq!(calls as u64, most, "and not one more was made");
    let replayer = Replayer::new(Arc::new(house.store.clone()), house.registry.clone(), house.sandbox.clone());
    let replay = replayer.replay(task.id, None, None).await.expect("replayed");
    assert_eq!(replay.verdict, Verdict::Identical);
    swarm.shutdown().await;
}

/// Calls `test/spin` within this budget and returns the failure that came of it: the two results have the same layout.
fn spins_within(budget: &str) -> Vec<u8> {
    let run = r#"(func (export "chimera:skill/runner@0.2.0#run") (param i32 i32 i32 i32 i32)
        (param $input i32) (param $length i32) (param i64 i64 i64 i32 i32 i32) (result i32)"#;
    let call = format!(
        "(call $call (i32.const 8) (i32.const 9) (local.get $input) (local.get $length) (i32.const 1) {budget}
            (i32.const 1024))
        (i32.const 1024)"
    );
    component_against(
        "0.2.0",
        "import chimera:skill/skills@0.2.0;",
        r#"(import "chimera:skill/skills@0.2.0" "call"
            (func $call (param i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)))"#,
        r#"(data (i32.const 8) "test/spin")"#,
        (run, &call),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_ends_at_the_budget_that_its_caller_gave_it() {
    let house = House::new().await;
    house.install("test/spin", &component("", "", "", "(loop $more (br $more)) unreachable"), json!({})).await;
    let over = |name: &str| {
        json!({
            "skill": { "name": name, "version": "0.1.0", "summary": "Made by a test.", "license": "MIT",
                "effects": "none", "contract": "0.2" },
            "capabilities": { "skills": [{ "name": "test/spin", "version": "^0.1" }] },
            "limits": { "time_ms": 30_000, "fuel": 50_000_000_000_u64 },
        })
    };
    let fuel = "(i32.const 0) (i64.const 0) (i32.const 1) (i64.const 3000000)";
    let time = "(i32.const 1) (i64.const 300) (i32.const 0) (i64.const 0)";
    house.allow("test/thrifty", "test/spin", "*", None).await;
    house.allow("test/hasty", "test/spin", "^0.1", None).await;
    house.install("test/thrifty", &spins_within(fuel), over("test/thrifty")).await;
    house.install("test/hasty", &spins_within(time), over("test/hasty")).await;
    let swarm = house.swarm(1).await;
    let thrifty = house.run(&swarm, "test/thrifty", json!({}), None, ENDS).await;
    assert_eq!(thrifty.failure.expect("why").code, codes::FUEL);
    let used = thrifty.usage.fuel;
    assert!((3_000_000..3_100_000).contains(&used), "the callee's fuel is the caller's: {used}");
    let hasty = house.run(&swarm, "test/hasty", json!({}), None, ENDS).await;
    assert_eq!(hasty.failure.expect("why").code, codes::DEADLINE);
    let took = hasty.usage.wall_ms;
    assert!((300..5000).contains(&took), "neither limit alone ends it so early: {took}");
    swarm.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_skill_sees_its_own_scratch_and_no_others() {
    let house = House::new().await;
    let reader = component(
        "import chimera:skill/scratch@0.1.0;",
        r#"(import "chimera:skill/scratch@0.1.0" "get" (func $get (param i32 i32 i32)))"#,
        r#"(data (i32.const 8) "k")"#,
        SCRATCH,
    );
    let scratch = json!({ "capabilities": { "scratch": true } });
    let mine = house.install("test/reader", &reader, scratch.clone()).await;
    house.install("test/stranger", &reader, scratch).await;
    let item = ScratchItem {
        agent: agent_of(&mine.name),
        key: "k".into(),
        value: json!({ "secret": 42 }),
        expires_at: SystemClock.now().plus(ScratchItem::KEPT),
    };
    let change = Change { writes: vec![Write::PutScratch(item)], ..Change::new() };
    assert_eq!(house.store.commit(change).await.expect("committed"), Committed::Applied);
    let swarm = house.swarm(1).await;
    let read = house.run(&swarm, "test/reader", json!({}), None, ENDS).await;
    assert_eq!(read.outcome.expect("an outcome").output, json!({ "secret": 42 }));
    let other = house.run(&swarm, "test/stranger", json!({}), None, ENDS).await;
    assert!(other.outcome.is_none_or(|outcome| outcome.output != json!({ "secret": 42 })));
    swarm.shutdown().await;
}
