//! The report of a campaign: what every task did, what left the house, who decided what, how long it took, and whether
//! the audit chain holds.
//!
//! Read only, from the truth alone; the shape is the one of `chimera demo --json`. Called by the CLI and the API.

use crate::error::AgentError;
use chimera_core::approval::ApprovalState;
use chimera_core::audit::{self, AuditEvent, ChainBreak};
use chimera_core::campaign::{CampaignState, CampaignView};
use chimera_core::digest::Digest;
use chimera_core::effect::EffectState;
use chimera_core::ids::{ApprovalId, CampaignId, TaskId};
use chimera_core::ports::{ApprovalFilter, PortError, Truth};
use chimera_core::task::TaskState;
use chimera_core::verdict::Decision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Events read at once.
const PAGE: u32 = 1000;

/// A campaign's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The campaign.
    pub campaign: CampaignId,
    /// Where it is.
    pub status: CampaignState,
    /// Its tasks, in plan order.
    pub tasks: Vec<TaskReport>,
    /// The effects that happened.
    pub published: Vec<Published>,
    /// The questions to humans.
    pub approvals: Vec<ApprovalReport>,
    /// How long things took.
    pub timings: Timings,
    /// The audit chain.
    pub audit: AuditReport,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub id: TaskId,
    /// The step's key.
    pub step: String,
    /// `namespace/name`.
    pub skill: String,
    /// The skill's version.
    pub version: String,
    /// Where it is.
    pub status: TaskState,
    /// Leases given.
    pub attempts: u32,
    /// Wall time of all attempts, in milliseconds.
    pub wall_ms: u64,
    /// Fuel of all attempts.
    pub fuel: u64,
    /// Most linear memory at once, in bytes.
    pub peak_memory_bytes: u64,
    /// The skill's confidence.
    pub confidence: Option<f64>,
    /// What the judge said.
    pub verdict: Option<Decision>,
    /// Why this skill and these inputs.
    pub reason: String,
}

/// One effect that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The server.
    pub server: String,
    /// The tool.
    pub tool: String,
    /// The id that the server gave, if it gave one.
    pub id: Option<String>,
    /// The text that was sent, if the tool takes one.
    pub text: Option<String>,
}

/// One question to a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalReport {
    /// The question.
    pub id: ApprovalId,
    /// What became of it.
    pub decision: ApprovalState,
    /// Who decided.
    pub by: Option<String>,
}

/// How long things took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Planning.
    pub plan_ms: Option<u64>,
    /// The slowest verdict.
    pub verdict_ms_max: Option<u64>,
    /// The slowest task, all its attempts together.
    pub task_ms_max: Option<u64>,
    /// From creation to the end; none while it is not over.
    pub total_ms: Option<u64>,
}

/// The audit chain of the campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Every event follows from the one before.
    pub valid: bool,
    /// Number of events.
    pub events: u64,
    /// Hash of the last event.
    pub head: Digest,
}

/// Reads the report of a campaign.
///
/// # Errors
/// `NotFound`; `Unavailable`.
pub async fn campaign_report(truth: &dyn Truth, campaign: CampaignId) -> Result<Report, AgentError> {
    let view = truth.campaign_view(campaign).await?;
    let view = view.ok_or_else(|| AgentError::NotFound(format!("there is no campaign {campaign}")))?;
    let filter = ApprovalFilter { campaign: Some(campaign), state: None, due_before: None };
    let approvals = truth.approvals(&filter).await?;
    Ok(Report {
        campaign,
        status: view.campaign.state,
        tasks: tasks(&view),
        published: published(truth, &view).await?,
        approvals: approvals
            .into_iter()
            .map(|approval| ApprovalReport {
                id: approval.id,
                decision: approval.state,
                by: approval.decided_by.map(|actor| actor.to_string()),
            })
            .collect(),
        timings: timings(&view),
        audit: audit_report(truth, campaign).await?,
    })
}

