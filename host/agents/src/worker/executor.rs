//! Runs one leased task: resolve and load the skill version, check the input, run it in the sandbox with the ports of
//! this run, check the output.
//!
//! One deadline covers all of it, compiling included, and the run is dropped soon after it whatever happens. The executor
//! writes no state: the reporter does. Called by the worker pool.

use super::callee::{Blame, Callees};
use super::deferred::{DeferredLease, LeaseFirst};
use super::ports::{DeclaredSecrets, RunIdentity, TruthPorts, agent_of};
use crate::planner::LeasedTask;
use chimera_core::clock::Clock;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::journal::{JournalEntry, RecordedEnd, RecordedResult};
use chimera_core::manifest::{Limits, Manifest};
use chimera_core::ports::{Budget, HostPorts, Invocation, McpGateway, MemoryIndex, Scratch, SecretsPort, Truth};
use chimera_core::skill::SkillRef;
use chimera_core::task::{Lease, Usage};
use chimera_registry::{LoadedSkill, Registry, check_value};
use chimera_sandbox::{RunEnd, RunReport, RunRequest, Sandbox, Unwritten};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No task runs longer, whatever its limits say.
pub const TASK_CAP: Duration = Duration::from_secs(30);
/// How long after its deadline a run may take to be dropped.
const GRACE: Duration = Duration::from_millis(800);

/// What an executor works with.
#[derive(Clone)]
pub struct ExecutorDeps {
    /// The truth, for the ports of the runs.
    pub truth: Arc<dyn Truth>,
    /// Where skills come from.
    pub registry: Arc<Registry>,
    /// Where they run.
    pub sandbox: Sandbox,
    /// What opens the outside world for a run.
    pub gateway: Arc<dyn McpGateway>,
    /// The index of agents' memory.
    pub memory: Arc<dyn MemoryIndex>,
    /// Ephemeral memory.
    pub scratch: Arc<dyn Scratch>,
    /// Which secrets are configured.
    pub secrets: Arc<dyn SecretsPort>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Runs tasks. Cheap to clone.
#[derive(Clone)]
pub struct Executor(Arc<ExecutorDeps>);

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").finish_non_exhaustive()
    }
}

/// How a run ended, and who is to be suspended if it broke the rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Executed {
    /// How it ended.
    pub end: RunEnd,
    /// What it used.
    pub usage: Usage,
    /// The skill version that ran, or the one it called that broke the rules.
    pub skill: SkillRef,
    /// What is to be written into the journal with the report.
    pub recording: Recording,
    /// What the task's skill says of itself; none if it was not loaded.
    pub manifest: Option<Arc<Manifest>>,
}

/// What makes a journal complete once its run is over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recording {
    /// What the run held back.
    pub unwritten: Unwritten,
    /// Digest of what it logged and printed; none if it never ran to an end of its own.
    pub logs: Option<Digest>,
}

impl Executed {
    /// A run that failed without having left anything to record.
    pub fn failed(failure: Failure, skill: SkillRef) -> Self {
        let (usage, recording) = (Usage::default(), Recording::default());
        Self { end: RunEnd::Failed(failure), usage, skill, recording, manifest: None }
    }

    /// The entries that complete the journal: what was held back, and how the run ended. A run that goes on later has
    /// no end yet, and one that never began has nothing.
    pub(crate) fn last_entries(&self) -> Vec<JournalEntry> {
        let Recording { unwritten, logs } = &self.recording;
        let result = match &self.end {
            RunEnd::Finished(outcome) => RecordedResult::of(outcome),
            RunEnd::Failed(failure) => RecordedResult::Failure(failure.clone()),
            RunEnd::Suspended(_) | RunEnd::Diverged(_) => return Vec::new(),
        };
        let mut entries = unwritten.entries();
        if let Some(logs) = *logs {
            let end = RecordedEnd { result, usage: self.usage, logs, unanswered: unwritten.unanswered.clone() };
            entries.push(JournalEntry::end(unwritten.next, &end));
        }
        entries
    }
}

/// The digest of what a run logged and printed.
pub(crate) fn digest_of_logs(report: &RunReport) -> Digest {
    let dropped = report.dropped_log_lines.to_le_bytes();
    let lines: Vec<String> = report.logs.iter().map(|line| format!("{:?} {}", line.level, line.message)).collect();
    let parts: Vec<&[u8]> = std::iter::once(&dropped[..]).chain(lines.iter().map(String::as_bytes)).collect();
    Digest::of_parts(&parts)
}

impl Executor {
    /// An executor over these parts.
    pub fn new(deps: ExecutorDeps) -> Self {
        Self(Arc::new(deps))
    }

    pub(crate) fn truth(&self) -> &Arc<dyn Truth> {
        &self.0.truth
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.0.sandbox
    }

    pub(crate) fn memory(&self) -> &Arc<dyn MemoryIndex> {
        &self.0.memory
    }

    pub(crate) fn scratch(&self) -> &Arc<dyn Scratch> {
        &self.0.scratch
    }

