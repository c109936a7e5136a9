//! One connection to one server: a child process that speaks MCP over its standard streams.
//!
//! It starts the process with an empty environment, speaks the stateless revision and falls back to the older one, bounds
//! what comes back, and ends the process with the connection. It knows no grant and no ledger, and declares no client
//! capability, so a server can ask nothing of this side. Called by the pool.

use crate::config::ServerConfig;
use crate::tool::{MAX_TOOLS, Request, ServerTool, ToolTable};
use crate::wire::{Fault, Watched};
use chimera_core::json::{MAX_DEPTH, is_deeper_than};
use chimera_core::ports::ToolAnswer;
use chimera_core::text::{printable, truncated};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest,
    ContentBlock, ErrorCode, Implementation, ListToolsRequest, PaginatedRequestParams, ProtocolVersion,
    ReadResourceRequest, ReadResourceRequestParams, RequestMetaObject, ResourceContents, ServerResult,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RunningService};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, Peer, RoleClient, ServiceError};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio_util::sync::CancellationToken;

/// Largest answer of a tool or resource, text and structured content together.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// How long a list of tools is believed unless the server says that it changed.
const TOOLS_FRESH_FOR: Duration = Duration::from_secs(30);
/// Most pages of a list of tools.
const MAX_PAGES: usize = 32;
/// Calls that a server may leave unanswered before its connection is given up.
const MAX_TIMEOUTS: u32 = 3;
/// How long a server has to end by itself once its input is closed.
const GRACE: Duration = Duration::from_millis(500);
/// How long telling a server that a call was given up may take.
const CANCEL_TIME: Duration = Duration::from_millis(250);
/// Longest line of a server's standard error that is logged, and how many of them.
const MAX_STDERR_LINE: usize = 1024;
const MAX_STDERR_LINES: u32 = 500;
/// Shortest value of a server's environment that is taken for a secret: shorter ones would hide ordinary words.
const MIN_SECRET: usize = 6;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Not a byte of it was given to the connection.
    #[error("{problem}")]
    NotSent {
        /// What stood in the way.
        problem: String,
        /// When the server may be tried again.
        retry_after: Option<Duration>,
    },
    /// The server refused it before doing anything.
    #[error("the server refused the call: {0}")]
    Refused(String),
    /// It was sent, and the time ran out.
    #[error("the server did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It was sent, and the connection ended.
    #[error("the connection ended before the answer came{}", .0.map(|fault| format!(": {fault}")).unwrap_or_default())]
    Ended(Option<Fault>),
    /// It was sent, and what came back is not an answer.
    #[error("the server's answer cannot be used: {0}")]
    Unusable(String),
}

/// What a server answered, and whether it was cut.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    pub(crate) answer: ToolAnswer,
    /// Why the answer is not the whole of what the server said.
    pub(crate) cut: Option<String>,
}

/// A connection that serves calls until it ends.
pub(crate) struct Live {
    peer: Peer<RoleClient>,
    fault: Arc<OnceLock<Fault>>,
    tools_changed: Arc<AtomicBool>,
    tools: tokio::sync::Mutex<Option<(Instant, Arc<ToolTable>)>>,
    timeouts: AtomicU32,
    answered: AtomicBool,
    stop: CancellationToken,
    ended: CancellationToken,
    pub(crate) pid: Option<u32>,
    pub(crate) protocol: String,
    pub(crate) implementation: Option<String>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts the server and greets it.
///
/// # Errors
/// A sentence for the operator.
pub(crate) async fn connect(config: &ServerConfig) -> Result<Live, String> {
    let mut child = spawn(config)?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("its standard streams could not be opened".to_owned());
    };
    let pid = child.id();
    tokio::spawn(log_stderr(config.clone(), stderr));
    let fault = Arc::new(OnceLock::new());
    let tools_changed = Arc::new(AtomicBool::new(false));
    let transport = AsyncRwTransport::new_client(Watched::new(stdout, fault.clone()), stdin)
        .with_max_line_length(crate::wire::MAX_LINE_BYTES + 1);
    let handler = Handler { tools_changed: tools_changed.clone() };
    let mode = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::LATEST],
        legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
    };
    let greeting = tokio::time::timeout(config.start_timeout, handler.serve_with_lifecycle(transport, mode)).await;
    let service = match greeting {
        Ok(Ok(service)) => service,
        Ok(Err(error)) => {
            let problem = fault.get().map_or_else(|| error.to_string(), ToString::to_string);
            end(child, pid).await;
            return Err(format!("it does not greet as an MCP server: {}", for_people(&problem)));
        }
        Err(_) => {
            end(child, pid).await;
            let (waited, name) = (config.start_timeout.as_millis(), &config.name);
            return Err(format!(
                "it did not greet within {waited} ms; if it needs longer, raise `start_timeout_ms` of [mcp.servers.{name}]"
            ));
        }
    };
    let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let info = service.peer().peer_info();
    let live = Live {
        peer: service.peer().clone(),
        fault,
        tools_changed,
        tools: tokio::sync::Mutex::default(),
        timeouts: AtomicU32::new(0),
        answered: AtomicBool::new(false),
        stop: stop.clone(),
        ended: ended.clone(),
        pid,
        protocol: info.as_ref().map(|info| for_people(&info.protocol_version.to_string())).unwrap_or_default(),
        implementation: info
            .and_then(|info| info.server_info.as_ref().map(|it| for_people(&format!("{} {}", it.name, it.version)))),
    };
    tokio::spawn(supervise(config.name.clone(), service, child, pid, stop, ended));
    Ok(live)
}