fn tasks(view: &CampaignView) -> Vec<TaskReport> {
    let place = |task: &chimera_core::task::Task| {
        view.steps.iter().position(|step| Some(step.id) == task.step).unwrap_or(usize::MAX)
    };
    let mut tasks: Vec<_> = view.tasks.iter().map(|task| (place(task), task)).collect();
    tasks.sort_by_key(|(place, task)| (*place, task.created_at, task.id));
    tasks
        .into_iter()
        .filter_map(|(place, task)| Some((view.steps.get(place)?, task)))
        .map(|(step, task)| TaskReport {
            id: task.id,
            step: step.planned.key.clone(),
            skill: step.planned.skill.name.to_string(),
            version: step.planned.skill.version.to_string(),
            status: task.state,
            attempts: task.attempt,
            wall_ms: task.usage.wall_ms,
            fuel: task.usage.fuel,
            peak_memory_bytes: task.usage.peak_memory_bytes,
            confidence: task.confidence(),
            verdict: task.verdict.as_ref().map(|verdict| verdict.decision),
            reason: step.planned.reason.clone(),
        })
        .collect()
}

async fn published(truth: &dyn Truth, view: &CampaignView) -> Result<Vec<Published>, AgentError> {
    let lineages: BTreeSet<_> = view.steps.iter().map(|step| step.lineage).collect();
    let mut found = Vec::new();
    for lineage in lineages {
        for effect in truth.effects(lineage).await?.into_iter().filter(|effect| effect.state == EffectState::Done) {
            let (server, tool) = effect.key.tool.split_once('/').unwrap_or(("", &effect.key.tool));
            let id = effect.answer.as_ref().and_then(|answer| answer.structured.as_ref()?.get("id")).map(as_text);
            found.push((
                effect.updated_at,
                Published {
                    server: server.to_owned(),
                    tool: tool.to_owned(),
                    id,
                    text: effect.arguments.get("text").and_then(Value::as_str).map(str::to_owned),
                },
            ));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, published)| published).collect())
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn timings(view: &CampaignView) -> Timings {
    let campaign = &view.campaign;
    let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Timings {
        plan_ms: campaign.plan_ms,
        verdict_ms_max: view.tasks.iter().filter_map(|task| task.verdict.as_ref()).map(|verdict| verdict.took_ms).max(),
        task_ms_max: view.tasks.iter().map(|task| task.usage.wall_ms).max(),
        total_ms: campaign.finished_at.map(|end| millis(end.since(campaign.created_at))),
    }
}

async fn audit_report(truth: &dyn Truth, campaign: CampaignId) -> Result<AuditReport, AgentError> {
    let CheckedChain { events, last, checked } = check_chain(truth, Some(campaign)).await?;
    // A campaign begins with an event.
    let valid = checked.is_ok() && events > 0;
    Ok(AuditReport { valid, events, head: checked.unwrap_or(last) })
}

/// A chain of the audit log, read to its end and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedChain {
    /// Number of events.
    pub events: u64,
    /// Hash of the last one, as it stands there; the genesis if there is none.
    pub last: Digest,
    /// The head, or where the chain is broken.
    pub checked: Result<Digest, ChainBreak>,
}

/// Reads a whole chain of the audit log and checks it against itself and against its head.
///
/// # Errors
/// When the truth cannot be read; a broken chain is an answer and no error.
pub async fn check_chain(truth: &dyn Truth, chain: Option<CampaignId>) -> Result<CheckedChain, PortError> {
    // The head first: the events may grow while they are read. A chain may even begin, which the second look settles.
    let mut head = truth.audit_head(chain).await?;
    let mut events = whole_chain(truth, chain).await?;
    if head.is_none() && !events.is_empty() {
        head = truth.audit_head(chain).await?;
        events = whole_chain(truth, chain).await?;
    }
    let last = events.last().map_or_else(|| audit::genesis(chain), |event| event.hash);
    let checked = audit::verify_through(chain, &events, head);
    Ok(CheckedChain { events: events.len() as u64, last, checked })
}

async fn whole_chain(truth: &dyn Truth, chain: Option<CampaignId>) -> Result<Vec<AuditEvent>, PortError> {
    let mut events: Vec<AuditEvent> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let page = truth.audit(chain, after, PAGE).await?;
        // A page that does not lead on would be asked for for ever.
        if page.last().is_none_or(|last| last.seq <= after) {
            return Ok(events);
        }
        events.extend(page);
    }
}
