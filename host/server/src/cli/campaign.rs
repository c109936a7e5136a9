//! `chimera campaign`: start campaigns, look at them, follow them to their end.
//!
//! Input files are read here, on the side of the human who named them; everything else is the server's. Called by the
//! dispatcher.

use super::args::CampaignCommand;
use super::client::{Client, segment};
use super::error::{CliError, CliResult, Exit};
use super::live::{Live, state_of};
use super::output::{Format, Style, Table, bytes, count, millis, one_line, print_json, say, tell};
use super::{Env, inputs, list, read, text};
use chimera_agents::planner::campaign_file::NewCampaign;
use chimera_core::approval::Approval;
use chimera_core::campaign::{CampaignState, CampaignView};
use chimera_core::ids::{ApprovalId, TaskId};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the truth is read again even when no event came.
const REREAD: Duration = Duration::from_secs(2);

pub(super) async fn run(env: Env, command: CampaignCommand) -> CliResult {
    match command {
        CampaignCommand::Run { file, goal, inputs, title, watch } => {
            let campaign = assemble(file, goal, inputs, title)?;
            let client = env.client()?;
            let made = client.post("/api/v1/campaigns", &json!(campaign)).await?;
            let id = ["/campaign/id", "/id"]
                .iter()
                .map(|at| text(&made, at))
                .find(|id| !id.is_empty())
                .unwrap_or("")
                .to_owned();
            if watch {
                tell(&format!("Campaign {id} started."));
                return follow(&env, &client, &id).await;
            }
            env.show(&made, |_| say(&format!("Campaign {id} started. Follow it with `chimera campaign watch {id}`.")));
            Ok(Exit::Done)
        }
        CampaignCommand::Status { id: Some(id) } => {
            let found = env.client()?.get(&path(&id), &[]).await?;
            match env.format {
                Format::Json => print_json(&found),
                Format::Human => print_view(&read(found)?),
            }
            Ok(Exit::Done)
        }
        CampaignCommand::Status { id: None } => {
            let found = env.client()?.get("/api/v1/campaigns", &[]).await?;
            env.show(&found, print_list);
            Ok(Exit::Done)
        }
        CampaignCommand::Watch { id } => follow(&env, &env.client()?, &id).await,
        CampaignCommand::Cancel { id } => {
            let done = env.client()?.post(&format!("{}/cancel", path(&id)), &json!({})).await?;
            env.show(&done, |_| say(&format!("Cancelled: {id}. What was not begun will not be done.")));
            Ok(Exit::Done)
        }
        CampaignCommand::Report { id } => {
            let report = env.client()?.get(&format!("{}/report", path(&id)), &[]).await?;
            env.show(&report, print_report);
            Ok(Exit::Done)
        }
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/campaigns/{}", segment(id))
}

fn assemble(
    file: Option<PathBuf>,
    goal: Option<String>,
    pairs: Vec<String>,
    title: Option<String>,
) -> CliResult<NewCampaign> {
    let mut campaign = match (file, goal) {
        (Some(file), _) => from_file(&file)?,
        (None, goal) => NewCampaign { goal: goal.unwrap_or_default(), ..NewCampaign::default() },
    };
    for pair in pairs {
        let (name, value) = inputs::pair(&pair)?;
        campaign.inputs.insert(name, value);
    }
    campaign.title = title.or(campaign.title);
    campaign.validate().map_err(|error| CliError::usage(error.to_string(), ""))?;
    Ok(campaign)
}

fn from_file(file: &Path) -> CliResult<NewCampaign> {
    let bytes = inputs::read_capped(file, chimera_agents::planner::campaign_file::MAX_FILE_BYTES as u64)?;
    let place = |error: &dyn std::fmt::Display| {
        CliError::usage(
            format!("{}: {error}", file.display()),
            "mend the file and run the command again; nothing was started",
        )
    };
    let yaml = String::from_utf8(bytes).map_err(|_| place(&"is not UTF-8 text"))?;
    let mut campaign = NewCampaign::from_yaml(&yaml).map_err(|error| place(&error))?;
    let files = campaign.file_inputs();
    inputs::load_files(&mut campaign.inputs, files, file.parent().unwrap_or(Path::new(".")))?;
    Ok(campaign)
}

/// How a campaign's end becomes the command's.
pub(super) const fn exit_of(state: CampaignState) -> Exit {
    match state {
        CampaignState::Rejected => Exit::Refused,
        CampaignState::Failed | CampaignState::Cancelled => Exit::Failed,
        CampaignState::Completed | CampaignState::Running | CampaignState::Planning => Exit::Done,
    }
}

async fn follow(env: &Env, client: &Client, id: &str) -> CliResult {
    // Listening begins before the first reading: what happens in between is heard.
    let mut events = client.events(&[("campaign", id)]).await?;
    let mut live = Live::new();
    let mut asked: BTreeSet<ApprovalId> = BTreeSet::new();
    loop {
        let view: CampaignView = read(client.get(&path(id), &[]).await?)?;
        live.update(&view);
        if view.campaign.state.is_final() {
            live.finish();
            match env.format {
                Format::Json => print_json(&json!(view)),
                Format::Human => print_view(&view),
            }
            return Ok(exit_of(view.campaign.state));
        }
        let open = client.get("/api/v1/approvals", &[("state", "open"), ("campaign", id)]).await?;
        for approval in list(&open, "approvals") {
            let approval: Approval = read(approval.clone())?;
            if asked.insert(approval.id) {
                super::approvals::describe(&approval, Style::stderr()).iter().for_each(|line| live.note(line));
            }
        }
        wait(client, id, &mut events, &mut live).await?;
    }
}

/// Waits until something happened, showing progress meanwhile. A stream that ended is opened again.
async fn wait(client: &Client, id: &str, events: &mut super::client::Events, live: &mut Live) -> CliResult<()> {
    let until = tokio::time::Instant::now() + REREAD;
    while let Ok(event) = tokio::time::timeout_at(until, events.next()).await {
        let Some(event) = event? else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            *events = client.events(&[("campaign", id)]).await?;
            return Ok(());
        };
        if event.name != "progress" {
            return Ok(());
        }
        let fraction = event.data.get("fraction").and_then(Value::as_f64).unwrap_or(0.0);
        if let Ok(task) = text(&event.data, "/task").parse::<TaskId>() {
            live.progress(task, fraction, text(&event.data, "/message"));
        }
    }
    Ok(())
}

