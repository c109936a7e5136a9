//! Throws away what is kept for a time only: expired ephemeral memory, old observations, journals that nothing replays.
//!
//! Journals lie in partitions by the week in which their task's id was drawn, and those of a week whose tasks are all long
//! over go at once, with their table; of the others a little at a time. One process does it at a time, now and then, in turn
//! with its claims on the outbox. How long things are kept is core's to say. Called by the claims.

use super::pool::Pool;
use crate::error::postgres_error;
use crate::rows::PortResult;
use chimera_core::clock::Timestamp;
use chimera_core::journal;
use chimera_core::records::TrendItem;
use chimera_core::task::TaskState;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query, query_scalar, raw_sql};
use std::time::Duration;
use tokio::sync::Mutex;
use uuid::Uuid;

/// How often a little is thrown away.
const EVERY: Duration = Duration::from_secs(1);
/// Most rows of one kind in one turn.
const ROWS: i64 = 1000;
/// Most tasks whose journals are looked at in one turn.
const TASKS: i64 = 500;
/// Weeks in milliseconds.
const WEEK: i64 = 7 * 24 * 3600 * 1000;
/// Partitions are made for so many weeks from the present one on.
const AHEAD: i64 = 2;

/// How far the throwing away has come.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Place>);

#[derive(Debug, Default)]
struct Place {
    /// When the last turn was.
    at: Option<Timestamp>,
    /// The week for which partitions were made and dropped last.
    week: Option<i64>,
    /// The last task whose journal was looked at; none at the beginning of a pass.
    task: Option<Uuid>,
}

impl History {
    /// A turn, if it is time for one and nobody is at it.
    pub(super) async fn turn(&self, pool: &Pool, now: Timestamp) -> PortResult<()> {
        let Ok(mut place) = self.0.try_lock() else { return Ok(()) };
        if place.at.is_some_and(|at| at <= now && now.since(at) < EVERY) {
            return Ok(());
        }
        // Also if it fails: what cannot be done now is not tried at every claim.
        place.at = Some(now);
        pool.within(place.clean(pool, now)).await.map_err(postgres_error)
    }
}

impl Place {
    async fn clean(&mut self, pool: &Pool, now: Timestamp) -> sqlx::Result<()> {
        let mut db = pool.acquire().await?;
        let mut turn = db.begin().await?;
        let may =
            query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('chimera.history'), hashtext(current_schema()))");
        if !may.fetch_one(&mut *turn).await? {
            return turn.rollback().await;
        }
        query(
            "DELETE FROM ephemeral_memory WHERE ctid = ANY (ARRAY (
                 SELECT ctid FROM ephemeral_memory WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2))",
        )
        .bind(now.as_millis())
        .bind(ROWS)
        .execute(&mut *turn)
        .await?;
        query(
            "DELETE FROM content_trends WHERE ctid = ANY (ARRAY (
                 SELECT ctid FROM content_trends WHERE observed_at <= $1 ORDER BY observed_at LIMIT $2))",
        )
        .bind(before(now, TrendItem::KEPT))
        .bind(ROWS)
        .execute(&mut *turn)
        .await?;
        let next = journals(&mut turn, self.task, now).await?;
        turn.commit().await?;
        self.task = next;
        let week = now.as_millis().div_euclid(WEEK);
        if self.week != Some(week) {
            partition(&mut db, week, now).await?;
            self.week = Some(week);
        }
        Ok(())
    }
}

/// Throws away what nothing replays of the next few tasks' journals; the last of them, none when a pass is over.
async fn journals(db: &mut PgConnection, after: Option<Uuid>, now: Timestamp) -> sqlx::Result<Option<Uuid>> {
    let tasks: Vec<Uuid> =
        query_scalar("SELECT DISTINCT task_id FROM journal WHERE task_id > $1 ORDER BY task_id LIMIT $2")
            .bind(after.unwrap_or(Uuid::nil()))
            .bind(TASKS)
            .fetch_all(&mut *db)
            .await?;
    let last = tasks.last().copied();
    // The epochs of a task that is over, and of others those before the present one, each after its time.
    query(
        "DELETE FROM journal USING tasks
         WHERE journal.task_id = ANY ($1) AND tasks.id = journal.task_id
             AND (tasks.status = ANY ($2) AND tasks.updated_at <= $3
                  OR journal.epoch < tasks.epoch AND tasks.updated_at <= $4)",
    )
    .bind(&tasks)
    .bind(final_states())
    .bind(before(now, journal::KEPT))
    .bind(before(now, journal::OLD_EPOCH_KEPT))
    .execute(db)
    .await?;
    Ok(last.filter(|_| tasks.len() as i64 == TASKS))
}

/// Makes the partitions of this week and the next, and drops those of which nothing is replayed any more.
async fn partition(db: &mut PgConnection, week: i64, now: Timestamp) -> sqlx::Result<()> {
    for week in week..week + AHEAD {
        let (from, to) = (first_id(week), first_id(week + 1));
        let make = format!(
            "CREATE TABLE IF NOT EXISTS journal_w{week} PARTITION OF journal FOR VALUES FROM ('{from}') TO ('{to}')"
        );
        // Whoever writes just now is not made to wait for long, and the next turn tries again. It is no use if ids of that
        // week are among the others already: then they stay there.
        if let Err(error) = quickly(db, make).await {
            tracing::info!(week, error = %error, "the journals of a week get no partition of their own");
        }
    }
    let partitions: Vec<String> = query_scalar(
        "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'journal'::regclass AND relname LIKE 'journal\\_w%'",
    )
    .fetch_all(&mut *db)
    .await?;
    let kept_from = before(now, journal::KEPT);
    for week in partitions.iter().filter_map(|name| name.strip_prefix("journal_w")?.parse::<i64>().ok()) {
        if (week + 1).saturating_mul(WEEK) > kept_from {
            continue;
        }
        let is_needed: bool = query_scalar(
            "SELECT EXISTS (SELECT FROM tasks WHERE id >= $1 AND id < $2 AND (status <> ALL ($3) OR updated_at > $4))",
        )
        .bind(first_id(week))
        .bind(first_id(week + 1))
        .bind(final_states())
        .bind(kept_from)
        .fetch_one(&mut *db)
        .await?;
        if !is_needed && let Err(error) = quickly(db, format!("DROP TABLE journal_w{week}")).await {
            tracing::info!(week, error = %error, "the journals of a week are dropped later");
        }
    }
    Ok(())
}

/// The statement has no text of anybody's in it. It waits for others only briefly.
async fn quickly(db: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    let mut change = db.begin().await?;
    raw_sql("SET LOCAL lock_timeout = '500ms'").execute(&mut *change).await?;
    raw_sql(AssertSqlSafe(statement)).execute(&mut *change).await?;
    change.commit().await
}

/// The least id that can be drawn in a week: the first 48 bits are the time in milliseconds (RFC 9562, section 5.7).
fn first_id(week: i64) -> Uuid {
    let millis = u128::try_from(week.saturating_mul(WEEK)).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

fn final_states() -> Vec<&'static str> {
    TaskState::ALL.iter().filter(|state| state.is_final()).map(|state| state.as_str()).collect()
}

fn before(now: Timestamp, span: Duration) -> i64 {
    now.as_millis().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}
