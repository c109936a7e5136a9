//! Claims on the outbox and on the queue, as SQL.
//!
//! They run in the writer like every other write, so of two claims one comes first and nothing is claimed twice: each is a
//! script, and a claim is read from the rows that its statement gave. Nothing here looks at a clock: the caller brings the
//! present along.

use super::rows::{BodyRow, PortResult, corrupt, noun, permanent};
use super::script::{Done, Script};
use crate::error::port_error;
use chimera_core::change::{Outbox, OutboxTopic};
use chimera_core::clock::Timestamp;
use chimera_core::ids::TaskId;
use chimera_core::ports::Queued;
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

pub(super) fn push(script: &mut Script, planner_id: &str, tasks: &[(TaskId, u8)], now: Timestamp) {
    for (task, priority) in tasks {
        script
            .add(
                "INSERT INTO queue (task_id, planner_id, priority, visible_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (task_id) DO NOTHING",
            )
            .bind(task.to_string())
            .bind(planner_id.to_owned())
            .bind(*priority)
            .bind(now.as_millis());
    }
}

pub(super) fn claim(script: &mut Script, planner_id: &str, limit: u32, now: Timestamp, visible_again: Timestamp) {
    script
        .add(
            "UPDATE queue SET visible_at = ?, claims = claims + 1 WHERE seq IN (
                 SELECT seq FROM queue WHERE planner_id = ? AND visible_at <= ? ORDER BY priority DESC, seq LIMIT ?)
             RETURNING priority, seq, task_id, claims",
        )
        .bind(visible_again.as_millis())
        .bind(planner_id.to_owned())
        .bind(now.as_millis())
        .bind(limit);
}

/// What a claim on the queue gave.
pub(super) fn claimed(done: &[Done]) -> PortResult<Vec<Queued>> {
    let mut rows: Vec<(i64, i64, String, i64)> = given(done)?;
    rows.sort_by_key(|(priority, seq, ..)| (std::cmp::Reverse(*priority), *seq));
    rows.into_iter()
        .map(|(_, seq, task, claims)| {
            let id = task.parse().map_err(|error| corrupt("queue", &task, error))?;
            Ok(Queued { receipt: format!("{seq}.{claims}"), task: id })
        })
        .collect()
}

/// Only the newest claim's receipt takes the row away.
pub(super) fn ack(script: &mut Script, planner_id: &str, receipt: &str) -> PortResult<()> {
    let parts = receipt.split_once('.').and_then(|(seq, claims)| Some((seq.parse().ok()?, claims.parse().ok()?)));
    let Some((seq, claims)): Option<(i64, i64)> = parts else {
        return Err(permanent("the receipt is not one that this queue has given"));
    };
    let delete = script.add("DELETE FROM queue WHERE seq = ? AND claims = ? AND planner_id = ?");
    delete.bind(seq).bind(claims).bind(planner_id.to_owned());
    Ok(())
}

/// Counts as a claim of its own, so that receipts given before are worth nothing afterwards.
pub(super) fn release_claims(script: &mut Script) {
    script.add("UPDATE queue SET visible_at = 0, claims = claims + 1 WHERE claims > 0");
}
