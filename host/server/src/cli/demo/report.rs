//! What the demo says at its end: each task, the promises, the post, the audit log.
//!
//! The numbers are the agents' own report, read from the truth after the campaign ended; the exit code follows from
//! them. Its JSON is part of the command's contract. Made by the demo.

use super::{close, exit_of, why};
use crate::cli::error::{CliError, CliResult, Exit};
use crate::cli::output::{Style, Table, bytes, count, millis, one_line, say};
use chimera_agents::report::{Report as Facts, campaign_report, check_chain};
use chimera_core::approval::ApprovalState;
use chimera_core::campaign::{CampaignState, CampaignView};
use chimera_core::ports::Truth;
use serde_json::{Value, json};
use std::path::Path;

/// A goal is planned within this many milliseconds.
const PLAN_MS: u64 = 5_000;
/// A verdict falls within this many milliseconds.
const VERDICT_MS: u64 = 3_000;
/// A task ends within this many milliseconds.
const TASK_MS: u64 = 30_000;

/// The whole report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    /// What the truth says of the campaign.
    facts: Facts,
    /// Posts that the server holds more than before.
    posts_on_server: usize,
    /// Why the campaign ended otherwise than planned.
    failure: Option<String>,
    /// The system's chain holds as well.
    is_system_chain_valid: bool,
}

/// Reads the truth of a campaign that is over.
pub(super) async fn make(truth: &dyn Truth, view: &CampaignView, posts_on_server: usize) -> CliResult<Report> {
    let facts = campaign_report(truth, view.campaign.id)
        .await
        .map_err(|error| CliError::failed(error.to_string(), "see `chimera doctor`"))?;
    let is_system_chain_valid = check_chain(truth, None).await?.checked.is_ok();
    Ok(Report { facts, posts_on_server, failure: why(view), is_system_chain_valid })
}

/// One promise and whether it was kept.
struct Promise {
    name: &'static str,
    took_ms: Option<u64>,
    limit_ms: u64,
}

impl Promise {
    fn is_kept(&self) -> bool {
        self.took_ms.is_some_and(|took| took < self.limit_ms)
    }
}

