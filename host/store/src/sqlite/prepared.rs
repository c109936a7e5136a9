//! Changes with the texts of their rows, made on the threads of those who want them written: the one thread that writes has
//! enough to do with the rows themselves.
//!
//! What cannot be written as a text that can be read again is refused here, before anything is handed over. It knows no SQL.
//! Made by the store, taken by the writer.

use crate::rows::{PortResult, body, permanent, readable_again};
use chimera_core::audit::{AuditDraft, Unlinked};
use chimera_core::change::{Change, Durability, Guard, Write};

/// A change that is ready to be written.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) guards: Vec<Guard>,
    pub(super) rows: Vec<Row>,
    pub(super) events: Vec<Event>,
    pub(super) durability: Durability,
}

/// A write, and its texts.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) write: Write,
    /// The noun's body, or the hash of each journal entry's request.
    texts: Vec<String>,
}

/// An audit event without its place.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) draft: AuditDraft,
    pub(super) unlinked: Unlinked,
    pub(super) actor: String,
}

impl Prepared {
    /// Writes down what can be written down of a change before its turn.
    ///
    /// # Errors
    /// Permanent when it holds something that could not be read again.
    pub(super) fn of(change: Change) -> PortResult<Self> {
        let Change { guards, writes, audit, durability } = change;
        let rows = writes.into_iter().map(Row::of).collect::<PortResult<_>>()?;
        let events = audit.into_iter().map(Event::of).collect::<PortResult<_>>()?;
        Ok(Self { guards, rows, events, durability })
    }
}

impl Row {
    fn of(write: Write) -> PortResult<Self> {
        let texts = match &write {
            Write::PutCampaign(noun) => vec![body(noun)?],
            Write::PutStep(noun) => vec![body(noun)?],
            Write::PutSpec(noun) => vec![body(noun)?],
            Write::PutTask(task) => {
                // JSON has no NaN: such a task would be written and never be read again.
                let confidences = [task.confidence(), task.verdict.as_ref().map(|verdict| verdict.confidence)];
                if confidences.into_iter().flatten().any(|confidence| !confidence.is_finite()) {
                    return Err(permanent(format!("task {}: a confidence is not a finite number", task.id)));
                }
                vec![body(task)?]
            }
            Write::PutOutbox(noun) => vec![body(noun)?],
            Write::PutApproval(noun) => vec![body(noun)?],
            Write::PutGrant(noun) => vec![body(noun)?],
            Write::PutEffect(noun) => vec![body(noun)?],
            Write::PutSkill(noun) => vec![body(noun)?],
            Write::PutRoute(noun) => vec![body(noun)?],
            Write::PutAgent(noun) => vec![body(noun)?],
            Write::PutToken(noun) => vec![body(noun)?],
            Write::PutMemory(noun) => vec![body(noun)?],
            Write::PutScratch(item) => vec![body(&item.value)?],
            Write::AppendJournal { entries, .. } => {
                entries.iter().try_for_each(|entry| readable_again(entry.answer.as_str()))?;
                entries.iter().map(|entry| entry.request.to_string()).collect()
            }
            Write::DeleteOutbox(_)
            | Write::SetSkillState(..)
            | Write::CountRun(..)
            | Write::TouchAgent(..)
            | Write::DeleteMemory(..)
            | Write::DeleteScratch(..)
            | Write::AddTrend(_) => Vec::new(),
        };
        Ok(Self { write, texts })
    }

    /// The body of its noun.
    pub(super) fn body(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// The hashes of its entries' requests, in their order.
    pub(super) fn requests(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }
}

impl Event {
    fn of(draft: AuditDraft) -> PortResult<Self> {
        let (unlinked, actor) = (Unlinked::of(&draft), draft.actor.to_string());
        readable_again(unlinked.detail())?;
        Ok(Self { draft, unlinked, actor })
    }
}
