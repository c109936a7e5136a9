//! The heads of the audit chains, and the appending of events.
//!
//! Heads are cached for the writer alone and follow its transaction: what a batch appended counts once it is committed,
//! together with the heads beside the events. Called by the writer.

use super::prepared::Event;
use super::statement::{digest, id_of, statement};
use crate::chain::{Chain, beginning, head_of, name_of};
use crate::rows::{PortResult, int};
use chimera_core::audit::{AuditEvent, Head};
use chimera_core::digest::Digest;
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

/// Where an event was put in its chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    seq: u64,
    prev_hash: Digest,
    hash: Digest,
}

impl Place {
    /// The event that is there.
    pub(super) fn take(self, event: Event) -> AuditEvent {
        let Self { seq, prev_hash, hash } = self;
        AuditEvent { seq, prev_hash, hash, draft: event.draft }
    }
}

impl Heads {
    /// A batch begins; what one that was undone appended is forgotten.
    pub(super) fn begin(&mut self) {
        self.batch.clear();
    }

    /// Where a chain ends; looked up in the transaction if that is not known, so that nobody else appends meanwhile.
    fn head(&mut self, db: &Connection, chain: Chain) -> PortResult<Head> {
        if let Some(head) = self.batch.get(&chain).or_else(|| self.committed.get(&chain)) {
            return Ok(*head);
        }
        let head = last(db, chain)?;
        self.committed.insert(chain, head);
        Ok(head)
    }

    /// Appends the events of one change. They count at once: a change that fails after this takes them back.
    pub(super) fn append(&mut self, db: &Connection, events: &[Event], places: &mut Vec<Place>) -> PortResult<()> {
        for event in events {
            let chain = event.draft.campaign;
            let Head { seq, hash: prev_hash } = self.head(db, chain)?;
            let seq = seq + 1;
            let place = Place { seq, prev_hash, hash: event.unlinked.hash(seq, &prev_hash) };
            insert(db, event, &place)?;
            self.batch.insert(chain, Head { seq, hash: place.hash });
            places.push(place);
        }
        Ok(())
    }

    /// Where the chains end to which this batch has appended.
    pub(super) fn appended(&self) -> HashMap<Chain, Head> {
        self.batch.clone()
    }

    /// What was appended since then was undone.
    pub(super) fn take_back(&mut self, appended: HashMap<Chain, Head>) {
        self.batch = appended;
    }

    /// Writes where the batch's chains end, once for all its changes; the last thing before the transaction's end.
    pub(super) fn write(&self, db: &Connection) -> PortResult<()> {
        for (chain, head) in &self.batch {
            statement(
                db,
                "INSERT INTO audit_heads (chain, seq, hash) VALUES (?, ?, ?)
                     ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            )?
            .bind(name_of(*chain).as_ref())
            .bind(int(head.seq)?)
            .bind(digest(&head.hash))
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
    let last = last.bind(name_of(chain).as_ref()).first(|row| Ok((row.get(0)?, row.get(1)?)))?;
    last.map_or_else(|| Ok(beginning(chain)), |row| head_of(chain, row))
}

fn insert(db: &Connection, event: &Event, place: &Place) -> PortResult<()> {
    let draft = &event.draft;
    statement(
        db,
        "INSERT INTO audit_logs
                 (chain, seq, task_id, action, agent_id, timestamp, review_status, detail, prev_hash, hash)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .bind(name_of(draft.campaign).as_ref())
    .bind(int(place.seq)?)
    .bind(id_of(draft.task.map(|task| task.as_uuid())))
    .bind(draft.action.as_str())
    .bind(event.actor.as_str())
    .bind(draft.at.as_millis())
    .bind(draft.review.as_str())
    .bind(event.detail.as_str())
    .bind(digest(&place.prev_hash))
    .bind(digest(&place.hash))
    .run()
    .map(drop)
}
