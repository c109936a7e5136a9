//! The audit log: reading a chain, and checking all of them.
//!
//! Read-only: events are appended by the store, with the change they tell of. Called by the dashboard and the CLI.

use super::extract::Params;
use super::{AppState, Problem};
use axum::Json;
use axum::extract::State;
use chimera_core::audit::{AuditEvent, verify};
use chimera_core::ids::CampaignId;
use chimera_core::ports::Truth;
use serde::Deserialize;
use serde_json::{Value, json};
use std::str::FromStr;

/// Events read at once.
const PAGE: u32 = 1000;
/// Events given when nothing is asked.
const DEFAULT_LIMIT: u32 = 200;

/// The query of `GET /api/v1/audit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    campaign: Option<String>,
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

/// The query of `GET /api/v1/audit/verify`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyQuery {
    campaign: Option<String>,
}

/// A campaign's id, or `system`.
fn chain(text: &str) -> Result<Option<CampaignId>, Problem> {
    if text == "system" {
        return Ok(None);
    }
    CampaignId::from_str(text).map(Some).map_err(|error| Problem::bad_request("invalid-id", error.to_string()))
}

fn chain_name(chain: Option<CampaignId>) -> String {
    chain.map_or_else(|| "system".to_owned(), |id| id.to_string())
}

/// `GET /api/v1/audit`
pub(super) async fn read(
    State(state): State<AppState>,
    Params(query): Params<ReadQuery>,
) -> Result<Json<Value>, Problem> {
    let chain = chain(query.campaign.as_deref().unwrap_or("system"))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, PAGE);
    let events = state.truth().audit(chain, query.after, limit).await?;
    Ok(Json(json!({ "chain": chain_name(chain), "events": events })))
}

/// `GET /api/v1/audit/verify`
pub(super) async fn check(
    State(state): State<AppState>,
    Params(query): Params<VerifyQuery>,
) -> Result<Json<Value>, Problem> {
    let chains = match query.campaign {
        Some(text) => vec![chain(&text)?],
        None => state.truth().audit_chains().await?,
    };
    let mut reports = Vec::with_capacity(chains.len());
    let mut is_valid = true;
    for chain in chains {
        let events = whole_chain(state.truth(), chain).await?;
        let mut report = json!({ "chain": chain_name(chain), "events": events.len() });
        match verify(chain, &events) {
            Ok(head) => report["head"] = json!(head),
            Err(broken) => {
                is_valid = false;
                report["head"] = Value::Null;
                report["problem"] = json!(broken.to_string());
            }
        }
        reports.push(report);
    }
    Ok(Json(json!({ "valid": is_valid, "chains": reports })))
}

async fn whole_chain(truth: &dyn Truth, chain: Option<CampaignId>) -> Result<Vec<AuditEvent>, Problem> {
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
