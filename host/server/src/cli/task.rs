//! `chimera task`: single tasks, with their attempts, use and verdict.
//!
//! Reads through the running server; `replay` and `retry` ask it to do something. Called by the dispatcher.

use super::args::TaskCommand;
use super::client::segment;
use super::error::{CliResult, Exit};
use super::inputs::read_capped;
use super::output::{Style, Table, bytes, count, millis, one_line, pretty, say};
use super::{Env, list, text};
use chimera_core::text::printable;
use chimera_registry::MAX_COMPONENT_BYTES;
use serde_json::{Value, json};

pub(super) async fn run(env: Env, command: TaskCommand) -> CliResult {
    let client = env.client()?;
    match command {
        TaskCommand::Show { id } => {
            let found = client.get(&format!("/api/v1/tasks/{}", segment(&id)), &[]).await?;
            env.show(&found, show);
        }
        TaskCommand::List { campaign } => {
            let query: Vec<(&str, &str)> = campaign.as_deref().map(|id| ("campaign", id)).into_iter().collect();
            let found = client.get("/api/v1/tasks", &query).await?;
            env.show(&found, |found| {
                let mut table = Table::new(&["TASK", "STATE", "ATTEMPTS", "WALL", "CREATED"]);
                for task in list(found, "tasks") {
                    let wall = task.pointer("/usage/wall_ms").and_then(Value::as_u64).unwrap_or(0);
                    table.row([
                        text(task, "/id").to_owned(),
                        text(task, "/state").to_owned(),
                        number(task, "/attempt").to_string(),
                        millis(wall),
                        text(task, "/created_at").to_owned(),
                    ]);
                }
                table.print("There are no tasks. Start a campaign with `chimera campaign run`.");
            });
        }
        TaskCommand::Replay { id, with, epoch } => {
            let component = match with {
                Some(path) => read_capped(&path, MAX_COMPONENT_BYTES as u64)?,
                None => Vec::new(),
            };
            let epoch = epoch.map(|epoch| format!("?epoch={epoch}")).unwrap_or_default();
            let path = format!("/api/v1/tasks/{}/replay{epoch}", segment(&id));
            let done = client.post_bytes(&path, "application/wasm", component).await?;
            env.show(&done, replayed);
            if done["same"] != Value::Bool(true) {
                return Ok(Exit::Failed);
            }
        }
        TaskCommand::Retry { id } => {
            let done = client.post(&format!("/api/v1/tasks/{}/retry", segment(&id)), &json!({})).await?;
            env.show(&done, |done| {
                let new = ["/task/id", "/id"].iter().map(|at| text(done, at)).find(|id| !id.is_empty()).unwrap_or(&id);
                say(&format!("Task {new} is queued. Follow it with `chimera task show {new}`."));
            });
        }
    }
    Ok(Exit::Done)
}

