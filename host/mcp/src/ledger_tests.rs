//! The ledger under random attempts, crashes, late outcomes and humans: nothing happens twice unasked.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use super::*;
use async_trait::async_trait;
use chimera_core::approval::{Answer, HumanDecision};
use chimera_core::clock::{ManualClock, Timestamp};
use chimera_core::ids::{AgentId, LineageId, SequentialIds, TaskId};
use chimera_core::machine::settle_effect;
use chimera_core::manifest::Manifest;
use chimera_core::ports::*;
use chimera_core::skill::SkillRef;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Effects, approvals and the current lease, with the guards that matter here.
#[derive(Default)]
struct Rows {
    effects: Vec<Effect>,
    approvals: BTreeMap<ApprovalId, Approval>,
    lease: Option<(LeaseId, u32)>,
}

#[derive(Default)]
struct MemoryTruth(Mutex<Rows>);

impl Rows {
    fn holds(&self, guard: &Guard) -> bool {
        match guard {
            Guard::LeaseCurrent(_, lease, attempt) => self.lease == Some((*lease, *attempt)),
            Guard::EffectIs(id, state) => self.effects.iter().any(|row| row.id == *id && row.state == *state),
            Guard::EffectAbsent(key) => self.effects.iter().all(|row| row.key != *key),
            Guard::ApprovalOpen(id) => {
                self.approvals.get(id).is_some_and(|approval| approval.state == ApprovalState::Open)
            }
            other => panic!("the ledger has no use for {other:?}"),
        }
    }

    fn put(&mut self, effect: Effect) {
        match self.effects.iter_mut().find(|row| row.id == effect.id) {
            Some(row) => *row = effect,
            None => self.effects.push(effect),
        }
    }
}

#[async_trait]
impl Truth for MemoryTruth {
    async fn commit(&self, change: Change) -> Result<Committed, PortError> {
        let mut rows = self.0.lock().unwrap();
        if let Some(stale) = change.guards.iter().find(|guard| !rows.holds(guard)) {
            return Ok(Committed::Stale(stale.clone()));
        }
        for write in change.writes {
            match write {
                Write::PutEffect(effect) => rows.put(effect),
                Write::PutApproval(approval) => _ = rows.approvals.insert(approval.id, approval),
                other => panic!("the ledger has no use for {other:?}"),
            }
        }
        Ok(Committed::Applied)
    }
    async fn approval(&self, id: ApprovalId) -> Result<Option<Approval>, PortError> {
        Ok(self.0.lock().unwrap().approvals.get(&id).cloned())
    }
    async fn effects(&self, _: LineageId) -> Result<Vec<Effect>, PortError> {
        Ok(self.0.lock().unwrap().effects.clone())
    }
    async fn effect(&self, id: EffectId) -> Result<Option<Effect>, PortError> {
        Ok(self.0.lock().unwrap().effects.iter().find(|row| row.id == id).cloned())
    }

