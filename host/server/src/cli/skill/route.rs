//! `chimera skill activate`, `rollback`, `unload` and `canary`: which version of a skill new work gets.
//!
//! The running server decides; here its answer is shown. Called by the dispatcher.

use crate::cli::args::{CanaryArgs, NamedVersion};
use crate::cli::client::segment;
use crate::cli::error::{CliError, CliResult, Exit};
use crate::cli::output::{bytes, millis, say};
use crate::cli::{Env, list, text};
use chimera_core::skill::SkillName;
use serde_json::{Value, json};

fn path(name: &SkillName, what: &str) -> String {
    format!("/api/v1/skills/{}/{}/{what}", segment(name.namespace()), segment(name.name()))
}

pub(super) async fn activate(env: &Env, what: &NamedVersion) -> CliResult {
    let body = json!({ "version": what.version });
    show(env, &env.client()?.post(&path(&what.name, "activate"), &body).await?)
}

pub(super) async fn rollback(env: &Env, name: &SkillName) -> CliResult {
    show(env, &env.client()?.post(&path(name, "rollback"), &json!({})).await?)
}

pub(super) async fn unload(env: &Env, what: &NamedVersion) -> CliResult {
    let done = env.client()?.post(&path(&what.name, "unload"), &json!({ "version": what.version })).await?;
    env.show(&done, |done| {
        say(if done.get("unloaded") == Some(&Value::Bool(true)) {
            "Unloaded; runs in flight end on it and free it then."
        } else {
            "It was not in memory."
        });
    });
    Ok(Exit::Done)
}

pub(super) async fn canary(env: &Env, args: &CanaryArgs) -> CliResult {
    if args.stop || args.promote {
        let name = args.what.split('@').next().unwrap_or_default();
        let name: SkillName = name.parse().map_err(|error: chimera_core::skill::ParseSkillNameError| {
            CliError::usage(error.to_string(), "name the skill: namespace/name")
        })?;
        let client = env.client()?;
        let done = if args.stop {
            client.delete(&path(&name, "canary")).await?
        } else {
            client.post(&path(&name, "canary/promote"), &json!({})).await?
        };
        return show(env, &done);
    }
    let what: NamedVersion = args
        .what
        .parse()
        .map_err(|problem: String| CliError::usage(problem, "name the version that is to be tried"))?;
    let mut body = json!({ "version": what.version, "share": args.share.unwrap_or(10) });
    for (key, value) in [
        ("max_failures", args.max_failures.map(|rate| json!(rate))),
        ("min_runs", args.min_runs.map(|runs| json!(runs))),
        ("promote_after", args.promote_after.map(|runs| json!(runs))),
    ] {
        if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
            body.insert(key.to_owned(), value);
        }
    }
    show(env, &env.client()?.post(&path(&what.name, "canary"), &body).await?)
}

fn show(env: &Env, done: &Value) -> CliResult {
    env.show(done, |done| print(done.get("route").unwrap_or(&Value::Null)));
    Ok(Exit::Done)
}

/// A route in words.
pub(super) fn print(route: &Value) {
    let name = text(route, "/name");
    if name.is_empty() {
        return;
    }
    match text(route, "/active") {
        "" => say(&format!("New work gets no version of {name}: activate one with `chimera skill activate`.")),
        active => say(&format!("New work gets {name}@{active}.")),
    }
    let previous: Vec<&str> = list(route, "previous").iter().filter_map(Value::as_str).collect();
    if !previous.is_empty() {
        say(&format!("Before it: {} (`chimera skill rollback {name}`).", previous.join(", ")));
    }
    if let Some(canary) = route.get("canary").filter(|canary| !canary.is_null()) {
        let number = |key: &str| canary.get(key).and_then(Value::as_u64).unwrap_or(0);
        let bound = canary.get("max_failures").and_then(Value::as_f64).unwrap_or(0.0) * 100.0;
        say(&format!(
            "On trial: {} with {} % of new work; {} of {} runs failed (withdrawn above {bound:.1} % from {} runs on).",
            text(canary, "/version"),
            number("share"),
            number("failures"),
            number("runs"),
            number("min_runs"),
        ));
    }
}

/// Compiled code in words.
pub(super) fn print_loaded(loaded: &[Value]) {
    for code in loaded {
        let number = |key: &str| code.get(key).and_then(Value::as_u64).unwrap_or(0);
        let size = bytes(number("code_bytes"));
        let used = match number("runs") {
            0 => format!("idle for {}", millis(number("idle_ms"))),
            runs => format!("{runs} running"),
        };
        say(&format!("In memory: {} ({size}, {used}).", text(code, "/version")));
    }
}
