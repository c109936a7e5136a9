//! `chimera search`: installed skills by what they do.
//!
//! Asks the running server's index; ranks nothing itself. Called by the dispatcher.

use super::args::SearchArgs;
use super::error::{CliResult, Exit};
use super::output::Table;
use super::{Env, list, text};
use serde_json::Value;

pub(super) async fn run(env: Env, args: SearchArgs) -> CliResult {
    let limit = args.limit.to_string();
    let found = env.client()?.get("/api/v1/search", &[("q", &args.query), ("limit", &limit)]).await?;
    env.show(&found, |found| {
        let mut table = Table::new(&["SKILL", "VERSION", "SCORE", "SUMMARY"]);
        for hit in list(found, "hits") {
            let score = hit.get("score").and_then(Value::as_f64).unwrap_or(0.0);
            table.row([
                text(hit, "/skill/name"),
                text(hit, "/skill/version"),
                &format!("{score:.2}"),
                text(hit, "/summary"),
            ]);
        }
        table.print("No installed skill fits. Install one with `chimera skill install`.");
    });
    Ok(Exit::Done)
}
