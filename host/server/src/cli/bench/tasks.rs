//! `chimera bench tasks`: whole tasks a second, from being assigned to a durable verdict.
//!
//! Held against Celery with Redis doing the same JSON work, and against the same rows written by SQL alone; all three take
//! turns. Called by [`super::run`].

use super::Effort;
use super::celery::Celery;
use super::guests;
use super::pipeline::Pipeline;
use super::report::Figure;
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult, Exit};
use crate::cli::output::tell;
use chimera_store::{PostgresFloor, SqliteFloor};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What throughput is held against.
const CELERY: &str = "Celery + Redis, tasks/s";
/// What rows are held against.
const RAW_SQL: &str = "raw batched SQL, rows/s";
/// How often the platform writes a task's row once it is there, at the least: leased, reported and judged at once.
const REWRITES: u64 = 1;
/// The database within the platform's folder.
const DATABASE: &str = "chimera.db";

/// The servers of a cluster.
pub(super) struct Servers {
    pub(super) postgres: String,
    pub(super) redis: String,
}

/// A platform on the servers of a cluster, in a database of its own.
struct Cluster {
    database: PostgresFloor,
    pipeline: Pipeline,
    _folder: tempfile::TempDir,
}

impl Cluster {
    async fn start(env: &Env, echo: &guests::Guest, servers: &Servers) -> CliResult<Self> {
        let folder = tempfile::tempdir().map_err(|error| CliError::failed(error.to_string(), "set TMPDIR"))?;
        let database = PostgresFloor::open(&servers.postgres).await.map_err(unusable)?;
        let own = Servers { postgres: database.url().to_owned(), redis: servers.redis.clone() };
        match Pipeline::start(env, echo, &folder.path().join("data"), Some(&own)).await {
            Ok(pipeline) => Ok(Self { database, pipeline, _folder: folder }),
            Err(error) => {
                database.remove().await.map_err(unusable)?;
                Err(error)
            }
        }
    }

    async fn stop(self) -> CliResult {
        self.pipeline.stop().await;
        self.database.remove().await.map_err(unusable)?;
        Ok(Exit::Done)
    }
}

fn unusable(error: chimera_store::StoreError) -> CliError {
    CliError::failed(error.to_string(), "name servers that run with --postgres URL and --redis URL")
}

pub(super) async fn run(env: &Env, effort: Effort, servers: Option<Servers>) -> CliResult<Vec<Figure>> {
    let echo = guests::built(env, "echo", json!({ "text": "hello" })).await?;
    tell("starting Celery and Redis");
    let mut celery = match apart(Celery::start).await? {
        Ok(celery) => Some(celery),
        Err(why) => {
            tell(&format!("no baseline, and so no ratio: {why}"));
            None
        }
    };
    let folder = tempfile::tempdir().map_err(|error| CliError::failed(error.to_string(), "set TMPDIR"))?;
    tell("starting the platform");
    let data = folder.path().join("data");
    let pipeline = Pipeline::start(env, &echo, &data, None).await?;
    let cluster = match &servers {
        Some(servers) => Some(Cluster::start(env, &echo, servers).await?),
        None => {
            tell("no servers, and so no figure of a cluster: `cargo xtask services up` starts some");
            None
        }
    };
    let (mut ours, mut theirs, mut raw, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut of_cluster = Vec::new();
    let mut floor = None;
    for round in 1..=effort.of(3, 7) {
        tell(&format!("round {round}"));
        if let Some(mut running) = celery.take() {
            let count = effort.of(500, 2_000);
            let (running, rate) = apart(move || (running.round(count), running)).await.map(|(rate, it)| (it, rate))?;
            match rate {
                Ok(rate) => {
                    theirs.push(rate);
                    celery = Some(running);
                }
                Err(why) => tell(&format!("Celery is left out from here on: {why}")),
            }
        }
        let count = effort.of(5_000, 20_000);
        let before = processor_time();
        ours.push(pipeline.round(count).await?);
        let spent = processor_time().saturating_sub(before);
        cpu.push(spent.as_secs_f64() * 1e6 / count as f64);
        if let Some(cluster) = &cluster {
            of_cluster.push(cluster.pipeline.round(count).await?);
        }
        let found = match floor.take() {
            Some(floor) => floor,
            None => Arc::new(read_floor(&data, count).await?),
        };
        raw.push(write_floor(found.clone()).await?);
        floor = Some(found);
    }
    drop(celery);
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    let rate = median(&ours);
    let against_celery = |metric: &'static str, rate: f64| match theirs.is_empty() {
        true => Figure::alone(metric, rate, "tasks/s"),
        false => Figure::against(metric, rate, "tasks/s", median(&theirs), CELERY),
    };
    let mut figures = vec![against_celery("tasks_per_s_embedded", rate)];
    if !of_cluster.is_empty() {
        figures.push(against_celery("tasks_per_s_cluster", median(&of_cluster)));
    }
    figures.push(Figure::alone("task_processor_us", median(&cpu), "us"));
    let found_floor = floor.clone();
    if let Some(floor) = floor {
        let rows_a_task = floor.rows() as f64 / floor.tasks() as f64;
        figures.push(Figure::against("rows_vs_raw_sql", rate * rows_a_task, "rows/s", median(&raw), RAW_SQL));
        figures.push(Figure::alone("rows_a_task", rows_a_task, "rows"));
    }
    tell("at half the load");
    let took = pipeline.at_rate(rate / 2.0, Duration::from_secs(effort.of(3, 15))).await?;
    for (percent, name) in [(50, "task_p50_ms_half_load"), (99, "task_p99_ms_half_load")] {
        let at = (took.len() * percent).div_ceil(100).saturating_sub(1);
        let took = took.get(at).copied().unwrap_or_default();
        figures.push(Figure::alone(name, took.as_secs_f64() * 1000.0, "ms"));
    }
    pipeline.stop().await;
    if let Some(floor) = found_floor {
        figures.push(in_a_large_table(env, &echo, &data, floor, median(&cpu), effort).await?);
    }
    Ok(figures)
}

