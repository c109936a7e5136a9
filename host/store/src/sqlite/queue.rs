//! The queue as a table beside the truth.
//!
//! It transports and decides nothing; a lost row is put back from the truth by the sweeper. Called by the relay and the
//! workers.

use super::SqliteStore;
use super::writer::{Answer, Work};
use crate::error::port_error;
use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::TaskId;
use chimera_core::ports::{PortError, Queue, Queued};

#[async_trait]
impl Queue for SqliteStore {
    async fn push(&self, planner_id: &str, tasks: &[(TaskId, u8)], now: Timestamp) -> Result<(), PortError> {
        if tasks.is_empty() {
            return Ok(());
        }
        self.ask(Work::Push { planner_id: planner_id.to_owned(), tasks: tasks.to_vec(), now }).await.map(drop)
    }

    async fn claim(
        &self,
        planner_id: &str,
        limit: u32,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Result<Vec<Queued>, PortError> {
        match self.ask(Work::Claim { planner_id: planner_id.to_owned(), limit, now, visible_again }).await? {
            Answer::Queued(queued) => Ok(queued),
            _ => Err(super::unexpected_answer()),
        }
    }

    async fn ack(&self, planner_id: &str, receipt: &str) -> Result<(), PortError> {
        self.ask(Work::Ack { planner_id: planner_id.to_owned(), receipt: receipt.to_owned() }).await.map(drop)
    }

    async fn release_claims(&self) -> Result<(), PortError> {
        self.ask(Work::ReleaseQueueClaims).await.map(drop)
    }

    async fn len(&self, planner_id: &str) -> Result<u64, PortError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM queue WHERE planner_id = ?")
            .bind(planner_id)
            .fetch_one(self.reader())
            .await
            .map_err(port_error)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
