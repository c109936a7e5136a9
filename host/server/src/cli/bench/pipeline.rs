//! A whole Chimera in this process, and rounds of tasks through it.
//!
//! A task of a round goes the way of every task: assigned, leased, run as a real component with its schemas held, judged,
//! audited, and durable. It is counted once its verdict is. Only the network is left out. Called by the benchmark of tasks.

use super::guests::Guest;
use super::tasks::Servers;
use crate::address::Address;
use crate::cli::Env;
use crate::cli::error::{CliError, CliResult};
use crate::cli::inputs::read_capped;
use crate::config::{Flags, Setting, Store};
use crate::wiring::Platform;
use chimera_agents::planner::{AssignSpec, NewTask};
use chimera_core::audit::Actor;
use chimera_core::ids::{SpecId, SystemIds, TaskId};
use chimera_core::ports::listen::{Heard, Listener};
use chimera_core::ports::{Notice, Truth};
use chimera_core::task::TaskState;
use chimera_registry::MAX_COMPONENT_BYTES;
use futures::FutureExt as _;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tasks that run at once: enough to keep every batch full, and to run others while one is written.
const WORKERS: usize = 512;
/// Tasks that are assigned with one call.
const AT_ONCE: usize = 500;
/// How long a round may stand still before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing may be heard before the truth is asked.
const QUIET: Duration = Duration::from_millis(200);

/// A platform with one skill.
pub(super) struct Pipeline {
    platform: Platform,
    skill: String,
}

/// Tasks that are on their way, each with the moment when it was assigned.
struct OnTheirWay {
    listener: Box<dyn Listener>,
    waiting: HashMap<TaskId, Instant>,
    took: Vec<Duration>,
}

impl Pipeline {
    /// Starts it on an empty folder, and on an empty database if there are servers, and has it do a few tasks.
    pub(super) async fn start(env: &Env, guest: &Guest, folder: &Path, servers: Option<&Servers>) -> CliResult<Self> {
        let mut config = env.config_with(Flags { data_dir: Some(folder.to_owned()), ..env.flags() })?;
        config.workers = Setting::flag(WORKERS, "bench");
        (config.store, config.redis, config.redis_backup) = (Setting::flag(Store::Sqlite, "bench"), None, None);
        if let Some(servers) = servers {
            let address = |url: &str, scheme: &str| {
                Address::parse(url, &[scheme], "redis://host:6379")
                    .map_err(|problem| CliError::usage(format!("the address of a server {problem}"), ""))
            };
            config.store = Setting::flag(Store::Postgres(address(&servers.postgres, "postgres")?), "bench");
            config.redis = Some(Setting::flag(address(&servers.redis, "redis")?, "bench"));
            // A shard of its own: nobody else takes what is on its queue.
            config.planner_id = Setting::flag(format!("bench-{}", SpecId::new(&SystemIds)), "bench");
        }
        let platform =
            Platform::start(config).await.map_err(|error| failed("the platform cannot be started", error))?;
        let wasm = read_capped(&guest.component, MAX_COMPONENT_BYTES as u64)?;
        let registry = platform.handles().registry.clone();
        let installed = registry.install(wasm, Actor::System).await.map_err(|error| failed("the echo", error))?;
        let pipeline = Self { platform, skill: installed.version.skill.name.to_string() };
        pipeline.round(200).await?;
        Ok(pipeline)
    }

    fn truth(&self) -> &Arc<dyn Truth> {
        &self.platform.handles().truth
    }

    /// Does so many tasks as fast as it can; tasks a second, from the first one assigned to the last verdict.
    pub(super) async fn round(&self, tasks: usize) -> CliResult<f64> {
        let mut under_way = OnTheirWay::listen(self.truth().as_ref());
        let started = Instant::now();
        let mut made = 0;
        while made < tasks {
            let some: Vec<NewTask> = (made..tasks.min(made + AT_ONCE)).map(|number| self.task(number)).collect();
            made += some.len();
            self.assign(some, &mut under_way, started).await?;
            // Heard of as it goes: what waits too long to be heard is lost.
            under_way.hear_what_came();
        }
        under_way.wait(self.truth().as_ref()).await?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(tasks as f64 / seconds)
    }

