//! Who may: the operator's token and sessions, agents' tokens, and the checks on `Host` and `Origin`.
//!
//! Everything is refused unless a layer of this module lets it through; it decides who calls, never what the call does.
//! No token is ever logged or stored in the clear, except the operator's own in its file (0600). Called by the router
//! as layers, and by `serve` to make the token.

use crate::api::AppState;
use crate::api::problem::Problem;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chimera_core::audit::Actor;
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::records::{Agent, AgentStatus, TokenScope};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// Name of the dashboard's cookie.
pub const SESSION_COOKIE: &str = "chimera_session";
/// Header that a script of ours sends and a foreign page cannot.
pub const CSRF_HEADER: &str = "x-chimera";
/// How long a session lasts.
pub const SESSION_LASTS: Duration = Duration::from_secs(12 * 3600);
/// How long a one-time link can be opened.
pub const TICKET_LASTS: Duration = Duration::from_secs(3600);
/// Most unused one-time links at once; the oldest goes first.
const MAX_TICKETS: usize = 16;
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

/// What the caller proved themselves with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Sent on purpose by whoever made the request.
    Bearer,
    /// Sent by the browser, whichever page made the request.
    Cookie,
}

/// The operator's credentials of one running server.
pub struct Auth {
    token: Digest,
    session_key: Hmac<Sha256>,
    port: u16,
    tickets: Mutex<Vec<Ticket>>,
}

struct Ticket {
    hash: Digest,
    until: Timestamp,
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
    /// The credentials of a server that listens on `port` and whose operator's token is `token`.
    ///
    /// # Errors
    /// Never in practice: HMAC takes keys of every length.
    pub fn new(token: &str, port: u16) -> Result<Self, hmac::digest::InvalidLength> {
        let mut derive = Hmac::<Sha256>::new_from_slice(token.as_bytes())?;
        derive.update(b"chimera dashboard session key");
        let session_key = Hmac::<Sha256>::new_from_slice(&derive.finalize().into_bytes())?;
        Ok(Self { token: Digest::of(token.as_bytes()), session_key, port, tickets: Mutex::default() })
    }

    /// A ticket for `GET /?token=…`: opens one session, once, within [`TICKET_LASTS`].
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn mint_ticket(&self, now: Timestamp) -> Result<String, getrandom::Error> {
        let ticket = random_token()?;
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|ticket| ticket.until > now);
        if tickets.len() >= MAX_TICKETS {
            tickets.remove(0);
        }
        tickets.push(Ticket { hash: Digest::of(ticket.as_bytes()), until: now.plus(TICKET_LASTS) });
        Ok(ticket)
    }

    /// Uses a ticket up; tells whether it was good.
    pub(crate) fn redeem(&self, ticket: &str, now: Timestamp) -> bool {
        let hash = Digest::of(ticket.as_bytes());
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tickets.iter().position(|ticket| same(&ticket.hash, &hash) && ticket.until > now);
        place.map(|place| tickets.remove(place)).is_some()
    }

    /// Is this the operator's token?
    pub(crate) fn is_operator(&self, token: &str) -> bool {
        same(&Digest::of(token.as_bytes()), &self.token)
    }

    /// The value of a new session's cookie: an end, a nonce, and a MAC over both under a key derived from the token,
    /// so it reveals nothing of the token, survives a restart, and dies with the token.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub(crate) fn new_session(&self, now: Timestamp) -> Result<String, getrandom::Error> {
        let claim = format!("{}.{}", now.plus(SESSION_LASTS).as_millis(), random_token()?);
        let mac = self.session_key.clone().chain_update(claim.as_bytes()).finalize().into_bytes();
        Ok(format!("{claim}.{}", URL_SAFE_NO_PAD.encode(mac)))
    }

    fn is_session(&self, cookie: &str, now: Timestamp) -> bool {
        let Some((claim, mac)) = cookie.rsplit_once('.') else { return false };
        let Ok(mac) = URL_SAFE_NO_PAD.decode(mac) else { return false };
        if self.session_key.clone().chain_update(claim.as_bytes()).verify_slice(&mac).is_err() {
            return false;
        }
        let until = claim.split_once('.').and_then(|(until, _)| until.parse::<i64>().ok());
        until.is_some_and(|until| until > now.as_millis())
    }

    /// Does the `Host` name this server on this machine?
    fn is_own_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
            let Some(rest) = host.strip_prefix(name) else { return false };
            match rest.strip_prefix(':') {
                Some(port) => port == self.port.to_string(),
                None => rest.is_empty() && self.port == 80,
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
            "this server answers to 127.0.0.1, localhost and [::1] with its own port, not to `{}`",
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
    match identify(&state, request.headers(), request.method()).await? {
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
    let caller = identify(&state, request.headers(), request.method()).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn identify(state: &AppState, headers: &HeaderMap, method: &Method) -> Result<Caller, Problem> {
    let (caller, proof) = match one(headers, AUTHORIZATION.as_str())? {
        Some(header) => {
            let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
            if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
                return Err(unauthenticated("the header must read `Authorization: Bearer <token>`"));
            }
            (by_token(state, token.trim()).await?, Proof::Bearer)
        }
        None => (by_cookie(state, headers)?, Proof::Cookie),
    };
    if proof == Proof::Cookie {
        check_forgery(method, headers)?;
    }
    Ok(caller)
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
}

async fn by_token(state: &AppState, token: &str) -> Result<Caller, Problem> {
    if state.auth().is_operator(token) {
        return Ok(Caller::Operator(OPERATOR.to_owned()));
    }
    let hash = Digest::of(token.as_bytes());
    let tokens = state.truth().tokens().await?;
    let known = tokens.into_iter().find(|known| known.revoked_at.is_none() && same(&known.hash, &hash));
    let Some(known) = known else { return Err(unauthenticated("this token is not known, or was taken back")) };
    match known.scope {
        TokenScope::Operator => Ok(Caller::Operator(known.name)),
        TokenScope::Agent(id) => {
            let agent = state.truth().agents().await?.into_iter().find(|agent| agent.id == id);
            match agent {
                Some(agent) if agent.status == AgentStatus::Active => Ok(Caller::Agent(agent)),
                _ => Err(unauthenticated("the agent of this token is disabled")),
            }
        }
    }
}

fn by_cookie(state: &AppState, headers: &HeaderMap) -> Result<Caller, Problem> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut sessions = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == SESSION_COOKIE).then_some(value)
    });
    let now = state.now();
    if sessions.any(|session| state.auth().is_session(session, now)) {
        return Ok(Caller::Operator(OPERATOR.to_owned()));
    }
    Err(unauthenticated(
        "send the operator's token (the file operator.token in the data folder) as `Authorization: Bearer`",
    ))
}

/// A browser sends the cookie whichever page asks; what changes things must prove that our own page asked. `Origin`,
/// where it is present, was found to be ours before.
fn check_forgery(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail| Err(Problem::new(StatusCode::FORBIDDEN, "forgery-suspected", detail));
    if let Some(site) = one(headers, "sec-fetch-site")?
        && !matches!(site, "same-origin" | "none")
    {
        return refused("another site's page made this request");
    }
    let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || headers.contains_key(ORIGIN) || headers.contains_key(CSRF_HEADER) {
        return Ok(());
    }
    refused("a request with a cookie that changes something needs an `Origin` or an `X-Chimera` header")
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
