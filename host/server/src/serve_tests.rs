#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use super::*;
use crate::config::Setting;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn config(folder: &Path, listen: &str) -> Config {
    let listen = Setting::default(listen.parse().unwrap());
    Config { listen, ..Config::for_data_dir(folder.join("data")) }
}

async fn ask(url: &str, path: &str) -> String {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_server_tells_where_it_is_and_takes_it_back_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "127.0.0.1:0");
    let (server_file, token_file) = (config.server_file(), config.token_file());
    let running = start(config).await.unwrap();
    let told: Value = serde_json::from_str(&std::fs::read_to_string(&server_file).unwrap()).unwrap();
    assert_eq!(told["url"], running.url());
    assert_eq!(told["pid"], std::process::id());
    assert!(Timestamp::parse(told["started_at"].as_str().unwrap()).is_ok());
    assert!(ask(running.url(), "/healthz").await.starts_with("HTTP/1.1 200"));
    let link = running.login_link().unwrap();
    let ticket = link.strip_prefix(running.url()).unwrap().strip_prefix("/#ticket=").unwrap();
    assert!(running.state.auth().redeem(ticket, running.state.now()));
    let token = std::fs::read_to_string(&token_file).unwrap();
    assert!(!link.contains(token.trim()));
    running.stop().await;
    assert!(!server_file.exists());
    assert_eq!(std::fs::read_to_string(&token_file).unwrap(), token);
}

#[tokio::test]
async fn a_taken_port_says_so_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let error = start(config(folder.path(), &address.to_string())).await.err().unwrap();
    assert!(matches!(error, ServeError::PortTaken { address: taken } if taken == address), "{error}");
    let text = error.to_string();
    assert!(text.contains(&address.port().to_string()) && text.contains("--listen 127.0.0.1:0"), "{text}");
    assert!(!folder.path().join("data").exists());
}

#[tokio::test]
async fn a_data_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(config(folder.path(), "127.0.0.1:0")).await.unwrap();
    let before = std::fs::read_to_string(folder.path().join("data/server.json")).unwrap();
    let error = start(config(folder.path(), "127.0.0.1:0")).await.err().unwrap();
    assert!(error.to_string().contains("is in use by"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.path().join("data/server.json")).unwrap(), before);
    first.stop().await;
    start(config(folder.path(), "127.0.0.1:0")).await.unwrap().stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_others_can_write_into_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "127.0.0.1:0");
    let data = config.data_dir.value.clone();
    std::fs::create_dir(&data).unwrap();
    let set = |mode| std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o777, 0o775] {
        set(mode);
        let refused = start(config.clone()).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("chmod go-w"), "{mode:o}: {refused}");
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "nothing was written there");
    }
    set(0o755);
    start(config).await.unwrap().stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_of_another_user_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "127.0.0.1:0");
    let data = config.data_dir.value.clone();
    std::fs::create_dir(&data).unwrap();
    if std::os::unix::fs::chown(&data, Some(65_534), None).is_err() {
        return; // Only root can give a folder away; what is judged is tested beside the judge.
    }
    let refused = start(config).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("chown -R"), "{refused}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "nothing was written there");
}

#[tokio::test]
async fn any_loopback_address_can_be_served_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(config(folder.path(), "127.0.0.2:0")).await.unwrap();
    assert!(running.url().starts_with("http://127.0.0.2:"), "{}", running.url());
    let answer = ask(running.url(), "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    running.stop().await;
}
