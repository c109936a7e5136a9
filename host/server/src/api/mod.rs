//! The HTTP API: the table of endpoints, and what they share.
//!
//! A controller a file, each thin: it reads the request, asks the room whose business it is, and writes the answer.
//! Nothing here decides anything about tasks, grants or skills. Served by [`crate::serve`] and by the demo.

mod agent_work;
mod agents;
mod approvals;
mod audit;
mod campaigns;
mod endpoint;
mod events;
pub(crate) mod extract;
mod grants;
mod health;
mod index;
mod mcp;
pub(crate) mod metrics;
mod openapi;
pub(crate) mod problem;
mod reports;
pub(crate) mod session;
mod skill_route;
mod skills;
mod tasks;
#[cfg(test)]
mod tests;
mod trends;

use crate::auth::{self, Auth, Caller};
use crate::config::Api;
use crate::dashboard;
use crate::wiring::Handles;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use chimera_agents::AgentError;
use chimera_core::change::{Change, Committed, Context};
use chimera_core::clock::Timestamp;
use chimera_core::ports::Truth;
use endpoint::Access::{Agent, Operator, Public};
use endpoint::Endpoint;
use problem::Problem;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

/// Most listeners to events at once.
const MAX_STREAMS: usize = 64;
/// Largest body of a new campaign in bytes: inputs, goal and steps with room for JSON's escapes.
const CAMPAIGN_LIMIT: usize = 8 * 1024 * 1024;

/// What every controller is given. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    handles: Handles,
    auth: Auth,
    closing: CancellationToken,
    streams: Arc<Semaphore>,
}

impl AppState {
    /// The state of one server; `closing` ends its streams of events.
    pub fn new(handles: Handles, auth: Auth, closing: CancellationToken) -> Self {
        Self(Arc::new(Shared { handles, auth, closing, streams: Arc::new(Semaphore::new(MAX_STREAMS)) }))
    }

    /// The platform's rooms.
    pub fn handles(&self) -> &Handles {
        &self.0.handles
    }

    /// The truth.
    pub fn truth(&self) -> &dyn Truth {
        self.0.handles.truth.as_ref()
    }

    /// The operator's credentials.
    pub fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.0.handles.clock.now()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }

    pub(crate) fn streams(&self) -> Arc<Semaphore> {
        self.0.streams.clone()
    }

    /// The context of a decision by this caller.
    pub(crate) fn context(&self, caller: &Caller) -> Context<'_> {
        let handles = self.handles();
        Context { now: self.now(), ids: handles.ids.as_ref(), actor: caller.actor(), chance: rand::random() }
    }

    /// Commits a change that has guards the caller cannot mend.
    pub(crate) async fn commit(&self, change: Change) -> Result<(), Problem> {
        match self.truth().commit(change).await? {
            Committed::Applied => Ok(()),
            Committed::Stale(_) => {
                Err(Problem::conflict("stale", "somebody else changed it meanwhile; read it again and decide anew"))
            }
        }
    }
}

impl From<AgentError> for Problem {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::NotFound(detail) => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            AgentError::Conflict(detail) => Self::conflict("conflict", detail),
            AgentError::Invalid(detail) => Self::unacceptable("invalid", detail),
            AgentError::Unavailable(detail) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail),
        }
    }
}

/// Every endpoint.
fn endpoints() -> Vec<Endpoint> {
    let mut all = health_endpoints();
    all.extend(platform_endpoints());
    all.extend(work_endpoints());
    all.extend(human_endpoints());
    all.extend(skill_endpoints());
    all
}

/// What every process serves, whatever it does.
fn health_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/healthz", Public, health::live)
            .does("Whether the process is alive, and if asked, whether it knows the operator's token")
            .asks(&[("challenge", "1 to 64 characters of base64url, never used before; the answer then has a `proof`")])
            .gives(200, "`{status, version, proof?}`; docs/api.md says what the proof is"),
        Endpoint::get("/readyz", Public, health::ready).does("Whether the process can do work"),
        Endpoint::get("/metrics", Public, metrics::show)
            .does("Figures for Prometheus: depth and age of the queue, what happened, which queue is used")
            .produces("text/plain"),
    ]
}