/// The calls and the verdict of a replay.
fn replayed(done: &Value) {
    let style = Style::stdout();
    let replay = done.get("replay").unwrap_or(done);
    let mut table = Table::new(&["CALL", "WHAT", "SAME"]);
    for call in list(replay, "calls") {
        let same = if call["same"] == Value::Bool(true) { "yes" } else { "no" };
        table.row([number(call, "/ordinal").to_string(), text(call, "/call").to_owned(), same.to_owned()]);
    }
    table.print("It was answered nothing.");
    let verdict = &replay["verdict"];
    let of = |pointer: &str| printable(text(verdict, pointer));
    say(&match text(verdict, "/kind") {
        "identical" => {
            let fuel = count(number(replay, "/usage/fuel"));
            style.green(&format!("Identical: outcome or failure, log, calls, memory, and {fuel} units of fuel."))
        }
        "same-until-ended" => format!(
            "{} It was the host that ended it there: {} [{}].",
            style.green("The same up to its end."),
            of("/by/message"),
            of("/by/code")
        ),
        "diverged" => format!(
            "{} at call {}: recorded was {}, asked is {}.",
            style.red("Another turn"),
            number(verdict, "/ordinal"),
            of("/recorded"),
            of("/asked")
        ),
        _ => format!(
            "{}: its {} was {} and is {}.",
            style.red("The same calls, and not the same"),
            of("/field"),
            of("/recorded"),
            of("/replayed")
        ),
    });
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn show(found: &Value) {
    let style = Style::stdout();
    let task = found.get("task").unwrap_or(found);
    let spec = found.get("spec").unwrap_or(&Value::Null);
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            say(&format!("{:<12} {value}", format!("{name}:")));
        }
    };
    line("task", text(task, "/id").to_owned());
    line("state", style.state(text(task, "/state")));
    line("goal", one_line(text(spec, "/goal"), 200));
    let skill = format!("{}@{}", text(spec, "/skill/name"), text(spec, "/skill/version"));
    line("skill", if skill == "@" { String::new() } else { skill });
    line("campaign", text(task, "/campaign").to_owned());
    line(
        "attempts",
        format!(
            "{} ({} retries, {} workers lost, {} host restarts)",
            number(task, "/attempt"),
            number(task, "/retries"),
            number(task, "/deaths"),
            number(task, "/restarts")
        ),
    );
    line(
        "used",
        format!(
            "{}, {} fuel, {} peak memory, {} host calls ({} MCP)",
            millis(number(task, "/usage/wall_ms")),
            count(number(task, "/usage/fuel")),
            bytes(number(task, "/usage/peak_memory_bytes")),
            number(task, "/usage/host_calls"),
            number(task, "/usage/mcp_calls")
        ),
    );
    if let Some(confidence) = task.pointer("/outcome/confidence").and_then(Value::as_f64) {
        line("confidence", format!("{confidence:.2}"));
    }
    line("verdict", one_line(&[text(task, "/verdict/decision"), text(task, "/verdict/reason")].join(" "), 200));
    if task.pointer("/failure/kind").is_some() {
        let failure = format!(
            "{} [{}] {}",
            text(task, "/failure/kind"),
            text(task, "/failure/code"),
            text(task, "/failure/message")
        );
        line("failure", style.red(&one_line(&failure, 400)));
        if task.pointer("/failure/limit").is_some() {
            let (max, used) = (number(task, "/failure/limit/max"), number(task, "/failure/limit/used"));
            line(
                "limit",
                format!("{}: {} used or asked for, of {}", text(task, "/failure/limit/name"), count(used), count(max)),
            );
        }
    }
    line("waits on", text(task, "/waiting_on").to_owned());
    for (name, value) in [("input", spec.get("input")), ("output", task.pointer("/outcome/output"))] {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            say(&format!("\n{}", style.bold(name)));
            say(&shortened(value));
        }
    }
    effects(found);
}

fn effects(found: &Value) {
    let mut table = Table::new(&["TOOL", "STATE", "ARGUMENTS"]);
    for effect in list(found.get("effects").unwrap_or(&Value::Null), "effects") {
        let arguments = effect.get("arguments").map(Value::to_string).unwrap_or_default();
        table.row([text(effect, "/tool"), text(effect, "/state"), &arguments]);
    }
    if !table.is_empty() {
        say("");
        table.print("");
    }
}

/// A value as indented JSON, at most 40 lines of it.
fn shortened(value: &Value) -> String {
    let whole = pretty(value);
    let total = whole.lines().count();
    let mut text: Vec<String> = whole.lines().take(40).map(one_line_indented).collect();
    if total > 40 {
        text.push(format!("… {} more lines; `--json` shows them all", total - 40));
    }
    text.join("\n")
}

fn one_line_indented(line: &str) -> String {
    let most = 200;
    if line.chars().count() <= most { line.to_owned() } else { line.chars().take(most - 1).chain(['…']).collect() }
}
