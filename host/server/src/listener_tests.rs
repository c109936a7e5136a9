#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use super::*;
use crate::config::{Config, Setting};
use crate::serve;
use axum::routing::get;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);
/// Long enough for a busy machine, and far below every limit of a server.
const MOMENT: Duration = Duration::from_secs(8);

async fn bounded(limits: Limits) -> (Bounded<TcpListener>, SocketAddr) {
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = inner.local_addr().unwrap();
    (Bounded::new(inner, limits), address)
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_one_that_talks_is_not() {
    let (mut listener, address) =
        bounded(Limits { connections: 2, silence: Duration::from_millis(300), head: LONG }).await;
    let mut talker = TcpStream::connect(address).await.unwrap();
    let (mut served, _) = listener.accept().await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        talker.write_all(b"x").await.unwrap();
        assert_eq!(served.read_u8().await.unwrap(), b'x');
    }
    let error = served.read_u8().await.expect_err("silence");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn without_a_stranger_one_more_than_the_places_waits_until_one_ends() {
    let (mut listener, address) = bounded(Limits { connections: 1, silence: LONG, head: LONG }).await;
    let _first = TcpStream::connect(address).await.unwrap();
    let (mut served, _) = listener.accept().await;
    served.line.is_proven();
    let _second = TcpStream::connect(address).await.unwrap();
    let second = tokio::spawn(async move { listener.accept().await.0 });
    // Longer than it takes to make somebody give way.
    assert!(timeout(GIVE_WAY * 2, served.read_u8()).await.is_err(), "who is proven stays");
    assert!(!second.is_finished(), "the only place is taken");
    drop(served);
    timeout(MOMENT, second).await.expect("the place is free again").unwrap();
}

#[tokio::test]
async fn the_stranger_who_has_been_there_longest_gives_way() {
    let (mut listener, address) = bounded(Limits { connections: 3, silence: LONG, head: LONG }).await;
    let mut theirs = Vec::new();
    let mut served = Vec::new();
    for _ in 0..3 {
        theirs.push(TcpStream::connect(address).await.unwrap());
        served.push(listener.accept().await.0);
    }
    served[0].line.is_proven();
    theirs.push(TcpStream::connect(address).await.unwrap());
    let newcomer = tokio::spawn(async move { listener.accept().await.0 });
    let mut second = served.remove(1);
    let error = timeout(MOMENT, second.read_u8()).await.unwrap().expect_err("it gives way");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    drop(second);
    timeout(MOMENT, newcomer).await.unwrap().unwrap();
    for (mut connection, client) in served.into_iter().zip([0, 2]) {
        theirs[client].write_all(b"x").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'x', "number {client} is still there");
    }
}

/// One byte after the other, for as long as somebody is there.
async fn trickle(mut to: OwnedWriteHalf, first: &'static str) {
    if to.write_all(first.as_bytes()).await.is_err() {
        return;
    }
    while to.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Sends a request and reads the answer's head and whatever came with it.
async fn ask(client: &mut TcpStream, request: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read = timeout(MOMENT, client.read(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn a_strangers_request_must_come_in_time_and_an_unused_connection_stays() {
    let limits = Limits { connections: 8, silence: LONG, head: Duration::from_millis(600) };
    let (listener, address) = bounded(limits).await;
    let vouched = |request: Request| async move {
        vouch(request.extensions());
        "known"
    };
    let app = Router::new().route("/", get(|| async { "hello" })).route("/known", get(vouched));
    tokio::spawn(async move { axum::serve(listener, attended(app)).await });

    let connect = async || TcpStream::connect(address).await.unwrap();
    let (mut unused, mut known) = (connect().await, connect().await);
    let hello = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(ask(&mut unused, hello).await.starts_with("HTTP/1.1 200"));
    assert!(ask(&mut known, "GET /known HTTP/1.1\r\nHost: x\r\n\r\n").await.ends_with("known"));

    // One that begins with half a head, one that begins its second request so, one with half a body; all go on slowly.
    for asked in ["", hello, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n"] {
        let (mut from, to) = connect().await.into_split();
        tokio::spawn(trickle(to, asked));
        let mut rest = Vec::new();
        timeout(MOMENT, from.read_to_end(&mut rest)).await.expect("it is closed").ok();
    }
    assert!(ask(&mut unused, hello).await.starts_with("HTTP/1.1 200"), "between requests there is no hurry");
    let (mut from, to) = known.into_split();
    tokio::spawn(trickle(to, "GET / HTTP/1.1\r\nx-slow: "));
    assert!(timeout(limits.head * 3, from.read_u8()).await.is_err(), "who is known may take their time");
}

/// Reads until the text has come.
async fn hears(stream: &mut TcpStream, wanted: &str) {
    let mut heard = String::new();
    while !heard.contains(wanted) {
        let mut chunk = vec![0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the stream ended after {heard}");
        heard.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
}

#[tokio::test]
async fn three_hundred_trickling_strangers_do_not_keep_the_operator_out() {
    let folder = tempfile::tempdir().unwrap();
    let listen = Setting::default("127.0.0.1:0".parse().unwrap());
    let config = Config { listen, ..Config::for_data_dir(folder.path().join("data")) };
    let token_file = config.token_file();
    let running = serve::start(config).await.unwrap();
    let host = running.url().strip_prefix("http://").unwrap().to_owned();
    let token = std::fs::read_to_string(token_file).unwrap();
    let own = format!("Host: {host}\r\nAuthorization: Bearer {}\r\n", token.trim());

    let mut events = TcpStream::connect(&host).await.unwrap();
    events.write_all(format!("GET /api/v1/events HTTP/1.1\r\n{own}\r\n").as_bytes()).await.unwrap();
    timeout(MOMENT, hears(&mut events, ": listening")).await.expect("the stream begins");

    // Each comes back at once when it is cut.
    let (came, mut all_came) = tokio::sync::watch::channel(0_usize);
    let strangers: Vec<_> = (0..300)
        .map(|_| {
            let (host, came) = (host.clone(), came.clone());
            tokio::spawn(async move {
                while let Ok(stranger) = TcpStream::connect(&host).await {
                    let (_from, to) = stranger.into_split();
                    came.send_modify(|count| *count += 1);
                    trickle(to, "GET / HTTP/1.1\r\nx-slow: ").await;
                }
            })
        })
        .collect();
    timeout(LONG, all_came.wait_for(|count| *count >= 300)).await.unwrap().unwrap();
    for path in ["/healthz", "/api/v1/session", "/api/v1/agents"] {
        let mut operator = timeout(MOMENT, TcpStream::connect(&host)).await.unwrap().unwrap();
        let answer = ask(&mut operator, &format!("GET {path} HTTP/1.1\r\n{own}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let body = r#"{"name":"heard","type":"worker"}"#;
    let mut operator = TcpStream::connect(&host).await.unwrap();
    let head = format!(
        "POST /api/v1/agents HTTP/1.1\r\n{own}Content-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    assert!(ask(&mut operator, &format!("{head}\r\n\r\n{body}")).await.starts_with("HTTP/1.1 201"));
    timeout(MOMENT, hears(&mut events, "agent.created")).await.expect("the operator's stream is still there");
    assert!(strangers.iter().all(|stranger| !stranger.is_finished()), "they never stopped");
    strangers.into_iter().for_each(|stranger| stranger.abort());
    drop((events, operator));
    running.stop().await;
}
