//! Tasks: lists, and one with everything that is known of it.
//!
//! Tasks change through the three agent endpoints, through approvals and through their campaign; here they are read and
//! replayed, and dead ones are tried once more. Called by the dashboard and the CLI.

use super::extract::{Id, Params, Raw};
use super::{AppState, Problem};
use crate::auth::Caller;
use axum::extract::State;
use axum::{Extension, Json};
use chimera_agents::worker::replay::Changed;
use chimera_core::approval::{Answer, ApprovalKind, ApprovalState, HumanDecision};
use chimera_core::ids::{CampaignId, TaskId};
use chimera_core::ports::{ApprovalFilter, TaskFilter};
use chimera_core::task::TaskState;
use serde::Deserialize;
use serde_json::{Value, json};

/// Tasks given when nothing is asked.
const DEFAULT_LIMIT: u32 = 100;
/// Journal entries shown.
const JOURNAL_SHOWN: usize = 500;
/// Audit events shown of a task.
const AUDIT_SHOWN: u32 = 500;

/// The query of `GET /api/v1/tasks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TasksQuery {
    campaign: Option<CampaignId>,
    state: Option<TaskState>,
    limit: Option<u32>,
}

/// `GET /api/v1/tasks`
pub(super) async fn list(
    State(state): State<AppState>,
    Params(query): Params<TasksQuery>,
) -> Result<Json<Value>, Problem> {
    let filter = TaskFilter {
        campaign: query.campaign,
        states: query.state.into_iter().collect(),
        limit: Some(query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, 1000)),
    };
    Ok(Json(json!({ "tasks": state.truth().tasks(&filter).await? })))
}

/// `GET /api/v1/tasks/{id}`
pub(super) async fn show(State(state): State<AppState>, Id(id): Id<TaskId>) -> Result<Json<Value>, Problem> {
    let truth = state.truth();
    let task = truth.task(id).await?.ok_or_else(|| Problem::not_found("task", id))?;
    let spec = truth.spec(task.spec_id).await?;
    let effects = truth.effects(task.lineage).await?;
    let mut journal = truth.journal(task.id, task.epoch).await?;
    let count = journal.len();
    journal.truncate(JOURNAL_SHOWN);
    let audit = truth.audit_of(task.campaign, task.id, AUDIT_SHOWN).await?;
    Ok(Json(json!({
        "task": task,
        "spec": spec,
        "effects": effects,
        "journal": { "epoch": task.epoch, "count": count, "entries": journal },
        "audit": audit,
    })))
}

/// The query of `POST /api/v1/tasks/{id}/replay`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayQuery {
    epoch: Option<u32>,
}

/// `POST /api/v1/tasks/{id}/replay`: runs the task again from its journal, or the component in the body in its place.
pub(super) async fn replay(
    State(state): State<AppState>,
    Id(id): Id<TaskId>,
    Params(query): Params<ReplayQuery>,
    Raw(wasm): Raw,
) -> Result<Json<Value>, Problem> {
    let changed = if wasm.is_empty() {
        None
    } else {
        let prepared = state.handles().registry.prepare_apart(&wasm).await;
        let (prepared, manifest) = prepared.map_err(super::skills::refused)?;
        Some(Changed { prepared, manifest })
    };
    let replay = state.handles().replayer.replay(id, query.epoch, changed).await?;
    let same = replay.verdict.is_same();
    Ok(Json(json!({ "replay": replay, "same": same })))
}

/// `POST /api/v1/tasks/{id}/retry`: says yes to the open question whether the task is tried once more.
pub(super) async fn retry(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<TaskId>,
) -> Result<Json<Value>, Problem> {
    let truth = state.truth();
    let task = truth.task(id).await?.ok_or_else(|| Problem::not_found("task", id))?;
    let filter = ApprovalFilter { campaign: task.campaign, state: Some(ApprovalState::Open), due_before: None };
    let stuck = truth.approvals(&filter).await?;
    let Some(stuck) = stuck.into_iter().find(|asked| asked.kind == ApprovalKind::Stuck && asked.task == Some(id))
    else {
        if task.campaign.is_none() {
            let detail = format!("task {id} belongs to no campaign: assign it again, with a new task_id");
            return Err(Problem::conflict("not-retryable", detail));
        }
        let detail = format!(
            "task {id} is {} and no open question asks whether to try it once more; only a task that failed for good, \
             and that nothing else installed can do, is tried again",
            task.state.as_str()
        );
        return Err(Problem::conflict("not-retryable", detail));
    };
    let answer = Answer { decision: HumanDecision::Retry, edited: None, note: Some("tried again".to_owned()) };
    state.handles().hitl.decide(stuck.id, answer, caller.actor()).await?;
    let view = match task.campaign {
        Some(campaign) => truth.campaign_view(campaign).await?,
        None => None,
    };
    let next = view.and_then(|view| view.steps.into_iter().find(|step| Some(step.id) == task.step)?.task);
    let next = truth.task(next.unwrap_or(id)).await?;
    Ok(Json(json!({ "task": next })))
}