fn spawn(config: &ServerConfig) -> Result<Child, String> {
    let mut command = Command::new(&config.command);
    command
        .args(&config.args)
        .env_clear()
        .env("LANG", "C.UTF-8")
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(&config.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // A group of its own: it is ended with its children, and Ctrl-C on this terminal is for the host to handle.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().map_err(|e| {
        let program = config.command.display();
        let name = &config.name;
        format!(
            "`{program}` could not be started: {e}; name a program that exists as `command` of [mcp.servers.{name}]"
        )
    })
}

/// Waits until the server or the connection ends, or until it is told to end both.
async fn supervise(
    name: String,
    service: RunningService<RoleClient, Handler>,
    mut child: Child,
    pid: Option<u32>,
    stop: CancellationToken,
    ended: CancellationToken,
) {
    let close = service.cancellation_token();
    let mut running = std::pin::pin!(service.waiting());
    tokio::select! {
        status = child.wait() => {
            tracing::warn!(server = name, status = ?status.ok(), "an MCP server ended by itself");
        }
        _ = &mut running => tracing::warn!(server = name, "the connection to an MCP server ended"),
        () = stop.cancelled() => {
            close.cancel();
            // Closes the server's standard input, which asks it to end.
            let _ = tokio::time::timeout(GRACE, &mut running).await;
        }
    }
    end(child, pid).await;
    ended.cancel();
}

/// Gives the process a moment to end by itself, then ends it and what it started.
async fn end(mut child: Child, pid: Option<u32>) {
    drop(child.stdin.take());
    if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
        return;
    }
    kill_group(pid);
    let _ = child.kill().await;
}

#[cfg(unix)]
fn kill_group(pid: Option<u32>) {
    // The leader has not been waited for, so its group's number cannot have been given to another.
    let group = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_: Option<u32>) {}

/// Logs what the server writes to its standard error, without the secrets that it was given.
async fn log_stderr(config: ServerConfig, stderr: ChildStderr) {
    let secrets = secrets_of(&config);
    let mut reader = BufReader::new(stderr);
    for _ in 0..MAX_STDERR_LINES {
        let Some(line) = stderr_line(&mut reader, &secrets).await else { return };
        tracing::info!(server = config.name, "{}", printable(&line));
    }
    tracing::info!(server = config.name, "what else it writes is not logged");
    // It is read all the same: a server must not be stopped by a full pipe.
    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
}

/// What must not be logged, line by line, longest first: a part of another secret does not uncover the rest of it.
fn secrets_of(config: &ServerConfig) -> Vec<&str> {
    let lines = config.env.values().flat_map(|value| value.lines()).map(str::trim);
    let mut secrets: Vec<&str> = lines.filter(|line| line.len() >= MIN_SECRET).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// The next line without secrets, cut where it is too long; none at the end.
async fn stderr_line(reader: &mut (impl AsyncBufRead + Unpin), secrets: &[&str]) -> Option<String> {
    let mut line = Vec::new();
    match reader.take(MAX_STDERR_LINE as u64).read_until(b'\n', &mut line).await {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    let is_whole = line.len() < MAX_STDERR_LINE || line.ends_with(b"\n");
    let mut text = String::from_utf8_lossy(&line).into_owned();
    for secret in secrets {
        text = text.replace(secret, "(hidden)");
    }
    if !is_whole {
        // A secret may begin here and go on beyond: neither its beginning nor the rest of the line is logged.
        let kept = text.len().saturating_sub(secrets.first().map_or(0, |longest| longest.len()));
        text = truncated(text, kept) + "…";
        pass_over_line(reader).await;
    }
    Some(text.trim_end().to_owned())
}

/// Reads to the end of a line without keeping it.
async fn pass_over_line(reader: &mut (impl AsyncBufRead + Unpin)) {
    while let Ok(bytes) = reader.fill_buf().await {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(bytes.len(), |at| at + 1);
        let is_over = end.is_some() || bytes.is_empty();
        reader.consume(length);
        if is_over {
            return;
        }
    }
}

/// The client's side of the conversation: it offers nothing and notes when the tools changed.
struct Handler {
    tools_changed: Arc<AtomicBool>,
}

impl ClientHandler for Handler {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.store(true, Ordering::SeqCst);
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("chimera", env!("CARGO_PKG_VERSION")))
    }
}

