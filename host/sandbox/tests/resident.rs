//! What is in memory is told, and what is unloaded is freed with its last run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use async_trait::async_trait;
use chimera_core::digest::Digest;
use chimera_core::manifest::Limits;
use chimera_core::ports::{HostError, HostPorts, McpPort, ToolAnswer, ToolCall, ToolInfo};
use chimera_sandbox::{Hold, RunEnd};
use common::{echo, output, prepare, request, sandbox, searcher};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Answers a call when it is told to.
struct Waits(Arc<Semaphore>);

#[async_trait]
impl McpPort for Waits {
    async fn list_tools(&self, _: &str, _: Instant) -> Result<Vec<ToolInfo>, HostError> {
        Ok(Vec::new())
    }
    async fn call_tool(&self, _: ToolCall, _: Instant) -> Result<ToolAnswer, HostError> {
        self.0.acquire().await.unwrap().forget();
        Ok(ToolAnswer { text: "1".to_owned(), structured: None, is_error: false })
    }
    async fn read_resource(&self, _: &str, _: &str, _: Instant) -> Result<String, HostError> {
        Ok(String::new())
    }
    async fn replayed(&self, _: &ToolCall) {}
}

/// A weak hold on the compiled code itself shows that nothing of it is left.
#[tokio::test]
async fn unloaded_code_goes_with_its_last_run() {
    let sandbox = sandbox();
    // Waits in the tool that it calls until it is told to go on.
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let wasm = searcher();
    let digest = Digest::of(&wasm);
    let prepared = prepare(&sandbox, &wasm).await;
    let weak = Arc::downgrade(&prepared);
    let ports = HostPorts { mcp: Arc::new(Waits(gate.clone())), ..HostPorts::deny_all() };
    let run = {
        let (sandbox, request) = (sandbox.clone(), request(json!({}), Limits::default()));
        tokio::spawn(async move { sandbox.run(&prepared, request, ports).await })
    };
    let loaded = || sandbox.loaded().into_iter().find(|one| one.digest == digest);
    let started = Instant::now();
    while loaded().is_none_or(|one| one.runs == 0) {
        assert!(!run.is_finished() && started.elapsed() < Duration::from_secs(60), "the run waits in its tool");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let before = loaded().unwrap();
    assert_eq!((before.runs, before.hold, before.idle), (1, Hold::Kept, Duration::ZERO));
    assert!(before.code_bytes > 1000, "{before:?}");

    assert!(sandbox.unload(&digest));
    assert!(!sandbox.unload(&digest), "once");
    assert!(sandbox.prepared(&digest).is_none(), "new runs do not get it");
    assert_eq!(loaded().map(|one| (one.runs, one.hold)), Some((1, Hold::Leaving)));
    assert!(weak.upgrade().is_some(), "the run in flight goes on");

    gate.add_permits(1);
    assert!(matches!(run.await.unwrap().end, RunEnd::Finished(_)));
    assert!(weak.upgrade().is_none(), "nobody holds it any more");
    assert_eq!(loaded(), None);
}

#[tokio::test]
async fn idle_code_is_freed_at_once_and_loaded_again_when_wanted() {
    let sandbox = sandbox();
    let wasm = echo();
    let digest = Digest::of(&wasm);
    let weak = Arc::downgrade(&prepare(&sandbox, &wasm).await);
    assert!(sandbox.unload(&digest));
    assert!(weak.upgrade().is_none());
    assert_eq!(sandbox.loaded(), []);
    let again = prepare(&sandbox, &wasm).await;
    let report = sandbox.run(&again, request(json!(3), Limits::default()), HostPorts::deny_all()).await;
    assert_eq!(output(&report), &json!(3));
}