fn print_list(found: &Value) {
    let mut table = Table::new(&["CAMPAIGN", "STATE", "TITLE", "CREATED"]);
    for campaign in list(found, "campaigns") {
        table.row(["/id", "/state", "/title", "/created_at"].map(|pointer| text(campaign, pointer)));
    }
    table.print("There are no campaigns. Start one with `chimera campaign run`.");
}

/// A campaign with its steps, for people.
fn print_view(view: &CampaignView) {
    let style = Style::stdout();
    let campaign = &view.campaign;
    say(&format!("{} {}", style.bold(&one_line(&campaign.title, 200)), style.state(campaign.state.as_str())));
    say(&style.dim(&format!("{} · started {}", campaign.id, campaign.created_at)));
    if let Some(failure) = &campaign.failure {
        say(&style.red(&one_line(&failure.message, 600)));
    }
    let mut table = Table::new(&["STEP", "SKILL", "STATE", "ATTEMPTS", "CONFIDENCE", "WALL", "TASK"]);
    for step in &view.steps {
        let task = step.task.and_then(|id| view.task(id));
        table.row([
            step.planned.key.clone(),
            step.planned.skill.to_string(),
            state_of(step, task).to_owned(),
            task.map_or(String::new(), |task| task.attempt.to_string()),
            task.and_then(|task| task.confidence()).map_or(String::new(), |value| format!("{value:.2}")),
            task.map_or(String::new(), |task| millis(task.usage.wall_ms)),
            step.task.map_or(String::new(), |id| id.to_string()),
        ]);
    }
    table.print("No steps yet.");
}

fn print_report(report: &Value) {
    let number = |task: &Value, pointer: &str| task.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let mut table =
        Table::new(&["STEP", "SKILL", "STATUS", "ATTEMPTS", "WALL", "FUEL", "MEMORY", "CONFIDENCE", "VERDICT"]);
    for task in list(report, "tasks") {
        let confidence = task.get("confidence").and_then(Value::as_f64).map_or(String::new(), |c| format!("{c:.2}"));
        table.row([
            text(task, "/step").to_owned(),
            format!("{}@{}", text(task, "/skill"), text(task, "/version")),
            text(task, "/status").to_owned(),
            number(task, "/attempts").to_string(),
            millis(number(task, "/wall_ms")),
            count(number(task, "/fuel")),
            bytes(number(task, "/peak_memory_bytes")),
            confidence,
            text(task, "/verdict").to_owned(),
        ]);
    }
    table.print("No task was run.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_s_end_is_the_command_s() {
        assert_eq!(exit_of(CampaignState::Completed), Exit::Done);
        assert_eq!(exit_of(CampaignState::Rejected), Exit::Refused);
        assert_eq!(exit_of(CampaignState::Failed), Exit::Failed);
        assert_eq!(exit_of(CampaignState::Cancelled), Exit::Failed);
    }

    #[test]
    fn a_campaign_file_takes_its_inputs_from_files_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("posts.jsonl", "{\"text\": \"hello\"}\n");
        write("c.yaml", "goal: Summarise the posts\ninputs:\n  posts: {file: posts.jsonl, format: posts}\n");
        let campaign = assemble(Some(folder.path().join("c.yaml")), None, vec!["n=2".into()], Some("T".into()))
            .expect("a campaign");
        assert_eq!(campaign.inputs["posts"][0]["text"], json!("hello"));
        assert_eq!(campaign.inputs["n"], json!(2));
        assert_eq!(campaign.title.as_deref(), Some("T"));
    }

    #[test]
    fn the_example_campaigns_are_what_they_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let demo = assemble(Some(root.join("demo/campaign.yaml")), None, vec![], None).expect("the demo's campaign");
        let steps = demo.explicit.expect("its steps");
        assert_eq!(
            steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(),
            ["trends", "summary", "draft", "check"]
        );
        assert_eq!(demo.inputs["posts"].as_array().map(Vec::len), Some(293), "the files were loaded");
        assert_eq!(demo.inputs["rules"]["max_chars"], json!(280));

        let text = std::fs::read_to_string(root.join("../../docs/campaigns.md")).expect("docs/campaigns.md");
        let examples: Vec<&str> = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!examples.is_empty(), "the document has no example");
        for example in examples {
            let campaign = NewCampaign::from_yaml(example).expect("readable");
            campaign.validate().expect("valid");
        }
    }

    #[test]
    fn a_campaign_that_makes_no_sense_is_wrong_usage() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, "goal: [").expect("a file");
        let error = assemble(Some(file), None, vec![], None).expect_err("malformed");
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.what.contains("c.yaml"), "{error}");
        let huge = assemble(None, Some("x".repeat(1 << 20)), vec![], None).expect_err("too long");
        assert_eq!(huge.exit, Exit::Usage);
        assert_eq!(assemble(None, Some(" ".into()), vec![], None).expect_err("empty").exit, Exit::Usage);
    }
}