    fn subscribe(&self) -> listen::Receiver {
        unused()
    }
    fn tell(&self, _: Notice) {}
    async fn campaign(
        &self,
        _: chimera_core::ids::CampaignId,
    ) -> Result<Option<chimera_core::campaign::Campaign>, PortError> {
        unused()
    }
    async fn campaign_view(
        &self,
        _: chimera_core::ids::CampaignId,
    ) -> Result<Option<chimera_core::campaign::CampaignView>, PortError> {
        unused()
    }
    async fn campaigns(
        &self,
        _: &[chimera_core::campaign::CampaignState],
    ) -> Result<Vec<chimera_core::campaign::Campaign>, PortError> {
        unused()
    }
    async fn task(&self, _: TaskId) -> Result<Option<chimera_core::task::Task>, PortError> {
        unused()
    }
    async fn tasks(&self, _: &TaskFilter) -> Result<Vec<chimera_core::task::Task>, PortError> {
        unused()
    }
    async fn queued(&self, _: Option<&WaitingTask>, _: u32) -> Result<Vec<WaitingTask>, PortError> {
        unused()
    }
    async fn spec(&self, _: chimera_core::ids::SpecId) -> Result<Option<chimera_core::task::TaskSpec>, PortError> {
        unused()
    }
    async fn expired_leases(&self, _: Timestamp, _: u32) -> Result<Vec<chimera_core::task::Task>, PortError> {
        unused()
    }
    async fn due_retries(&self, _: Timestamp, _: u32) -> Result<Vec<chimera_core::task::Task>, PortError> {
        unused()
    }
    async fn approvals(&self, _: &ApprovalFilter) -> Result<Vec<Approval>, PortError> {
        unused()
    }
    async fn grants(
        &self,
        _: Option<&chimera_core::skill::SkillName>,
    ) -> Result<Vec<chimera_core::grant::Grant>, PortError> {
        unused()
    }
    async fn grant(&self, _: chimera_core::ids::GrantId) -> Result<Option<chimera_core::grant::Grant>, PortError> {
        unused()
    }
    async fn journal(&self, _: TaskId, _: u32) -> Result<Vec<chimera_core::journal::JournalEntry>, PortError> {
        unused()
    }
    async fn claim_outbox(
        &self,
        _: chimera_core::change::OutboxTopic,
        _: Timestamp,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<chimera_core::change::Outbox>, PortError> {
        unused()
    }
    async fn release_outbox_claims(&self) -> Result<(), PortError> {
        unused()
    }
    async fn routes(
        &self,
        _: Option<&chimera_core::skill::SkillName>,
    ) -> Result<Vec<chimera_core::route::Route>, PortError> {
        unused()
    }
    async fn skills(
        &self,
        _: Option<&chimera_core::skill::SkillName>,
    ) -> Result<Vec<chimera_core::skill::SkillVersion>, PortError> {
        unused()
    }
    async fn agents(&self) -> Result<Vec<chimera_core::records::Agent>, PortError> {
        unused()
    }
    async fn tokens(&self) -> Result<Vec<chimera_core::records::ApiToken>, PortError> {
        unused()
    }
    async fn audit(
        &self,
        _: Option<chimera_core::ids::CampaignId>,
        _: u64,
        _: u32,
    ) -> Result<Vec<chimera_core::audit::AuditEvent>, PortError> {
        unused()
    }
    async fn audit_of(
        &self,
        _: Option<chimera_core::ids::CampaignId>,
        _: TaskId,
        _: u32,
    ) -> Result<Vec<chimera_core::audit::AuditEvent>, PortError> {
        unused()
    }
    async fn audit_chains(&self) -> Result<Vec<Option<chimera_core::ids::CampaignId>>, PortError> {
        unused()
    }
    async fn audit_head(
        &self,
        _: Option<chimera_core::ids::CampaignId>,
    ) -> Result<Option<chimera_core::audit::Head>, PortError> {
        unused()
    }
    async fn memory(&self, _: Option<AgentId>) -> Result<Vec<chimera_core::records::MemoryItem>, PortError> {
        unused()
    }
    async fn scratch(
        &self,
        _: AgentId,
        _: &str,
        _: Timestamp,
    ) -> Result<Option<chimera_core::records::ScratchItem>, PortError> {
        unused()
    }
    async fn top_trends(&self, _: Timestamp, _: u32) -> Result<Vec<chimera_core::records::TrendTop>, PortError> {
        unused()
    }
}

fn unused<T>() -> T {
    panic!("the ledger does not read this")
}

/// Where an attempt dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    Never,
    /// After the intent, before the send.
    BeforeSend,
    /// After the send, before the outcome.
    BeforeOutcome,
    /// As before, but the outcome comes in once the next attempts have run.
    LateOutcome,
    /// The server could not be reached: certainly not sent.
    NotSent,
    /// As before, but this comes in once the next attempts have run.
    LateNotSent,
}

