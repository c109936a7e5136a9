//! The operator's MCP servers and their tools, as the gateway sees them.
//!
//! Read-only; names and descriptions come from strangers and are data. Called by the CLI and by people who grant.

use super::extract::Id;
use super::{AppState, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chimera_mcp::{GatewayError, ServerTool};
use serde_json::{Value, json};

/// `GET /api/v1/mcp/servers`
pub(super) async fn servers(State(state): State<AppState>) -> Json<Value> {
    Json(json!({ "servers": state.handles().gateway.servers() }))
}

/// `GET /api/v1/mcp/servers/{name}/tools`
pub(super) async fn tools(State(state): State<AppState>, Id(name): Id<String>) -> Result<Json<Value>, Problem> {
    let tools = state.handles().gateway.tools(&name).await?;
    let shown: Vec<Value> = tools.iter().map(shown).collect();
    Ok(Json(json!({ "server": name, "tools": shown })))
}

fn shown(tool: &ServerTool) -> Value {
    json!({
        "name": tool.info.name,
        "description": tool.info.description,
        "input_schema": tool.info.input_schema,
        "read_only_hint": tool.read_only_hint,
        "pin": tool.pin,
    })
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        let detail = error.to_string();
        match error {
            GatewayError::UnknownServer { .. } => Self::new(StatusCode::NOT_FOUND, "unknown-server", detail),
            GatewayError::Unreachable { .. } => Self::new(StatusCode::BAD_GATEWAY, "server-unreachable", detail),
            GatewayError::UndeclaredSlot { .. } => Self::unacceptable("undeclared-slot", detail),
            GatewayError::UndeclaredTool { .. } => Self::unacceptable("undeclared-tool", detail),
            GatewayError::MissingTools { .. } => Self::unacceptable("missing-tools", detail),
        }
    }
}
