//! Agents and their tokens.
//!
//! A token is shown once, to whoever made it; only its hash is kept, and one that was taken back is refused from then on.
//! Called by the CLI.

use super::extract::{Body, Id};
use super::{AppState, Problem};
use crate::auth::{Caller, random_token};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chimera_core::change::{Change, Write};
use chimera_core::digest::Digest;
use chimera_core::ids::{AgentId, TokenId};
use chimera_core::records::{Agent, AgentRole, AgentStatus, ApiToken, TokenScope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Longest name of an agent in bytes.
const MAX_NAME: usize = 100;

/// The body of `POST /api/v1/agents`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAgent {
    /// For people; 1 to 100 bytes, not taken yet.
    name: String,
    /// `planner`, `worker` or `judge`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    role: AgentRole,
}

/// `GET /api/v1/agents`
pub(super) async fn list(State(state): State<AppState>) -> Result<Json<Value>, Problem> {
    let tokens = state.truth().tokens().await?;
    let agents = state.truth().agents().await?.into_iter();
    let listed = agents.map(|agent| Listed { tokens: good(&tokens, agent.id).count(), agent });
    Ok(Json(json!({ "agents": listed.collect::<Vec<_>>() })))
}

/// An agent with the number of tokens that it can act with.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    agent: Agent,
    tokens: usize,
}

/// An agent's tokens that were not taken back.
fn good(tokens: &[ApiToken], agent: AgentId) -> impl Iterator<Item = &ApiToken> {
    tokens.iter().filter(move |token| token.scope == TokenScope::Agent(agent) && token.revoked_at.is_none())
}

async fn find(state: &AppState, id: AgentId) -> Result<Agent, Problem> {
    let agents = state.truth().agents().await?;
    agents.into_iter().find(|agent| agent.id == id).ok_or_else(|| Problem::not_found("agent", id))
}

/// `POST /api/v1/agents`
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<NewAgent>,
) -> Result<(StatusCode, Json<Agent>), Problem> {
    let name = new.name.trim();
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let detail = format!("an agent's name is 1 to {MAX_NAME} bytes without control characters");
        return Err(Problem::unacceptable("invalid-name", detail));
    }
    if state.truth().agents().await?.iter().any(|agent| agent.name == name) {
        let taken = Problem::conflict("name-taken", format!("there is an agent called `{name}` already"));
        return Err(taken.with("fix", "choose another name: `chimera agent list` shows those that are taken"));
    }
    let cx = state.context(&caller);
    let agent = Agent {
        id: AgentId::new(cx.ids),
        name: name.to_owned(),
        role: new.role,
        status: AgentStatus::Active,
        last_seen: cx.now,
        created_at: cx.now,
    };
    let mut change = Change::new();
    change.write(Write::PutAgent(agent.clone()));
    let detail = json!({ "agent": agent.id, "name": agent.name, "type": agent.role });
    change.audit(cx.event("agent.created").detail(detail));
    state.commit(change).await?;
    Ok((StatusCode::CREATED, Json(agent)))
}

/// `POST /api/v1/agents/{id}/token`
pub(super) async fn token(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<AgentId>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let agent = find(&state, id).await?;
    let token = random_token().map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("no random numbers: {error}"))
    })?;
    let cx = state.context(&caller);
    let kept = ApiToken {
        id: TokenId::new(cx.ids),
        hash: Digest::of(token.as_bytes()),
        scope: TokenScope::Agent(agent.id),
        name: agent.name.clone(),
        created_at: cx.now,
        revoked_at: None,
    };
    let mut change = Change::new();
    change.audit(cx.event("token.created").detail(json!({ "token": kept.id, "agent": agent.id })));
    change.write(Write::PutToken(kept));
    state.commit(change).await?;
    Ok((StatusCode::CREATED, Json(json!({ "token": token, "agent": agent }))))
}

/// `DELETE /api/v1/agents/{id}/tokens`; taking back what was taken back changes nothing.
pub(super) async fn revoke(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Id(id): Id<AgentId>,
) -> Result<Json<Value>, Problem> {
    let agent = find(&state, id).await?;
    let tokens = state.truth().tokens().await?;
    let cx = state.context(&caller);
    let mut change = Change::new();
    let mut revoked = 0;
    for token in good(&tokens, agent.id) {
        change.audit(cx.event("token.revoked").detail(json!({ "token": token.id, "agent": agent.id })));
        change.write(Write::PutToken(ApiToken { revoked_at: Some(cx.now), ..token.clone() }));
        revoked += 1;
    }
    if revoked > 0 {
        state.commit(change).await?;
    }
    Ok(Json(json!({ "agent": agent, "revoked": revoked })))
}
