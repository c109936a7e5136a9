//! A skill that calls another skill.
//!
//! The callee must be declared by the caller's manifest and granted to it by an operator, in the version that is called.
//! It runs within what is left of the caller's time, fuel and calls, sees its own memory, and reaches no MCP tool: a call's
//! number in the ledger belongs to the task, and two skills must never share one. Calls nest at most four deep. A replayed
//! call never gets here: its answer, a no included, is in the journal. Made by the executor for each run.

use super::executor::Executor;
use super::ports::{DeclaredSecrets, RunIdentity, TruthPorts, agent_of, callee_failed};
use async_trait::async_trait;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::grant::{Asker, Calling, Grant, call_command, calling};
use chimera_core::manifest::{Limits, Manifest};
use chimera_core::ports::{Budget, Called, Deny, HostError, HostPorts, SkillsPort};
use chimera_core::skill::{SkillName, SkillRef};
use chimera_core::task::Outcome;
use chimera_registry::check_value;
use chimera_sandbox::{RunEnd, RunRequest};
use semver::Version;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How deep skills may call each other.
pub(crate) const MAX_DEPTH: u32 = 4;

/// Who broke the rules, when it was not the task's own skill.
#[derive(Debug, Default)]
pub(crate) struct Blame(Mutex<Option<SkillRef>>);

impl Blame {
    fn put(&self, skill: SkillRef) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(skill);
    }

    pub(crate) fn take(&self) -> Option<SkillRef> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The skills port of one run.
pub(crate) struct Callees {
    pub(crate) executor: Executor,
    pub(crate) run: RunIdentity,
    pub(crate) caller: Arc<Manifest>,
    pub(crate) depth: u32,
    pub(crate) blame: Arc<Blame>,
}

#[async_trait]
impl SkillsPort for Callees {
    async fn call(&self, ordinal: u32, name: &SkillName, input: Value, budget: Budget) -> Called {
        let started = Instant::now();
        let mut took = Took::default();
        let result = self.run_callee(ordinal, name, input, budget, &mut took).await;
        let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Called { result, fuel: took.fuel, wall_ms, calls: took.calls }
    }
}

/// What a callee took of its caller's, however it ended; nothing when it was not run.
#[derive(Default)]
struct Took {
    fuel: u64,
    calls: u32,
}

impl Callees {
    /// May the caller call this version, or any when there is none to call?
    fn check_grant(&self, grants: &[Grant], name: &SkillName, version: Option<&Version>) -> Result<(), Failure> {
        let caller = &self.caller.skill.name;
        let asker = Asker { skill: caller, campaign: self.run.campaign, now: self.executor.clock().now() };
        let message = match calling(grants, asker, name, version) {
            Calling::Granted(_) => return Ok(()),
            Calling::NotGranted => {
                let command = call_command(caller, name, None);
                format!("no grant lets `{caller}` call skill `{name}`; an operator can allow it with: {command}")
            }
            Calling::OtherVersions(granted) => {
                let command = call_command(caller, name, version);
                let version = version.map(ToString::to_string).unwrap_or_default();
                format!(
                    "the grant of `{caller}` to call skill `{name}` is for `{}`, not for {version}; an operator can allow \
                     it with: {command}",
                    granted.version
                )
            }
        };
        Err(Failure::new(FailureKind::Denied, codes::NOT_GRANTED, message))
    }

