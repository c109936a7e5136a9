//! Claims on the outbox, as SQL.
//!
//! They run in the writer like every other write, so of two claims one comes first and nothing is claimed twice: each is a
//! script, and a claim is read from the rows that its statement gave. Nothing here looks at a clock: the caller brings the
//! present along.

use super::rows::{BodyRow, PortResult, noun};
use super::script::{Done, Script};
use crate::error::port_error;
use chimera_core::change::{Outbox, OutboxTopic};
use chimera_core::clock::Timestamp;
use sqlx::FromRow;
use sqlx::sqlite::SqliteRow;

/// Which outbox rows to claim.
#[derive(Debug)]
pub(super) struct OutboxClaim {
    pub(super) topic: OutboxTopic,
    pub(super) now: Timestamp,
    pub(super) claimed_until: Timestamp,
    pub(super) limit: u32,
}

pub(super) fn claim_outbox(script: &mut Script, claim: &OutboxClaim) {
    let now = claim.now.as_millis();
    script
        .add(
            "UPDATE outbox SET claimed_until = ? WHERE id IN (
                 SELECT id FROM outbox
                 WHERE topic = ? AND available_at <= ? AND (claimed_until IS NULL OR claimed_until < ?)
                 ORDER BY priority DESC, created_at, id LIMIT ?)
             RETURNING id, body",
        )
        .bind(claim.claimed_until.as_millis())
        .bind(claim.topic.as_str())
        .bind(now)
        .bind(now)
        .bind(claim.limit);
}

/// The rows that a claim on the outbox gave.
pub(super) fn claimed_outbox(done: &[Done]) -> PortResult<Vec<Outbox>> {
    let mut claimed: Vec<Outbox> =
        given::<BodyRow>(done)?.iter().map(|(id, body)| noun("outbox", id, body)).collect::<PortResult<_>>()?;
    // RETURNING promises no order.
    claimed.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.created_at, row.id));
    Ok(claimed)
}

fn given<T: for<'r> FromRow<'r, SqliteRow>>(done: &[Done]) -> PortResult<Vec<T>> {
    let rows = done.iter().flat_map(|done| &done.rows);
    rows.map(|row| T::from_row(row).map_err(port_error)).collect()
}

pub(super) fn release_outbox_claims(script: &mut Script) {
    script.add("UPDATE outbox SET claimed_until = NULL WHERE claimed_until IS NOT NULL");
}
