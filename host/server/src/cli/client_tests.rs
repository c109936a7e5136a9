#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end with a panic")]

use super::*;
use crate::config::Setting;
use crate::serve;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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
    let is_accepted = |url: &str| Client::new(url, "t", 0, PathBuf::new()).is_ok();
    for url in ["http://127.0.0.1:1", "http://127.0.0.2:1", "http://[::1]:1", "http://127.0.0.1:1/"] {
        assert!(is_accepted(url), "{url}");
    }
    // A name says nothing of where it leads.
    for url in [
        "http://10.0.0.1:1",
        "http://example.org",
        "http://localhost:1",
        "https://127.0.0.1:1",
        "http://127.0.0.1",
        "no",
    ] {
        assert!(!is_accepted(url), "{url}");
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

const TOKEN: &str = "the-operators-token-that-nobody-else-may-see";

/// Listens like another program that took the port: remembers every byte, and answers what `answer` says.
struct Stranger {
    address: SocketAddr,
    heard: Arc<Mutex<String>>,
}

impl Stranger {
    async fn start(answer: impl Fn(String) -> Answered + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(String::new()));
        let memory = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0_u8; 64 << 10];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                memory.lock().unwrap().push_str(&request);
                let answered = answer(request).await;
                let _ = stream.write_all(answered.as_bytes()).await;
            }
        });
        Self { address, heard }
    }

    /// One that answers everything with this JSON.
    async fn saying(json: Value) -> Self {
        let text = answer_of(&json.to_string());
        Self::start(move |_| Box::pin(std::future::ready(text.clone()))).await
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address), TOKEN, 0, "/data/server.json".into()).ok().unwrap()
    }

    fn assert_heard_no_token(&self) {
        let heard = self.heard.lock().unwrap().to_lowercase();
        assert!(heard.starts_with("get /healthz?challenge="), "{heard}");
        for secret in [TOKEN, "authorization", "bearer", "/api/v1"] {
            assert!(!heard.contains(secret), "{heard}");
        }
    }
}

type Answered = std::pin::Pin<Box<dyn Future<Output = String> + Send>>;

fn answer_of(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn config(folder: &Path, listen: &str) -> Config {
    let listen = Setting::default(listen.parse().unwrap());
    Config { listen, ..Config::for_data_dir(folder.join("data")) }
}

#[tokio::test]
async fn whoever_cannot_prove_to_be_the_server_is_sent_nothing() {
    let healthy = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
    let mut lying = healthy.clone();
    lying["proof"] =
        Prover::new("another", "127.0.0.1:1".parse().unwrap()).unwrap().prove(&Challenge::random().unwrap()).into();
    for said in [healthy, lying, json!({ "proof": "" }), json!({ "proof": 1 }), json!(["x".repeat(MAX_PROOF)])] {
        let stranger = Stranger::saying(said).await;
        let client = stranger.client();
        assert_eq!(client.listener().await, Ok(Listener::Stranger));
        for error in [
            client.get("/api/v1/campaigns", &[]).await.unwrap_err(),
            client.post("/api/v1/campaigns", &json!({ "goal": "a secret one" })).await.unwrap_err(),
            client.events(&[]).await.err().unwrap(),
        ] {
            assert_eq!(error.exit, Exit::Failed);
            assert!(error.what.contains("something else listens"), "{error}");
            assert!(error.what.contains("/data/server.json"), "{error}");
            assert!(error.fix.contains("chimera serve"), "{}", error.fix);
        }
        stranger.assert_heard_no_token();
        assert!(!stranger.heard.lock().unwrap().contains("a secret one"));
    }
    // One that speaks no HTTP at all.
    let mute = Stranger::start(|_| Box::pin(std::future::ready("220 mail\r\n".to_owned()))).await;
    assert_eq!(mute.client().listener().await, Ok(Listener::Stranger));
    mute.assert_heard_no_token();
}

#[tokio::test]
async fn a_proof_fetched_from_the_server_elsewhere_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "127.0.0.1:0");
    let running = serve::start(config.clone()).await.unwrap();
    let real = running.url().strip_prefix("http://").unwrap().to_owned();
    // Passes the question on to the operator's own server, which now listens at another port.
    let relayed = Arc::new(Mutex::new(String::new()));
    let memory = relayed.clone();
    let relay = Stranger::start(move |request| {
        let (real, memory) = (real.clone(), memory.clone());
        Box::pin(async move {
            let host = request.lines().find(|line| line.to_lowercase().starts_with("host:")).unwrap().to_owned();
            let request = request.replace(&host, &format!("host: {real}\r\nconnection: close"));
            let mut server = TcpStream::connect(&real).await.unwrap();
            server.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            server.read_to_string(&mut answer).await.unwrap();
            memory.lock().unwrap().push_str(&answer);
            answer
        })
    })
    .await;
    let stale = json!({ "url": format!("http://{}", relay.address), "pid": 1 });
    std::fs::write(config.server_file(), stale.to_string()).unwrap();
    let client = Client::discover(&config).ok().unwrap();
    assert_eq!(client.listener().await, Ok(Listener::Stranger));
    assert!(client.get("/api/v1/session", &[]).await.is_err());
    assert!(relayed.lock().unwrap().contains("\"proof\":"), "the relay must work");
    relay.assert_heard_no_token();
    running.stop().await;
}

#[tokio::test]
async fn the_server_of_the_folder_proves_itself_and_is_asked() {
    for listen in ["127.0.0.1:0", "127.0.0.2:0"] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), listen);
        let running = serve::start(config.clone()).await.unwrap();
        let client = Client::discover(&config).ok().unwrap();
        assert_eq!(client.listener().await, Ok(Listener::Ours));
        let session = client.get("/api/v1/session", &[]).await.unwrap();
        assert_eq!(session, json!({ "actor": "operator:local" }));
        running.stop().await;
        assert_eq!(client.listener().await, Ok(Listener::Nobody));
        assert!(Client::find(&config).ok().unwrap().is_none());
    }
}
