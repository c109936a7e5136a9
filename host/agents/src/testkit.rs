//! What the tests of this crate share: the five bundled skills' manifests, a store in a temporary folder, a clock that
//! moves when told, and hands that do a worker's work.

use crate::judge::Judge;
use crate::judge::hitl::Hitl;
use crate::planner::campaign_file::NewCampaign;
use crate::planner::decomposer::Decomposer;
use crate::planner::scheduler::{Leases, Scheduler, SchedulerDeps};
use crate::planner::{AssignSpec, LeasedTask};
use crate::runner::Turn;
use chimera_core::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision};
use chimera_core::audit::Actor;
use chimera_core::campaign::{Campaign, CampaignView};
use chimera_core::change::{Change, Committed, Write};
use chimera_core::clock::{Clock, ManualClock, Timestamp};
use chimera_core::digest::Digest;
use chimera_core::effect::{Effect, EffectKey, EffectState, SentKey};
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ids::{AgentId, CampaignId, EffectId, IdSource, SystemIds, TaskId};
use chimera_core::machine::TaskEvent;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{ApprovalFilter, Queue, SkillIndex, Truth};
use chimera_core::schema::Schema;
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_core::task::{Outcome, Task, Usage};
use chimera_index::LexicalIndex;
use chimera_registry::{FolderBlobs, Registry};
use chimera_sandbox::{Sandbox, SandboxConfig};
use chimera_store::{MemoryQueue, SqliteOptions, SqliteStore};
use serde_json::{Value, json};
use std::sync::Arc;

/// The goal of the demo.
pub(crate) const DEMO_GOAL: &str = "Find what people are talking about in these posts, summarise the main trends, draft a post of at most 280 characters, check it against our policy and publish it.";