/// Rounds and nothing beside them: what is in the process is the platform and who gives it its tasks.
pub(super) async fn alone(env: &Env, effort: Effort, servers: Option<Servers>) -> CliResult<Vec<Figure>> {
    let echo = guests::built(env, "echo", json!({ "text": "hello" })).await?;
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    let mut measure = async |pipeline: &Pipeline| {
        for _ in 0..effort.of(5, 15) {
            let count = effort.of(10_000, 20_000);
            let before = processor_time();
            rates.push(pipeline.round(count).await?);
            cpu.push(processor_time().saturating_sub(before).as_secs_f64() * 1e6 / count as f64);
        }
        CliResult::Ok(())
    };
    let name = match servers {
        Some(servers) => {
            let cluster = Cluster::start(env, &echo, &servers).await?;
            let measured = measure(&cluster.pipeline).await;
            cluster.stop().await?;
            measured?;
            "tasks_per_s_cluster"
        }
        None => {
            let folder = tempfile::tempdir().map_err(|error| CliError::failed(error.to_string(), "set TMPDIR"))?;
            let pipeline = Pipeline::start(env, &echo, &folder.path().join("data"), None).await?;
            measure(&pipeline).await?;
            pipeline.stop().await;
            "tasks_per_s_embedded"
        }
    };
    Ok(vec![Figure::alone(name, median(&rates), "tasks/s"), Figure::alone("task_processor_us", median(&cpu), "us")])
}

/// What a task costs when very many were done before it, over what it cost when few were.
async fn in_a_large_table(
    env: &Env,
    echo: &guests::Guest,
    data: &Path,
    floor: Arc<SqliteFloor>,
    small: f64,
    effort: Effort,
) -> CliResult<Figure> {
    let count = effort.of(100_000, 1_000_000);
    tell(&format!("filling the table with {count} finished tasks"));
    let database = data.join(DATABASE);
    let filled = apart(move || floor.fill(&database, count)).await?;
    filled.map_err(|error| CliError::failed(error.to_string(), "give the temporary folder 4 GB"))?;
    let pipeline = Pipeline::start(env, echo, data, None).await?;
    let mut cpu = Vec::new();
    for _ in 0..effort.of(2, 5) {
        let count = effort.of(5_000, 20_000);
        let before = processor_time();
        pipeline.round(count).await?;
        cpu.push(processor_time().saturating_sub(before).as_secs_f64() * 1e6 / count as f64);
    }
    pipeline.stop().await;
    let metric = format!("task_processor_us_after_{count}");
    Ok(Figure::against(metric, median(&cpu), "us", small, "after a few thousand"))
}

/// The rows of the tasks that were done last.
async fn read_floor(data: &Path, tasks: usize) -> CliResult<SqliteFloor> {
    let (database, most) = (data.join(DATABASE), u32::try_from(tasks).unwrap_or(u32::MAX));
    apart(move || SqliteFloor::read(&database, most, REWRITES))
        .await?
        .map_err(|error| CliError::failed(error.to_string(), ""))
}

/// Writes them by SQL alone, into a database of their own; rows a second.
async fn write_floor(floor: Arc<SqliteFloor>) -> CliResult<f64> {
    apart(move || {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let took = floor.write(folder.path()).map_err(|error| error.to_string())?;
        Ok(floor.rows() as f64 / took.as_secs_f64())
    })
    .await?
    .map_err(|error: String| CliError::failed(error, ""))
}

/// What this process has had of the processors so far. Of a machine that others use too it says more than a rate does.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: the 12th and 13th field are in hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// What blocks, beside the runtime.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> CliResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| CliError::failed(format!("the benchmark failed: {error}"), ""))
}

/// The middle of some figures.
pub(super) fn median(found: &[f64]) -> f64 {
    let mut found = found.to_vec();
    found.sort_unstable_by(f64::total_cmp);
    found.get(found.len() / 2).copied().unwrap_or(f64::NAN)
}
