//! `chimera serve`: the listener, the files that tell others of it, and the way down.
//!
//! It binds before it starts anything, so a taken port costs nothing, and says what to do about every failure. It knows
//! nothing of the API's content. Called by the CLI (`serve`, `demo`).

use crate::api::session::login_link;
use crate::api::{AppState, router};
use crate::auth::{self, Auth, TokenError, write_private};
use crate::config::Config;
use crate::folder::{self, UnsafeFolder};
use crate::listener::{Bounded, Limits, attended};
use crate::wiring::{Handles, Platform, StartError};
use axum::serve::ListenerExt as _;
use chimera_core::clock::Timestamp;
use serde_json::json;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long requests that are being served may take to finish at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// A server that could not be started, or stopped by itself; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody listens there already.
    #[error(
        "port {} is taken: another program listens at {address}. Stop it, or choose another port with --listen {}:{} \
         (port 0 takes any free one: --listen 127.0.0.1:0)",
        address.port(), address.ip(), address.port().wrapping_add(1).max(1024)
    )]
    PortTaken {
        /// Where.
        address: SocketAddr,
    },
    /// The port may not be used.
    #[error(
        "it is not possible to listen at {address}: {error}; choose a free port above 1023, such as --listen 127.0.0.1:7700"
    )]
    CannotListen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The platform did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The operator's token could not be read or made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A file of the data folder could not be written.
    #[error("{} cannot be written: {error}; make the data folder writable for this user", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Others could put a token, an address or a configuration of their own into the folder.
    #[error(transparent)]
    Folder(#[from] UnsafeFolder),
    /// Something that the operating system does not give.
    #[error("{what}: {problem}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why it was not given.
        problem: String,
    },
}

impl ServeError {
    fn system(what: &'static str, problem: impl ToString) -> Self {
        Self::System { what, problem: problem.to_string() }
    }
}

/// How `chimera serve` tells that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// For people.
    Text,
    /// One line of JSON: `{url, pid, token_file}`.
    Json,
}

/// A running server with its platform.
pub struct Running {
    url: String,
    state: AppState,
    platform: Platform,
    closing: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    server_file: PathBuf,
    token_file: PathBuf,
}

impl Running {
    /// Where it listens: `http://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The platform's rooms.
    pub fn handles(&self) -> &Handles {
        self.state.handles()
    }

    /// A link that opens the dashboard once, within an hour.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn login_link(&self) -> Result<String, ServeError> {
        let ticket = self.state.auth().mint_ticket(self.state.now());
        let ticket = ticket.map_err(|error| ServeError::system("no random numbers", error))?;
        Ok(login_link(&self.url, &ticket))
    }

    /// Finishes what is being served, stops the platform and takes the server's file away.
    pub async fn stop(self) {
        let Self { platform, closing, mut task, server_file, .. } = self;
        // First: nobody shall find a server that is going away.
        if let Err(error) = std::fs::remove_file(&server_file) {
            tracing::warn!(%error, file = %server_file.display(), "the server's file could not be removed");
        }
        closing.cancel();
        if tokio::time::timeout(DRAIN, &mut task).await.is_err() {
            task.abort();
        }
        platform.shutdown().await;
    }
}

/// Binds, starts the platform, and serves.
///
/// # Errors
/// [`ServeError`]; nothing is left running then.
pub async fn start(config: Config) -> Result<Running, ServeError> {
    folder::check(&config.data_dir.value)?;
    let listener = bind(config.listen.value).await?;
    let address = listener.local_addr().map_err(|error| ServeError::system("the listener has no address", error))?;
    let (server_file, token_file) = (config.server_file(), config.token_file());
    let platform = Platform::start(config).await?;
    let closing = CancellationToken::new();
    let prepared = prepare(&platform, address, &token_file, &server_file, closing.clone());
    let (url, state) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            platform.shutdown().await;
            return Err(error);
        }
    };
    let listener = listener.tap_io(|stream| {
        // Small answers shall not wait for the next one; if it cannot be set, they do.
        let _ = stream.set_nodelay(true);
    });
    let listener = Bounded::new(listener, Limits::SERVER);
    let app = attended(router(state.clone()));
    let stop = closing.clone().cancelled_owned();
    let task = tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stop).await });
    Ok(Running { url, state, platform, closing, task, server_file, token_file })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => ServeError::PortTaken { address },
        _ => ServeError::CannotListen { address, error },
    })
}

