//! The way to a running server: how the CLI finds it, asks it, and listens to it.
//!
//! A data folder has one owner, so commands that touch its data go through the server that owns it and never open it
//! themselves. The operator's token is read from the data folder and sent to the loopback address found there only after
//! whoever listens has proved to know it, and nowhere else; it is never printed. Called by every command that needs a
//! server.

use super::error::{CliError, CliResult, Exit};
use crate::config::Config;
use crate::proof::{Challenge, Prover};
use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a request may take; listening to events has no end.
const REQUEST_TIME: Duration = Duration::from_secs(120);
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// How long proving may take; the server may be busy.
const PROOF_TIME: Duration = Duration::from_secs(10);
/// How long a proof is believed. A command may watch for hours, and its server may die meanwhile.
const PROOF_LASTS: Duration = Duration::from_secs(2);
/// Largest answer of whoever has proved nothing yet, in bytes.
const MAX_PROOF: usize = 64 << 10;
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Largest event that is read, in bytes.
const MAX_EVENT: usize = 4 << 20;

/// What a running server writes into its data folder.
#[derive(Debug, Clone, Deserialize)]
struct ServerFile {
    url: String,
    #[serde(default)]
    pid: u32,
}

/// Who listens at the address that the server wrote down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The server that knows the data folder's token.
    Ours,
    /// Something else, or a server with another token.
    Stranger,
    /// Something that does not answer in time.
    Silent,
    /// Nothing.
    Nobody,
}

/// A server, found and ready to be asked.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    prover: Prover,
    /// When the listener last proved to be ours.
    proven_at: Mutex<Option<Instant>>,
    pid: u32,
    server_file: PathBuf,
}

impl Client {
    /// Finds the server that owns the configured data folder.
    pub(crate) fn discover(config: &Config) -> CliResult<Self> {
        Self::find(config)?.ok_or_else(|| no_server(config, ""))
    }

