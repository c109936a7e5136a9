//! Guests written as WebAssembly text and made into real components, and ports that remember what they were asked.

#![allow(dead_code, reason = "each test file uses a part of it")]

use async_trait::async_trait;
use chimera_core::digest::Digest;
use chimera_core::failure::Failure;
use chimera_core::ids::{ApprovalId, IdSource, SequentialIds};
use chimera_core::journal::JournalEntry;
use chimera_core::manifest::{Limits, Manifest};
use chimera_core::ports::{
    Budget, HostError, HostPorts, Journal, McpPort, PortError, PortErrorKind, ToolAnswer, ToolCall, ToolInfo,
};
use chimera_sandbox::{Prepared, RunEnd, RunReport, RunRequest, Sandbox, SandboxConfig};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WASI: &str = r#"
package test:guest@0.1.0;

world guest {
    import wasi:io/poll@0.2.6;
    import wasi:clocks/monotonic-clock@0.2.6;
    import wasi:clocks/wall-clock@0.2.6;
    import wasi:random/random@0.2.6;
    import wasi:sockets/fake@0.2.6;
    import acme:private/secret-door@1.0.0;
    import chimera:skill/mcp@0.1.0;
    import chimera:skill/memory@0.1.0;
    import chimera:skill/scratch@0.1.0;
    import chimera:skill/skills@0.1.0;
    import chimera:skill/trends@0.1.0;
    import chimera:skill/progress@0.1.0;
    import chimera:skill/secrets@0.1.0;
    export chimera:skill/runner@0.1.0;
}

world described {
    include guest;
    export chimera:skill/describe@0.1.0;
}

world judge {
    import chimera:skill/progress@0.1.0;
    export chimera:skill/evaluator@0.1.0;
}

world stranger {
    export acme:private/secret-door@1.0.0;
}

package wasi:io@0.2.6 {
    interface poll {
        resource pollable { block: func(); ready: func() -> bool; }
        poll: func(in: list<borrow<pollable>>) -> list<u32>;
    }
}
package wasi:clocks@0.2.6 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.6.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
    }
    interface wall-clock {
        record datetime { seconds: u64, nanoseconds: u32 }
        now: func() -> datetime;
    }
}
package wasi:random@0.2.6 {
    interface random {
        get-random-u64: func() -> u64;
        get-random-bytes: func(len: u64) -> list<u8>;
    }
}
package wasi:sockets@0.2.6 {
    interface fake { connect: func(); }
}
package acme:private@1.0.0 {
    interface secret-door { open: func(); }
}
"#;

/// A bump allocator, and `$ok` which makes an outcome without evidence. Addresses below 2048 are its own, data
/// segments of guests start at 2048.
const PRELUDE: &str = r#"
    (global $heap (mut i32) (i32.const 65536))
    (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
        (global.set $heap (i32.add (local.get $at) (local.get 3)))
        (block $fits
            (loop $more
                (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
                unreachable))
        (local.get $at))
    (func $ok (param $ptr i32) (param $len i32) (param $confidence f64) (result i32)
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store (i32.const 1032) (local.get $ptr))
        (i32.store (i32.const 1036) (local.get $len))
        (f64.store (i32.const 1040) (local.get $confidence))
        (i32.store (i32.const 1048) (i32.const 0))
        (i32.store (i32.const 1052) (i32.const 0))
        (i32.const 1024))
"#;

/// The signature of `run`: `$input` and `$input_len` are the input's text.
pub const RUN: &str = r#"(func (export "chimera:skill/runner@0.1.0#run")
    (param i32 i32 i32 i32 i32) (param $input i32) (param $input_len i32) (param $left i64) (result i32)"#;

/// A component of a world in this file, from imports and definitions in WebAssembly text.
pub fn component(world: &str, imports: &str, definitions: &str) -> Vec<u8> {
    component_with_memory(4, world, imports, definitions)
}

/// A component that starts with this many pages of memory.
pub fn component_with_memory(pages: u32, world: &str, imports: &str, definitions: &str) -> Vec<u8> {
    encode(&[contract("0.1.0")], WASI, pages, world, imports, definitions)
}

/// The same component, built against another version of the contract.
pub fn component_against(version: &str, world: &str, imports: &str, definitions: &str) -> Vec<u8> {
    let against = |text: &str| {
        // Every version after the first tells its guests their limits.
        let run = RUN.replace("(param $left i64)", LIMITS);
        let text = if version == "0.1.0" { text.to_owned() } else { text.replace(RUN, &run) };
        text.replace("@0.1.0", &format!("@{version}"))
    };
    encode(&[contract(version)], &against(WASI), 4, world, &against(imports), &against(definitions))
}

