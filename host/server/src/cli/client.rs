//! The way to a running server: how the CLI finds it, asks it, and listens to it.
//!
//! A data folder has one owner, so commands that touch its data go through the server that owns it and never open it
//! themselves. The operator's token is read from the data folder and sent to the loopback address found there, nowhere
//! else; it is never printed. Called by every command that needs a server.

use super::error::{CliError, CliResult, Exit};
use crate::config::Config;
use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// How long a request may take; listening to events has no end.
const REQUEST_TIME: Duration = Duration::from_secs(120);
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(3);
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

/// A server, found and ready to be asked.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    pid: u32,
}

impl Client {
    /// Finds the server that owns the configured data folder.
    pub(crate) fn discover(config: &Config) -> CliResult<Self> {
        let path = config.server_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(no_server(config, "")),
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
        Self::new(&file.url, token.trim(), file.pid)
    }

    fn new(url: &str, token: &str, pid: u32) -> CliResult<Self> {
        let is_loopback = reqwest::Url::parse(url).ok().is_some_and(|url| {
            let host = url.host_str().unwrap_or("").trim_matches(['[', ']']).to_owned();
            url.scheme() == "http"
                && (host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()))
        });
        if !is_loopback {
            return Err(CliError::failed(
                format!("the server's address `{url}` is not a loopback address, so the token is not sent there"),
                "start the server again with `chimera serve`",
            ));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| CliError::failed(format!("no HTTP client could be made: {error}"), ""))?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), token: token.to_owned(), pid })
    }

    /// The server's address.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// The server's process id, as it wrote it.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Is there a server, and does it answer?
    pub(crate) async fn is_alive(&self) -> bool {
        let answer = self.request(Method::GET, "/healthz").timeout(CONNECT_TIME).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Reads something.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> CliResult<Value> {
        let path = with_query(path, query);
        self.finish(self.request(Method::GET, &path)).await
    }

    /// Sends a JSON value.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> CliResult<Value> {
        self.finish(self.request(Method::POST, path).json(body)).await
    }

    /// Sends bytes of a kind.
    pub(crate) async fn post_bytes(&self, path: &str, kind: &str, bytes: Vec<u8>) -> CliResult<Value> {
        self.finish(self.request(Method::POST, path).header(header::CONTENT_TYPE, kind).body(bytes)).await
    }

    /// Takes something back.
    pub(crate) async fn delete(&self, path: &str) -> CliResult<Value> {
        self.finish(self.request(Method::DELETE, path)).await
    }

    async fn finish(&self, request: RequestBuilder) -> CliResult<Value> {
        let answer = request.timeout(REQUEST_TIME).send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let bytes = self.body(answer).await?;
        let value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or(Value::Null) };
        if status.is_success() { Ok(value) } else { Err(from_problem(status, &value)) }
    }

    async fn body(&self, answer: Response) -> CliResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stream = answer.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.unreachable(&error))?;
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(CliError::failed("the server's answer is too large to read", "ask for less at once"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if error.is_timeout() {
            return CliError::failed(
                format!("the server at {} did not answer in time", self.base),
                "look at its log; `chimera doctor` tells whether it is alive",
            );
        }
        CliError::failed(
            format!("no server answers at {}", self.base),
            "start one with `chimera serve` and the same --data-dir",
        )
    }

    /// Listens to a campaign's events from now on.
    pub(crate) async fn events(&self, query: &[(&str, &str)]) -> CliResult<Events> {
        let request = self.request(Method::GET, &with_query("/api/v1/events", query));
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_by_a_rule_ends_with_three_and_tells_rule_evidence_and_fix() {
        let problem = json!({ "detail": "it imports sockets", "rule": "imports", "evidence": "wasi:sockets/tcp", "fix": "build without them" });
        let error = from_problem(StatusCode::UNPROCESSABLE_ENTITY, &problem);
        assert_eq!(error.exit, Exit::Refused);
        assert_eq!(error.what, "refused by rule imports: wasi:sockets/tcp");
        assert_eq!(error.fix, "build without them");
    }

    #[test]
    fn what_makes_no_sense_ends_with_two_and_what_failed_with_one() {
        let exit = |status| from_problem(status, &json!({ "detail": "x" })).exit;
        assert_eq!(exit(StatusCode::BAD_REQUEST), Exit::Usage);
        assert_eq!(exit(StatusCode::UNPROCESSABLE_ENTITY), Exit::Usage);
        assert_eq!(exit(StatusCode::NOT_FOUND), Exit::Failed);
        assert_eq!(exit(StatusCode::CONFLICT), Exit::Failed);
        assert_eq!(exit(StatusCode::FORBIDDEN), Exit::Refused);
        assert_eq!(from_problem(StatusCode::BAD_GATEWAY, &Value::Null).what, "the server answered 502 Bad Gateway");
    }

    #[test]
    fn the_token_is_only_sent_to_loopback() {
        for url in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1/"] {
            assert!(Client::new(url, "t", 0).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1:1", "http://example.org", "https://127.0.0.1", "nonsense"] {
            assert!(Client::new(url, "t", 0).is_err(), "{url}");
        }
    }

    #[test]
    fn paths_and_queries_are_escaped() {
        assert_eq!(segment("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(with_query("/x", &[("q", "a&b"), ("n", "1")]), "/x?q=a%26b&n=1");
    }

    #[test]
    fn events_are_read_block_by_block() {
        let (end, length) = block_end(b"event: audit\ndata: {}\n\nrest").expect("a block");
        assert_eq!((end, length), (21, 2));
        let event = read_block("event: progress\ndata: {\"a\":\ndata: 1}").expect("an event");
        assert_eq!(event, ServerEvent { name: "progress".into(), data: json!({ "a": 1 }) });
        assert_eq!(read_block(": keep-alive"), None);
    }
}
