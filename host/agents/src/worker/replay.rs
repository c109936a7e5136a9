//! Runs a task again from its journal, without touching the world, and says whether it is the same.
//!
//! Nothing is asked of a port, nothing is written, nobody waits: every answer is the recorded one, and the first call that
//! was not recorded ends the replay. What is the same must be the same bit for bit: output, confidence, evidence, fuel,
//! memory, calls and log. Called by `POST /api/v1/tasks/{id}/replay`.

use super::executor::{digest_of_logs, held_against_schema, within};
use crate::error::AgentError;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, LimitName, codes};
use chimera_core::ids::TaskId;
use chimera_core::journal::{Divergence, JournalEntry, RecordedEnd, RecordedResult};
use chimera_core::manifest::Manifest;
use chimera_core::ports::{Budget, Truth};
use chimera_core::skill::SkillRef;
use chimera_core::task::{Task, TaskSpec, Usage};
use chimera_registry::{Registry, check_value};
use chimera_sandbox::{Prepared, RunEnd, RunReport, RunRequest, Sandbox, Tape};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Longest time that one replay takes. Waits are not waited for again, so most take a moment.
pub const REPLAY_CAP: Duration = Duration::from_secs(60);
/// Replays at once: they are for looking, and must not crowd out the work.
const AT_ONCE: usize = 2;
/// Longest wait for one of those places.
const PATIENCE: Duration = Duration::from_secs(10);

/// Replays tasks. Cheap to clone.
#[derive(Clone)]
pub struct Replayer {
    truth: Arc<dyn Truth>,
    registry: Arc<Registry>,
    sandbox: Sandbox,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Replayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayer").finish_non_exhaustive()
    }
}

/// What is run in place of the version that was recorded.
pub struct Changed {
    /// Its code.
    pub prepared: Arc<Prepared>,
    /// What it declares: it is held to this, not to what the recorded version declared.
    pub manifest: Arc<Manifest>,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// The task.
    pub task: TaskId,
    /// Which of its starts.
    pub epoch: u32,
    /// The version that was recorded.
    pub skill: SkillRef,
    /// The component that ran now.
    pub component: Digest,
    /// The recorded host calls, in order.
    pub calls: Vec<ReplayedCall>,
    /// Whether it is the same.
    pub verdict: Verdict,
    /// What the replay used.
    pub usage: Usage,
}

/// One recorded host call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayedCall {
    /// Its number.
    pub ordinal: u32,
    /// `interface.function`.
    pub call: String,
    /// Whether the replay made the same one.
    pub same: bool,
}

/// Whether a replay is what was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Verdict {
    /// Bit for bit.
    Identical,
    /// The same up to where the host, and not the skill, ended the run: at a deadline, a refusal, a question.
    SameUntilEnded {
        /// How the host ended it.
        by: Failure,
    },
    /// Another host call than was recorded.
    Diverged(Divergence),
    /// The same host calls, and something else that is not the same.
    Different {
        /// What.
        field: &'static str,
        /// As it was recorded.
        recorded: String,
        /// As it is now.
        replayed: String,
    },
}

impl Verdict {
    /// Is everything the same that can be?
    pub const fn is_same(&self) -> bool {
        matches!(self, Self::Identical | Self::SameUntilEnded { .. })
    }
}

/// A journal with its end.
struct Recorded {
    entries: Vec<JournalEntry>,
    end: RecordedEnd,
}