fn platform_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/", Public, dashboard::page)
            .does("The dashboard's page; its script logs in with the ticket of a link `/#ticket=…`")
            .produces("text/html"),
        Endpoint::get("/assets/style.css", Public, dashboard::style).does("The page's style").produces("text/css"),
        Endpoint::get("/assets/app.js", Public, dashboard::script)
            .does("The page's script")
            .produces("text/javascript"),
        Endpoint::get("/assets/events.js", Public, dashboard::events)
            .does("The page's reader of events")
            .produces("text/javascript"),
        Endpoint::get("/assets/icon.svg", Public, dashboard::icon).does("The page's icon").produces("image/svg+xml"),
        Endpoint::post("/login", Public, session::login)
            .does("Opens a session with the operator's token or a link's ticket")
            .takes::<session::Login>()
            .limit(4096)
            .gives(200, "`{session}`: a token for `Authorization: Bearer`, good for 12 hours"),
        Endpoint::post("/logout", Operator, session::logout)
            .does("Ends the session that the request is made with, and its streams")
            .gives(204, "The session is refused from now on"),
        Endpoint::get("/openapi.json", Public, document).does("This document"),
        Endpoint::get("/api/v1/session", Operator, session::show).does("Who the caller is"),
        Endpoint::post("/api/v1/session/links", Operator, session::link)
            .does("Makes a link that opens the dashboard once")
            .gives(201, "`{url}`"),
        Endpoint::get("/api/v1/events", Operator, events::stream)
            .does("Server-sent events: `audit`, `progress`, and `missed` when some were dropped")
            .asks(&[("campaign", "only this campaign's")])
            .produces("text/event-stream"),
        Endpoint::get("/api/v1/audit", Operator, audit::read)
            .does("Events of one chain of the audit log, in order")
            .asks(&[
                ("campaign", "the campaign's chain; the system's if absent"),
                ("after", "only events after this number"),
                ("limit", "at most this many; 200, at most 1,000"),
            ])
            .gives(200, "`{chain, events}`"),
        Endpoint::get("/api/v1/audit/verify", Operator, audit::check)
            .does("Recomputes the audit log's hash chains")
            .asks(&[("campaign", "only this campaign's chain, or `system`; all if absent")])
            .gives(200, "`{valid, chains: [{chain, events, head, problem?}]}`"),
        Endpoint::get("/api/v1/trends", Operator, trends::top)
            .does("The strongest topics of a window")
            .asks(&[("window_seconds", "a day if absent"), ("limit", "at most this many; 20, at most 200")])
            .gives(200, "`{since, trends}`"),
        Endpoint::get("/api/v1/index", Operator, index::show)
            .does("How the search index is")
            .gives(200, "`{model, skills, weaviate, rebuilding?, last?, failed?}`"),
        Endpoint::post("/api/v1/index/rebuild", Operator, index::rebuild)
            .does("Begins to fill the search index from the database again; `GET /api/v1/index` tells how far it is")
            .gives(202, "as `GET /api/v1/index`"),
    ]
}

