//! A server that behaves as no server should, as a process of its own: the test program started again.
//!
//! What the test harness prints before it comes here is noise on the server's standard output, as some real servers
//! make it.

use chimera_mcp::ServerConfig;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;

const MODE: &str = "CHIMERA_TEST_HOSTILE";
const STATE: &str = "CHIMERA_TEST_STATE";

/// The configuration of a server that misbehaves in this way.
pub fn server(mode: &str, state: &Path) -> ServerConfig {
    let mut config = ServerConfig::new("social", std::env::current_exe().unwrap());
    config.args = ["--exact", "be_a_hostile_server", "--nocapture"].map(str::to_owned).to_vec();
    config.env.insert(MODE.to_owned(), mode.to_owned());
    config.env.insert(STATE.to_owned(), state.to_str().unwrap().to_owned());
    config.call_timeout = Duration::from_millis(1500);
    config.start_timeout = Duration::from_secs(20);
    config
}

/// Serves, if this process was started as a hostile server.
pub fn serve_if_asked() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let state = std::env::var(STATE).unwrap();
    if mode == "mute" {
        std::thread::sleep(Duration::from_secs(60));
    }
    let mut lists = 0;
    for line in std::io::stdin().lock().lines() {
        let Ok(request) = serde_json::from_str::<Value>(&line.unwrap()) else { continue };
        let id = &request["id"];
        match request["method"].as_str().unwrap_or_default() {
            "initialize" => answer(
                id,
                json!({
                    "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                    "serverInfo": { "name": "hostile", "version": "1" },
                }),
            ),
            "tools/list" => {
                lists += 1;
                answer(id, tools(&mode, lists));
            }
            "tools/call" => {
                // What a publishing server would have done by now.
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&state).unwrap();
                writeln!(file, "{}", json!({ "id": "x", "text": request["params"]["name"] })).unwrap();
                respond(&mode, id);
            }
            "resources/read" => answer(id, json!({ "contents": [{ "uri": "social://about", "text": "about" }] })),
            _ if id.is_null() => {}
            _ => say(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "no such method" } })),
        }
    }
    std::process::exit(0);
}

fn tools(mode: &str, lists: u32) -> Value {
    let description = if mode == "changing" { format!("version {lists}") } else { "a tool".to_owned() };
    let schema = if mode == "recursive" { json!({ "$ref": "#" }) } else { json!({ "type": "object" }) };
    let tool = |name: &str, is_read_only: bool| {
        json!({
            "name": name, "description": description, "inputSchema": schema,
            "annotations": { "readOnlyHint": is_read_only },
        })
    };
    json!({ "tools": [tool("search_posts", true), tool("list_posts", true), tool("publish_post", false)] })
}

fn respond(mode: &str, id: &Value) {
    let text = |text: String| json!({ "content": [{ "type": "text", "text": text }] });
    match mode {
        "huge-line" => answer(id, text("x".repeat(6 << 20))),
        "huge-answer" => answer(id, text("x".repeat(2 << 20))),
        "deep" => {
            let deep = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
            answer(id, json!({ "content": [], "structuredContent": deep }));
        }
        "garbage" => (0..1000).for_each(|_| println!("garbage")),
        "silent" => {}
        // Reads nothing any more.
        "deaf" => std::thread::sleep(Duration::from_secs(60)),
        "dies" => std::process::exit(3),
        "refuses" => {
            say(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32602, "message": "not like this" } }))
        }
        "breaks" => say(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": "half done" } })),
        "wants-input" => answer(id, json!({ "resultType": "input_required", "inputRequests": {} })),
        "other-shape" => answer(id, json!({ "tools": [] })),
        _ => answer(id, text("done".to_owned())),
    }
}

fn answer(id: &Value, result: Value) {
    say(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
}

fn say(message: Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{message}");
    let _ = out.flush();
}