impl Replayer {
    /// A replayer over these parts.
    pub fn new(truth: Arc<dyn Truth>, registry: Arc<Registry>, sandbox: Sandbox) -> Self {
        Self { truth, registry, sandbox, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Replays one start of a task, the last one if none is named; with another component if one is given.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the run is not over or its journal is gone; `Invalid` when the version can no longer
    /// be made ready; `Unavailable`.
    pub async fn replay(&self, id: TaskId, epoch: Option<u32>, changed: Option<Changed>) -> Result<Replay, AgentError> {
        let busy = || AgentError::Unavailable("other tasks are being replayed; try again".to_owned());
        let _place = tokio::time::timeout(PATIENCE, self.places.acquire()).await.map_err(|_| busy())?;
        let not_found = || AgentError::NotFound(format!("there is no task {id}"));
        let task = self.truth.task(id).await?.ok_or_else(not_found)?;
        let spec = self.truth.spec(task.spec_id).await?.ok_or_else(not_found)?;
        let epoch = epoch.unwrap_or(task.epoch);
        let recorded = self.recorded(&task, epoch).await?;
        let Changed { prepared, manifest } = match changed {
            Some(changed) => changed,
            None => self.as_recorded(&spec).await?,
        };
        let report = self.run(&task, &spec, &recorded, &prepared, &manifest).await?;
        let code = if prepared.digest() == spec.skill.digest { Code::Same } else { Code::Changed };
        let verdict = verdict(&recorded, &report, code);
        Ok(Replay {
            task: id,
            epoch,
            skill: spec.skill,
            component: prepared.digest(),
            calls: calls(&recorded, &verdict),
            verdict,
            usage: report.usage,
        })
    }

    async fn recorded(&self, task: &Task, epoch: u32) -> Result<Recorded, AgentError> {
        let mut entries = self.truth.journal(task.id, epoch).await?;
        let Some(end) = entries.iter().find_map(JournalEntry::as_end) else {
            return Err(AgentError::Conflict(if task.epoch == epoch && !task.state.is_final() {
                format!("the run of task {} is not over; replay it when it is", task.id)
            } else {
                format!(
                    "there is no complete journal of start {epoch} of task {}: a journal is kept for seven days after its \
                     task ended, that of an earlier start for an hour, and there is none of a run that never began, that \
                     somebody else's worker did, or whose host died",
                    task.id
                )
            }));
        };
        entries.retain(|entry| entry.as_end().is_none());
        Ok(Recorded { entries, end })
    }

    async fn as_recorded(&self, spec: &TaskSpec) -> Result<Changed, AgentError> {
        let unusable = |failure: Failure| {
            let message = format!("{} cannot be run again: {}", spec.skill, failure.message);
            if failure.kind == FailureKind::Transient {
                AgentError::Unavailable(message)
            } else {
                AgentError::Invalid(message)
            }
        };
        let loaded = self.registry.load_whatever_its_state(&spec.skill).await.map_err(unusable)?;
        Ok(Changed { prepared: loaded.prepared.clone(), manifest: loaded.version.manifest.clone() })
    }

    async fn run(
        &self,
        task: &Task,
        spec: &TaskSpec,
        recorded: &Recorded,
        prepared: &Arc<Prepared>,
        manifest: &Arc<Manifest>,
    ) -> Result<RunReport, AgentError> {
        let deadline = Instant::now() + REPLAY_CAP;
        check_value(&manifest.io.input, &spec.input, deadline)
            .await
            .map_err(|unfit| AgentError::unfit(unfit, "the task's input does not fit this component"))?;
        let told = within(spec.limits, manifest.limits);
        let mut limits = told;
        if was_late(&recorded.end) {
            // No clock ends a replay. It is let go on exactly as far as the run got by itself.
            limits.fuel = limits.fuel.min(recorded.end.usage.fuel);
        }
        let request = RunRequest {
            task_id: task.id.to_string(),
            campaign: task.campaign.map(|id| id.to_string()),
            input: spec.input.clone(),
            limits,
            manifest: manifest.clone(),
            deadline,
            skill_calls: Budget::MAX_CALLS,
        };
        let tape = Tape { skill: spec.skill.digest, limits: told, entries: recorded.entries.clone() };
        let run = {
            let (sandbox, prepared) = (self.sandbox.clone(), prepared.clone());
            async move { sandbox.replay(&prepared, request, tape).await }
        };
        let ended = |error| AgentError::Unavailable(format!("the replay was not brought to an end: {error}"));
        let report = self.sandbox.spawn(run).await.map_err(ended)?;
        match &report.end {
            // The replay's own trouble says nothing of the task.
            RunEnd::Failed(failure) if failure.kind == FailureKind::Transient && failure.limit.is_none() => {
                Err(AgentError::Unavailable(failure.message.clone()))
            }
            RunEnd::Failed(failure) if is_late(failure) => {
                Err(AgentError::Unavailable(format!("the replay did not end within {} s", REPLAY_CAP.as_secs())))
            }
            _ => Ok(held_against_schema(report, manifest, deadline).await),
        }
    }
}

/// Is the code that runs now the recorded one?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Same,
    Changed,
}

/// Did the host end it at a deadline? A skill may return a failure with the same code, but never with a limit.
fn is_late(failure: &Failure) -> bool {
    failure.limit.is_some_and(|limit| limit.name == LimitName::Time)
}

fn was_late(end: &RecordedEnd) -> bool {
    matches!(&end.result, RecordedResult::Failure(failure) if is_late(failure))
}

/// The replay ended before it made every recorded call.
fn ended_early(recorded: &Recorded, report: &RunReport) -> Option<Divergence> {
    let ordinal = report.unwritten.next;
    let answered = recorded.entries.iter().find(|entry| entry.ordinal == ordinal).map(|entry| entry.call.to_string());
    let call = || recorded.end.unanswered.iter().find(|call| call.ordinal == ordinal).map(|call| call.call.to_string());
    let recorded = answered.or_else(call)?;
    Some(Divergence { ordinal, recorded, asked: "nothing: the skill ended".to_owned() })
}

/// The recorded calls, each the same up to where the replay took another turn.
fn calls(recorded: &Recorded, verdict: &Verdict) -> Vec<ReplayedCall> {
    let until = match verdict {
        Verdict::Diverged(divergence) => divergence.ordinal,
        _ => u32::MAX,
    };
    let call = |entry: &JournalEntry| ReplayedCall {
        ordinal: entry.ordinal,
        call: entry.call.to_string(),
        same: entry.ordinal < until,
    };
    recorded.entries.iter().map(call).collect()
}

fn verdict(recorded: &Recorded, report: &RunReport, code: Code) -> Verdict {
    let end = &recorded.end;
    let asked = |divergence: &Divergence| report.unwritten.unanswered.iter().find(|c| c.ordinal == divergence.ordinal);
    match (&report.end, &end.result) {
        // The same call got no answer when it was recorded: the host ended the run there.
        (RunEnd::Diverged(divergence), RecordedResult::Failure(by))
            if asked(divergence).is_some_and(|call| end.unanswered.contains(call)) =>
        {
            Verdict::SameUntilEnded { by: by.clone() }
        }
        (RunEnd::Diverged(divergence), _) => Verdict::Diverged(divergence.clone()),
        _ => match ended_early(recorded, report) {
            Some(divergence) => Verdict::Diverged(divergence),
            None => compared(end, report, code),
        },
    }
}

/// The verdict on a replay that made every recorded call.
fn compared(end: &RecordedEnd, report: &RunReport, code: Code) -> Verdict {
    match (&report.end, &end.result) {
        (RunEnd::Failed(failure), RecordedResult::Failure(by)) if was_late(end) && failure.code == codes::FUEL => {
            Verdict::SameUntilEnded { by: by.clone() }
        }
        (RunEnd::Finished(outcome), RecordedResult::Outcome(digest)) => match RecordedResult::of(outcome) {
            RecordedResult::Outcome(now) if now != *digest => different("outcome", digest, &now),
            _ => figures(end, report, code),
        },
        (RunEnd::Failed(failure), RecordedResult::Failure(by)) => {
            let shown = |failure: &Failure| format!("{} {}: {}", failure.kind.as_str(), failure.code, failure.message);
            if (failure.kind, &failure.code) == (by.kind, &by.code) && failure.message == by.message {
                figures(end, report, code)
            } else {
                different("failure", &shown(by), &shown(failure))
            }
        }
        (now, then) => {
            let then = match then {
                RecordedResult::Outcome(digest) => format!("an outcome ({digest})"),
                RecordedResult::Failure(failure) => failure.to_string(),
            };
            let now = match now {
                RunEnd::Finished(_) => "an outcome".to_owned(),
                RunEnd::Failed(failure) => failure.to_string(),
                RunEnd::Suspended(_) | RunEnd::Diverged(_) => "no end".to_owned(),
            };
            different("end", &then, &now)
        }
    }
}

/// What else must be the same of two runs with the same result. Other code takes other fuel and memory.
fn figures(end: &RecordedEnd, report: &RunReport, code: Code) -> Verdict {
    let (then, now) = (&end.usage, &report.usage);
    let figures = [
        ("fuel", then.fuel, now.fuel),
        ("peak-memory-bytes", then.peak_memory_bytes, now.peak_memory_bytes),
        ("host-calls", then.host_calls.into(), now.host_calls.into()),
        ("mcp-calls", then.mcp_calls.into(), now.mcp_calls.into()),
    ];
    let skipped = match code {
        Code::Same => 0,
        Code::Changed => 2,
    };
    if let Some((field, then, now)) = figures.into_iter().skip(skipped).find(|(_, then, now)| then != now) {
        return different(field, &then, &now);
    }
    let logs = digest_of_logs(report);
    if logs == end.logs { Verdict::Identical } else { different("logs", &end.logs, &logs) }
}

fn different(field: &'static str, then: &impl ToString, now: &impl ToString) -> Verdict {
    Verdict::Different { field, recorded: then.to_string(), replayed: now.to_string() }
}