    async fn run_callee(
        &self,
        ordinal: u32,
        name: &SkillName,
        input: Value,
        budget: Budget,
        took: &mut Took,
    ) -> Result<Outcome, HostError> {
        let declared = self.caller.capabilities.skills.iter().find(|dependency| dependency.name == *name);
        let Some(declared) = declared else {
            let message = format!("the manifest does not declare that it calls `{name}`");
            return Err(Failure::new(FailureKind::Security, codes::NOT_DECLARED, message).into());
        };
        if self.depth >= MAX_DEPTH {
            let message = format!("skills call each other at most {MAX_DEPTH} deep");
            return Err(Failure::new(FailureKind::Permanent, codes::CALL_LIMIT, message).into());
        }
        // The route of this moment; a later attempt of the task takes the same side of a trial.
        let lineage = Some(self.run.task.as_uuid());
        let resolving = self.executor.registry().resolve(name, Some(&declared.version), lineage);
        // Read for every call: what was granted a moment ago counts, and what was taken back counts no more.
        let granting = self.executor.truth().grants(Some(&self.caller.skill.name));
        let (found, grants) = tokio::try_join!(resolving, granting)?;
        self.check_grant(&grants, name, found.as_ref().map(|found| &found.skill.version))?;
        let Some(version) = found else {
            let message = format!("no active version of `{name}` meets `{}`: install one", declared.version);
            return Err(Failure::new(FailureKind::Permanent, codes::SKILL_MISSING, message).into());
        };
        let loaded = self.executor.registry().load(&version.skill).await?;
        let manifest = loaded.version.manifest.clone();
        check_value(&manifest.io.input, &input, budget.deadline).await.map_err(|problem| {
            problem.into_failure(FailureKind::InvalidInput, codes::INPUT_INVALID, &format!("input of {name}"))
        })?;
        let remaining = budget.deadline.saturating_duration_since(Instant::now());
        let limits = Limits {
            time_ms: manifest.limits.time_ms.min(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX)).max(1),
            fuel: manifest.limits.fuel.min(budget.fuel).max(1),
            ..manifest.limits
        };
        let request = RunRequest {
            task_id: self.run.task.to_string(),
            campaign: self.run.campaign.map(|id| id.to_string()),
            input,
            limits,
            manifest: manifest.clone(),
            deadline: budget.deadline,
            skill_calls: budget.calls,
        };
        let ports = self.ports_for(ordinal, name, manifest.clone());
        // Boxed: a run may call a run.
        let report = Box::pin(self.executor.sandbox().run(&loaded.prepared, request, ports)).await;
        *took = Took { fuel: report.usage.fuel, calls: report.skill_calls };
        match report.end {
            RunEnd::Finished(outcome) => match check_value(&manifest.io.output, &outcome.output, budget.deadline).await
            {
                Ok(()) => Ok(outcome),
                Err(problem) => {
                    let about = format!("output of {name}");
                    Err(problem.into_failure(FailureKind::Permanent, codes::OUTPUT_INVALID, &about).into())
                }
            },
            RunEnd::Failed(failure) => {
                if failure.kind == FailureKind::Security {
                    self.blame.put(version.skill);
                }
                Err(callee_failed(name, failure).into())
            }
            RunEnd::Suspended(_) | RunEnd::Diverged(_) => {
                let message = format!("skill {name} cannot wait for a human inside another skill");
                Err(Failure::new(FailureKind::Permanent, codes::HOST, message).into())
            }
        }
    }

    fn ports_for(&self, ordinal: u32, name: &SkillName, manifest: Arc<Manifest>) -> HostPorts {
        let run =
            RunIdentity { agent: agent_of(name), path: format!("{}{ordinal}/", self.run.path), ..self.run.clone() };
        let ports = Arc::new(TruthPorts {
            run: run.clone(),
            truth: self.executor.truth().clone(),
            memory: self.executor.memory().clone(),
            scratch: self.executor.scratch().clone(),
            clock: self.executor.clock().clone(),
        });
        HostPorts {
            mcp: Arc::new(Deny),
            memory: ports.clone(),
            scratch: ports.clone(),
            trends: ports.clone(),
            skills: Arc::new(Self {
                executor: self.executor.clone(),
                run,
                caller: manifest.clone(),
                depth: self.depth + 1,
                blame: self.blame.clone(),
            }),
            secrets: Arc::new(DeclaredSecrets { manifest, configured: self.executor.secrets().clone() }),
            progress: ports,
            // What the callee was told is part of one answer to its caller, and journalled as that.
            journal: Arc::new(Deny),
            clock: self.executor.clock().clone(),
            seed: rand::random(),
        }
    }
}
