//! Claims on the outbox and on the queue, as SQL.
//!
//! They run in the writer like every other write, so of two claims one comes first and nothing is claimed twice.
//! Nothing here looks at a clock: the caller brings the present along.

use super::rows::{BodyRow, PortResult, corrupt, execute, noun, permanent};
use crate::error::port_error;
use chimera_core::change::{Outbox, OutboxTopic};
use chimera_core::clock::Timestamp;
use chimera_core::ids::TaskId;
use chimera_core::ports::Queued;
use sqlx::{SqliteConnection, query, query_as};

/// Which outbox rows to claim.
#[derive(Debug)]
pub(super) struct OutboxClaim {
    pub(super) topic: OutboxTopic,
    pub(super) now: Timestamp,
    pub(super) claimed_until: Timestamp,
    pub(super) limit: u32,
}

pub(super) async fn claim_outbox(db: &mut SqliteConnection, claim: &OutboxClaim) -> PortResult<Vec<Outbox>> {
    let rows: Vec<BodyRow> = query_as(
        "UPDATE outbox SET claimed_until = ?1 WHERE id IN (
             SELECT id FROM outbox
             WHERE topic = ?2 AND available_at <= ?3 AND (claimed_until IS NULL OR claimed_until < ?3)
             ORDER BY priority DESC, created_at, id LIMIT ?4)
         RETURNING id, body",
    )
    .bind(claim.claimed_until.as_millis())
    .bind(claim.topic.as_str())
    .bind(claim.now.as_millis())
    .bind(claim.limit)
    .fetch_all(db)
    .await
    .map_err(port_error)?;
    let mut claimed: Vec<Outbox> = rows.iter().map(|(id, body)| noun("outbox", id, body)).collect::<PortResult<_>>()?;
    // RETURNING promises no order.
    claimed.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.created_at, row.id));
    Ok(claimed)
}

pub(super) async fn release_outbox_claims(db: &mut SqliteConnection) -> PortResult<()> {
    execute(db, query("UPDATE outbox SET claimed_until = NULL WHERE claimed_until IS NOT NULL")).await.map(drop)
}

pub(super) async fn push(
    db: &mut SqliteConnection,
    planner_id: &str,
    tasks: &[(TaskId, u8)],
    now: Timestamp,
) -> PortResult<()> {
    for (task, priority) in tasks {
        let insert = query(
            "INSERT INTO queue (task_id, planner_id, priority, visible_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (task_id) DO NOTHING",
        )
        .bind(task.to_string())
        .bind(planner_id)
        .bind(*priority)
        .bind(now.as_millis());
        execute(&mut *db, insert).await?;
    }
    Ok(())
}

pub(super) async fn claim(
    db: &mut SqliteConnection,
    planner_id: &str,
    limit: u32,
    now: Timestamp,
    visible_again: Timestamp,
) -> PortResult<Vec<Queued>> {
    let mut rows: Vec<(i64, i64, String, i64)> = query_as(
        "UPDATE queue SET visible_at = ?1, claims = claims + 1 WHERE seq IN (
             SELECT seq FROM queue WHERE planner_id = ?2 AND visible_at <= ?3 ORDER BY priority DESC, seq LIMIT ?4)
         RETURNING priority, seq, task_id, claims",
    )
    .bind(visible_again.as_millis())
    .bind(planner_id)
    .bind(now.as_millis())
    .bind(limit)
    .fetch_all(db)
    .await
    .map_err(port_error)?;
    rows.sort_by_key(|(priority, seq, ..)| (std::cmp::Reverse(*priority), *seq));
    rows.into_iter()
        .map(|(_, seq, task, claims)| {
            let id = task.parse().map_err(|error| corrupt("queue", &task, error))?;
            Ok(Queued { receipt: format!("{seq}.{claims}"), task: id })
        })
        .collect()
}

/// Only the newest claim's receipt takes the row away.
pub(super) async fn ack(db: &mut SqliteConnection, planner_id: &str, receipt: &str) -> PortResult<()> {
    let parts = receipt.split_once('.').and_then(|(seq, claims)| Some((seq.parse().ok()?, claims.parse().ok()?)));
    let Some((seq, claims)): Option<(i64, i64)> = parts else {
        return Err(permanent("the receipt is not one that this queue has given"));
    };
    let delete = query("DELETE FROM queue WHERE seq = ? AND claims = ? AND planner_id = ?");
    execute(db, delete.bind(seq).bind(claims).bind(planner_id)).await.map(drop)
}

/// Counts as a claim of its own, so that receipts given before are worth nothing afterwards.
pub(super) async fn release_claims(db: &mut SqliteConnection) -> PortResult<()> {
    execute(db, query("UPDATE queue SET visible_at = 0, claims = claims + 1 WHERE claims > 0")).await.map(drop)
}