/// One step of the world.
#[derive(Debug, Clone)]
enum Step {
    /// An attempt asks for these texts, one effect each, and dies where it says at the call it says.
    Attempt { texts: Vec<u8>, crash: Crash, at: usize },
    /// A human answers the oldest open question.
    Human(HumanDecision),
    /// An outcome that was late comes in.
    Arrive,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let crash = prop_oneof![
        3 => Just(Crash::Never),
        2 => Just(Crash::BeforeSend),
        2 => Just(Crash::BeforeOutcome),
        1 => Just(Crash::LateOutcome),
        1 => Just(Crash::NotSent),
        1 => Just(Crash::LateNotSent),
    ];
    let attempt = (prop::collection::vec(0_u8..3, 1..4), crash, 0_usize..3)
        .prop_map(|(texts, crash, at)| Step::Attempt { texts, crash, at });
    let human = prop_oneof![
        4 => Just(HumanDecision::Approve),
        1 => Just(HumanDecision::Reject),
        1 => Just(HumanDecision::Retry),
    ];
    prop::collection::vec(prop_oneof![5 => attempt, 3 => human.prop_map(Step::Human), 1 => Just(Step::Arrive)], 1..25)
}

/// The server of the test: what it was sent, and whether it recognises keys.
struct Sends {
    /// Every request that reached the server.
    keys: Vec<EffectKey>,
    /// A human's yes to a call, by its key: each allows one request.
    yes: BTreeMap<String, usize>,
}

/// An outcome that has not come in yet.
struct Late {
    ledger: Ledger,
    call: ToolCall,
    key: EffectKey,
    lease: LeaseId,
    begun: Begun,
    outcome: Outcome,
}

struct Play {
    truth: Arc<MemoryTruth>,
    ids: Arc<SequentialIds>,
    lineage: LineageId,
    mode: ToolMode,
    keyed: bool,
    sends: Sends,
    late: Vec<Late>,
    attempt: u32,
}

impl Play {
    fn new(mode: ToolMode, keyed: bool) -> Self {
        let ids = Arc::new(SequentialIds::default());
        let lineage = LineageId::new(&*ids);
        let sends = Sends { keys: Vec::new(), yes: BTreeMap::new() };
        Self { truth: Arc::default(), ids, lineage, mode, keyed, sends, late: Vec::new(), attempt: 0 }
    }

    fn ledger(&mut self) -> (Ledger, LeaseId) {
        self.attempt += 1;
        let lease = LeaseId::new(&*self.ids);
        self.truth.0.lock().unwrap().lease = Some((lease, self.attempt));
        let manifest = Manifest::from_value(json!({
            "manifest": 1, "io": { "input": {}, "output": {} },
            "skill": { "name": "a/b", "version": "0.1.0", "summary": "s", "license": "MIT", "effects": "write" },
        }));
        let manifest = Arc::new(manifest.unwrap());
        let run = Invocation {
            task: TaskId::new(&*self.ids),
            campaign: None,
            lineage: self.lineage,
            lease: Some(lease),
            attempt: self.attempt,
            epoch: 0,
            agent: AgentId::new(&*self.ids),
            skill: SkillRef {
                name: "a/b".parse().unwrap(),
                version: semver::Version::new(0, 1, 0),
                digest: Digest::of(b""),
            },
            manifest,
        };
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        (Ledger::new(self.truth.clone(), clock, self.ids.clone(), Arc::new(run)), lease)
    }