fn work_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/assign_task", Agent, agent_work::assign)
            .does("Gives a task to whoever is idle, or puts it on the queue")
            .takes::<agent_work::AssignTask>()
            .gives(200, "`{status, assigned_worker_id}`"),
        Endpoint::post("/report_result", Agent, agent_work::report)
            .does("Reports what came of a task that the caller holds")
            .takes::<agent_work::ReportResult>()
            .gives(200, "`{status, hitl_required}`"),
        Endpoint::post("/evaluate_task", Agent, agent_work::evaluate)
            .does("Says whether a reported task is good enough")
            .takes::<agent_work::EvaluateTask>()
            .gives(200, "`{approved, escalation, notes}`"),
        Endpoint::post("/api/v1/agents/lease", Agent, agent_work::lease)
            .does("Leases the next task for the calling worker")
            .gives(200, "The lease with its task and spec; null when nothing is queued"),
        Endpoint::post("/api/v1/agents/heartbeat", Agent, agent_work::heartbeat)
            .does("Keeps the caller's lease alive; 409 when it is not the caller's any more: drop the run then")
            .takes::<agent_work::Heartbeat>()
            .gives(200, "`{lease_until}`"),
        Endpoint::get("/api/v1/agents", Operator, agents::list)
            .does("Agents, oldest first")
            .gives(200, "`{agents}`, each with the number of its good `tokens`"),
        Endpoint::post("/api/v1/agents", Operator, agents::create)
            .does("Registers an agent")
            .takes::<agents::NewAgent>()
            .gives(201, "The agent"),
        Endpoint::post("/api/v1/agents/{id}/token", Operator, agents::token)
            .does("Makes a token for an agent")
            .gives(201, "`{token, agent}`; the token is shown this once"),
        Endpoint::delete("/api/v1/agents/{id}/tokens", Operator, agents::revoke)
            .does("Takes back every token of an agent; the same again changes nothing")
            .gives(200, "`{agent, revoked}`: how many were taken back now"),
        Endpoint::get("/api/v1/campaigns", Operator, campaigns::list)
            .does("Campaigns, newest first, without their inputs")
            .asks(&[("state", "only in this state"), ("limit", "at most this many; 100, at most 1,000")])
            .gives(200, "`{campaigns}`"),
        Endpoint::post("/api/v1/campaigns", Operator, campaigns::create)
            .does("Starts a campaign")
            .takes_object("`{title?, goal, inputs?, policy?, steps?}`: what a campaign.yaml says")
            .limit(CAMPAIGN_LIMIT)
            .gives(201, "`{campaign, steps, tasks}`"),
        Endpoint::get("/api/v1/campaigns/{id}", Operator, campaigns::show)
            .does("One campaign with its steps and tasks")
            .gives(200, "`{campaign, steps, tasks}`"),
        Endpoint::post("/api/v1/campaigns/{id}/cancel", Operator, campaigns::cancel)
            .does("Stops a campaign; what was not begun is not done")
            .gives(200, "`{campaign, steps, tasks}`"),
        Endpoint::get("/api/v1/campaigns/{id}/report", Operator, reports::campaign)
            .does("What a campaign's tasks took and what came out"),
        Endpoint::get("/api/v1/tasks", Operator, tasks::list)
            .does("Tasks, newest first")
            .asks(&[
                ("campaign", "only of this campaign"),
                ("state", "only in this state"),
                ("limit", "at most this many; 100, at most 1,000"),
            ])
            .gives(200, "`{tasks}`"),
        Endpoint::get("/api/v1/tasks/{id}", Operator, tasks::show)
            .does("Everything about one task")
            .gives(200, "`{task, spec, effects, journal: {epoch, count, entries}, audit}`"),
        Endpoint::post("/api/v1/tasks/{id}/replay", Operator, tasks::replay)
            .does("Runs a finished task again from its journal, without touching the world; with a component in the body, that one")
            .asks(&[("epoch", "which of its starts; the last one")])
            .takes_bytes("application/wasm", chimera_registry::MAX_COMPONENT_BYTES + 1)
            .gives(200, "`{replay: {task, epoch, skill, component, calls, verdict: {kind, …}, usage}, same}`"),
        Endpoint::post("/api/v1/tasks/{id}/retry", Operator, tasks::retry)
            .does("Tries a task that failed for good once more")
            .gives(200, "`{task}`: the task that does it now"),
    ]
}

fn human_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/approvals", Operator, approvals::list)
            .does("Questions to a human, oldest first")
            .asks(&[("state", "only in this state, such as `open`"), ("campaign", "only of this campaign")])
            .gives(200, "`{approvals}`"),
        Endpoint::get("/api/v1/approvals/{id}", Operator, approvals::show)
            .does("One question, with exactly what is decided on")
            .gives(200, "The approval"),
        Endpoint::post("/api/v1/approvals/{id}/decide", Operator, approvals::decide)
            .does("Answers a question; only the first answer counts")
            .takes::<approvals::Decide>()
            .gives(200, "The approval as it is now"),
        Endpoint::get("/api/v1/grants", Operator, grants::list)
            .does("Grants, those taken back included")
            .asks(&[("skill", "only of this skill")])
            .gives(200, "`{grants}`"),
        Endpoint::post("/api/v1/grants", Operator, grants::create)
            .does(
                "Lets a skill use tools of a server through a slot, with each tool's present description pinned; or lets \
                 it call another skill",
            )
            .takes::<grants::NewGrant>()
            .gives(201, "The grant"),
        Endpoint::delete("/api/v1/grants/{id}", Operator, grants::revoke)
            .does("Takes a grant back")
            .gives(200, "The grant as it is now"),
        Endpoint::get("/api/v1/grants/explain", Operator, grants::explain)
            .does("Why a call would be allowed, or would not")
            .asks(&[
                ("skill", "required: the skill"),
                ("slot", "the slot, with a tool"),
                ("tool", "the tool, with a slot"),
                ("callee", "the skill that it would call, instead of slot and tool"),
                ("campaign", "as from this campaign"),
            ])
            .gives(200, "`{allowed, reason, mode, grant}`; `version` instead of `mode` for a callee"),
        Endpoint::get("/api/v1/mcp/servers", Operator, mcp::servers)
            .does("The configured MCP servers")
            .gives(200, "`{servers}`"),
        Endpoint::get("/api/v1/mcp/servers/{name}/tools", Operator, mcp::tools)
            .does("The tools of a server, which is started if need be")
            .gives(200, "`{server, tools}`"),
    ]
}

