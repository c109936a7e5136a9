//! Claims on the outbox, as SQL.
//!
//! They run in the writer like every other write, so of two claims one comes first and nothing is claimed twice. Nothing
//! here looks at a clock: the caller brings the present along.

use super::statement::{Session, run, statement};
use crate::rows::{PortResult, noun};
use chimera_core::change::{Outbox, OutboxTopic};
use chimera_core::clock::Timestamp;

/// Which outbox rows to claim.
#[derive(Debug)]
pub(super) struct OutboxClaim {
    pub(super) topic: OutboxTopic,
    pub(super) now: Timestamp,
    pub(super) claimed_until: Timestamp,
    pub(super) limit: u32,
}

pub(super) fn claim_outbox(db: &Session<'_>, claim: &OutboxClaim) -> PortResult<Vec<Outbox>> {
    let now = claim.now.as_millis();
    let rows: Vec<(String, String)> = statement(
        db,
        "UPDATE outbox SET claimed_until = ? WHERE id IN (
             SELECT id FROM outbox
             WHERE topic = ? AND available_at <= ? AND (claimed_until IS NULL OR claimed_until < ?)
             ORDER BY priority DESC, created_at, id LIMIT ?)
         RETURNING id, body",
    )?
    .bind(claim.claimed_until.as_millis())
    .bind(claim.topic.as_str())
    .bind(now)
    .bind(now)
    .bind(claim.limit)
    .all(|row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut claimed: Vec<Outbox> = rows.iter().map(|(id, body)| noun("outbox", id, body)).collect::<PortResult<_>>()?;
    // RETURNING promises no order.
    claimed.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.created_at, row.id));
    Ok(claimed)
}

pub(super) fn release_outbox_claims(db: &Session<'_>) -> PortResult<()> {
    run(db, "UPDATE outbox SET claimed_until = NULL WHERE claimed_until IS NOT NULL")
}
