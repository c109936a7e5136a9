//! The queue in SQL: for a fleet without Redis, and what a fleet falls back on when Redis is gone.
//!
//! It is transport: nothing of it need be on disk, since a sweeper fills it again from the tasks. A task that one process
//! claims is passed over by the others. It looks at no clock: the caller brings the present along. Opened by the binary;
//! called by the relay and the workers.

use super::PostgresStore;
use super::text::kept;
use crate::error::postgres_error;
use crate::rows::PortResult;
use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::TaskId;
use chimera_core::ports::{PortError, PortErrorKind, Queue, Queued};
use sqlx::{query, query_as, query_scalar};
use std::cmp::Reverse;
use uuid::Uuid;

/// A queue in the database of a [`PostgresStore`]; see [`Queue`]. It lives as long as the store is open.
#[derive(Debug, Clone)]
pub struct PostgresQueue {
    store: PostgresStore,
}

impl PostgresStore {
    /// The queue in this database.
    pub fn queue(&self) -> PostgresQueue {
        PostgresQueue { store: self.clone() }
    }
}

/// One claim of one task: task, number, claims.
type Claim = (Uuid, i64, i64);

#[async_trait]
impl Queue for PostgresQueue {
    async fn push(&self, planner_id: &str, tasks: &[(TaskId, u8)], _: Timestamp) -> PortResult<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        let (ids, priorities): (Vec<Uuid>, Vec<i16>) =
            tasks.iter().map(|(task, priority)| (task.as_uuid(), i16::from(*priority))).unzip();
        // In the order in which they came, also within one call.
        let push = query(
            "INSERT INTO task_queue (planner_id, task_id, priority)
             SELECT $1, task_id, priority
             FROM unnest($2::uuid[], $3::smallint[]) WITH ORDINALITY AS t (task_id, priority, place)
             ORDER BY place ON CONFLICT DO NOTHING",
        );
        let push = push.bind(kept(planner_id)).bind(ids).bind(priorities).execute(self.store.loose());
        push.await.map(drop).map_err(postgres_error)
    }

    async fn claim(
        &self,
        planner_id: &str,
        limit: u32,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> PortResult<Vec<Queued>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let claim = query_as(
            "UPDATE task_queue SET visible_at = $1, claims = claims + 1
             WHERE planner_id = $2 AND task_id IN (
                 SELECT task_id FROM task_queue
                 WHERE planner_id = $2 AND (visible_at IS NULL OR visible_at <= $3)
                 ORDER BY priority DESC, number LIMIT $4
                 FOR UPDATE SKIP LOCKED)
             RETURNING priority, number, claims, task_id",
        );
        let claim = claim
            .bind(visible_again.as_millis())
            .bind(kept(planner_id))
            .bind(now.as_millis())
            .bind(i64::from(limit))
            .fetch_all(self.store.loose());
        let mut claimed: Vec<(i16, i64, i64, Uuid)> = claim.await.map_err(postgres_error)?;
        // RETURNING promises no order.
        claimed.sort_unstable_by_key(|(priority, number, ..)| (Reverse(*priority), *number));
        let queued = |(_, number, claims, task): (i16, i64, i64, Uuid)| Queued {
            task: TaskId::from_uuid(task),
            receipt: receipt((task, number, claims)),
        };
        Ok(claimed.into_iter().map(queued).collect())
    }

    async fn ack(&self, planner_id: &str, receipt: &str) -> PortResult<()> {
        let (task, number, claims) = claim_of(receipt).ok_or_else(|| {
            PortError::new(PortErrorKind::Permanent, "the receipt is not one that this queue has given")
        })?;
        // Only the newest claim's receipt takes the task away.
        let ack =
            query("DELETE FROM task_queue WHERE planner_id = $1 AND task_id = $2 AND number = $3 AND claims = $4");
        let ack = ack.bind(kept(planner_id)).bind(task).bind(number).bind(claims).execute(self.store.loose());
        ack.await.map(drop).map_err(postgres_error)
    }

    async fn release_claims(&self) -> PortResult<()> {
        // Counts as a claim of its own, so that receipts given before are worth nothing afterwards.
        let release =
            query("UPDATE task_queue SET visible_at = NULL, claims = claims + 1 WHERE visible_at IS NOT NULL");
        release.execute(self.store.loose()).await.map(drop).map_err(postgres_error)
    }

    async fn len(&self, planner_id: &str) -> PortResult<u64> {
        let count = query_scalar("SELECT count(*) FROM task_queue WHERE planner_id = $1").bind(kept(planner_id));
        let count: i64 = count.fetch_one(self.store.reader()).await.map_err(postgres_error)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

fn receipt((task, number, claims): Claim) -> String {
    format!("{}.{number}.{claims}", task.simple())
}

fn claim_of(receipt: &str) -> Option<Claim> {
    let mut parts = receipt.split('.');
    let claim = (Uuid::try_parse(parts.next()?).ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(claim)
}
