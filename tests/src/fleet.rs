//! Several processes of the program on one PostgreSQL: each with roles and a data folder of its own, all with one `social`.
//!
//! `CHIMERA_TEST_POSTGRES` says where the server is; `cargo xtask test` starts one and sets it. Each fleet has a schema of
//! its own. Called by the tests of several processes.

use crate::campaign::{GOAL, inputs, list, text};
use crate::network::Namespace;
use crate::{PATIENCE, Server, binary, invariants};
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The server's address.
fn server() -> String {
    std::env::var("CHIMERA_TEST_POSTGRES").expect(
        "CHIMERA_TEST_POSTGRES is not set: run `cargo xtask test`, or `cargo xtask services up` and what it prints",
    )
}

/// A schema on a server, dropped with this.
pub struct Database {
    server: String,
    schema: String,
}

impl Database {
    /// Makes an empty one on the server that all tests share.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn create() -> Result<Self> {
        Self::create_on(server()).await
    }

    /// Makes an empty one on another server.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn create_on(server: String) -> Result<Self> {
        let schema = format!("f{}", Uuid::now_v7().simple());
        let mut db = PgConnection::connect(&server).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut db).await?;
        Ok(Self { server, schema })
    }

    /// The address that a process is given.
    pub fn url(&self) -> String {
        self.url_by(&self.server)
    }

    /// The same for a process that reaches the server by another address.
    pub fn url_by(&self, server: &str) -> String {
        let separator = if server.contains('?') { '&' } else { '?' };
        format!("{server}{separator}options[search_path]={schema}&application_name={schema}", schema = self.schema)
    }

    /// Ends every connection of the processes, as an administrator would; their number.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn cut(&self) -> Result<i64> {
        self.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name = current_schema() AND pid <> pg_backend_pid()",
        )
        .await
    }

    /// A connection of the test's own.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url()).await?)
    }

    /// The one number that a query gives.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        let mut db = self.connect().await?;
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut db).await?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (drop_it, server) = (format!("DROP SCHEMA {} CASCADE", self.schema), self.server.clone());
        // A thread of its own, because the test's runtime may not be waited for here.
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // A server that is gone has taken it along.
                if let Ok(mut db) = PgConnection::connect(&server).await {
                    let _ = sqlx::raw_sql(AssertSqlSafe(drop_it)).execute(&mut db).await;
                }
            });
        });
        let _ = done.join();
    }
}

/// The processes; all are killed when this is dropped, before their database goes.
pub struct Fleet {
    processes: BTreeMap<String, Server>,
    environment: Vec<(String, String)>,
    /// Where the truth is.
    pub database: Database,
    /// Holds the data folders, and `social`'s posts.
    pub folder: tempfile::TempDir,
}

impl Fleet {
    /// An empty fleet.
    ///
    /// # Errors
    /// When no schema can be made.
    pub async fn create() -> Result<Self> {
        Self::create_on(Database::create().await?)
    }

    /// An empty fleet on this database.
    ///
    /// # Errors
    /// When there is no room for its folder.
    pub fn create_on(database: Database) -> Result<Self> {
        let environment = vec![("CHIMERA_STORE".to_owned(), database.url())];
        Ok(Self { processes: BTreeMap::new(), environment, database, folder: tempfile::tempdir()? })
    }