/// Credentials, state and the file that tells others, once the data folder is ours.
fn prepare(
    platform: &Platform,
    address: SocketAddr,
    token_file: &Path,
    server_file: &Path,
    closing: CancellationToken,
) -> Result<(String, AppState), ServeError> {
    let token = auth::load_or_create_token(token_file)?;
    let auth = Auth::new(&token, address).map_err(|error| ServeError::system("the token is unusable", error))?;
    let state = AppState::new(platform.handles().clone(), auth, closing);
    let url = format!("http://{address}");
    write_server_file(server_file, &url, state.now())?;
    Ok((url, state))
}

fn write_server_file(path: &Path, url: &str, now: Timestamp) -> Result<(), ServeError> {
    let content = json!({ "url": url, "pid": std::process::id(), "started_at": now });
    write_private(path, &format!("{content}\n")).map_err(|error| ServeError::File { path: path.to_owned(), error })
}

/// Serves until SIGINT or SIGTERM, then stops in order; a second signal stops at once.
///
/// # Errors
/// As [`start`], and when the listener breaks.
pub async fn run(config: Config, announce: Announce) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let mut running = start(config).await?;
    running.announce(announce)?;
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        ended = &mut running.task => Err(ended),
    };
    match ended {
        Ok(()) => {
            tokio::select! {
                () = running.stop() => {}
                () = signals.next() => tracing::warn!("stopped at once; what was running is taken up at the next start"),
            }
            Ok(())
        }
        Err(ended) => {
            let problem = match ended {
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            running.task = tokio::spawn(async { Ok(()) });
            running.stop().await;
            Err(ServeError::System { what: "the listener stopped", problem })
        }
    }
}

impl Running {
    fn announce(&self, announce: Announce) -> Result<(), ServeError> {
        let mut out = std::io::stdout().lock();
        let token_file = self.token_file.display().to_string();
        let mut text = match announce {
            Announce::Json => {
                format!("{}\n", json!({ "url": self.url, "pid": std::process::id(), "token_file": token_file }))
            }
            Announce::Text => format!("Chimera is running at {}\n  operator's token  {token_file}\n", self.url),
        };
        // The link logs in whoever has it, so it is shown to a person and not written into a service's log.
        if announce == Announce::Text && out.is_terminal() {
            let link = self.login_link()?;
            text.push_str(&format!("  dashboard         {link}\n                    (opens once, within an hour)\n"));
            text.push_str("Stop it with Ctrl-C.\n");
        }
        let written = out.write_all(text.as_bytes());
        // A closed standard output is no reason not to serve.
        if let Err(error) = written.and_then(|()| out.flush()) {
            tracing::warn!(%error, "standard output cannot be written to");
        }
        Ok(())
    }
}

/// The signals that ask this process to end.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| ServeError::system("signals cannot be listened to", error));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Logs to standard error what the filter lets through.
///
/// # Errors
/// A sentence when the filter cannot be read, or logging was set up before.
pub fn start_logging(filter: &str) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| {
        format!("`{filter}` is not a log filter ({error}); write for example `info` or `chimera=debug`")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would be told on standard error too, by a macro that panics when that cannot be written to: a disk that is full
        // of the log shall not end whoever has something to say.
        .log_internal_errors(false)
        .try_init()
        .map_err(|error| format!("logging cannot be set up: {error}"))
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
