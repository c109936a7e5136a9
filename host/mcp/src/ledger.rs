//! The ledger of one run: what becomes of each effect that the run asks for.
//!
//! [`decide`] is the whole rule, as a pure function over the rows of the lineage; the rest commits what it says, guarded
//! by lease, attempt and the row's state, so that two attempts can never both send. It sends nothing itself. Called by
//! the run's port, before and after every send.

use chimera_core::approval::{Approval, ApprovalKind, ApprovalState};
use chimera_core::audit::{Actor, AuditDraft, ReviewStatus};
use chimera_core::change::{Change, Committed, Context, Guard, Write};
use chimera_core::clock::Clock;
use chimera_core::digest::Digest;
use chimera_core::effect::{Effect, EffectKey, EffectState, Matched, SentKey, match_call};
use chimera_core::failpoint;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::grant::ToolMode;
use chimera_core::ids::{ApprovalId, EffectId, IdSource, LeaseId};
use chimera_core::ports::{HostError, Invocation, PortError, ToolAnswer, ToolCall, Truth};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a decision is made anew because its change was stale.
pub(crate) const MAX_ROUNDS: u32 = 6;
/// How often an outcome is committed again when the store is unavailable: it is known only here.
const OUTCOME_TRIES: u32 = 4;

/// Where an effect's row is, as a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// There is none.
    Absent,
    /// This one, in this state.
    Row(EffectId, EffectState),
}

/// What is to be done with a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// It was done: this is the recorded answer.
    Answer(ToolAnswer),
    /// A human refused it.
    Refused,
    /// A human has been asked.
    Wait(ApprovalId),
    /// Write the intent and send; a human's arguments and approval, if one was asked.
    Send(Place, Option<(Value, ApprovalId)>),
    /// Ask a human first.
    Gate(Place),
    /// Ask a human: these happened, or may have, and the run has not asked for them again.
    AskAboutDivergence(Place, Vec<Effect>),
    /// It was begun and its outcome is not known.
    Unfinished(Box<Effect>),
}

/// The rule. `approval` is the one that the call's own row names.
pub(crate) fn decide(
    earlier: &[Effect],
    consumed: &BTreeSet<EffectId>,
    key: &EffectKey,
    mode: ToolMode,
    approval: Option<&Approval>,
) -> Decision {
    let effect = match match_call(earlier, consumed, key) {
        Matched::New => return fresh(Place::Absent, mode),
        Matched::Diverged(_) => return Decision::AskAboutDivergence(Place::Absent, unclaimed(earlier, consumed, key)),
        Matched::Same(effect) => effect,
    };
    let place = Place::Row(effect.id, effect.state);
    match (effect.state, approval) {
        (EffectState::Refused, _) => Decision::Refused,
        (EffectState::Done, _) => match &effect.answer {
            Some(answer) => Decision::Answer(answer.clone()),
            None => Decision::Unfinished(Box::new(effect.clone())),
        },
        (EffectState::Intent, Some(asked))
            if asked.kind == ApprovalKind::UnknownEffect && is(asked, ApprovalState::Open) =>
        {
            Decision::Wait(asked.id)
        }
        (EffectState::Intent, _) => Decision::Unfinished(Box::new(effect.clone())),
        (EffectState::Gated, Some(asked)) if is(asked, ApprovalState::Open) => Decision::Wait(asked.id),
        (EffectState::Gated | EffectState::NotDone, Some(asked)) if is(asked, ApprovalState::Rejected) => {
            Decision::Refused
        }
        (EffectState::Gated | EffectState::NotDone, asked) => {
            let unclaimed = unclaimed(earlier, consumed, key);
            match asked {
                // Nothing was sent since the human said yes, so the yes still stands, for what the human was shown.
                Some(asked) if is(asked, ApprovalState::Approved) && knew_of(asked, &unclaimed) => {
                    Decision::Send(place, Some((effect.arguments.clone(), asked.id)))
                }
                _ if !unclaimed.is_empty() => Decision::AskAboutDivergence(place, unclaimed),
                _ => fresh(place, mode),
            }
        }
    }
}