impl Report {
    /// The contract's object: the facts without the reasons, which only the text shows.
    pub(super) fn to_json(&self) -> Value {
        let mut value = json!(self.facts);
        for task in value.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(map) = task.as_object_mut() {
                map.shift_remove("reason");
            }
        }
        value["audit"]["valid"] = json!(self.is_audit_valid());
        value
    }

    fn is_audit_valid(&self) -> bool {
        self.facts.audit.valid && self.facts.audit.events > 0 && self.is_system_chain_valid
    }

    fn promises(&self) -> [Promise; 3] {
        let timings = &self.facts.timings;
        [
            Promise { name: "planner", took_ms: timings.plan_ms, limit_ms: PLAN_MS },
            Promise { name: "slowest verdict", took_ms: timings.verdict_ms_max, limit_ms: VERDICT_MS },
            Promise { name: "slowest task", took_ms: timings.task_ms_max, limit_ms: TASK_MS },
        ]
    }

    /// What is not as it should be; nothing if all of it is.
    fn shortcomings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.facts.status != CampaignState::Completed {
            let failure = self.failure.as_ref().map_or(String::new(), |failure| format!(": {failure}"));
            found.push(format!("the campaign is {}{failure}", self.facts.status.as_str()));
        }
        if self.facts.published.len() != 1 || self.posts_on_server != 1 {
            found.push(format!(
                "exactly one post should be published; the ledger has {}, the server {}",
                self.facts.published.len(),
                self.posts_on_server
            ));
        }
        for promise in self.promises().iter().filter(|promise| !promise.is_kept()) {
            let took = promise.took_ms.map_or("never ended".to_owned(), |ms| format!("took {}", millis(ms)));
            found.push(format!("{} {took}; promised is less than {}", promise.name, millis(promise.limit_ms)));
        }
        if !self.is_audit_valid() {
            found.push("the audit chain is broken".to_owned());
        }
        found
    }

    /// Done only if all of it is true; refused if a human said no and nothing was published.
    pub(super) fn exit(&self) -> Exit {
        let was_refused = self.facts.approvals.iter().any(|approval| approval.decision == ApprovalState::Rejected)
            && self.facts.status == CampaignState::Rejected
            && self.facts.published.is_empty()
            && self.posts_on_server == 0
            && self.is_audit_valid();
        exit_of(self.shortcomings().is_empty(), was_refused)
    }

    /// Prints the report for people.
    pub(super) fn print(&self, kept: Option<&Path>) {
        let style = Style::stdout();
        say("");
        self.task_table().print("No task was run.");
        say("");
        for task in &self.facts.tasks {
            say(&style.dim(&format!("{}: {}", one_line(&task.step, 40), one_line(&task.reason, 400))));
        }
        say("");
        for promise in self.promises() {
            let took = promise.took_ms.map_or("never ended".to_owned(), millis);
            let told = if promise.is_kept() { style.green("kept") } else { style.red("BROKEN") };
            say(&format!("{:<16} {took:>9}   promised < {}: {told}", promise.name, millis(promise.limit_ms)));
        }
        let total = self.facts.timings.total_ms.map_or("–".to_owned(), millis);
        say(&format!("{:<16} {total:>9}", "whole campaign"));
        say("");
        self.print_published();
        self.print_approvals(style);
        let valid = if self.is_audit_valid() { style.green("valid") } else { style.red("BROKEN") };
        let audit = &self.facts.audit;
        say(&format!("audit chain: {valid} ({} events, head {})", audit.events, audit.head));
        match self.exit() {
            Exit::Done => say(&style.green("campaign: completed")),
            Exit::Refused => say(&style.yellow("campaign: rejected by a human; nothing was published")),
            Exit::Failed | Exit::Usage => {
                self.shortcomings()
                    .iter()
                    .for_each(|line| say(&format!("{} {line}", style.red("not as it should be:"))));
            }
        }
        close(kept);
    }

    fn print_published(&self) {
        for post in &self.facts.published {
            let by = format!("{}/{}", one_line(&post.server, 80), one_line(&post.tool, 80));
            say(&format!("published by {by} as {}:", one_line(post.id.as_deref().unwrap_or("(no id)"), 80)));
            let text = post.text.as_deref().unwrap_or("(no text)");
            say(&format!("  {}", chimera_core::text::printable(text).replace('\n', "\n  ")));
        }
        if self.facts.published.is_empty() {
            say("published: nothing");
        }
    }

    fn print_approvals(&self, style: Style) {
        for approval in &self.facts.approvals {
            let decision = json!(approval.decision);
            let shown = style.state(decision.as_str().unwrap_or(""));
            say(&format!("approval {}: {shown} by {}", approval.id, approval.by.as_deref().unwrap_or("nobody")));
        }
    }

    fn task_table(&self) -> Table {
        let mut table =
            Table::new(&["STEP", "SKILL", "STATUS", "ATTEMPTS", "WALL", "FUEL", "MEMORY", "CONFIDENCE", "VERDICT"]);
        for task in &self.facts.tasks {
            let verdict = json!(task.verdict);
            table.row([
                task.step.clone(),
                format!("{}@{}", task.skill, task.version),
                task.status.as_str().to_owned(),
                task.attempts.to_string(),
                millis(task.wall_ms),
                count(task.fuel),
                bytes(task.peak_memory_bytes),
                task.confidence.map_or("–".to_owned(), |value| format!("{value:.2}")),
                verdict.as_str().unwrap_or("–").to_owned(),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_agents::report::{ApprovalReport, AuditReport, Published, TaskReport, Timings};
    use chimera_core::digest::Digest;
    use chimera_core::task::TaskState;
    use chimera_core::verdict::Decision;

    const ID: &str = "0190f3c2-7b1e-7c3a-9f00-0123456789ab";

    fn facts() -> Facts {
        Facts {
            campaign: ID.parse().expect("an id"),
            status: CampaignState::Completed,
            tasks: vec![TaskReport {
                id: ID.parse().expect("an id"),
                step: "find-trends".into(),
                skill: "chimera/find-trends".into(),
                version: "0.1.0".into(),
                status: TaskState::Approved,
                attempts: 1,
                wall_ms: 12,
                fuel: 34,
                peak_memory_bytes: 56,
                confidence: Some(0.9),
                verdict: Some(Decision::Approve),
                reason: "it fits".into(),
            }],
            published: vec![Published {
                server: "social".into(),
                tool: "publish_post".into(),
                id: Some("1".into()),
                text: Some("x".into()),
            }],
            approvals: vec![ApprovalReport {
                id: ID.parse().expect("an id"),
                decision: ApprovalState::Approved,
                by: Some("operator:local".into()),
            }],
            timings: Timings { plan_ms: Some(10), verdict_ms_max: Some(2), task_ms_max: Some(12), total_ms: Some(900) },
            audit: AuditReport { valid: true, events: 20, head: Digest::of(b"x") },
        }
    }

    fn report() -> Report {
        Report { facts: facts(), posts_on_server: 1, failure: None, is_system_chain_valid: true }
    }

    fn with(change: impl FnOnce(&mut Report)) -> Report {
        let mut changed = report();
        change(&mut changed);
        changed
    }

    #[test]
    fn its_json_is_the_contract_s() {
        let value = report().to_json();
        let keys = |at: &str| {
            let map = value.pointer(at).and_then(Value::as_object).expect("an object");
            map.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(""), "campaign status tasks published approvals timings audit");
        assert_eq!(
            keys("/tasks/0"),
            "id step skill version status attempts wall_ms fuel peak_memory_bytes confidence verdict"
        );
        assert_eq!(keys("/published/0"), "server tool id text");
        assert_eq!(keys("/approvals/0"), "id decision by");
        assert_eq!(keys("/timings"), "plan_ms verdict_ms_max task_ms_max total_ms");
        assert_eq!(keys("/audit"), "valid events head");
        assert_eq!(value["status"], json!("completed"));
        assert_eq!(value["approvals"][0]["decision"], json!("approved"));
        assert_eq!(value["tasks"][0]["verdict"], json!("approve"));
        assert_eq!(with(|r| r.is_system_chain_valid = false).to_json()["audit"]["valid"], json!(false));
    }

    #[test]
    fn zero_only_if_all_of_it_is_true() {
        assert_eq!(report().exit(), Exit::Done);
        let broken = [
            with(|r| r.facts.status = CampaignState::Failed),
            with(|r| r.facts.published.clear()),
            with(|r| r.posts_on_server = 2),
            with(|r| r.facts.timings.plan_ms = Some(PLAN_MS)),
            with(|r| r.facts.timings.plan_ms = None),
            with(|r| r.facts.timings.verdict_ms_max = Some(VERDICT_MS)),
            with(|r| r.facts.timings.task_ms_max = Some(TASK_MS)),
            with(|r| r.facts.audit.valid = false),
            with(|r| r.facts.audit.events = 0),
            with(|r| r.is_system_chain_valid = false),
        ];
        for report in broken {
            assert_eq!(report.exit(), Exit::Failed, "{:?}", report.shortcomings());
        }
    }

    #[test]
    fn a_human_s_no_ends_with_three_and_nothing_published() {
        let refused = with(|r| {
            r.facts.status = CampaignState::Rejected;
            r.facts.published.clear();
            r.facts.approvals[0].decision = ApprovalState::Rejected;
            r.posts_on_server = 0;
        });
        assert_eq!(refused.exit(), Exit::Refused);
        assert_eq!(Report { posts_on_server: 1, ..refused }.exit(), Exit::Failed);
    }
}