impl Live {
    /// Can it still be called?
    pub(crate) fn is_usable(&self) -> bool {
        !self.peer.is_transport_closed() && !self.stop.is_cancelled() && self.fault.get().is_none()
    }

    /// Has it answered anything since it was greeted?
    pub(crate) fn is_proven(&self) -> bool {
        self.answered.load(Ordering::SeqCst)
    }

    /// Ends the connection and the process, and returns when both are gone.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }

    /// Why this side broke the connection, if it did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    /// The server's tools, asked for again when they are old or may have changed.
    pub(crate) async fn tools(&self, until: Instant, age: Age) -> Result<Arc<ToolTable>, CallError> {
        let mut kept = self.tools.lock().await;
        let has_changed = self.tools_changed.swap(false, Ordering::SeqCst);
        match kept.as_ref() {
            Some((at, table)) if age == Age::Recent && !has_changed && at.elapsed() < TOOLS_FRESH_FOR => {
                Ok(table.clone())
            }
            _ => {
                *kept = None;
                let table = Arc::new(self.list_tools(until).await?);
                *kept = Some((Instant::now(), table.clone()));
                Ok(table)
            }
        }
    }

    async fn list_tools(&self, until: Instant) -> Result<ToolTable, CallError> {
        let mut table = ToolTable::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor.take());
            let request = ListToolsRequest::with_param(params);
            let ServerResult::ListToolsResult(page) =
                self.ask(ClientRequest::ListToolsRequest(request), None, until).await?
            else {
                return Err(CallError::Unusable("it is not a list of tools".to_owned()));
            };
            for tool in page.tools {
                let name = for_people(&tool.name);
                match ServerTool::read(tool) {
                    Ok(tool) if table.len() < MAX_TOOLS => _ = table.insert(tool.info.name.clone(), tool),
                    Ok(_) => return Err(CallError::Unusable(format!("it lists more than {MAX_TOOLS} tools"))),
                    Err(problem) => tracing::warn!(tool = name, problem, "a tool of an MCP server is left out"),
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(table);
            }
        }
        Err(CallError::Unusable(format!("its list of tools has more than {MAX_PAGES} pages")))
    }

    /// Calls a tool once.
    pub(crate) async fn call(&self, request: Request, until: Instant) -> Result<Answered, CallError> {
        let meta = request.meta.map(|(key, value)| {
            let mut meta = RequestMetaObject::new();
            meta.insert(key, value.into());
            meta
        });
        let params = CallToolRequestParams::new(request.tool).with_arguments(request.arguments);
        let request = CallToolRequest::new(params);
        match self.ask(ClientRequest::CallToolRequest(request), meta, until).await {
            Ok(ServerResult::CallToolResult(result)) => Ok(bounded(result)),
            Ok(ServerResult::InputRequiredResult(_)) => {
                Err(CallError::Refused("it asks for more input, which a task cannot give".to_owned()))
            }
            Ok(_) => Err(CallError::Unusable("it is not the result of a tool".to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Reads a resource's text.
    pub(crate) async fn read(&self, uri: &str, until: Instant) -> Result<String, CallError> {
        let params = ReadResourceRequestParams::new(uri);
        let request = ReadResourceRequest::new(params);
        let ServerResult::ReadResourceResult(result) =
            self.ask(ClientRequest::ReadResourceRequest(request), None, until).await?
        else {
            return Err(CallError::Unusable("it is not a resource".to_owned()));
        };
        let mut text = String::new();
        for part in result.contents {
            let ResourceContents::TextResourceContents { text: part, .. } = part else {
                return Err(CallError::Unusable("the resource is not text".to_owned()));
            };
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&part);
        }
        if text.len() > MAX_ANSWER_BYTES {
            return Err(CallError::Unusable(format!("the resource is larger than {} KiB", MAX_ANSWER_BYTES >> 10)));
        }
        Ok(text)
    }

    fn note_answer(&self) {
        self.timeouts.store(0, Ordering::SeqCst);
        self.answered.store(true, Ordering::SeqCst);
    }

    async fn ask(
        &self,
        request: ClientRequest,
        meta: Option<RequestMetaObject>,
        until: Instant,
    ) -> Result<ServerResult, CallError> {
        let span = until.saturating_duration_since(Instant::now());
        let not_sent = |problem: &str| CallError::NotSent { problem: problem.to_owned(), retry_after: None };
        if span.is_zero() {
            return Err(not_sent("the time was over before the call could be sent"));
        }
        if !self.is_usable() {
            return Err(not_sent("the connection to the server has ended"));
        }
        let mut options = PeerRequestOptions::with_timeout(span);
        options.meta = meta;
        let asked = async {
            let sent = self.peer.send_request_with_option(request, options).await;
            let handle = sent.map_err(|_| not_sent("the connection to the server has ended"))?;
            Ok(handle.await_response().await)
        };
        // After its own timeout it still writes a cancellation, which a server that reads nothing any more blocks for ever.
        let answered = tokio::time::timeout_at((until + CANCEL_TIME).into(), asked).await.unwrap_or_else(|_| {
            self.stop.cancel();
            Ok(Err(ServiceError::Timeout { timeout: span }))
        });
        match answered? {
            Ok(result) => {
                self.note_answer();
                Ok(result)
            }
            Err(ServiceError::McpError(error)) => {
                self.note_answer();
                let message = for_people(&error.message);
                match error.code {
                    ErrorCode::INVALID_PARAMS | ErrorCode::METHOD_NOT_FOUND | ErrorCode::INVALID_REQUEST => {
                        Err(CallError::Refused(message))
                    }
                    // It came as far as doing something: an answer, and one that may not be asked for again.
                    _ => Ok(ServerResult::CallToolResult(CallToolResult::error(vec![ContentBlock::text(message)]))),
                }
            }
            Err(ServiceError::Timeout { .. }) => {
                if self.timeouts.fetch_add(1, Ordering::SeqCst) + 1 >= MAX_TIMEOUTS {
                    self.stop.cancel();
                }
                Err(CallError::TimedOut(span))
            }
            Err(ServiceError::UnexpectedResponse) => Err(CallError::Unusable("it is no MCP answer".to_owned())),
            Err(_) => Err(CallError::Ended(self.fault())),
        }
    }
}

/// How old a list of tools may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// As old as the connection allows.
    Recent,
    /// Asked for now: before something is sent that cannot be taken back.
    Now,
}

/// The answer within the limits. An effect that was done stays done when its answer is too large, so it is cut, not refused.
fn bounded(result: CallToolResult) -> Answered {
    let mut text = String::new();
    for part in result.content {
        let part = match part {
            ContentBlock::Text(part) => part.text,
            ContentBlock::ResourceLink(link) => link.uri.clone(),
            _ => continue,
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&part);
    }
    let mut structured = result.structured_content;
    let mut cut = None;
    if structured.as_ref().is_some_and(|value| is_deeper_than(value, MAX_DEPTH)) {
        structured = None;
        cut = Some(format!("its structured content was nested deeper than {MAX_DEPTH} and was dropped"));
    }
    let size = structured.as_ref().map_or(0, |value| value.to_string().len());
    if text.len() + size > MAX_ANSWER_BYTES {
        structured = None;
        text = truncated(text, 4096);
        cut = Some(format!("it was larger than {} KiB and was cut", MAX_ANSWER_BYTES >> 10));
    }
    Answered { answer: ToolAnswer { text, structured, is_error: result.is_error.unwrap_or(false) }, cut }
}

/// A stranger's text, for a message or a log line.
fn for_people(text: &str) -> String {
    printable(&truncated(text.to_owned(), 300))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    async fn logged(written: &[u8], env: &[&str]) -> Vec<String> {
        let mut config = ServerConfig::new("s", "/bin/true");
        config.env = env.iter().enumerate().map(|(at, value)| (format!("V{at}"), (*value).to_owned())).collect();
        let secrets = secrets_of(&config);
        let mut reader = BufReader::with_capacity(64, written);
        let mut lines = Vec::new();
        while let Some(line) = stderr_line(&mut reader, &secrets).await {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn secrets_are_not_logged_wherever_they_stand() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----";
        let token = "token-0123456789";
        let padding = "x".repeat(MAX_STDERR_LINE - 8);
        let written = format!("a {token} b\n{key}\n{padding}{token} and more\nlast {token}{token}");
        let lines = logged(written.as_bytes(), &[token, key, "short"]).await;
        let all = lines.join("\n");
        assert!(lines[0] == "a (hidden) b" && lines[lines.len() - 1] == "last (hidden)(hidden)", "{all}");
        assert!(!all.contains("token-") && !all.contains("0123456789") && !all.contains("MIIE"), "{all}");
        assert_eq!(lines.len(), 6, "a line that is too long is one line: {all}");
        assert!(lines[4].ends_with('…'), "{}", lines[4]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_passed_over() {
        let written = "y".repeat(1 << 20);
        let lines = logged(written.as_bytes(), &[]).await;
        assert_eq!(lines.len(), 1);
        assert!(lines[0].len() <= MAX_STDERR_LINE + "…".len());
    }
}