fn fresh(place: Place, mode: ToolMode) -> Decision {
    match mode {
        ToolMode::Effect => Decision::Send(place, None),
        ToolMode::EffectWithApproval | ToolMode::Read => Decision::Gate(place),
    }
}

fn is(approval: &Approval, state: ApprovalState) -> bool {
    approval.state == state
}

/// The other effects that happened, or may have, and that this run has not asked for again.
fn unclaimed(earlier: &[Effect], consumed: &BTreeSet<EffectId>, key: &EffectKey) -> Vec<Effect> {
    let others: Vec<Effect> = earlier.iter().filter(|effect| effect.key != *key).cloned().collect();
    let mut seen = consumed.clone();
    let mut found = Vec::new();
    while let Matched::Diverged(effect) = match_call(&others, &seen, key) {
        seen.insert(effect.id);
        found.push(effect.clone());
    }
    found
}

/// Was the human told of all of these when they were asked?
fn knew_of(approval: &Approval, unclaimed: &[Effect]) -> bool {
    let told: BTreeSet<&str> = approval
        .payload
        .get("earlier")
        .and_then(Value::as_array)
        .map(|earlier| earlier.iter().filter_map(|item| item.get("effect")?.as_str()).collect())
        .unwrap_or_default();
    unclaimed.iter().all(|effect| told.contains(effect.id.to_string().as_str()))
}

/// A call on its way through the ledger.
pub(crate) struct Wanted<'c> {
    pub(crate) call: &'c ToolCall,
    pub(crate) server: &'c str,
    pub(crate) key: EffectKey,
    pub(crate) lease: LeaseId,
}

/// What came of a commit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Passed<T> {
    /// It is durable.
    Done(T),
    /// The rows have changed meanwhile: decide anew.
    Again,
}

impl<T> Passed<T> {
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Passed<U> {
        match self {
            Self::Done(value) => Passed::Done(make(value)),
            Self::Again => Passed::Again,
        }
    }
}

/// What came of a send.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The tool answered.
    Done(ToolAnswer),
    /// This send did certainly nothing.
    NotDone,
}

/// An effect whose intent is durable: it may be sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Begun {
    pub(crate) effect: Effect,
    origin: Origin,
}

impl Begun {
    /// Is this the first send of it?
    pub(crate) fn is_first(&self) -> bool {
        self.origin == Origin::Here
    }
}

/// Who wrote the intent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This attempt: nothing was sent before it.
    Here,
    /// An earlier one, which may have sent it.
    Earlier,
}

/// The ledger of one run.
pub(crate) struct Ledger {
    truth: Arc<dyn Truth>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    run: Arc<Invocation>,
    rows: tokio::sync::Mutex<Option<Vec<Effect>>>,
    consumed: Mutex<BTreeSet<EffectId>>,
    replayed: Mutex<Vec<(u32, String, Digest)>>,
}

impl Ledger {
    pub(crate) fn new(
        truth: Arc<dyn Truth>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        run: Arc<Invocation>,
    ) -> Self {
        Self {
            truth,
            clock,
            ids,
            run,
            rows: Default::default(),
            consumed: Default::default(),
            replayed: Default::default(),
        }
    }

    /// What names the effect that a call would be.
    pub(crate) fn key(&self, call: &ToolCall, server: &str) -> EffectKey {
        EffectKey {
            lineage: self.run.lineage,
            ordinal: call.ordinal,
            tool: format!("{server}/{}", call.tool),
            arguments_hash: Digest::of_json(&call.arguments),
        }
    }

    /// The journal answered this call. The rows need not be there yet, so this cannot fail.
    pub(crate) fn replayed(&self, call: &ToolCall) {
        let mark = (call.ordinal, call.tool.clone(), Digest::of_json(&call.arguments));
        self.replayed.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }

