//! Who may: the operator's token and sessions, agents' tokens, and the checks on `Host` and `Origin`.
//!
//! Everything is refused unless a layer of this module lets it through; it decides who calls, never what the call does.
//! No token is ever logged or stored in the clear, except the operator's own in its file (0600), and nothing is taken
//! for a credential that a browser sends by itself. Called by the router as layers, and by `serve` to make the token.

use crate::api::AppState;
use crate::api::problem::Problem;
use crate::listener;
use crate::proof::Prover;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chimera_core::audit::Actor;
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::ids::AgentId;
use chimera_core::rate::{RateDecision, RateLimit};
use chimera_core::records::{Agent, AgentStatus, TokenScope};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a session lasts.
pub const SESSION_LASTS: Duration = Duration::from_secs(12 * 3600);
/// How long a one-time link can be opened.
pub const TICKET_LASTS: Duration = Duration::from_secs(3600);
/// Most unused one-time links at once; the oldest goes first.
const MAX_TICKETS: usize = 16;
/// Most sessions at once; the oldest goes first. Only who has the token or a link can open one.
const MAX_SESSIONS: usize = 64;
/// Most calls of one agent in any [`AGENT_WINDOW`].
const AGENT_CALLS: u32 = 2_000;
/// The window in which they are counted.
const AGENT_WINDOW: Duration = Duration::from_secs(10);
/// Name of the operator in the audit log.
const OPERATOR: &str = "local";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A human with the operator's token or a session, by the token's name.
    Operator(String),
    /// An agent with a token of its own.
    Agent(Agent),
}

impl Caller {
    /// As the audit log names them.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Operator(name) => Actor::Operator(name.clone()),
            Self::Agent(agent) => Actor::Agent(agent.id),
        }
    }
}

/// The operator's credentials of one running server.
pub struct Auth {
    token: Digest,
    address: SocketAddr,
    prover: Prover,
    tickets: Passes,
    sessions: Passes,
}

/// Secrets that were given out and open something until they end, are used up, or are too many.
struct Passes {
    given: Mutex<Vec<Pass>>,
    most: usize,
    last: Duration,
}

struct Pass {
    hash: Digest,
    until: Timestamp,
    /// Tells those who stream under it that it is gone.
    gone: DropGuard,
}

impl Passes {
    const fn new(most: usize, last: Duration) -> Self {
        Self { given: Mutex::new(Vec::new()), most, last }
    }

    /// A new one. The oldest goes when there are too many.
    fn give(&self, now: Timestamp) -> Result<String, getrandom::Error> {
        let secret = random_token()?;
        let mut given = self.living(now);
        if given.len() >= self.most {
            given.remove(0);
        }
        let gone = CancellationToken::new().drop_guard();
        given.push(Pass { hash: Digest::of(secret.as_bytes()), until: now.plus(self.last), gone });
        Ok(secret)
    }

    /// What is cancelled when it ends, if it is a good one.
    fn end_of(&self, secret: &str, now: Timestamp) -> Option<CancellationToken> {
        let hash = Digest::of(secret.as_bytes());
        self.living(now).iter().find(|pass| same(&pass.hash, &hash)).map(|pass| pass.gone.token().clone())
    }

    /// Ends it; tells whether it was a good one.
    fn end(&self, secret: &str, now: Timestamp) -> bool {
        let hash = Digest::of(secret.as_bytes());
        let mut given = self.living(now);
        let place = given.iter().position(|pass| same(&pass.hash, &hash));
        place.map(|place| given.remove(place)).is_some()
    }

    fn living(&self, now: Timestamp) -> MutexGuard<'_, Vec<Pass>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|pass| pass.until > now);
        given
    }
}

/// The operator's token could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("the operator's token {} cannot be used: {error}; mend the file's permissions, or remove it to get a new one", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold a token; remove it to get a new one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    NoRandom(getrandom::Error),
}