fn skill_endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/v1/skills", Operator, skills::list)
            .does("Installed versions")
            .gives(200, "`{skills}`"),
        Endpoint::post("/api/v1/skills", Operator, skills::install)
            .does("Installs a component; 200 when the same bytes were there, 422 with rule, evidence and fix when refused")
            .asks(&[
                ("activate", "`false`: new work goes on as before; else it gets the version if that is the newest"),
                ("canary", "percent of new work that the version gets on trial, 1 to 99"),
            ])
            .takes_bytes("application/wasm", chimera_registry::MAX_COMPONENT_BYTES + 1)
            .gives(201, "`{skill, outcome, approval, warnings, route}`"),
        Endpoint::get("/api/v1/skills/loaded", Operator, skill_route::loaded)
            .does("Compiled code in memory")
            .gives(200, "`{loaded: [{name, version, digest, code_bytes, runs, idle_ms, leaving}]}`"),
        Endpoint::get("/api/v1/skills/compiling", Operator, skills::compiling)
            .does("What is being compiled now")
            .gives(200, "`{compiling: [{digest, bytes, stage: validating, waiting, compiling or keeping, seconds}]}`"),
        Endpoint::get("/api/v1/skills/{namespace}/{name}", Operator, skills::show)
            .does("One skill: where new work goes, its code in memory, its versions with their manifests, and its grants")
            .gives(200, "`{name, route, loaded, versions, grants}`"),
        Endpoint::post("/api/v1/skills/{namespace}/{name}/activate", Operator, skill_route::activate)
            .does("Gives all new work to a version; what runs or is planned keeps its own")
            .takes::<skill_route::OneVersion>()
            .gives(200, "`{route}`"),
        Endpoint::post("/api/v1/skills/{namespace}/{name}/rollback", Operator, skill_route::rollback)
            .does("Gives all new work to the version that was active before and may be run")
            .gives(200, "`{route}`"),
        Endpoint::post("/api/v1/skills/{namespace}/{name}/unload", Operator, skill_route::unload)
            .does("Takes a version's compiled code out of memory; runs in flight free it at their end")
            .takes::<skill_route::OneVersion>()
            .gives(200, "`{unloaded}`: whether there was any"),
        Endpoint::post("/api/v1/skills/{namespace}/{name}/canary", Operator, skill_route::start_canary)
            .does("Gives a share of new work to a version on trial, which is withdrawn when it fails too often")
            .takes::<skill_route::NewCanary>()
            .gives(200, "`{route}`"),
        Endpoint::delete("/api/v1/skills/{namespace}/{name}/canary", Operator, skill_route::stop_canary)
            .does("Ends a trial: nothing new gets the version")
            .gives(200, "`{route}`"),
        Endpoint::post("/api/v1/skills/{namespace}/{name}/canary/promote", Operator, skill_route::promote_canary)
            .does("Ends a trial well: all new work gets the version")
            .gives(200, "`{route}`"),
        Endpoint::get("/api/v1/search", Operator, skills::search)
            .does("Finds skills by what they do")
            .asks(&[("q", "required: what it should do, in words"), ("limit", "at most this many; 10, at most 50")])
            .gives(200, "`{hits}`"),
    ]
}

async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi::document(&endpoints()))
}

/// The whole server as a service: API, page, and the layers around them.
pub fn router(state: AppState) -> Router {
    let mut router = Router::new();
    let served = match state.handles().config.roles.value.api {
        Api::Served => endpoints(),
        Api::HealthOnly => health_endpoints(),
    };
    for endpoint in served {
        let (path, route) = endpoint.into_route(&state);
        router = router.route(path, route);
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(state.clone(), auth::check_site))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(finish_headers))
        .layer(from_fn(log_request))
        .with_state(state)
}

async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-route", "there is no such path; /openapi.json lists those there are")
}

async fn no_method() -> Problem {
    let detail = "the path takes another method; /openapi.json lists those there are";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", detail)
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let detail = "something in the server went wrong; its log says what";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
}

/// What every answer says to the browser: do not guess, do not embed, do not keep, do not tell.
async fn finish_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Method, path and status; never the query, in which somebody may have put a secret by mistake.
async fn log_request(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    tracing::debug!(%method, path, status = response.status().as_u16(), "request");
    response
}