    /// As [`Client::discover`]; none when no server says that it is there.
    pub(crate) fn find(config: &Config) -> CliResult<Option<Self>> {
        let path = config.server_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(CliError::unreadable(&path, &error)),
        };
        let file: ServerFile = serde_json::from_str(&text).map_err(|error| {
            CliError::failed(
                format!("{} cannot be understood: {error}", path.display()),
                "stop the server, delete the file and start the server again with `chimera serve`",
            )
        })?;
        let token = std::fs::read_to_string(config.token_file())
            .map_err(|error| CliError::unreadable(&config.token_file(), &error))?;
        Self::new(&file.url, token.trim(), file.pid, path).map(Some)
    }

    fn new(url: &str, token: &str, pid: u32, server_file: PathBuf) -> CliResult<Self> {
        let address: Option<SocketAddr> =
            url.trim_end_matches('/').strip_prefix("http://").and_then(|rest| rest.parse().ok());
        let Some(address) = address.filter(|address| address.ip().is_loopback()) else {
            return Err(CliError::failed(
                format!("the server's address `{url}` is not a loopback address, so the token is not sent there"),
                "start the server again with `chimera serve`",
            ));
        };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| CliError::failed(format!("no HTTP client could be made: {error}"), ""))?;
        let prover = Prover::new(token, address)
            .map_err(|error| CliError::failed(format!("the operator's token cannot be used: {error}"), ""))?;
        let (base, token) = (format!("http://{address}"), token.to_owned());
        Ok(Self { http, base, token, prover, proven_at: Mutex::default(), pid, server_file })
    }

    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// The server's process id, as it wrote it.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// A request with the token, once whoever listens has proved to know it already.
    async fn request(&self, method: Method, path: &str) -> CliResult<RequestBuilder> {
        self.require_proof().await?;
        Ok(self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token))
    }

    async fn require_proof(&self) -> CliResult<()> {
        let proven_at = *self.proven_at.lock().unwrap_or_else(PoisonError::into_inner);
        if proven_at.is_some_and(|at| at.elapsed() < PROOF_LASTS) {
            return Ok(());
        }
        match self.listener().await? {
            Listener::Ours => {
                *self.proven_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(())
            }
            Listener::Stranger => Err(self.stranger()),
            Listener::Silent => Err(self.silent()),
            Listener::Nobody => Err(self.nobody()),
        }
    }

    /// Asks whoever listens for a proof, without any credential.
    pub(crate) async fn listener(&self) -> CliResult<Listener> {
        let challenge = Challenge::random().map_err(|error| {
            CliError::failed(format!("the operating system gives no random numbers: {error}"), "try again")
        })?;
        let path = with_query("/healthz", &[("challenge", challenge.as_str())]);
        let asked = self.http.get(format!("{}{path}", self.base)).timeout(PROOF_TIME).send().await;
        let said = match asked {
            Ok(answer) => read_capped(answer, MAX_PROOF).await,
            Err(error) => Err(Unread::Broken(error)),
        };
        Ok(match said {
            Ok(bytes) if self.is_proof(&challenge, &bytes) => Listener::Ours,
            Err(Unread::Broken(error)) if error.is_timeout() => Listener::Silent,
            Err(Unread::Broken(error)) if error.is_connect() => Listener::Nobody,
            Ok(_) | Err(_) => Listener::Stranger,
        })
    }

    fn is_proof(&self, challenge: &Challenge, answer: &[u8]) -> bool {
        let answer: Value = serde_json::from_slice(answer).unwrap_or(Value::Null);
        answer["proof"].as_str().is_some_and(|proof| self.prover.is_proof(challenge, proof))
    }

    /// Reads something.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> CliResult<Value> {
        let path = with_query(path, query);
        self.finish(self.request(Method::GET, &path).await?).await
    }

    /// Sends a JSON value.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> CliResult<Value> {
        self.finish(self.request(Method::POST, path).await?.json(body)).await
    }

    /// Sends bytes of a kind.
    pub(crate) async fn post_bytes(&self, path: &str, kind: &str, bytes: Vec<u8>) -> CliResult<Value> {
        let request = self.request(Method::POST, path).await?;
        self.finish(request.header(header::CONTENT_TYPE, kind).body(bytes)).await
    }

    /// Takes something back.
    pub(crate) async fn delete(&self, path: &str) -> CliResult<Value> {
        self.finish(self.request(Method::DELETE, path).await?).await
    }

    async fn finish(&self, request: RequestBuilder) -> CliResult<Value> {
        let answer = request.timeout(REQUEST_TIME).send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let bytes = self.body(answer).await?;
        let value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
        if status.is_success() { Ok(value) } else { Err(from_problem(status, &value)) }
    }

    async fn body(&self, answer: Response) -> CliResult<Vec<u8>> {
        read_capped(answer, MAX_ANSWER).await.map_err(|unread| match unread {
            Unread::Broken(error) => self.unreachable(&error),
            Unread::TooLarge => CliError::failed("the server's answer is too large to read", "ask for less at once"),
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if error.is_timeout() { self.silent() } else { self.nobody() }
    }

    fn silent(&self) -> CliError {
        CliError::failed(
            format!("the server at {} did not answer in time", self.base),
            "look at its log; `chimera doctor` tells whether it is alive",
        )
    }

    fn nobody(&self) -> CliError {
        CliError::failed(
            format!("no server answers at {}", self.base),
            "start one with `chimera serve` and the same --data-dir",
        )
    }

    fn stranger(&self) -> CliError {
        CliError::failed(
            format!(
                "something else listens at {}, the address in {}; neither the token nor the command was sent to it",
                self.base,
                self.server_file.display()
            ),
            "that file is stale if its server died: start `chimera serve` (with another --listen if the port is \
             taken). A server that does run has another token than the one in the folder: restart it",
        )
    }

    /// Listens to a campaign's events from now on.
    pub(crate) async fn events(&self, query: &[(&str, &str)]) -> CliResult<Events> {
        let request = self.request(Method::GET, &with_query("/api/v1/events", query)).await?;
        let answer = request
            .header(header::ACCEPT, "text/event-stream")
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if !status.is_success() {
            let bytes = self.body(answer).await?;
            return Err(from_problem(status, &serde_json::from_slice(&bytes).unwrap_or(Value::Null)));
        }
        Ok(Events { stream: answer.bytes_stream().boxed(), buffer: Vec::new() })
    }
}

/// Why an answer could not be read.
enum Unread {
    /// It broke off, or took too long.
    Broken(reqwest::Error),
    /// It is larger than what is read of it.
    TooLarge,
}

async fn read_capped(answer: Response, most: usize) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(Unread::Broken)?;
        if bytes.len() + chunk.len() > most {
            return Err(Unread::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Nothing is running on that data folder.
pub(crate) fn no_server(config: &Config, more: &str) -> CliError {
    CliError::failed(
        format!("no server is running on {}{more}", config.data_dir.value.display()),
        "start one with `chimera serve` (in another terminal), or name its folder with --data-dir",
    )
}

/// A path segment with everything but unreserved characters escaped.
pub(crate) fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// What a refusal means for the exit code and for the human.
pub(crate) fn from_problem(status: StatusCode, problem: &Value) -> CliError {
    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or("");
    let mut what = match (text("detail"), text("title")) {
        ("", "") => format!("the server answered {status}"),
        ("", title) => title.to_owned(),
        (detail, _) => detail.to_owned(),
    };
    let has_rule = !text("rule").is_empty();
    if has_rule && !text("evidence").is_empty() {
        // The detail says the fix as well; here it has a line of its own.
        what = format!("refused by rule {}: {}", text("rule"), text("evidence"));
    }
    let exit = match status {
        _ if has_rule => Exit::Refused,
        StatusCode::FORBIDDEN => Exit::Refused,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE => Exit::Usage,
        _ => Exit::Failed,
    };
    let fix = match text("fix") {
        "" => advice(status),
        fix => fix,
    };
    CliError { exit, what, fix: fix.to_owned() }
}

const fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "the token in the data folder is not the server's: is --data-dir the folder it runs on?"
        }
        StatusCode::NOT_FOUND => "check the id or the name; the list commands show what there is",
        StatusCode::CONFLICT => "read its present state and decide anew",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR => {
            "look at the server's log, then try again"
        }
        _ => "",
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerEvent {
    /// Its name; `message` if it has none.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data: Value,
}

/// A stream of server-sent events.
pub(crate) struct Events {
    stream: futures::stream::BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; none when the server closed the stream.
    pub(crate) async fn next(&mut self) -> CliResult<Option<ServerEvent>> {
        loop {
            while let Some((end, length)) = block_end(&self.buffer) {
                let block: Vec<u8> = self.buffer.drain(..end + length).take(end).collect();
                if let Some(event) = read_block(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(CliError::failed("the server sent an event that is too large to read", ""));
            }
            match self.stream.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

/// Where the first block ends, and how long its blank line is.
fn block_end(buffer: &[u8]) -> Option<(usize, usize)> {
    let lf = buffer.windows(2).position(|w| w == b"\n\n").map(|at| (at, 2));
    let crlf = buffer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| (at, 4));
    match (lf, crlf) {
        (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
        (found, None) | (None, found) => found,
    }
}

fn read_block(block: &str) -> Option<ServerEvent> {
    let mut name = "message".to_owned();
    let mut data = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "data" => data.push(value),
            _ => {}
        }
    }
    if data.is_empty() {
        return None;
    }
    let data = data.join("\n");
    Some(ServerEvent { name, data: serde_json::from_str(&data).unwrap_or(Value::String(data)) })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