    async fn attempt(&mut self, texts: &[u8], crash: Crash, at: usize) {
        let (ledger, lease) = self.ledger();
        let mut asked = Vec::new();
        for (ordinal, text) in texts.iter().enumerate() {
            let call = ToolCall {
                ordinal: u32::try_from(ordinal).unwrap(),
                slot: "s".to_owned(),
                tool: "publish".to_owned(),
                arguments: json!({ "text": text }),
            };
            let key = ledger.key(&call, "server");
            asked.push(key.clone());
            let wanted = Wanted { call: &call, server: "server", key: key.clone(), lease };
            let begun = match ledger.consult(&wanted, self.mode).await.unwrap() {
                Decision::Answer(_) => continue,
                Decision::Refused | Decision::Wait(_) => return,
                Decision::Gate(place) => {
                    ledger.gate(&wanted, place).await.unwrap();
                    return;
                }
                Decision::AskAboutDivergence(place, earlier) => {
                    ledger.ask_about_divergence(&wanted, place, &earlier).await.unwrap();
                    return;
                }
                Decision::Unfinished(effect) if self.keyed => ledger.take_over(&wanted, &effect).await.unwrap(),
                Decision::Unfinished(effect) => {
                    ledger.ask_what_happened(&wanted, &effect).await.unwrap();
                    return;
                }
                Decision::Send(place, allowed) => {
                    let is_allowed = allowed.is_some();
                    let sent_key = if self.keyed { SentKey::Sent } else { SentKey::NotSent };
                    let passed = ledger.intend(&wanted, place, allowed, sent_key).await.unwrap();
                    self.check_turn(&asked, is_allowed);
                    passed
                }
            };
            let Passed::Done(begun) = begun else { panic!("nobody else writes at the same time") };
            let crash = if ordinal == at { crash } else { Crash::Never };
            if matches!(crash, Crash::Never | Crash::BeforeOutcome | Crash::LateOutcome) {
                self.sends.keys.push(key.clone());
            }
            match crash {
                Crash::Never => ledger.settle(&wanted, &begun, &answered()).await.unwrap(),
                Crash::BeforeSend | Crash::BeforeOutcome => return,
                Crash::NotSent => return ledger.settle(&wanted, &begun, &Outcome::NotDone).await.unwrap(),
                Crash::LateOutcome => {
                    return self.late.push(Late { ledger, call, key, lease, begun, outcome: answered() });
                }
                Crash::LateNotSent => {
                    return self.late.push(Late { ledger, call, key, lease, begun, outcome: Outcome::NotDone });
                }
            }
        }
    }

    /// What is sent without a human's word is sent only by a run that has asked again for all that was sent before
    /// (but for what a human said did not happen).
    fn check_turn(&self, asked: &[EffectKey], is_allowed: bool) {
        for sent in self.sends.keys.iter().filter(|sent| !self.sends.yes.contains_key(&sent.idempotency_key())) {
            assert!(is_allowed || asked.contains(sent), "sent without asking for {sent:?} again");
        }
    }

    fn human(&mut self, decision: HumanDecision) {
        let mut rows = self.truth.0.lock().unwrap();
        let open = rows.approvals.values().find(|approval| approval.state == ApprovalState::Open).cloned();
        let Some(approval) = open else { return };
        let ids: &dyn IdSource = &*self.ids;
        let cx = Context { now: Timestamp::EPOCH, ids, actor: Actor::Operator("ann".to_owned()), chance: 0.0 };
        let answer = Answer { decision, edited: None, note: None };
        rows.approvals.insert(approval.id, approval.decided(&answer, &cx));
        let effect = rows.effects.iter().find(|row| Some(row.id) == approval.effect).cloned().unwrap();
        if decision == HumanDecision::Approve {
            *self.sends.yes.entry(effect.key.idempotency_key()).or_default() += 1;
        }
        if let Some(settled) = settle_effect(effect, &approval, &answer, &cx) {
            rows.put(settled);
        }
    }

    async fn arrive(&mut self) {
        let Some(Late { ledger, call, key, lease, begun, outcome }) = self.late.pop() else { return };
        let wanted = Wanted { call: &call, server: "server", key, lease };
        ledger.settle(&wanted, &begun, &outcome).await.unwrap();
        let rows = self.truth.0.lock().unwrap();
        let row = rows.effects.iter().find(|row| row.id == begun.effect.id).unwrap();
        let has_happened = matches!(outcome, Outcome::Done(_));
        assert!(!has_happened || row.state == EffectState::Done, "what happened is never forgotten");
    }