/// 32 random bytes as base64url text.
///
/// # Errors
/// When the operating system gives no random numbers.
pub fn random_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads the operator's token, or makes it when there is none. The file is readable by its owner only.
///
/// # Errors
/// [`TokenError`] naming the file and what to do.
pub fn load_or_create_token(path: &Path) -> Result<String, TokenError> {
    let io = |error| TokenError::Io { path: path.to_owned(), error };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            restrict(path).map_err(io)?;
            let token = text.trim();
            let is_token = URL_SAFE_NO_PAD.decode(token).is_ok_and(|bytes| bytes.len() == 32);
            is_token.then(|| token.to_owned()).ok_or_else(|| TokenError::Malformed { path: path.to_owned() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = random_token().map_err(TokenError::NoRandom)?;
            write_private(path, &format!("{token}\n")).map_err(io)?;
            Ok(token)
        }
        Err(error) => Err(io(error)),
    }
}

/// Takes everybody else's access away, should somebody have given it.
fn restrict(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "the operator's token was readable by others; it no longer is");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

impl Auth {
    /// The credentials of a server that is bound to `address` and whose operator's token is `token`.
    ///
    /// # Errors
    /// Never in practice: HMAC takes keys of every length.
    pub fn new(token: &str, address: SocketAddr) -> Result<Self, hmac::digest::InvalidLength> {
        Ok(Self {
            token: Digest::of(token.as_bytes()),
            address,
            prover: Prover::new(token, address)?,
            tickets: Passes::new(MAX_TICKETS, TICKET_LASTS),
            sessions: Passes::new(MAX_SESSIONS, SESSION_LASTS),
        })
    }

    /// A ticket for the one-time link `/#ticket=…`: opens one session, once, within [`TICKET_LASTS`].
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn mint_ticket(&self, now: Timestamp) -> Result<String, getrandom::Error> {
        self.tickets.give(now)
    }

    /// Uses a ticket up; tells whether it was good.
    pub(crate) fn redeem(&self, ticket: &str, now: Timestamp) -> bool {
        self.tickets.end(ticket, now)
    }

    /// Is this the operator's token?
    pub(crate) fn is_operator(&self, token: &str) -> bool {
        same(&Digest::of(token.as_bytes()), &self.token)
    }

    /// The token of a new session, which stands for the operator for [`SESSION_LASTS`]. It is kept in memory only, so
    /// that one that was ended stays so: it ends with the server as well.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub(crate) fn new_session(&self, now: Timestamp) -> Result<String, getrandom::Error> {
        self.sessions.give(now)
    }

    /// What is cancelled when this session ends; none when it is no session.
    pub(crate) fn end_of_session(&self, session: &str, now: Timestamp) -> Option<CancellationToken> {
        self.sessions.end_of(session, now)
    }

    /// Ends a session; tells whether there was one.
    pub(crate) fn end_session(&self, session: &str, now: Timestamp) -> bool {
        self.sessions.end(session, now)
    }

    /// What proves to the CLI that this server is its operator's.
    pub(crate) fn prover(&self) -> &Prover {
        &self.prover
    }

    /// Does the `Host` name this server on this machine? There are more loopback addresses than the usual two, and it
    /// may be bound to any.
    fn is_own_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let port = self.address.port();
        let bound = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        ["127.0.0.1", "localhost", "[::1]", &bound].iter().any(|name| {
            let Some(rest) = host.strip_prefix(name) else { return false };
            match rest.strip_prefix(':') {
                Some(text) => text == port.to_string(),
                None => rest.is_empty() && port == 80,
            }
        })
    }
}

/// Constant-time comparison of digests.
fn same(a: &Digest, b: &Digest) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// The layer around everything: a request must be meant for this server and must not come from another site's page.
///
/// A page that had its name rebound to 127.0.0.1 still sends its own name as `Host`; a page of another origin sends
/// that `Origin`.
pub(crate) async fn check_site(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let host = one(headers, HOST.as_str())?.map(str::to_owned).or(authority).unwrap_or_default();
    if !state.auth().is_own_host(&host) {
        let detail = format!(
            "this server answers to {}, and to 127.0.0.1, localhost and [::1] with the same port, not to `{}`",
            state.auth().address,
            chimera_core::text::truncated(host, 100)
        );
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail));
    }
    if let Some(origin) = one(headers, ORIGIN.as_str())?
        && !origin.eq_ignore_ascii_case(&format!("http://{host}"))
    {
        let detail = "requests from pages of another origin are refused";
        return Err(Problem::new(StatusCode::FORBIDDEN, "wrong-origin", detail));
    }
    Ok(next.run(request).await)
}

