//! The heads of the audit chains, and the appending of events.
//!
//! Heads are cached for the writer alone and follow its transaction: what a change appended counts once the change is
//! kept, what a batch appended counts once it is committed, together with the heads beside the events. Called by the
//! writer.

use super::statement::statement;
use crate::chain::{Chain, beginning, head_of, name_of};
use crate::rows::{PortResult, body, int, name, permanent, text};
use chimera_core::audit::{AuditDraft, AuditEvent, Head, link};
use rusqlite::Connection;
use std::collections::HashMap;

/// More heads than this are not kept between batches.
const MAX_CACHED: usize = 10_000;

/// Where each chain ends.
#[derive(Debug, Default)]
pub(super) struct Heads {
    committed: HashMap<Chain, Head>,
    batch: HashMap<Chain, Head>,
}

/// What one change appended.
#[derive(Debug, Default)]
pub(super) struct Appended {
    pub(super) events: Vec<AuditEvent>,
    heads: HashMap<Chain, Head>,
}

impl Heads {
    /// A batch begins; what one that was undone appended is forgotten.
    pub(super) fn begin(&mut self) {
        self.batch.clear();
    }

    /// Makes sure that the heads are known to which these drafts will be linked.
    pub(super) fn find(&mut self, db: &Connection, drafts: &[AuditDraft]) -> PortResult<()> {
        for chain in drafts.iter().map(|draft| draft.campaign) {
            if self.known(chain).is_none() {
                let head = last(db, chain)?;
                self.committed.insert(chain, head);
            }
        }
        Ok(())
    }

    fn known(&self, chain: Chain) -> Option<Head> {
        self.batch.get(&chain).or_else(|| self.committed.get(&chain)).copied()
    }

    /// Appends the drafts of one change, whose heads were [found](Self::find); they count once they are
    /// [kept](Self::keep).
    pub(super) fn append(&self, db: &Connection, drafts: &[AuditDraft]) -> PortResult<Appended> {
        let mut appended = Appended::default();
        for draft in drafts {
            let chain = draft.campaign;
            let head = appended.heads.get(&chain).copied().or_else(|| self.known(chain));
            let head = head.ok_or_else(|| permanent("the end of an audit chain was not looked up"))?;
            let event = link(head.seq + 1, head.hash, draft.clone());
            insert(db, &event)?;
            appended.heads.insert(chain, Head { seq: event.seq, hash: event.hash });
            appended.events.push(event);
        }
        Ok(appended)
    }

    /// The change is kept: the next change of the batch links to its events.
    pub(super) fn keep(&mut self, appended: Appended) -> Vec<AuditEvent> {
        self.batch.extend(appended.heads);
        appended.events
    }

    /// Writes where the batch's chains end, once for all its changes; the last thing before the transaction's end.
    pub(super) fn write(&self, db: &Connection) -> PortResult<()> {
        for (chain, head) in &self.batch {
            statement(
                db,
                "INSERT INTO audit_heads (chain, seq, hash) VALUES (?, ?, ?)
                     ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            )?
            .bind(name_of(*chain))
            .bind(int(head.seq)?)
            .bind(head.hash.to_string())
            .run()?;
        }
        Ok(())
    }

    /// The batch is durable.
    pub(super) fn commit(&mut self) {
        if self.committed.len() > MAX_CACHED {
            self.committed.clear();
        }
        self.committed.extend(self.batch.drain());
    }

    /// The batch is gone; after an error nothing remembered is trusted.
    pub(super) fn forget(&mut self) {
        self.batch.clear();
        self.committed.clear();
    }
}

/// Where a chain ends in the database.
fn last(db: &Connection, chain: Chain) -> PortResult<Head> {
    // The greater of the two: after a removal from the end no position is given again, which would hide it, and
    // after an addition by somebody else none is taken twice.
    let last = statement(
        db,
        "SELECT seq, hash FROM audit_heads WHERE chain = ?1
         UNION ALL
         SELECT seq, hash FROM (SELECT seq, hash FROM audit_logs WHERE chain = ?1 ORDER BY seq DESC LIMIT 1)
         ORDER BY seq DESC LIMIT 1",
    )?;
    let last = last.bind(name_of(chain)).first(|row| Ok((row.get(0)?, row.get(1)?)))?;
    last.map_or_else(|| Ok(beginning(chain)), |row| head_of(chain, row))
}

fn insert(db: &Connection, event: &AuditEvent) -> PortResult<()> {
    let draft = &event.draft;
    statement(
        db,
        "INSERT INTO audit_logs
                 (chain, seq, task_id, action, agent_id, timestamp, review_status, detail, prev_hash, hash)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .bind(name_of(draft.campaign))
    .bind(int(event.seq)?)
    .bind(text(draft.task))
    .bind(draft.action.as_str())
    .bind(draft.actor.to_string())
    .bind(draft.at.as_millis())
    .bind(name(&draft.review)?)
    .bind(body(&draft.detail)?)
    .bind(event.prev_hash.to_string())
    .bind(event.hash.to_string())
    .run()
    .map(drop)
}
