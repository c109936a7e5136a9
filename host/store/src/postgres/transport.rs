//! Claims on the outbox.
//!
//! Any number of processes claim at the same time: a row that one is claiming is passed over by the others. A claim need not
//! be on disk, since it is over by itself. Nothing here looks at a clock: the caller brings the present along.

use super::pool::Pool;
use crate::error::postgres_error;
use crate::rows::{PortResult, noun};
use chimera_core::change::{Outbox, OutboxTopic};
use chimera_core::clock::Timestamp;
use sqlx::{query, query_as};
use uuid::Uuid;

/// Which outbox rows to claim.
#[derive(Debug)]
pub(super) struct OutboxClaim {
    pub(super) topic: OutboxTopic,
    pub(super) now: Timestamp,
    pub(super) claimed_until: Timestamp,
    pub(super) limit: u32,
}

pub(super) async fn claim_outbox(pool: &Pool, claim: &OutboxClaim) -> PortResult<Vec<Outbox>> {
    let rows = claimed(pool, claim).await.map_err(postgres_error)?;
    let mut claimed: Vec<Outbox> =
        rows.iter().map(|(id, body)| noun("outbox", &id.to_string(), body)).collect::<PortResult<_>>()?;
    // RETURNING promises no order.
    claimed.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.created_at, row.id));
    Ok(claimed)
}

async fn claimed(pool: &Pool, claim: &OutboxClaim) -> sqlx::Result<Vec<(Uuid, String)>> {
    query_as(
        "UPDATE outbox SET claimed_until = $1 WHERE id IN (
             SELECT id FROM outbox
             WHERE topic = $2 AND available_at <= $3 AND (claimed_until IS NULL OR claimed_until < $3)
             ORDER BY priority DESC, created_at, id LIMIT $4
             FOR UPDATE SKIP LOCKED)
         RETURNING id, body",
    )
    .bind(claim.claimed_until.as_millis())
    .bind(claim.topic.as_str())
    .bind(claim.now.as_millis())
    .bind(i64::from(claim.limit))
    .fetch_all(pool)
    .await
}

pub(super) async fn release_outbox_claims(pool: &Pool) -> PortResult<()> {
    let release = query("UPDATE outbox SET claimed_until = NULL WHERE claimed_until IS NOT NULL");
    release.execute(pool).await.map(drop).map_err(postgres_error)
}