/// The only value of a header; two of them are a smuggling attempt.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::bad_request("repeated-header", format!("the header `{name}` is there twice")));
    }
    let unreadable = |_| Problem::bad_request("invalid-header", format!("the header `{name}` is not plain text"));
    first.map(|value| value.to_str().map_err(unreadable)).transpose()
}

/// The layer of the operator's routes. Puts the [`Caller`] into the request's extensions.
pub(crate) async fn require_operator(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match identify(&state, request.headers(), request.extensions()).await? {
        caller @ Caller::Operator(_) => {
            request.extensions_mut().insert(caller);
            Ok(next.run(request).await)
        }
        Caller::Agent(_) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "operator-only",
            "an agent's token opens only /assign_task, /report_result, /evaluate_task, /api/v1/agents/lease and \
             /api/v1/agents/heartbeat",
        )),
    }
}

/// The layer of the agents' routes. Puts the [`Caller`] into the request's extensions.
pub(crate) async fn require_caller(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = identify(&state, request.headers(), request.extensions()).await?;
    if let Caller::Agent(agent) = &caller
        && let Some(wait) = must_wait(&state, agent.id).await
    {
        return Ok(too_often(wait));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// How long an agent that has called too often must wait. While nobody can count, nobody must: an agent with a good token
/// is not locked out because of it.
async fn must_wait(state: &AppState, agent: AgentId) -> Option<Duration> {
    let limit = RateLimit::new(AGENT_CALLS, AGENT_WINDOW);
    match state.handles().rates.decide(agent, limit, state.now()).await {
        Ok(RateDecision::Allowed) => None,
        Ok(RateDecision::RetryAfter(wait)) => Some(wait),
        Err(error) => {
            tracing::warn!(%agent, %error, "the calls of an agent are not counted");
            None
        }
    }
}

fn too_often(wait: Duration) -> Response {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let detail =
        format!("this agent has called {AGENT_CALLS} times in {AGENT_WINDOW:?}; call again after `retry_after_ms`");
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-calls", detail).with("retry_after_ms", millis);
    let mut response = problem.into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
    response
}

async fn identify(state: &AppState, headers: &HeaderMap, extensions: &Extensions) -> Result<Caller, Problem> {
    let caller = by_token(state, bearer(headers)?).await?;
    listener::vouch(extensions);
    Ok(caller)
}

/// What follows `Authorization: Bearer`: the only credential there is. A browser sends it for no page but ours, because
/// only our page's script knows it.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(header) = one(headers, AUTHORIZATION.as_str())? else {
        return Err(unauthenticated(
            "send the operator's token (the file operator.token in the data folder) as `Authorization: Bearer`",
        ));
    };
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(unauthenticated("the header must read `Authorization: Bearer <token>`"));
    }
    Ok(token.trim())
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
}

async fn by_token(state: &AppState, token: &str) -> Result<Caller, Problem> {
    if state.auth().is_operator(token) || state.auth().end_of_session(token, state.now()).is_some() {
        return Ok(Caller::Operator(OPERATOR.to_owned()));
    }
    let hash = Digest::of(token.as_bytes());
    let tokens = state.truth().tokens().await?;
    let known = tokens.into_iter().find(|known| known.revoked_at.is_none() && same(&known.hash, &hash));
    let Some(known) = known else {
        return Err(unauthenticated("this token is not known, was taken back, or its session has ended"));
    };
    match known.scope {
        TokenScope::Operator => Ok(Caller::Operator(known.name)),
        TokenScope::Agent(id) => {
            let agent = state.truth().agents().await?.into_iter().find(|agent| agent.id == id);
            match agent {
                Some(agent) if agent.status == AgentStatus::Active => Ok(Caller::Agent(agent)),
                _ => Err(unauthenticated("the agent of this token may not act")),
            }
        }
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
