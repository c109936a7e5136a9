//! The audit log: reading a chain, and checking all of them.
//!
//! Read-only: events are appended by the store, with the change they tell of. Called by the dashboard and the CLI.

use super::extract::Params;
use super::{AppState, Problem};
use axum::Json;
use axum::extract::State;
use chimera_agents::report::{CheckedChain, check_chain};
use chimera_core::ids::CampaignId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::str::FromStr;

/// Most events given at once.
const MAX_LIMIT: u32 = 1000;
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

/// A known campaign's id, or `system`.
async fn chain(state: &AppState, text: &str) -> Result<Option<CampaignId>, Problem> {
    if text == "system" {
        return Ok(None);
    }
    let id = CampaignId::from_str(text)
        .map_err(|error| Problem::bad_request("invalid-id", format!("{error}, or system")))?;
    // The events may outlive the campaign, if somebody removed it: then they can still be read and checked.
    let is_known = state.truth().campaign(id).await?.is_some() || state.truth().audit_head(Some(id)).await?.is_some();
    if is_known { Ok(Some(id)) } else { Err(Problem::not_found("campaign", id)) }
}

fn chain_name(chain: Option<CampaignId>) -> String {
    chain.map_or_else(|| "system".to_owned(), |id| id.to_string())
}

/// `GET /api/v1/audit`
pub(super) async fn read(
    State(state): State<AppState>,
    Params(query): Params<ReadQuery>,
) -> Result<Json<Value>, Problem> {
    let chain = chain(&state, query.campaign.as_deref().unwrap_or("system")).await?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let events = state.truth().audit(chain, query.after, limit).await?;
    Ok(Json(json!({ "chain": chain_name(chain), "events": events })))
}

/// `GET /api/v1/audit/verify`
pub(super) async fn check(
    State(state): State<AppState>,
    Params(query): Params<VerifyQuery>,
) -> Result<Json<Value>, Problem> {
    let chains = match query.campaign {
        Some(text) => BTreeSet::from([chain(&state, &text).await?]),
        None => every_chain(&state).await?,
    };
    let mut reports = Vec::with_capacity(chains.len());
    let mut is_valid = true;
    for chain in chains {
        let CheckedChain { events, checked, .. } = check_chain(state.truth(), chain).await?;
        let problem = match checked {
            Ok(_) if events == 0 && chain.is_some() => {
                Some("a campaign begins with an event, and this one has none: they were removed".to_owned())
            }
            Ok(_) => None,
            Err(ref broken) => Some(broken.to_string()),
        };
        let mut report = json!({ "chain": chain_name(chain), "events": events, "head": Value::Null });
        match problem {
            None => report["head"] = json!(checked.ok()),
            Some(problem) => {
                is_valid = false;
                report["problem"] = json!(problem);
            }
        }
        reports.push(report);
    }
    Ok(Json(json!({ "valid": is_valid, "chains": reports })))
}

/// The chains that are there, and those that should be: of every campaign that lists show.
async fn every_chain(state: &AppState) -> Result<BTreeSet<Option<CampaignId>>, Problem> {
    let mut chains: BTreeSet<_> = state.truth().audit_chains().await?.into_iter().collect();
    chains.extend(state.truth().campaigns(&[]).await?.into_iter().map(|campaign| Some(campaign.id)));
    Ok(chains)
}