/// The time that is left and the limits, as `run` is told them since 0.2.
const LIMITS: &str = "(param $left i64) (param $limit_ms i64) (param $limit_fuel i64) (param i32 i32 i32)";

/// A component that imports one version of the contract and exports another.
pub fn mixed() -> Vec<u8> {
    let wit =
        "package test:guest; world guest { import chimera:skill/secrets@0.1.0; export chimera:skill/runner@0.2.0; }";
    let imports = r#"(import "chimera:skill/secrets@0.1.0" "exists" (func (param i32 i32) (result i32)))"#;
    let run = RUN.replace("@0.1.0", "@0.2.0").replace("(param $left i64)", LIMITS);
    let contracts = [contract("0.1.0"), contract("0.2.0")];
    encode(&contracts, wit, 4, "guest", imports, &format!("{run} unreachable)"))
}

/// The text of a version of the contract; of one that there is not, that of the newest.
fn contract(version: &str) -> String {
    let newest = "0.2.0";
    let folder = if version == "0.1.0" { version } else { newest };
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let text = std::fs::read_to_string(wit.join(format!("chimera-skill-{folder}/skill.wit"))).unwrap();
    text.replace(&format!("package chimera:skill@{folder}"), &format!("package chimera:skill@{version}"))
}

fn encode(contracts: &[String], wit: &str, pages: u32, world: &str, imports: &str, definitions: &str) -> Vec<u8> {
    let memory = format!(r#"(memory (export "memory") {pages})"#);
    let mut core = wat::parse_str(format!("(module {imports} {memory} {PRELUDE} {definitions})")).unwrap();
    let mut resolve = Resolve::default();
    for (number, contract) in contracts.iter().enumerate() {
        resolve.push_str(format!("contract{number}.wit"), contract).unwrap();
    }
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&core).unwrap().validate(true).encode().unwrap()
}

/// A skill whose `run` has this body.
pub fn skill(imports: &str, body: &str) -> Vec<u8> {
    component("guest", imports, &format!("{RUN} {body})"))
}

/// A skill that returns its input.
pub fn echo() -> Vec<u8> {
    skill("", "(call $ok (local.get $input) (local.get $input_len) (f64.const 0.5))")
}

/// The import of `mcp.call-tool`.
pub const CALL_TOOL: &str = r#"(import "chimera:skill/mcp@0.1.0" "call-tool"
    (func $call_tool (param i32 i32 i32 i32 i32 i32 i32)))"#;

/// Calls the tool `social/search` with the input as arguments; the result lies at 1536.
pub const SEARCH: &str = r#"(call $call_tool (i32.const 2048) (i32.const 6) (i32.const 2054) (i32.const 6)
    (local.get $input) (local.get $input_len) (i32.const 1536))"#;
/// The names that [`SEARCH`] uses.
pub const NAMES: &str = r#"(data (i32.const 2048) "socialsearch")"#;

/// A skill that calls `social/search` with its input and returns the answer's text, or the failure as it is.
pub fn searcher() -> Vec<u8> {
    let body = format!(
        "{RUN} {SEARCH}
        (if (result i32) (i32.load8_u (i32.const 1536))
            (then (i32.const 1536))
            (else (call $ok (i32.load (i32.const 1544)) (i32.load (i32.const 1548)) (f64.const 1)))))
        {NAMES}"
    );
    component("guest", CALL_TOOL, &body)
}

/// A manifest that declares what the guests here use.
pub fn manifest() -> Arc<Manifest> {
    manifest_with(json!({
        "mcp": [{"slot": "social", "tools": ["search"], "reason": "to look around"}],
        "scratch": true,
        "secrets": ["key"],
        "skills": [{"name": "acme/other", "version": "*"}],
    }))
}

/// A manifest with these capabilities.
pub fn manifest_with(capabilities: Value) -> Arc<Manifest> {
    let value = json!({
        "manifest": 1,
        // The newest contract: it may declare whatever there is.
        "skill": {"name": "acme/x", "version": "0.1.0", "summary": "x", "license": "MIT", "effects": "write",
            "contract": "0.2"},
        "io": {"input": {}, "output": {}},
        "capabilities": capabilities,
    });
    Arc::new(Manifest::from_value(value).unwrap())
}

/// A small sandbox.
pub fn sandbox() -> Sandbox {
    Sandbox::new(SandboxConfig { max_concurrent: 16, ..SandboxConfig::default() }).unwrap()
}

pub async fn prepare(sandbox: &Sandbox, wasm: &[u8]) -> Arc<Prepared> {
    sandbox.prepare(&Digest::of(wasm), wasm).await.unwrap()
}