    /// What is to be done with a call, by what is in the ledger now. The call's own row counts as asked for again.
    pub(crate) async fn consult(&self, wanted: &Wanted<'_>, mode: ToolMode) -> Result<Decision, HostError> {
        let mut rows = self.rows.lock().await;
        if rows.is_none() {
            *rows = Some(self.truth.effects(self.run.lineage).await?);
        }
        let earlier = rows.as_deref().unwrap_or_default();
        let own = earlier.iter().find(|effect| effect.key == wanted.key);
        let approval = match own.and_then(|effect| effect.approval) {
            // The question of another task of the step wakes only that one, so this run asks one of its own instead.
            Some(id) => self.truth.approval(id).await?.filter(|asked| !self.is_foreign(asked)),
            None => None,
        };
        let consumed = self.consumed(earlier, own);
        let decision = decide(earlier, &consumed, &wanted.key, mode, approval.as_ref());
        match own.filter(|own| self.is_stale_error(own)) {
            Some(own) if matches!(decision, Decision::Answer(_)) => {
                let (place, unclaimed) = (Place::Row(own.id, own.state), unclaimed(earlier, &consumed, &wanted.key));
                Ok(if unclaimed.is_empty() {
                    Decision::Gate(place)
                } else {
                    Decision::AskAboutDivergence(place, unclaimed)
                })
            }
            _ => Ok(decision),
        }
    }

    /// Did a server answer with an error, in a run that this one is no replay of? That answer would fail every later run
    /// of the step in the same way, however long ago the trouble was; a human may let the call be sent again.
    fn is_stale_error(&self, effect: &Effect) -> bool {
        let answered_here = effect.task == self.run.task && effect.epoch == self.run.epoch;
        !answered_here && effect.state == EffectState::Done && effect.answer.as_ref().is_some_and(|told| told.is_error)
    }

    fn is_foreign(&self, asked: &Approval) -> bool {
        is(asked, ApprovalState::Open) && asked.task.is_some_and(|task| task != self.run.task)
    }

    fn consumed(&self, earlier: &[Effect], own: Option<&Effect>) -> BTreeSet<EffectId> {
        let mut consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        let replayed = std::mem::take(&mut *self.replayed.lock().unwrap_or_else(PoisonError::into_inner));
        // Nobody knows yet what became of an intent, so asking for it claims it only once it is taken over or asked about.
        let is_settled = |effect: &&Effect| effect.state != EffectState::Intent;
        for (ordinal, tool, hash) in replayed {
            let is_it = |effect: &&Effect| {
                let name = effect.key.tool.split_once('/').map(|(_, name)| name);
                effect.key.ordinal == ordinal && effect.key.arguments_hash == hash && name == Some(&tool)
            };
            consumed.extend(earlier.iter().filter(is_it).filter(is_settled).map(|effect| effect.id));
        }
        consumed.extend(own.filter(is_settled).map(|effect| effect.id));
        consumed.clone()
    }

    /// Writes the intent: after this, the effect counts as sent until an outcome says otherwise.
    pub(crate) async fn intend(
        &self,
        wanted: &Wanted<'_>,
        place: Place,
        allowed: Option<(Value, ApprovalId)>,
        sent_key: SentKey,
    ) -> Result<Passed<Begun>, HostError> {
        let (arguments, approval) = match allowed {
            Some((arguments, approval)) => (arguments, Some(approval)),
            None => (wanted.call.arguments.clone(), None),
        };
        let mut effect = self.row(wanted, place, EffectState::Intent).await?;
        (effect.arguments, effect.approval, effect.sent_key) = (arguments, approval, sent_key);
        let mut change = self.guarded(wanted, place);
        change.audit(self.event("effect.intent", ReviewStatus::None, wanted, &effect));
        change.write(Write::PutEffect(effect.clone()));
        failpoint::hit("mcp.before_intent");
        let passed = self.commit(change, effect).await?;
        failpoint::hit("mcp.after_intent");
        Ok(passed.map(|effect| Begun { effect, origin: Origin::Here }))
    }

    /// Takes over an effect that an earlier attempt began, to send it again with the same key.
    pub(crate) async fn take_over(&self, wanted: &Wanted<'_>, effect: &Effect) -> Result<Passed<Begun>, HostError> {
        let place = Place::Row(effect.id, EffectState::Intent);
        let again = Effect {
            attempt: self.run.attempt,
            epoch: self.run.epoch,
            task: self.run.task,
            updated_at: self.clock.now(),
            ..effect.clone()
        };
        let mut change = self.guarded(wanted, place);
        change.audit(self.event("effect.resent", ReviewStatus::None, wanted, &again));
        change.write(Write::PutEffect(again.clone()));
        failpoint::hit("mcp.before_intent");
        let passed = self.commit(change, again).await?;
        failpoint::hit("mcp.after_intent");
        Ok(passed.map(|effect| Begun { effect, origin: Origin::Earlier }))
    }