    pub(crate) fn secrets(&self) -> &Arc<dyn SecretsPort> {
        &self.0.secrets
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Runs a leased task to its end. Dropping the future drops the guest and everything it waits for.
    pub(crate) async fn execute(
        &self,
        leased: &LeasedTask,
        lease: &Lease,
        deferred: Option<Arc<DeferredLease>>,
    ) -> Executed {
        let started = Instant::now();
        let deadline = started + self.time_for(leased);
        let blame = Arc::new(Blame::default());
        let mut manifest = None;
        let run = self.run(leased, lease, deferred, deadline, &blame, &mut manifest);
        let (report, logs) = match tokio::time::timeout_at((deadline + GRACE).into(), run).await {
            Ok(report) => {
                let logs = (report.unwritten.next > 0).then(|| digest_of_logs(&report));
                (report, logs)
            }
            Err(_) => (failed(deadline_failure("the run did not end at its deadline and was dropped")), None),
        };
        let recording = Recording { unwritten: report.unwritten, logs };
        let mut usage = report.usage;
        usage.wall_ms = usage.wall_ms.max(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let skill = blame.take().unwrap_or_else(|| leased.spec.skill.clone());
        Executed { end: report.end, usage, skill, recording, manifest }
    }

    /// What is left for the run: the smallest of the spec's limit, the host's cap, and the task's own deadline.
    fn time_for(&self, leased: &LeasedTask) -> Duration {
        let until_deadline = leased.task.deadline.map_or(TASK_CAP, |deadline| deadline.since(self.0.clock.now()));
        leased.spec.limits.time().min(TASK_CAP).min(until_deadline)
    }

    async fn run(
        &self,
        leased: &LeasedTask,
        lease: &Lease,
        deferred: Option<Arc<DeferredLease>>,
        deadline: Instant,
        blame: &Arc<Blame>,
        told: &mut Option<Arc<Manifest>>,
    ) -> RunReport {
        let spec = &leased.spec;
        let loaded = match tokio::time::timeout_at(deadline.into(), self.0.registry.load(&spec.skill)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(failure)) => return failed(failure),
            Err(_) => {
                // Compiling goes on without this run, so the next attempt finds it done.
                let message = "the skill could not be made ready before the deadline";
                return failed(Failure::new(FailureKind::Transient, codes::DEADLINE, message));
            }
        };
        let manifest = loaded.version.manifest.clone();
        *told = Some(manifest.clone());
        if let Err(problem) = check_value(&manifest.io.input, &spec.input, deadline).await {
            let kind = FailureKind::InvalidInput;
            return failed(problem.into_failure(kind, codes::INPUT_INVALID, "the input does not fit"));
        }
        let request = RunRequest {
            task_id: leased.task.id.to_string(),
            campaign: leased.task.campaign.map(|id| id.to_string()),
            input: spec.input.clone(),
            limits: within(spec.limits, manifest.limits),
            manifest: manifest.clone(),
            deadline,
            skill_calls: Budget::MAX_CALLS,
        };
        let mut ports = self.ports_for(leased, lease, &loaded, blame);
        if let Some(lease) = deferred {
            ports.journal = Arc::new(LeaseFirst { lease, journal: ports.journal });
        }
        let report = self.0.sandbox.run(&loaded.prepared, request, ports).await;
        held_against_schema(report, &manifest, deadline + GRACE).await
    }

    fn ports_for(&self, leased: &LeasedTask, lease: &Lease, loaded: &LoadedSkill, blame: &Arc<Blame>) -> HostPorts {
        let task = &leased.task;
        let manifest = loaded.version.manifest.clone();
        let run = RunIdentity {
            task: task.id,
            campaign: task.campaign,
            lease: lease.id,
            attempt: task.attempt,
            epoch: task.epoch,
            agent: agent_of(&loaded.version.skill.name),
            path: String::new(),
        };
        let mcp = self.0.gateway.open(Invocation {
            task: task.id,
            campaign: task.campaign,
            lineage: task.lineage,
            lease: Some(lease.id),
            attempt: task.attempt,
            epoch: task.epoch,
            agent: run.agent,
            skill: loaded.version.skill.clone(),
            manifest: manifest.clone(),
        });
        let ports = Arc::new(TruthPorts {
            run: run.clone(),
            truth: self.0.truth.clone(),
            memory: self.0.memory.clone(),
            scratch: self.0.scratch.clone(),
            clock: self.0.clock.clone(),
        });
        HostPorts {
            mcp,
            memory: ports.clone(),
            scratch: ports.clone(),
            trends: ports.clone(),
            skills: Arc::new(Callees {
                executor: self.clone(),
                run,
                caller: manifest.clone(),
                depth: 0,
                blame: blame.clone(),
            }),
            secrets: Arc::new(DeclaredSecrets { manifest, configured: self.0.secrets.clone() }),
            progress: ports.clone(),
            journal: ports,
            clock: self.0.clock.clone(),
            seed: rand::random(),
        }
    }
}

/// The smaller of two limits, one by one.
pub(crate) fn within(wanted: Limits, own: Limits) -> Limits {
    Limits {
        time_ms: wanted.time_ms.min(own.time_ms),
        fuel: wanted.fuel.min(own.fuel),
        memory_mb: wanted.memory_mb.min(own.memory_mb),
        output_kb: wanted.output_kb.min(own.output_kb),
        mcp_calls: wanted.mcp_calls.min(own.mcp_calls),
    }
}

/// The report of a run whose output must fit the skill's own schema.
pub(crate) async fn held_against_schema(mut report: RunReport, manifest: &Manifest, until: Instant) -> RunReport {
    if let RunEnd::Finished(outcome) = &report.end
        && let Err(problem) = check_value(&manifest.io.output, &outcome.output, until).await
    {
        let about = "the output does not fit the skill's own schema";
        let failure = problem.into_failure(FailureKind::Permanent, codes::OUTPUT_INVALID, about);
        report.end = RunEnd::Failed(failure);
    }
    report
}

fn failed(failure: Failure) -> RunReport {
    RunReport::failed(failure)
}

fn deadline_failure(message: &str) -> Failure {
    Failure::new(FailureKind::Permanent, codes::DEADLINE, message)
}
