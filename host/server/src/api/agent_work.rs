//! The three specified endpoints of the agents, and the lease of a polling worker.
//!
//! Paths and fields are fixed by the specification. A report counts only for a live lease of the caller's own; nothing is
//! decided here. Called by agents from outside, and by the operator.

use super::extract::Body;
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_agents::judge::Evaluation;
use chimera_agents::planner::{AssignSpec, Assigned, LeasedTask};
use chimera_agents::worker::reporter::{ExternalReport, Reported, report_external};
use chimera_core::clock::Timestamp;
use chimera_core::ids::{LeaseId, TaskId};
use chimera_core::records::{Agent, AgentRole};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Priority of a task that says nothing of it.
const DEFAULT_PRIORITY: u8 = 5;

/// The body of `POST /assign_task`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AssignTask {
    /// The task's id, a UUID that the caller draws; the same request again is the same task.
    #[schema(value_type = String)]
    task_id: TaskId,
    /// `{skill, input, limits?, goal?, expect?}`
    #[schema(value_type = Object)]
    spec: AssignSpec,
    /// 0 to 9, higher first; 5 if absent.
    #[serde(default)]
    priority: Option<u8>,
    /// RFC 3339; after it the task is not started any more.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    deadline: Option<Timestamp>,
}

/// `POST /assign_task`
pub(super) async fn assign(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<AssignTask>,
) -> Result<Json<Assigned>, Problem> {
    let AssignTask { task_id, spec, priority, deadline } = wanted;
    let priority = priority.unwrap_or(DEFAULT_PRIORITY);
    let assigned = state.handles().scheduler.assign(task_id, spec, priority, deadline, caller.actor()).await?;
    Ok(Json(assigned))
}

/// The body of `POST /report_result`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportResult {
    /// The task.
    #[schema(value_type = String)]
    task_id: TaskId,
    /// The output; ignored when there is an `error_code`.
    #[serde(default)]
    #[schema(value_type = Object)]
    result: Value,
    /// 0 to 1; needed when there is a result.
    #[serde(default)]
    confidence: Option<f64>,
    /// What it failed with: `transient`, `permanent`, `invalid-input`, `denied`, or `kind:code`; null when it did not.
    #[serde(default)]
    error_code: Option<String>,
    /// The lease; if absent, the caller's only live lease on the task.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    lease_id: Option<LeaseId>,
    /// The attempt; if absent, the current one.
    #[serde(default)]
    attempt: Option<u32>,
}

/// `POST /report_result`
pub(super) async fn report(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Body(report): Body<ReportResult>,
) -> Result<Json<Reported>, Problem> {
    let agent = agent_of(&caller)?;
    let ReportResult { task_id, result, confidence, error_code, lease_id, attempt } = report;
    let report = ExternalReport { task_id, result, confidence, error_code, lease_id, attempt };
    Ok(Json(report_external(&state.handles().scheduler, report, agent.id).await?))
}

/// The body of `POST /evaluate_task`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EvaluateTask {
    /// The task.
    #[schema(value_type = String)]
    task_id: TaskId,
    /// 0 to 1; if absent, what the task itself reported.
    #[serde(default)]
    confidence: Option<f64>,
    /// As in `POST /report_result`.
    #[serde(default)]
    error_code: Option<String>,
}

/// `POST /evaluate_task`
pub(super) async fn evaluate(
    State(state): State<AppState>,
    Body(wanted): Body<EvaluateTask>,
) -> Result<Json<Evaluation>, Problem> {
    let EvaluateTask { task_id, confidence, error_code } = wanted;
    Ok(Json(state.handles().judge.evaluate(task_id, confidence, error_code.as_deref()).await?))
}

/// `POST /api/v1/agents/lease`
pub(super) async fn lease(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Option<LeasedTask>>, Problem> {
    let agent = agent_of(&caller)?;
    if agent.role != AgentRole::Worker {
        let detail = format!("`{}` is no worker: tasks are leased to agents of the type `worker` only", agent.name);
        return Err(Problem::new(StatusCode::FORBIDDEN, "workers-only", detail));
    }
    Ok(Json(state.handles().scheduler.lease_next(agent.id).await?))
}

/// The body of `POST /api/v1/agents/heartbeat`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Heartbeat {
    /// The task.
    #[schema(value_type = String)]
    task_id: TaskId,
    /// The lease, as it was given.
    #[schema(value_type = String)]
    lease_id: LeaseId,
    /// The attempt, as it was given.
    attempt: u32,
}

/// `POST /api/v1/agents/heartbeat`
pub(super) async fn heartbeat(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Body(beat): Body<Heartbeat>,
) -> Result<Json<Value>, Problem> {
    let agent = agent_of(&caller)?;
    let Heartbeat { task_id, lease_id, attempt } = beat;
    let until = state.handles().scheduler.heartbeat(task_id, lease_id, attempt, agent.id).await?;
    Ok(Json(json!({ "lease_until": until })))
}

/// A lease belongs to an agent, so the operator's own token will not do.
fn agent_of(caller: &Caller) -> Result<&Agent, Problem> {
    match caller {
        Caller::Agent(agent) => Ok(agent),
        Caller::Operator(_) => {
            let detail = "a lease belongs to an agent: use an agent's token (chimera agent add, chimera agent token)";
            Err(Problem::new(StatusCode::FORBIDDEN, "agents-only", detail))
        }
    }
}
