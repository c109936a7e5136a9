//! The floor under the store: rows written and read by SQL alone, on the same server.
//!
//! For benchmarks. Task rows are changed and their events are added in batches, each on disk before the next begins, with
//! everything made ready before the clock starts: no guard, no lock beyond the rows', no chain, and nobody to be answered.
//! It works in a database of its own and changes no store. Called by `chimera bench`.

use super::{PostgresOptions, PostgresStore, connect_options};
use crate::error::StoreError;
use crate::rows;
use chimera_core::task::Task;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, query, raw_sql};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A database of its own on a server, for as long as a benchmark runs.
#[derive(Debug)]
pub struct PostgresFloor {
    server: String,
    name: String,
    url: String,
}

/// Rows that are ready to be written: one state of some tasks, and an event about each.
#[derive(Debug, Clone)]
pub struct RawRows {
    ids: Vec<Uuid>,
    statuses: Vec<String>,
    revs: Vec<i64>,
    updated: Vec<i64>,
    workers: Vec<Option<Uuid>>,
    leases: Vec<Option<Uuid>>,
    leased_until: Vec<Option<i64>>,
    attempts: Vec<i64>,
    bodies: Vec<String>,
    details: Vec<String>,
    hashes: Vec<String>,
}

impl RawRows {
    /// Of these tasks as they are.
    ///
    /// # Errors
    /// When a task cannot be written as JSON.
    pub fn of(tasks: &[Task]) -> Result<Self, chimera_core::ports::PortError> {
        let hash = chimera_core::digest::Digest::of(b"as long as any").to_string();
        let lease = |task: &Task| task.lease.as_ref().map(|lease| (lease.id.as_uuid(), lease.until.as_millis()));
        Ok(Self {
            ids: tasks.iter().map(|task| task.id.as_uuid()).collect(),
            statuses: tasks.iter().map(|task| task.state.as_str().to_owned()).collect(),
            revs: tasks.iter().map(|task| rows::int(task.rev)).collect::<Result<_, _>>()?,
            updated: tasks.iter().map(|task| task.updated_at.as_millis()).collect(),
            workers: tasks.iter().map(|task| task.worker_id.map(|id| id.as_uuid())).collect(),
            leases: tasks.iter().map(|task| lease(task).map(|(id, _)| id)).collect(),
            leased_until: tasks.iter().map(|task| lease(task).map(|(_, until)| until)).collect(),
            attempts: tasks.iter().map(|task| i64::from(task.attempt)).collect(),
            bodies: tasks.iter().map(rows::body).collect::<Result<_, _>>()?,
            details: vec![
                r#"{"lease":"0190f3c2-7b1e-7c3a-9f00-0123456789ab","state":"running","attempt":1}"#.to_owned();
                tasks.len()
            ],
            hashes: vec![hash; tasks.len()],
        })
    }
}

impl PostgresFloor {
    /// Makes an empty database beside the one that the address names; its user must be allowed to.
    ///
    /// # Errors
    /// [`StoreError`] when the server cannot be reached or does not let it.
    pub async fn open(server: &str) -> Result<Self, StoreError> {
        let name = format!("chimera_bench_{}", Uuid::now_v7().simple());
        connect_options(server)?;
        let url = beside(server, &name);
        let floor = Self { server: server.to_owned(), name, url };
        floor.on_server(&format!("CREATE DATABASE {}", floor.name)).await?;
        Ok(floor)
    }