    /// Asks a human whether the call may be sent, or sent again after an error.
    pub(crate) async fn gate(&self, wanted: &Wanted<'_>, place: Place) -> Result<Passed<ApprovalId>, HostError> {
        let error = self.known(place).await.and_then(|row| row.answer).filter(|told| told.is_error);
        let (reason, payload) = match &error {
            None => ("The call changes the outside world, and its grant asks a human first.", json!({})),
            Some(told) => (
                "The server answered this call with an error before, and nobody knows whether it did something all \
                 the same; approve to send it again.",
                json!({ "earlier_answer": told }),
            ),
        };
        let reason = reason.to_owned();
        self.ask_before_sending(wanted, place, self.gating(wanted, reason, payload)).await
    }

    fn gating(&self, wanted: &Wanted<'_>, reason: String, payload: Value) -> Question {
        Question {
            kind: ApprovalKind::Effect,
            title: format!("Let `{}` call {}.{}?", self.run.skill.name, wanted.server, wanted.call.tool),
            reason,
            payload,
            action: "effect.gated",
        }
    }

    /// Asks again, because what a human wrote cannot be sent: the question is about what the guest wrote once more.
    pub(crate) async fn gate_again(
        &self,
        wanted: &Wanted<'_>,
        place: Place,
        problem: &str,
    ) -> Result<Passed<ApprovalId>, HostError> {
        let reason = format!("What was approved could not be sent, as {problem}. These are the skill's own arguments.");
        self.ask_before_sending(wanted, place, self.gating(wanted, reason, json!({}))).await
    }

    /// Asks a human whether the call may be sent although the run took another turn than one before it.
    pub(crate) async fn ask_about_divergence(
        &self,
        wanted: &Wanted<'_>,
        place: Place,
        earlier: &[Effect],
    ) -> Result<Passed<ApprovalId>, HostError> {
        let told: Vec<Value> = earlier
            .iter()
            .map(|effect| {
                json!({
                    "effect": effect.id, "tool": effect.key.tool, "arguments": effect.arguments,
                    "state": effect.state, "answer": effect.answer, "at": effect.updated_at,
                })
            })
            .collect();
        let question = Question {
            kind: ApprovalKind::Divergence,
            title: format!("Let `{}` call {}.{} as well?", self.run.skill.name, wanted.server, wanted.call.tool),
            reason: format!(
                "An earlier run of this step did, or may have done, {} that this run has not asked for; sending this \
                 call could do the same thing twice.",
                if told.len() == 1 { "something".to_owned() } else { format!("{} things", told.len()) }
            ),
            payload: json!({ "earlier": told }),
            action: "effect.diverged",
        };
        self.ask_before_sending(wanted, place, question).await
    }

    async fn ask_before_sending(
        &self,
        wanted: &Wanted<'_>,
        place: Place,
        question: Question,
    ) -> Result<Passed<ApprovalId>, HostError> {
        let mut effect = self.row(wanted, place, EffectState::Gated).await?;
        effect.arguments = wanted.call.arguments.clone();
        self.ask(wanted, place, effect, question).await
    }

    /// Asks a human what became of an effect that was begun.
    pub(crate) async fn ask_what_happened(
        &self,
        wanted: &Wanted<'_>,
        effect: &Effect,
    ) -> Result<Passed<ApprovalId>, HostError> {
        let question = Question {
            kind: ApprovalKind::UnknownEffect,
            title: format!("Did {}.{} happen?", wanted.server, wanted.call.tool),
            reason:
                "The call was about to be sent, or was sent, and no answer is known; the server takes no key by which \
                     it would recognise the call, so it is not sent again without a human's word."
                    .to_owned(),
            payload: json!({ "sent_at": effect.updated_at, "attempt": effect.attempt }),
            action: "effect.unknown",
        };
        let place = Place::Row(effect.id, EffectState::Intent);
        self.ask(wanted, place, Effect { updated_at: self.clock.now(), ..effect.clone() }, question).await
    }

