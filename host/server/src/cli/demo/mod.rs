//! `chimera demo`: one whole campaign in one process, from real text to a published post.
//!
//! It does what an operator would do, through the same API: install skills, grant a slot, start a campaign, answer what
//! waits for a human. Only reading along is done in-process. Nothing leaves this machine. Called by the dispatcher.

mod ask;
mod bundle;
mod drive;
mod place;
mod report;

use super::args::DemoArgs;
use super::client::Client;
use super::error::{CliError, CliResult, Exit};
use super::output::{Format, print_json, say, tell};
use super::{Env, grant, inputs, text};
use crate::cli::stop::Stop;
use crate::config::{Config, Embeddings, Flags, Roles, Setting, Store};
use crate::serve::{self, Running};
use ask::Decide;
use chimera_core::campaign::CampaignView;
use chimera_core::ids::CampaignId;
use chimera_core::text::printable;
use chimera_mcp::{Idempotency, ServerConfig};
use place::Place;
use report::Report;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What the demo is asked to do unless `--goal` says otherwise.
const GOAL: &str = "Find what people are talking about in these posts, summarise the main trends, draft a post of at \
                    most 280 characters, check it against our policy and publish it.";
/// The posts that come with the program; their source and licence are in the README beside them.
const POSTS: &str = include_str!("../../../demo/posts.jsonl");
/// The policy that the draft is checked against.
const POLICY: &str = include_str!("../../../demo/policy.json");
/// The bundled server's name.
const SOCIAL: &str = "social";
/// The skill that publishes, and its slot.
const PUBLISHER: (&str, &str) = ("chimera/publish-post", "social");

pub(super) async fn run(env: Env, args: DemoArgs) -> CliResult {
    // Everything that can be wrong with the command is found before anything is built.
    let decide = Decide::from_args(&args)?;
    let inputs = campaign_inputs(&args)?;
    // Heard from before there is a folder: a signal must not leave one behind.
    let mut stop = Stop::new()?;
    let place = Place::open(args.keep.as_deref(), env.global.data_dir.as_deref())?;
    let config = config(&env, &place)?;
    super::serve::start_logging(&config)?;

    let skills = stop.unless_asked(bundle::prepare(&env, args.no_build, config.sandbox_confinement.value)).await?;
    let running = serve::start(config.clone()).await.map_err(|error| CliError::failed(error.to_string(), ""))?;
    let outcome = stop.unless_asked(campaign(&config, &running, &args, inputs, &skills, decide, &place)).await;
    running.stop().await;
    let report = outcome?;
    match env.format {
        Format::Json => print_json(&report.to_json()),
        Format::Human => report.print(place.kept()),
    }
    Ok(report.exit())
}

fn campaign_inputs(args: &DemoArgs) -> CliResult<Value> {
    let posts = match &args.input {
        Some(path) => inputs::posts(path)?,
        None => {
            let posts = super::feed::parse(POSTS.as_bytes())
                .map_err(|error| CliError::failed(format!("the bundled posts cannot be read: {error}"), ""))?;
            json!(posts)
        }
    };
    let policy: Value = serde_json::from_str(POLICY)
        .map_err(|error| CliError::failed(format!("the bundled policy cannot be read: {error}"), ""))?;
    Ok(json!({ "posts": posts, "policy": policy }))
}

fn config(env: &Env, place: &Place) -> CliResult<Config> {
    let flags = Flags { data_dir: Some(place.path().to_owned()), ..env.flags() };
    let mut config = env.config_with(flags)?;
    // Any free port: a demo must not fight with a server that runs already.
    config.listen = Setting::flag(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), "listen");
    // Everything in its own folder and process, wherever the operator keeps theirs.
    config.store = Setting::default(Store::Sqlite);
    config.roles = Setting::default(Roles::all());
    (config.redis, config.redis_backup, config.weaviate) = (None, None, None);
    config.embeddings = Setting::default(Embeddings::Lexical);
    // Always the bundled server on a file of its own: a demo never publishes to a server of the operator's.
    config.mcp_servers.insert(SOCIAL.to_owned(), Setting::flag(social(&place.social_state())?, "demo"));
    Ok(config)
}

fn social(state: &Path) -> CliResult<ServerConfig> {
    let this = crate::executable::this_program().map_err(|error| {
        CliError::failed(format!("this program cannot find itself: {error}"), "start it by its full path")
    })?;
    let state = state.to_str().ok_or_else(|| {
        CliError::usage(format!("{} is not UTF-8", state.display()), "name a folder with a plain name with --keep")
    })?;
    let mut server = ServerConfig::new(SOCIAL, this);
    server.args = ["mcp", "serve", SOCIAL, "--state", state].map(str::to_owned).to_vec();
    server.idempotency = Idempotency::Argument("idempotency_key".to_owned());
    Ok(server)
}