/// A request with ample time.
pub fn request(input: Value, limits: Limits) -> RunRequest {
    RunRequest {
        task_id: "t".to_owned(),
        campaign: None,
        input,
        limits,
        manifest: manifest(),
        deadline: Instant::now() + Duration::from_secs(60),
        skill_calls: Budget::MAX_CALLS,
    }
}

/// Prepares and runs with these limits and ports that deny everything.
pub async fn run_with(sandbox: &Sandbox, wasm: &[u8], limits: Limits) -> RunReport {
    let prepared = prepare(sandbox, wasm).await;
    sandbox.run(&prepared, request(json!({}), limits), HostPorts::deny_all()).await
}

/// The failure of a report.
pub fn failure(report: &RunReport) -> &Failure {
    match &report.end {
        RunEnd::Failed(failure) => failure,
        other => panic!("expected a failure, found {other:?}"),
    }
}

/// The output of a report.
pub fn output(report: &RunReport) -> &Value {
    match &report.end {
        RunEnd::Finished(outcome) => &outcome.output,
        other => panic!("expected an outcome, found {other:?}"),
    }
}

/// The `n`th approval id.
pub fn approval() -> ApprovalId {
    ApprovalId::from_uuid(SequentialIds::default().next_uuid())
}

/// What [`Tools`] answers.
#[derive(Clone)]
pub enum Reply {
    Say(&'static str),
    Fail(Failure),
    Suspend,
    Panic,
    Hang,
}

/// MCP that gives replies in the order of the calls, and remembers the calls.
pub struct Tools {
    replies: Mutex<Vec<Reply>>,
    pub calls: Mutex<Vec<ToolCall>>,
    pub replayed: Mutex<Vec<ToolCall>>,
    pub journal_at_call: Mutex<Vec<usize>>,
    journal: Option<Arc<MemoryJournal>>,
}

impl Tools {
    pub fn new(replies: Vec<Reply>) -> Arc<Self> {
        Self::watching(replies, None)
    }

    /// Notes how many entries the journal has at each call.
    pub fn watching(mut replies: Vec<Reply>, journal: Option<Arc<MemoryJournal>>) -> Arc<Self> {
        replies.reverse();
        Arc::new(Self {
            replies: Mutex::new(replies),
            calls: Mutex::default(),
            replayed: Mutex::default(),
            journal_at_call: Mutex::default(),
            journal,
        })
    }
}

#[async_trait]
impl McpPort for Tools {
    async fn list_tools(&self, _: &str, _: Instant) -> Result<Vec<ToolInfo>, HostError> {
        Ok(Vec::new())
    }
    async fn call_tool(&self, call: ToolCall, _: Instant) -> Result<ToolAnswer, HostError> {
        self.calls.lock().unwrap().push(call);
        if let Some(journal) = &self.journal {
            self.journal_at_call.lock().unwrap().push(journal.entries().len());
        }
        let reply = self.replies.lock().unwrap().pop().expect("a reply for every call");
        match reply {
            Reply::Say(text) => Ok(ToolAnswer { text: text.to_owned(), structured: None, is_error: false }),
            Reply::Fail(failure) => Err(failure.into()),
            Reply::Suspend => Err(HostError::Suspend(approval())),
            Reply::Panic => panic!("a port that panics"),
            Reply::Hang => std::future::pending().await,
        }
    }
    async fn read_resource(&self, _: &str, _: &str, _: Instant) -> Result<String, HostError> {
        Ok(String::new())
    }
    async fn replayed(&self, call: &ToolCall) {
        self.replayed.lock().unwrap().push(call.clone());
    }
}

/// A journal in memory.
#[derive(Default)]
pub struct MemoryJournal {
    entries: Mutex<Vec<JournalEntry>>,
    pub appends: AtomicU32,
    pub closed: AtomicBool,
}

impl MemoryJournal {
    pub fn entries(&self) -> Vec<JournalEntry> {
        self.entries.lock().unwrap().clone()
    }

    pub fn of(entries: Vec<JournalEntry>) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::new(entries), ..Self::default() })
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn load(&self) -> Result<Vec<JournalEntry>, PortError> {
        Ok(self.entries())
    }
    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), PortError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(PortError::new(PortErrorKind::Closed, "the lease is not current"));
        }
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.entries.lock().unwrap().extend(entries);
        Ok(())
    }
}

/// Ports with these tools and this journal; everything else is denied.
pub fn ports(tools: &Arc<Tools>, journal: &Arc<MemoryJournal>) -> HostPorts {
    HostPorts { mcp: tools.clone(), journal: journal.clone(), seed: 7, ..HostPorts::deny_all() }
}