    /// Its address, for a store and for other programs. It holds a secret if the server's did.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`StoreError`]; the database stays then.
    pub async fn remove(self) -> Result<(), StoreError> {
        self.on_server(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }

    async fn on_server(&self, sql: &str) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| StoreError::from_postgres(&self.server_address(), &error);
        let mut db = connect_options(&self.server)?.connect().await.map_err(failed)?;
        raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut db).await.map_err(failed)?;
        db.close().await.map_err(failed)
    }

    fn server_address(&self) -> String {
        connect_options(&self.server).map_or_else(|_| "the server".to_owned(), |options| super::address(&options))
    }

    /// A store in it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn store(&self) -> Result<PostgresStore, StoreError> {
        PostgresStore::open(PostgresOptions::new(&self.url)).await
    }

    /// Runs statements that give nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn run(&self, sql: &'static str) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| StoreError::from_postgres(&self.server_address(), &error);
        let mut db = connect_options(&self.url)?.connect().await.map_err(failed)?;
        raw_sql(sql).execute(&mut db).await.map_err(failed)?;
        db.close().await.map_err(failed)
    }

    /// Writes batches over so many connections, each batch one transaction that is on disk before the connection's next one
    /// begins: the tasks' rows are changed, and an event about each is added. How long that took; the table of events is
    /// one like the store's own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write(&self, batches: &[RawRows], connections: usize) -> Result<Duration, StoreError> {
        self.run("CREATE TABLE IF NOT EXISTS raw_logs (LIKE audit_logs INCLUDING ALL); TRUNCATE raw_logs").await?;
        let failed = |error: sqlx::Error| StoreError::from_postgres(&self.server_address(), &error);
        let mut writing = Vec::new();
        for part in batches.chunks(batches.len().div_ceil(connections.max(1)).max(1)) {
            let db = connect_options(&self.url)?.connect().await.map_err(failed)?;
            writing.push((db, part.to_vec(), format!("raw{}", writing.len())));
        }
        let started = Instant::now();
        let writing: Vec<_> = writing
            .into_iter()
            .map(|(mut db, part, chain)| {
                tokio::spawn(async move {
                    let mut seq = 0;
                    for batch in &part {
                        seq = write_batch(&mut db, batch, &chain, seq).await?;
                    }
                    Ok::<_, sqlx::Error>(db)
                })
            })
            .collect();
        let mut open = Vec::new();
        for written in writing {
            open.push(written.await.map_err(|error| StoreError::Unreachable {
                address: self.server_address(),
                cause: error.to_string(),
            })?);
        }
        let took = started.elapsed();
        for db in open {
            db.map_err(failed)?.close().await.map_err(failed)?;
        }
        Ok(took)
    }
}

/// The address of another database on the same server, with the same user and settings.
fn beside(server: &str, name: &str) -> String {
    let (place, settings) = server.split_once('?').map_or((server, None), |(place, settings)| (place, Some(settings)));
    let after_scheme = place.find("://").map_or(0, |at| at + 3);
    let end = place[after_scheme..].find('/').map_or(place.len(), |at| after_scheme + at);
    let settings = settings.map(|settings| format!("?{settings}")).unwrap_or_default();
    format!("{}/{name}{settings}", &place[..end])
}

async fn write_batch(db: &mut PgConnection, batch: &RawRows, chain: &str, before: i64) -> Result<i64, sqlx::Error> {
    let seqs: Vec<i64> = (before + 1..).take(batch.ids.len()).collect();
    raw_sql("BEGIN").execute(&mut *db).await?;
    query(
        "UPDATE tasks AS t SET status = n.status, rev = n.rev, updated_at = n.updated_at, worker_id = n.worker_id,
             lease_id = n.lease_id, lease_until = n.lease_until, attempt = n.attempt, body = n.body
         FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::uuid[], $6::uuid[], $7::bigint[],
             $8::bigint[], $9::text[])
             AS n (id, status, rev, updated_at, worker_id, lease_id, lease_until, attempt, body)
         WHERE t.id = n.id",
    )
    .bind(&batch.ids)
    .bind(&batch.statuses)
    .bind(&batch.revs)
    .bind(&batch.updated)
    .bind(&batch.workers)
    .bind(&batch.leases)
    .bind(&batch.leased_until)
    .bind(&batch.attempts)
    .bind(&batch.bodies)
    .execute(&mut *db)
    .await?;
    query(
        "INSERT INTO raw_logs (task_id, action, agent_id, timestamp, review_status, chain, seq, prev_hash, hash, detail)
         SELECT n.task_id, 'task.leased', 'worker:0190f3c2-7b1e-7c3a-9f00-0123456789ab', 0, 'none', $1, n.seq, n.hash,
             n.hash, n.detail
         FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[]) AS n (task_id, seq, hash, detail)",
    )
    .bind(chain)
    .bind(&batch.ids)
    .bind(seqs)
    .bind(&batch.hashes)
    .bind(&batch.details)
    .execute(&mut *db)
    .await?;
    raw_sql("COMMIT").execute(&mut *db).await?;
    Ok(before + batch.ids.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_beside_has_the_same_server() {
        assert_eq!(beside("postgres://u:p@h:1/db?sslmode=disable", "x"), "postgres://u:p@h:1/x?sslmode=disable");
        assert_eq!(beside("postgres://h", "x"), "postgres://h/x");
    }
}