    /// A further variable for every process that is started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts a process of these roles, in a data folder of that name, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&mut self, name: &str, roles: &str) -> Result<()> {
        self.start_with(name, roles, &[]).await
    }

    /// As [`Fleet::start`], with further variables.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_with(&mut self, name: &str, roles: &str, environment: &[(&str, &str)]) -> Result<()> {
        self.spawn(name, roles, environment)?;
        self.process(name).wait_until_ready().await
    }

    /// Starts a process without waiting for it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&mut self, name: &str, roles: &str, environment: &[(&str, &str)]) -> Result<()> {
        self.spawn_by(&[], name, roles, environment)
    }

    /// Starts a worker inside a network namespace and waits until it has said in the database that it is there: nobody
    /// outside can ask it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_worker_in(&mut self, at: &Namespace, name: &str, environment: &[(&str, &str)]) -> Result<()> {
        const WORKERS: &str = "SELECT count(*) FROM agents WHERE type = 'worker' AND status = 'active'";
        let before = self.database.number(WORKERS).await?;
        self.spawn_by(&at.launcher(), name, "worker", environment)?;
        let started = Instant::now();
        while self.database.number(WORKERS).await? <= before {
            ensure!(started.elapsed() < PATIENCE, "{name} is not there:\n{}", self.process(name).log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn spawn_by(&mut self, launcher: &[&str], name: &str, roles: &str, environment: &[(&str, &str)]) -> Result<()> {
        let data = self.folder.path().join(name);
        std::fs::create_dir_all(&data)?;
        let config = format!(
            "[mcp.servers.social]\ncommand = {:?}\nargs = [\"mcp\", \"serve\", \"social\", \"--state\", {:?}]\n\
             idempotency = {{ argument = \"idempotency_key\" }}\n",
            binary(),
            self.posts_file(),
        );
        std::fs::write(data.join("chimera.toml"), config)?;
        let mut all: Vec<(&str, &str)> = self.environment.iter().map(|(key, value)| (&**key, &**value)).collect();
        all.push(("CHIMERA_ROLES", roles));
        all.extend(environment);
        let process = Server::spawn_by(launcher, &data, &all)?;
        self.processes.insert(name.to_owned(), process);
        Ok(())
    }

    /// A process that was started.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn process(&mut self, name: &str) -> &mut Server {
        self.processes.get_mut(name).unwrap_or_else(|| panic!("no process is called {name}"))
    }

    /// The file with everything that was published.
    pub fn posts_file(&self) -> PathBuf {
        self.folder.path().join("social.json")
    }

    /// Gives standalone tasks to a process that serves the API, many at a time; their ids.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn give(&mut self, api: &str, skill: &str, input: &Value, count: usize) -> Result<Vec<String>> {
        self.process(api).give(skill, input, count).await
    }

    /// Begins a campaign whose last step publishes; its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn begin_campaign(&mut self, api: &str) -> Result<String> {
        let body = json!({ "title": "fleet", "goal": GOAL, "inputs": inputs() });
        let made = self.process(api).post("/api/v1/campaigns", &body).await?;
        Ok(text(made.get("id").unwrap_or(&made["campaign"]["id"])))
    }

    /// Answers yes to everything that a campaign asks just now.
    ///
    /// # Errors
    /// When an answer is refused.
    pub async fn answer(&mut self, api: &str, campaign: &str) -> Result<()> {
        let open = self.process(api).get(&format!("/api/v1/approvals?state=open&campaign={campaign}")).await?;
        for approval in list(&open) {
            let path = format!("/api/v1/approvals/{}/decide", text(&approval["id"]));
            self.process(api).post(&path, &json!({ "decision": "approve" })).await?;
        }
        Ok(())
    }

    /// Answers yes to everything until the campaign is completed.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time.
    pub async fn finish_campaign(&mut self, api: &str, campaign: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            self.answer(api, campaign).await?;
            let view = self.process(api).get(&format!("/api/v1/campaigns/{campaign}")).await?;
            match text(&view["campaign"]["state"]).as_str() {
                "completed" => return Ok(()),
                ended @ ("rejected" | "failed" | "cancelled") => bail!("the campaign is {ended}: {view:#}"),
                _ => ensure!(started.elapsed() < PATIENCE, "it does not end:\n{}", self.describe().await?),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every task of the database has ended; how many ended approved.
    ///
    /// # Errors
    /// When nothing moves any more for [`PATIENCE`], with what is left.
    pub async fn settle(&self) -> Result<i64> {
        const LEFT: &str =
            "SELECT count(*) FROM tasks WHERE status NOT IN ('approved', 'rejected', 'failed', 'cancelled')";
        let (mut left, mut moved) = (i64::MAX, Instant::now());
        loop {
            // The server may be away just now.
            let Ok(now) = self.database.number(LEFT).await else {
                ensure!(moved.elapsed() <= PATIENCE, "the database is away");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if now == 0 {
                return self.database.number("SELECT count(*) FROM tasks WHERE status = 'approved'").await;
            }
            if now < left {
                (left, moved) = (now, Instant::now());
            }
            if moved.elapsed() > PATIENCE {
                bail!("{now} tasks do not end:\n{}", self.describe().await?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the audit log says that some process uses that queue from then on; it was using `from` before.
    ///
    /// # Errors
    /// When nobody does within [`PATIENCE`].
    pub async fn switched(&self, from: &str, to: &str) -> Result<()> {
        let sql = format!(
            "SELECT count(*) FROM audit_logs WHERE action = 'queue.switched'
                 AND detail::json #>> '{{switch,from}}' = '{from}' AND detail::json #>> '{{switch,to}}' = '{to}'"
        );
        let started = Instant::now();
        while self.database.number(&sql).await? == 0 {
            ensure!(started.elapsed() < PATIENCE, "nobody went from {from} to {to}:\n{}", self.describe().await?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn describe(&self) -> Result<String> {
        let mut db = self.database.connect().await?;
        let left: Vec<(String, i64, i64)> =
            sqlx::query_as("SELECT status, count(*), count(lease_id) FROM tasks GROUP BY status ORDER BY status")
                .fetch_all(&mut db)
                .await?;
        let mut lines: Vec<String> =
            left.iter().map(|(status, tasks, leased)| format!("{status}: {tasks}, {leased} leased")).collect();
        lines.extend(self.processes.iter().map(|(name, process)| format!("--- {name}\n{}", process.log_tail())));
        Ok(lines.join("\n"))
    }

    /// What must hold whatever happened: of every task one accepted result, no attempt accepted twice, no effect twice,
    /// every audit chain as it was written.
    ///
    /// # Errors
    /// With what does not hold.
    pub async fn check(&mut self, api: &str) -> Result<()> {
        invariants::check("detail::json", async |sql| self.database.number(sql).await).await?;
        let audit = self.process(api).get("/api/v1/audit/verify").await?;
        ensure!(audit["valid"] == json!(true), "the audit chain is broken: {audit:#}");
        invariants::check_posts(&self.posts_file())?;
        Ok(())
    }
}
