//! The heads of the audit chains, and the appending of events.
//!
//! Heads are cached for the writer alone and follow its transaction: what a batch appended counts once it is committed,
//! together with the heads beside the events. Called by the writer.

use super::prepared::Event;
use super::statement::{Bound, Session, digest, id_of, statement};
use crate::chain::{Chain, beginning, head_of, name_of};
use crate::rows::{PortResult, int};
use chimera_core::audit::{AuditEvent, Head};
use chimera_core::digest::Digest;
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
    fn head(&mut self, db: &Session<'_>, chain: Chain) -> PortResult<Head> {
        if let Some(head) = self.batch.get(&chain).or_else(|| self.committed.get(&chain)) {
            return Ok(*head);
        }
        let head = last(db, chain)?;
        self.committed.insert(chain, head);
        Ok(head)
    }

    /// Gives the events of one change their places. They count at once: a change that fails after this takes them back.
    /// They are [written](write_events) with those of the whole batch.
    pub(super) fn append<'e>(
        &mut self,
        db: &Session<'_>,
        events: &'e [Event],
        placed: &mut Vec<(&'e Event, Place)>,
    ) -> PortResult<()> {
        for event in events {
            let chain = event.draft.campaign;
            let Head { seq, hash: prev_hash } = self.head(db, chain)?;
            let seq = seq + 1;
            let place = Place { seq, prev_hash, hash: event.unlinked.hash(seq, &prev_hash) };
            self.batch.insert(chain, Head { seq, hash: place.hash });
            placed.push((event, place));
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
    pub(super) fn write(&self, db: &Session<'_>) -> PortResult<()> {
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
fn last(db: &Session<'_>, chain: Chain) -> PortResult<Head> {
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

/// Writes events at their places, many with one statement: what a statement costs by itself is a good part of what a row
/// costs.
pub(super) fn write_events(db: &Session<'_>, placed: &[(&Event, Place)]) -> PortResult<()> {
    let chunks = placed.chunks_exact(AT_ONCE);
    let rest = chunks.remainder();
    for chunk in chunks {
        bind_all(statement(db, INSERT_MANY)?, chunk)?.run()?;
    }
    for one in rest {
        bind_all(statement(db, INSERT_ONE)?, std::slice::from_ref(one))?.run()?;
    }
    Ok(())
}

/// Events of one statement.
const AT_ONCE: usize = 8;

macro_rules! row {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
}
macro_rules! insert {
    ($first:expr $(, $more:expr)*) => {
        concat!(
            "INSERT INTO audit_logs (chain, seq, task_id, action, agent_id, timestamp, review_status, detail, prev_hash, hash) VALUES ",
            $first $(, ", ", $more)*
        )
    };
}
const INSERT_ONE: &str = insert!(row!());
const INSERT_MANY: &str = insert!(row!(), row!(), row!(), row!(), row!(), row!(), row!(), row!());

fn bind_all<'c>(mut insert: Bound<'c>, placed: &[(&Event, Place)]) -> PortResult<Bound<'c>> {
    for (event, place) in placed {
        let draft = &event.draft;
        insert = insert
            .bind(name_of(draft.campaign).as_ref())
            .bind(int(place.seq)?)
            .bind(id_of(draft.task.map(|task| task.as_uuid())))
            .bind(draft.action.as_ref())
            .bind(event.actor.as_str())
            .bind(draft.at.as_millis())
            .bind(draft.review.as_str())
            .bind(event.unlinked.detail())
            .bind(digest(&place.prev_hash))
            .bind(digest(&place.hash));
    }
    Ok(insert)
}