async fn campaign(
    config: &Config,
    running: &Running,
    args: &DemoArgs,
    inputs: Value,
    skills: &[PathBuf],
    decide: Decide,
    place: &Place,
) -> CliResult<Report> {
    announce(running);
    let client = Client::discover(config)?;
    install(&client, skills).await?;
    let body = grant::NewGrant::of_slot(PUBLISHER.0, PUBLISHER.1, SOCIAL).body()?;
    client.post("/api/v1/grants", &body).await?;
    tell(&format!("granted: {} may use the server `{SOCIAL}`; each effect waits for a human", PUBLISHER.0));

    let before = posts_of(place)?;
    let goal = args.goal.as_deref().unwrap_or(GOAL);
    let posts = inputs.get("posts").and_then(Value::as_array).map_or(0, Vec::len);
    tell(&format!("goal: {}\nreading {posts} posts", printable(goal)));
    let made = client.post("/api/v1/campaigns", &json!({ "title": "Demo", "goal": goal, "inputs": inputs })).await?;
    let id: CampaignId = text(&made, "/campaign/id")
        .parse()
        .map_err(|_| CliError::failed("the server did not say which campaign it made", ""))?;
    let truth = running.handles().truth.clone();
    let view = drive::follow(truth.as_ref(), &client, id, decide).await?;
    let published = posts_of(place)?.saturating_sub(before);
    report::make(truth.as_ref(), &view, published).await
}

fn announce(running: &Running) {
    // The link logs in whoever has it, so only a person is shown it.
    let link = if std::io::stderr().is_terminal() { running.login_link().ok() } else { None };
    tell(&format!("watch it at {}", link.as_deref().unwrap_or(running.url())));
}

async fn install(client: &Client, skills: &[PathBuf]) -> CliResult<()> {
    for path in skills {
        let bytes = inputs::read_capped(path, chimera_registry::MAX_COMPONENT_BYTES as u64)?;
        let done = client.post_bytes("/api/v1/skills", "application/wasm", bytes).await?;
        tell(&format!("installed {}@{}", text(&done, "/skill/name"), text(&done, "/skill/version")));
    }
    Ok(())
}

/// How many posts the bundled server holds.
fn posts_of(place: &Place) -> CliResult<usize> {
    chimera_mcp::social::read_posts(&place.social_state())
        .map(|posts| posts.len())
        .map_err(|error| CliError::failed(error.to_string(), "choose a fresh folder with --keep"))
}

/// Prints what a campaign that ended otherwise than planned says of itself.
fn why(view: &CampaignView) -> Option<String> {
    let failure = view.campaign.failure.as_ref();
    let of_task = view.tasks.iter().rev().find_map(|task| task.failure.as_ref());
    failure.or(of_task).map(|failure| super::output::one_line(&failure.to_string(), 600))
}

/// The line that closes the report.
fn close(kept: Option<&Path>) {
    if let Some(folder) = kept {
        say(&format!("kept in {}: look at it with `chimera serve --data-dir {}`", folder.display(), folder.display()));
    }
}

/// How a demo ends: all of it true, refused by the human, or not good enough.
const fn exit_of(is_whole: bool, was_refused: bool) -> Exit {
    match (is_whole, was_refused) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Refused,
        (false, false) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> DemoArgs {
        DemoArgs { input: None, goal: None, approve: true, reject: false, keep: None, no_build: false }
    }

    #[test]
    fn the_bundled_inputs_can_be_read() {
        let inputs = campaign_inputs(&args()).expect("inputs");
        assert_eq!(inputs["posts"].as_array().map(Vec::len), Some(293));
        assert_eq!(inputs["policy"]["max_chars"], json!(280));
        assert!(inputs.to_string().len() < 200 * 1024);
    }

    #[test]
    fn an_input_that_is_no_feed_is_wrong_usage_before_anything_is_built() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, "{\"text\": 5}").expect("a file");
        let error = campaign_inputs(&DemoArgs { input: Some(path), ..args() }).expect_err("no feed");
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.what.contains("line 1"), "{error}");
    }

    #[test]
    fn a_demo_is_done_refused_or_failed() {
        assert_eq!(exit_of(true, false), Exit::Done);
        assert_eq!(exit_of(false, true), Exit::Refused);
        assert_eq!(exit_of(false, false), Exit::Failed);
    }
}
