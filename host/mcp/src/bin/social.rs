//! `social` as a program of its own, for the tests of this workspace: the same that `chimera mcp serve social` runs.
//!
//! It reads its options and serves; it knows nothing else. Started by tests as a child process.

use chimera_mcp::social::{KeyPolicy, SocialOptions, serve};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(name = "chimera-social", version, about = "A sample MCP server that publishes posts")]
struct Options {
    /// The file that holds the posts.
    #[arg(long)]
    state: PathBuf,
    /// A JSONL file of posts that can be searched.
    #[arg(long)]
    seed: Option<PathBuf>,
    /// Do not recognise calls by their idempotency key.
    #[arg(long)]
    no_idempotency: bool,
    /// Wait after publishing and before answering.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Most posts within one minute.
    #[arg(long, default_value_t = 60)]
    posts_per_minute: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let options = SocialOptions {
        idempotency: if options.no_idempotency { KeyPolicy::Ignored } else { KeyPolicy::Honoured },
        seed: options.seed,
        delay: Duration::from_millis(options.delay_ms),
        posts_per_minute: options.posts_per_minute,
        ..SocialOptions::new(options.state)
    };
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
