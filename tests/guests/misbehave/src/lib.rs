//! A skill that breaks the limit its input names, written on the bare bindings so that no kindness of the SDK helps.

wit_bindgen::generate!({ path: "../../../wit/chimera-skill-0.1.0", world: "skill", generate_all });

use chimera::skill::{mcp, progress};
use exports::chimera::skill::runner::{Failure, Guest, Outcome, Task};
use std::hint::black_box;
use std::time::Duration;

struct Misbehave;

/// What the input may name, and what then happens.
type Mode = (&'static str, fn() -> String);

impl Guest for Misbehave {
    fn run(task: Task) -> Result<Outcome, Failure> {
        let has = |mode: &str| task.input.contains(&format!("\"{mode}\""));
        let modes: [Mode; 14] = [
            ("behave", || "{\"ok\":true}".to_owned()),
            ("endless-loop", endless_loop),
            ("memory-bomb", memory_bomb),
            ("sleep-an-hour", || {
                std::thread::sleep(Duration::from_secs(3600));
                "{}".to_owned()
            }),
            ("log-a-gigabyte", log_a_gigabyte),
            ("print-a-gigabyte", print_a_gigabyte),
            ("huge-result", || result_of(400 << 20)),
            ("gigabyte-result", || result_of(1 << 30)),
            ("deep-recursion", || format!("{{\"depth\":{}}}", recurse(1))),
            ("trap", || panic!("on purpose")),
            ("invalid-json", || "{\"ok\": tru".to_owned()),
            ("wrong-schema", || "[1,2,3]".to_owned()),
            ("ungranted-tool", || call("social", "publish_post")),
            ("undeclared-tool", || call("social", "delete_everything")),
        ];
        let output = modes.into_iter().find(|(mode, _)| has(mode)).map_or_else(|| "{}".to_owned(), |(_, act)| act());
        let confidence = if has("nan-confidence") { f64::NAN } else { 0.9 };
        if let Some((code, message)) = output.strip_prefix("denied:").and_then(|told| told.split_once(':')) {
            return Err(Failure {
                kind: chimera::skill::types::FailureKind::Denied,
                code: code.to_owned(),
                message: format!("passed on: {message}"),
                retry_after_ms: None,
            });
        }
        Ok(Outcome { output, confidence, evidence: Vec::new() })
    }
}

fn endless_loop() -> String {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

fn memory_bomb() -> String {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 16 << 20]));
    }
}

/// A JSON string of that many bytes, in one piece.
fn result_of(size: usize) -> String {
    let mut result = String::with_capacity(size + 2);
    result.push('"');
    result.extend(std::iter::repeat_n('x', size));
    result.push('"');
    result
}

fn log_a_gigabyte() -> String {
    let line = "x".repeat(64 << 10);
    for _ in 0..(1 << 14) {
        progress::log(progress::Level::Info, &line);
    }
    "{}".to_owned()
}

fn print_a_gigabyte() -> String {
    let line = "x".repeat(64 << 10);
    for _ in 0..(1 << 14) {
        println!("{line}");
    }
    "{}".to_owned()
}

#[allow(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(black_box(frame[3] + 1)) + frame[5]
}

fn call(slot: &str, tool: &str) -> String {
    let call = mcp::Call { slot: slot.to_owned(), tool: tool.to_owned(), arguments: "{\"text\":\"spam\"}".to_owned() };
    match mcp::call_tool(&call) {
        Ok(answer) => format!("{{\"sent\":{:?}}}", answer.text),
        Err(failure) => format!("denied:{}:{}", failure.code, failure.message),
    }
}

export!(Misbehave);