    async fn ask(
        &self,
        wanted: &Wanted<'_>,
        place: Place,
        mut effect: Effect,
        question: Question,
    ) -> Result<Passed<ApprovalId>, HostError> {
        let mut payload = json!({
            "server": wanted.server, "slot": wanted.call.slot, "tool": wanted.call.tool, "arguments": effect.arguments,
        });
        if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), question.payload) {
            payload.extend(more);
        }
        let cx = Context { now: self.clock.now(), ids: &*self.ids, actor: self.actor(), chance: 0.0 };
        let approval = Approval {
            campaign: self.run.campaign,
            task: Some(self.run.task),
            effect: Some(effect.id),
            ..Approval::open(question.kind, question.title, question.reason, payload, &cx)
        };
        let id = approval.id;
        effect.approval = Some(id);
        let mut change = self.guarded(wanted, place);
        if let Some(other) = self.foreign_question(place).await? {
            change.guard(Guard::ApprovalOpen(other.id));
            change.write(Write::PutApproval(Approval {
                state: ApprovalState::Cancelled,
                decided_by: Some(cx.actor.clone()),
                decided_at: Some(cx.now),
                note: Some("another task of the step asks again".to_owned()),
                ..other
            }));
        }
        change.audit(self.event(question.action, ReviewStatus::Pending, wanted, &effect));
        change.write(Write::PutEffect(effect.clone()));
        change.write(Write::PutApproval(approval));
        Ok(self.commit(change, effect).await?.map(|_| id))
    }

    /// The row at a place, as it was read last.
    async fn known(&self, place: Place) -> Option<Effect> {
        let Place::Row(id, _) = place else { return None };
        self.rows.lock().await.as_ref()?.iter().find(|row| row.id == id).cloned()
    }

    /// The open question about the effect that another task of the step left: two at once would confuse the human.
    async fn foreign_question(&self, place: Place) -> Result<Option<Approval>, HostError> {
        let Some(id) = self.known(place).await.and_then(|row| row.approval) else { return Ok(None) };
        Ok(self.truth.approval(id).await?.filter(|asked| self.is_foreign(asked)))
    }

    /// Records what came of a send.
    ///
    /// That it was done is a fact whoever reports it: no lease is needed, and it corrects whatever was written meanwhile
    /// but an answer. That this send did nothing says nothing of the sends of other attempts, so it is recorded only
    /// while nobody else can have sent: by the attempt that wrote the intent first, under its lease.
    ///
    /// # Errors
    /// The store's, after a few tries; the effect stays an intent then.
    pub(crate) async fn settle(&self, wanted: &Wanted<'_>, begun: &Begun, outcome: &Outcome) -> Result<(), PortError> {
        let (mut from, mut tries) = (EffectState::Intent, 0);
        loop {
            let change = match outcome {
                Outcome::NotDone if begun.origin == Origin::Earlier => return Ok(()),
                _ => self.settled(wanted, &begun.effect, from, outcome),
            };
            match self.truth.commit(change).await {
                Ok(committed) => {
                    self.remember(None).await;
                    match (committed, outcome) {
                        (Committed::Applied, _) | (Committed::Stale(_), Outcome::NotDone) => return Ok(()),
                        (Committed::Stale(_), Outcome::Done(_)) => match self.truth.effect(begun.effect.id).await? {
                            Some(now) if now.state != EffectState::Done && tries < MAX_ROUNDS => from = now.state,
                            _ => return Ok(()),
                        },
                    }
                }
                Err(error) if tries >= OUTCOME_TRIES => return Err(error),
                Err(error) => {
                    tracing::warn!(effect = %begun.effect.id, %error, "an outcome could not be recorded; trying again");
                    tokio::time::sleep(Duration::from_millis(50) * 2_u32.pow(tries)).await;
                }
            }
            tries += 1;
        }
    }

    fn settled(&self, wanted: &Wanted<'_>, effect: &Effect, from: EffectState, outcome: &Outcome) -> Change {
        let mut change = Change::new();
        let (state, answer, action) = match outcome {
            Outcome::Done(answer) => (EffectState::Done, Some(answer.clone()), "effect.done"),
            Outcome::NotDone => {
                change.guard(Guard::LeaseCurrent(self.run.task, wanted.lease, self.run.attempt));
                (EffectState::NotDone, None, "effect.not_done")
            }
        };
        let settled = Effect { state, answer, updated_at: self.clock.now(), ..effect.clone() };
        change.guard(Guard::EffectIs(effect.id, from));
        change.audit(self.event(action, ReviewStatus::None, wanted, &settled));
        change.write(Write::PutEffect(settled));
        change
    }

    /// The row to be written: the one at its place, or a new one.
    async fn row(&self, wanted: &Wanted<'_>, place: Place, state: EffectState) -> Result<Effect, HostError> {
        let now = self.clock.now();
        let mut effect = Effect {
            id: EffectId::new(&*self.ids),
            key: wanted.key.clone(),
            campaign: self.run.campaign,
            task: self.run.task,
            attempt: self.run.attempt,
            epoch: self.run.epoch,
            arguments: Value::Null,
            state,
            sent_key: SentKey::NotSent,
            answer: None,
            approval: None,
            created_at: now,
            updated_at: now,
        };
        if let Place::Row(id, _) = place {
            effect.id = id;
            effect.created_at = self.known(place).await.map_or(now, |own| own.created_at);
        }
        Ok(effect)
    }

    fn guarded(&self, wanted: &Wanted<'_>, place: Place) -> Change {
        let mut change = Change::new();
        change.guard(Guard::LeaseCurrent(self.run.task, wanted.lease, self.run.attempt));
        change.guard(match place {
            Place::Absent => Guard::EffectAbsent(wanted.key.clone()),
            Place::Row(id, state) => Guard::EffectIs(id, state),
        });
        change
    }

    async fn commit(&self, change: Change, effect: Effect) -> Result<Passed<Effect>, HostError> {
        match self.truth.commit(change).await? {
            Committed::Applied => {
                self.consumed.lock().unwrap_or_else(PoisonError::into_inner).insert(effect.id);
                self.remember(Some(effect.clone())).await;
                Ok(Passed::Done(effect))
            }
            Committed::Stale(Guard::LeaseCurrent(..)) => Err(lease_lost().into()),
            Committed::Stale(_) => {
                self.remember(None).await;
                Ok(Passed::Again)
            }
        }
    }

    /// Keeps the row that was written, or forgets all so that they are read again.
    async fn remember(&self, written: Option<Effect>) {
        let mut rows = self.rows.lock().await;
        match (written, rows.as_mut()) {
            (Some(effect), Some(known)) => match known.iter_mut().find(|row| row.id == effect.id) {
                Some(row) => *row = effect,
                None => known.push(effect),
            },
            _ => *rows = None,
        }
    }

    fn actor(&self) -> Actor {
        Actor::Worker(self.run.agent)
    }

    /// An event of the audit log; it names the arguments by their hash only.
    fn event(&self, action: &'static str, review: ReviewStatus, wanted: &Wanted<'_>, effect: &Effect) -> AuditDraft {
        let detail = json!({
            "effect": effect.id, "server": wanted.server, "slot": wanted.call.slot, "tool": wanted.call.tool,
            "ordinal": wanted.key.ordinal, "arguments_hash": Digest::of_json(&effect.arguments),
            "attempt": self.run.attempt, "approval": effect.approval,
            "is_error": effect.answer.as_ref().map(|answer| answer.is_error),
        });
        AuditDraft::new(action, self.actor(), self.clock.now())
            .about(self.run.campaign, Some(self.run.task))
            .review(review)
            .detail(detail)
    }
}

struct Question {
    kind: ApprovalKind,
    title: String,
    reason: String,
    payload: Value,
    action: &'static str,
}

/// Another attempt holds the task.
pub(crate) fn lease_lost() -> Failure {
    Failure::new(
        FailureKind::Transient,
        crate::codes::LEASE_LOST,
        "another attempt holds the task now; nothing was sent",
    )
}

/// A human said no.
pub(crate) fn refused(wanted: &Wanted<'_>) -> Failure {
    let message = format!("a human refused the call of `{}` on slot `{}`", wanted.call.tool, wanted.call.slot);
    Failure::new(FailureKind::Denied, codes::REFUSED, message)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