/// A manifest's parts that tests vary.
pub(crate) fn version(
    name: &str,
    version: &str,
    effects: &str,
    text: Value,
    input: impl Into<Schema>,
    output: impl Into<Schema>,
) -> SkillVersion {
    let (input, output) = (input.into(), output.into());
    let mut skill = json!({ "name": name, "version": version, "license": "MIT", "effects": effects });
    for (key, value) in text.as_object().expect("an object") {
        skill[key] = value.clone();
    }
    let mut manifest = json!({ "manifest": 1, "skill": skill, "io": { "input": input, "output": output } });
    if effects == "write" {
        manifest["capabilities"] =
            json!({ "mcp": [{ "slot": "social", "tools": ["publish_post"], "reason": "publish" }] });
    }
    let manifest = Manifest::from_value(manifest).expect("a valid manifest");
    let digest = Digest::of(format!("{name}@{version}").as_bytes());
    let skill = SkillRef { name: manifest.skill.name.clone(), version: manifest.skill.version.clone(), digest };
    SkillVersion {
        skill,
        manifest: Arc::new(manifest),
        state: SkillState::Active,
        size: 1,
        installed_at: Timestamp::EPOCH,
    }
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn strings() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

/// The five bundled skills, as their manifests say.
pub(crate) fn bundled() -> Vec<SkillVersion> {
    let count = |most: u64, default: u64, about: &str| json!({ "type": "integer", "minimum": 0, "maximum": most, "default": default, "description": about });
    let mut trends_in = object(
        &["posts"],
        json!({ "posts": { "description": "The posts to find trends in.", "type": "array", "items": { "$ref": "#/$defs/Post" } },
            "top": count(50, 5, "How many trends to return at most, strongest first; 5 if absent.") }),
    );
    trends_in["$defs"] =
        json!({ "Post": object(&["id", "text"], json!({ "id": { "type": "string" }, "text": { "type": "string" } })) });
    vec![
        version(
            "chimera/find-trends",
            "0.1.0",
            "none",
            json!({ "summary": "Finds the trending topics in a set of posts and the posts that represent them best.",
                "keywords": ["trends", "trending", "topics", "posts", "hashtags", "analyse", "popular"],
                "examples": ["find trends in these posts", "what are people talking about", "find the trending topics", "analyse what is popular in the feed"] }),
            trends_in,
            object(
                &["topics", "trends", "texts", "post_count"],
                json!({ "topics": strings(), "texts": strings(),
                "trends": { "type": "array", "items": { "type": "object" } }, "post_count": { "type": "integer" } }),
            ),
        ),
        version(
            "chimera/summarize",
            "0.1.0",
            "none",
            json!({ "summary": "Summarises texts by their most central sentences, with keywords, optionally focused on topics.",
                "keywords": ["summarize", "summary", "summarise", "digest", "condense", "keywords", "extract"],
                "examples": ["summarize what people say", "summarise the posts about the topic", "give me a digest of these texts"] }),
            object(
                &["texts"],
                json!({ "texts": strings(), "focus": strings(),
                "max_sentences": count(50, 3, "How many sentences the summary has at most; 3 if absent.") }),
            ),
            object(
                &["summary", "sentences", "keywords"],
                json!({ "summary": { "type": "string" }, "keywords": strings(),
                "sentences": { "type": "array", "items": { "type": "object" } } }),
            ),
        ),
        version(
            "chimera/draft-post",
            "0.1.0",
            "none",
            json!({ "summary": "Drafts a social media post from a summary, to a brief and a length limit, with hashtags.",
                "keywords": ["draft", "write", "post", "tweet", "compose", "hashtags", "social media"],
                "examples": ["draft a post about it", "write a short post for our followers", "compose a tweet of at most 280 characters"] }),
            object(
                &["summary"],
                json!({ "summary": { "type": "string" }, "topics": strings(),
                "brief": { "type": ["string", "null"], "description": "What the post should say and for whom, in the campaign owner's words." },
                "max_chars": { "type": "integer", "minimum": 20, "maximum": 10000, "default": 280 },
                "hashtags": count(30, 2, "How many hashtags to add at most, if they fit; 2 if absent.") }),
            ),
            object(&["text", "chars"], json!({ "text": { "type": "string" }, "chars": { "type": "integer" } })),
        ),
        version(
            "chimera/check-policy",
            "0.1.0",
            "none",
            json!({ "summary": "Checks a draft against a publishing policy: length, banned words, hashtags, links, personal data.",
                "keywords": ["policy", "check", "compliance", "moderation", "banned words", "personal data", "safety"],
                "examples": ["check the draft against our policy", "make sure the post is compliant", "review the text for banned words"] }),
            object(&["text", "policy"], json!({ "text": { "type": "string" }, "policy": { "type": "object" } })),
            object(
                &["text", "compliant", "findings"],
                json!({ "text": { "type": "string" },
                "compliant": { "type": "boolean", "x-chimera-gate": true }, "findings": { "type": "array" } }),
            ),
        ),
        version(
            "chimera/publish-post",
            "0.1.0",
            "write",
            json!({ "summary": "Publishes a text as a post through the operator's social server.",
                "keywords": ["publish", "post", "social", "send", "share", "announce"],
                "examples": ["publish the post", "post it on the social network", "share the approved draft with our followers"] }),
            object(&["text"], json!({ "text": { "type": "string", "minLength": 1 } })),
            object(&["id"], json!({ "id": { "type": "string" }, "url": { "type": "string" } })),
        ),
    ]
}

/// A goal with the demo's inputs.
pub(crate) fn campaign_of(goal: &str) -> NewCampaign {
    let inputs = json!({ "posts": [{ "id": "1", "text": "hello river" }], "policy": { "max_chars": 280 } });
    NewCampaign {
        goal: goal.to_owned(),
        inputs: inputs.as_object().expect("an object").clone(),
        ..NewCampaign::default()
    }
}

/// Everything but a sandbox that runs.
pub(crate) struct House {
    pub(crate) store: SqliteStore,
    pub(crate) scheduler: Scheduler,
    pub(crate) judge: Judge,
    pub(crate) hitl: Hitl,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) index: Arc<LexicalIndex>,
    pub(crate) worker: AgentId,
    _folder: tempfile::TempDir,
}

/// A human, in tests.
pub(crate) fn operator() -> Actor {
    Actor::Operator("ada".to_owned())
}