    fn check_counts(&self) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for key in &self.sends.keys {
            *counts.entry(key.idempotency_key()).or_default() += 1;
        }
        for (key, count) in counts {
            let yes = self.sends.yes.get(&key).copied().unwrap_or(0);
            let most = match self.mode {
                // Every single request has a human's yes of its own.
                ToolMode::EffectWithApproval => yes,
                ToolMode::Effect | ToolMode::Read => yes + 1,
            };
            // A server that recognises keys does it once however often it is asked.
            let happened = if self.keyed { 1 } else { count };
            assert!(happened <= most.max(usize::from(self.keyed && most > 0)), "{count} requests, {yes} yeses");
        }
    }
}

fn answered() -> Outcome {
    Outcome::Done(ToolAnswer { text: "done".to_owned(), structured: None, is_error: false })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_happens_twice_unasked(
        steps in steps(),
        mode in prop_oneof![Just(ToolMode::Effect), Just(ToolMode::EffectWithApproval)],
        keyed in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new(mode, keyed);
            for step in steps {
                match step {
                    Step::Attempt { texts, crash, at } => play.attempt(&texts, crash, at).await,
                    Step::Human(decision) => play.human(decision),
                    Step::Arrive => play.arrive().await,
                }
                play.check_counts();
            }
        });
    }

    #[test]
    fn with_patience_and_a_willing_human_every_run_ends_with_each_effect_done_once(
        texts in prop::collection::vec(0_u8..3, 1..4),
        crashes in prop::collection::vec((prop_oneof![
            Just(Crash::BeforeSend), Just(Crash::BeforeOutcome), Just(Crash::NotSent), Just(Crash::LateNotSent),
        ], 0_usize..3), 0..4),
        mode in prop_oneof![Just(ToolMode::Effect), Just(ToolMode::EffectWithApproval)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new(mode, true);
            for (crash, at) in crashes {
                play.attempt(&texts, crash, at).await;
                play.human(HumanDecision::Approve);
            }
            for _ in 0..=texts.len() {
                play.attempt(&texts, Crash::Never, 0).await;
                play.human(HumanDecision::Approve);
            }
            let rows = play.truth.0.lock().unwrap();
            prop_assert_eq!(rows.effects.len(), texts.len());
            prop_assert!(rows.effects.iter().all(|row| row.state == EffectState::Done));
            Ok(())
        })?;
    }
}

#[test]
fn a_late_outcome_corrects_a_humans_guess_but_not_a_recorded_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut play = Play::new(ToolMode::Effect, false);
        play.attempt(&[1], Crash::LateOutcome, 0).await;
        play.attempt(&[1], Crash::Never, 0).await;
        play.human(HumanDecision::Approve);
        assert_eq!(
            play.truth.0.lock().unwrap().effects[0].state,
            EffectState::Gated,
            "it did not happen, says the human"
        );
        play.arrive().await;
        play.attempt(&[1], Crash::Never, 0).await;
        assert_eq!(play.sends.keys.len(), 1, "but it did");
    });
}

/// A guest that goes on although it cannot learn what became of its first call must not send the same thing under
/// another number.
#[test]
fn an_effect_that_may_have_happened_is_not_claimed_by_asking_for_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut play = Play::new(ToolMode::Effect, false);
        play.attempt(&[1], Crash::BeforeOutcome, 0).await;
        let (ledger, lease) = play.ledger();
        let mut decisions = Vec::new();
        for ordinal in [0, 1] {
            let arguments = json!({ "text": 1 });
            let call = ToolCall { ordinal, slot: "s".to_owned(), tool: "publish".to_owned(), arguments };
            let wanted = Wanted { call: &call, server: "server", key: ledger.key(&call, "server"), lease };
            decisions.push(ledger.consult(&wanted, ToolMode::Effect).await.unwrap());
        }
        assert!(matches!(decisions[0], Decision::Unfinished(_)), "{decisions:?}");
        assert!(matches!(decisions[1], Decision::AskAboutDivergence(..)), "{decisions:?}");
    });
}