    /// Tasks at so many a second for so long: how long each took from being assigned to its verdict, sorted.
    pub(super) async fn at_rate(&self, rate: f64, span: Duration) -> CliResult<Vec<Duration>> {
        let mut under_way = OnTheirWay::listen(self.truth().as_ref());
        let started = Instant::now();
        let tasks = (rate * span.as_secs_f64()) as usize;
        let mut made = 0;
        while made < tasks {
            let due = ((started.elapsed().as_secs_f64() * rate) as usize + 1).min(tasks);
            if due > made {
                // Callers of their own, who come when they come: nobody waits for the one before. Each is timed from when
                // it should have come.
                let some: Vec<NewTask> = (made..due).map(|number| self.task(number)).collect();
                let came = started + Duration::from_secs_f64(made as f64 / rate);
                made = due;
                self.assign(some, &mut under_way, came).await?;
            }
            under_way.hear_what_came();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        under_way.wait(self.truth().as_ref()).await?;
        under_way.took.sort_unstable();
        Ok(under_way.took)
    }

    fn task(&self, number: usize) -> NewTask {
        let spec = AssignSpec {
            skill: self.skill.clone(),
            input: json!({ "text": format!("task {number}") }),
            limits: None,
            goal: None,
            expect: None,
        };
        NewTask { id: TaskId::new(self.platform.handles().ids.as_ref()), spec, priority: 5, deadline: None }
    }

    async fn assign(&self, tasks: Vec<NewTask>, under_way: &mut OnTheirWay, since: Instant) -> CliResult<()> {
        under_way.waiting.extend(tasks.iter().map(|task| (task.id, since)));
        for made in self.platform.handles().scheduler.assign_all(tasks, Actor::System).await {
            made.map_err(|error| failed("a task was not taken", error))?;
        }
        Ok(())
    }

    /// Stops it.
    pub(super) async fn stop(self) {
        self.platform.shutdown().await;
    }
}

impl OnTheirWay {
    fn listen(truth: &dyn Truth) -> Self {
        Self { listener: truth.subscribe(), waiting: HashMap::new(), took: Vec::new() }
    }

    fn hear(&mut self, heard: &Heard) {
        if let Heard::Notice(Notice::Audited(event)) = heard
            && event.draft.action == "task.approved"
            && let Some(since) = event.draft.task.and_then(|task| self.waiting.remove(&task))
        {
            self.took.push(since.elapsed());
        }
    }

    fn hear_what_came(&mut self) {
        while let Some(heard) = self.listener.next().now_or_never() {
            self.hear(&heard);
            if heard == Heard::Closed {
                return;
            }
        }
    }

    /// Until every verdict is durable. Notices are hints and may be lost: when none comes the truth is asked.
    async fn wait(&mut self, truth: &dyn Truth) -> CliResult<()> {
        let mut moved = Instant::now();
        while !self.waiting.is_empty() {
            let before = self.waiting.len();
            self.hear_what_came();
            if self.waiting.is_empty() {
                break;
            }
            match tokio::time::timeout(QUIET, self.listener.next()).await {
                Ok(Heard::Closed) => return Err(failed("the round", "the store was closed")),
                Ok(heard) => self.hear(&heard),
                Err(_) => self.ask(truth).await?,
            }
            if self.waiting.len() < before {
                moved = Instant::now();
            } else if moved.elapsed() > PATIENCE {
                return Err(failed("the round", format!("{} tasks never got a verdict", self.waiting.len())));
            }
        }
        Ok(())
    }

    async fn ask(&mut self, truth: &dyn Truth) -> CliResult<()> {
        let waiting: Vec<TaskId> = self.waiting.keys().copied().collect();
        for id in waiting {
            let task = truth.task(id).await.map_err(|error| failed("a task cannot be read", error))?;
            let Some(task) = task else { continue };
            if task.state == TaskState::Approved {
                if let Some(since) = self.waiting.remove(&id) {
                    self.took.push(since.elapsed());
                }
            } else if task.state.is_final() {
                return Err(failed("a task", format!("it ended as {}", task.state.as_str())));
            }
        }
        Ok(())
    }
}

fn failed(what: &str, why: impl std::fmt::Display) -> CliError {
    CliError::failed(format!("{what}: {why}"), "see `chimera doctor`")
}