impl House {
    /// A house with these skills installed.
    pub(crate) async fn with(skills: Vec<SkillVersion>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.expect("a store");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let index = Arc::new(LexicalIndex::new());
        let truth: Arc<dyn Truth> = Arc::new(store.clone());
        let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new());
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
        let sandbox = Sandbox::new(SandboxConfig { max_concurrent: 2, ..SandboxConfig::default() }).expect("a sandbox");
        let blobs = Arc::new(FolderBlobs::open(folder.path().join("blobs")).expect("blobs"));
        let registry =
            Arc::new(Registry::new(truth.clone(), blobs, sandbox, index.clone(), clock.clone(), ids.clone()));
        let scheduler = Scheduler::new(SchedulerDeps {
            truth: truth.clone(),
            queue,
            clock: clock.clone(),
            ids,
            decomposer: Decomposer::new(truth, index.clone()),
            planner_id: "main".to_owned(),
            leases: Leases::Here,
        });
        let worker = AgentId::new(&SystemIds);
        let house = Self {
            store,
            judge: Judge::new(scheduler.clone()),
            hitl: Hitl::new(scheduler.clone(), registry),
            scheduler,
            clock,
            index,
            worker,
            _folder: folder,
        };
        let agent = chimera_core::records::Agent {
            id: worker,
            name: "worker-1".to_owned(),
            role: chimera_core::records::AgentRole::Worker,
            status: chimera_core::records::AgentStatus::Active,
            last_seen: house.clock.now(),
            created_at: house.clock.now(),
        };
        house.write(vec![Write::PutAgent(agent)]).await;
        house.install(skills).await;
        house
    }

    /// A house in which a publishing task of no campaign runs.
    pub(crate) async fn publishing() -> (Self, LeasedTask) {
        let house = Self::with(bundled()).await;
        let spec = AssignSpec {
            skill: "chimera/publish-post".to_owned(),
            input: json!({ "text": "hello" }),
            limits: None,
            goal: None,
            expect: None,
        };
        house.scheduler.assign(TaskId::new(&SystemIds), spec, 5, None, operator()).await.expect("assigned");
        house.settle().await;
        let leased = house.lease().await.expect("a task");
        (house, leased)
    }

    /// Writes rows as they are.
    pub(crate) async fn write(&self, writes: Vec<Write>) {
        let change = Change { writes, ..Change::new() };
        assert_eq!(self.store.commit(change).await.expect("committed"), Committed::Applied);
    }

    /// Installs versions, without admission.
    pub(crate) async fn install(&self, skills: Vec<SkillVersion>) {
        for version in &skills {
            self.index.put(version).await.expect("indexed");
        }
        self.write(skills.into_iter().map(Write::PutSkill).collect()).await;
    }

    /// Makes a campaign and plans it.
    pub(crate) async fn start(&self, new: NewCampaign) -> Campaign {
        let campaign = self.scheduler.create_campaign(new, operator()).await.expect("created");
        self.settle().await;
        campaign
    }

    /// Turns every loop until nothing is left to do.
    pub(crate) async fn settle(&self) {
        loop {
            let turns = [
                self.scheduler.plan_turn().await.expect("plans"),
                self.scheduler.replan_turn().await.expect("replans"),
                self.scheduler.relay_turn().await.expect("relays"),
                self.judge.turn().await.expect("judges"),
            ];
            if turns.iter().all(|turn| *turn == Turn::Idle) {
                return;
            }
        }
    }

    pub(crate) async fn view(&self, id: CampaignId) -> CampaignView {
        self.store.campaign_view(id).await.expect("read").expect("there")
    }

    /// Leases the next task.
    pub(crate) async fn lease(&self) -> Option<LeasedTask> {
        self.scheduler.lease_next(self.worker).await.expect("leases")
    }

    /// The key of a leased task's step.
    pub(crate) async fn key_of(&self, leased: &LeasedTask) -> String {
        let view = self.view(leased.task.campaign.expect("of a campaign")).await;
        let step = view.steps.iter().find(|step| Some(step.id) == leased.task.step).expect("a step");
        step.planned.key.clone()
    }

    /// Reports an outcome and lets everything follow.
    pub(crate) async fn finish(&self, leased: &LeasedTask, output: Value, confidence: f64) -> Task {
        let event = TaskEvent::Finished {
            lease: leased.task.lease.as_ref().expect("leased").id,
            attempt: leased.task.attempt,
            outcome: Outcome { output, confidence, evidence: Vec::new() },
            usage: Usage { wall_ms: 5, ..Usage::default() },
        };
        self.scheduler.apply(leased.task.id, event, Actor::Worker(self.worker)).await.expect("reported");
        self.settle().await;
        self.store.task(leased.task.id).await.expect("read").expect("there")
    }

    /// Reports a failure and lets everything follow.
    pub(crate) async fn fail(&self, leased: &LeasedTask, kind: FailureKind, code: &str) -> Task {
        let event = TaskEvent::Failed {
            lease: leased.task.lease.as_ref().expect("leased").id,
            attempt: leased.task.attempt,
            failure: Failure::new(kind, code, "it did not work"),
            usage: Usage::default(),
            skill: leased.spec.skill.clone(),
        };
        self.scheduler.apply(leased.task.id, event, Actor::Worker(self.worker)).await.expect("reported");
        self.settle().await;
        self.store.task(leased.task.id).await.expect("read").expect("there")
    }

    /// An output that fits the bundled skill of that step.
    pub(crate) fn good_output(key: &str) -> Value {
        match key {
            "find-trends" => {
                json!({ "topics": ["river"], "trends": [], "texts": ["The river rises."], "post_count": 1 })
            }
            "summarize" => json!({ "summary": "The river rises.", "sentences": [], "keywords": ["river"] }),
            "draft-post" => json!({ "text": "The river rises. #river", "chars": 23 }),
            "check-policy" => json!({ "text": "The river rises. #river", "compliant": true, "findings": [] }),
            _ => json!({ "id": "post-1" }),
        }
    }

    pub(crate) async fn open_questions(&self) -> Vec<Approval> {
        let filter = ApprovalFilter { state: Some(ApprovalState::Open), ..ApprovalFilter::default() };
        self.store.approvals(&filter).await.expect("read")
    }

    /// Reports that a leased task waits for the answer to a question.
    pub(crate) async fn park(&self, leased: &LeasedTask, question: &Approval) {
        let lease = leased.task.lease.as_ref().expect("leased").id;
        let usage = Usage::default();
        let event = TaskEvent::Suspended { lease, attempt: leased.task.attempt, approval: question.id, usage };
        self.scheduler.apply(leased.task.id, event, Actor::Worker(self.worker)).await.expect("parked");
    }

    /// An effect that the leased task asked a human about before its run ended without being parked.
    pub(crate) async fn ask_about_effect(&self, task: &Task, ordinal: u32) -> Approval {
        let cx = self.scheduler.context(operator());
        let asked = Approval::about_task(ApprovalKind::Effect, task, "Publish?", "It is gated.", json!({}), &cx);
        let effect = Effect {
            id: EffectId::new(cx.ids),
            key: EffectKey {
                lineage: task.lineage,
                ordinal,
                tool: "social/publish_post".to_owned(),
                arguments_hash: Digest::of_json(&json!({})),
            },
            campaign: task.campaign,
            task: task.id,
            attempt: task.attempt,
            epoch: task.epoch,
            arguments: json!({}),
            state: EffectState::Gated,
            sent_key: SentKey::default(),
            answer: None,
            approval: Some(asked.id),
            created_at: cx.now,
            updated_at: cx.now,
        };
        let asked = Approval { effect: Some(effect.id), ..asked };
        self.write(vec![Write::PutEffect(effect), Write::PutApproval(asked.clone())]).await;
        asked
    }

    pub(crate) async fn answer(&self, approval: &Approval, decision: HumanDecision, edited: Option<Value>) {
        let answer = Answer { decision, edited, note: None };
        self.hitl.decide(approval.id, answer, operator()).await.expect("decided");
        self.settle().await;
    }
}
