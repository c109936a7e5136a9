//! Configuration: defaults ← `chimera.toml` ← `CHIMERA_*` environment ← flags.
//!
//! Each value remembers where it came from, so `chimera doctor` can tell. Nothing here opens a port, a database or
//! anything but the one file. Called by the CLI before anything else.

use crate::address::Address;
use chimera_core::campaign::DEFAULT_PLANNER;
use chimera_core::records::AgentRole;
use chimera_core::skill::is_kebab_word;
use chimera_index::EndpointOptions;
use chimera_mcp::{ServerCatalog, ServerConfig};
use chimera_sandbox::Confinement;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The file's name in the data folder.
pub const FILE_NAME: &str = "chimera.toml";
/// Where the server listens unless it is told otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7700);
/// What is logged unless it is told otherwise.
pub const DEFAULT_LOG: &str = "warn";
/// Largest number of workers of one process.
pub const MAX_WORKERS: usize = 256;
/// Largest configuration file in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Setting<T> {
    /// A value that was built in.
    pub const fn default(value: T) -> Self {
        Self { value, source: Source::Default }
    }

    /// A value given by a flag of that name (without the dashes).
    pub const fn flag(value: T, name: &'static str) -> Self {
        Self { value, source: Source::Flag(name) }
    }
}

/// Where the truth is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In the data folder, of which this is the only process.
    Sqlite,
    /// On a PostgreSQL server, which other processes share.
    Postgres(Address),
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite => f.write_str("sqlite"),
            Self::Postgres(address) => address.fmt(f),
        }
    }
}

/// Where embeddings come from.
#[derive(Debug, Clone)]
pub enum Embeddings {
    /// The language model if its folder is there, else none.
    Auto,
    /// Character n-grams.
    Lexical,
    /// The language model in the data folder.
    MiniLm,
    /// An OpenAI-compatible endpoint.
    Endpoint(EndpointOptions),
}

impl fmt::Display for Embeddings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Lexical => f.write_str("lexical"),
            Self::MiniLm => f.write_str("minilm"),
            Self::Endpoint(endpoint) => write!(f, "endpoint ({})", endpoint.model),
        }
    }
}

/// What a process does of the platform's work; at least one part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// The agents that run in it.
    pub agents: BTreeSet<AgentRole>,
    /// Whether it serves the API and the page; a process that does not still says how it is.
    pub api: Api,
}

/// Whether a process serves the API and the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// It does.
    Served,
    /// It only says how it is.
    HealthOnly,
}

impl Roles {
    /// Everything.
    pub fn all() -> Self {
        Self { agents: [AgentRole::Planner, AgentRole::Worker, AgentRole::Judge].into(), api: Api::Served }
    }

    /// Names with commas between them.
    fn parse(text: &str) -> Result<Self, String> {
        let mut roles = Self { agents: BTreeSet::new(), api: Api::HealthOnly };
        for name in text.split(',').map(str::trim) {
            match name {
                "all" => roles = Self::all(),
                "planner" => drop(roles.agents.insert(AgentRole::Planner)),
                "worker" => drop(roles.agents.insert(AgentRole::Worker)),
                "judge" => drop(roles.agents.insert(AgentRole::Judge)),
                "api" => roles.api = Api::Served,
                _ => return Err(format!("`{name}` is none; write all, or some of planner, worker, judge, api")),
            }
        }
        Ok(roles)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all() {
            return f.write_str("all");
        }
        let agents = self.agents.iter().map(|role| role.as_str());
        let api = (self.api == Api::Served).then_some("api");
        f.write_str(&agents.chain(api).collect::<Vec<_>>().join(","))
    }
}

/// Everything a process is told before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that holds all state.
    pub data_dir: Setting<PathBuf>,
    /// Where the server listens; a loopback address. Port 0: any free one.
    pub listen: Setting<SocketAddr>,
    /// Tasks that run at once, 1 to [`MAX_WORKERS`].
    pub workers: Setting<usize>,
    /// The shard whose queue this process serves.
    pub planner_id: Setting<String>,
    /// Where the truth is.
    pub store: Setting<Store>,
    /// The server of the queue, of ephemeral memory, rate limits and events, if there is one.
    pub redis: Option<Setting<Address>>,
    /// What the queue is on while that one fails, if there is one.
    pub redis_backup: Option<Setting<Address>>,
    /// What this process does.
    pub roles: Setting<Roles>,
    /// The server of the search index, if there is one.
    pub weaviate: Option<Setting<Address>>,
    /// Where embeddings come from.
    pub embeddings: Setting<Embeddings>,
    /// What stands around the process that compiles skills.
    pub sandbox_confinement: Setting<Confinement>,
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: Setting<String>,
    /// MCP servers by name, besides the bundled `social`, which one of that name replaces.
    pub mcp_servers: BTreeMap<String, Setting<ServerConfig>>,
    /// The configuration file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// What the command line says; none where it says nothing.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--workers`
    pub workers: Option<usize>,
    /// `--planner-id`
    pub planner_id: Option<String>,
    /// `--store`
    pub store: Option<String>,
    /// `--role`
    pub roles: Option<String>,
    /// `--log`
    pub log: Option<String>,
}

/// A configuration that cannot be used: where it is wrong and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read, or it cannot be told whether it is there.
    #[error("the configuration file {} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not the TOML that is expected.
    #[error("{}: {message}", place(path, *line))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// A value that is not allowed.
    #[error("{name} ({from}): {problem}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// Where it came from.
        from: Source,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// The platform names no folder for a user's data.
    #[error("there is no home folder to keep data in: say where with --data-dir or CHIMERA_DATA_DIR")]
    NoHome,
}

fn place(path: &Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("{}, line {line}", path.display()),
        None => path.display().to_string(),
    }
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    workers: Option<usize>,
    planner_id: Option<String>,
    store: Option<String>,
    roles: Option<Vec<String>>,
    redis: Option<String>,
    redis_backup: Option<String>,
    weaviate: Option<String>,
    embeddings: Option<String>,
    embeddings_endpoint: Option<EndpointSection>,
    sandbox_confinement: Option<String>,
    log: Option<String>,
    #[serde(default)]
    mcp: McpSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointSection {
    base: String,
    model: String,
    dimensions: usize,
    key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct McpSection {
    #[serde(default)]
    servers: BTreeMap<String, ServerConfig>,
}

impl Config {
    /// Reads the file and the environment and lets the flags have the last word.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, variable or flag and what to write instead.
    pub fn load(flags: Flags) -> Result<Self, ConfigError> {
        Self::load_with(flags, |name| std::env::var_os(name))
    }

    /// As [`Config::load`], with the environment as a parameter.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(flags: Flags, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let environment = Environment(&environment);
        let named_file = match flags.config {
            Some(path) => Some(path),
            None => environment.path("CHIMERA_CONFIG"),
        };
        let mut early = match &named_file {
            Some(path) => Some(read_file(path)?),
            None => None,
        };
        let data_dir = choose_data_dir(flags.data_dir, &environment, named_file.as_deref(), early.as_mut())?;
        let path = named_file.clone().unwrap_or_else(|| data_dir.value.join(FILE_NAME));
        let file = match early {
            Some(file) => Some(file),
            None => read_file_if_there(&path)?,
        };
        if named_file.is_none() && file.as_ref().is_some_and(|file| file.data_dir.is_some()) {
            return Err(ConfigError::Invalid {
                name: "data_dir",
                from: Source::File(path),
                problem:
                    "cannot be set in the file inside the data folder; use --data-dir, CHIMERA_DATA_DIR or --config"
                        .to_owned(),
            });
        }
        let read = file.is_some().then(|| path.clone());
        let file = file.unwrap_or_default();
        let layers = Layers { path: &path, environment: &environment };
        let store = layers.store(flags.store, file.store)?;
        let roles = layers.roles(flags.roles, file.roles, &store)?;
        let redis = layers.redis("redis", "CHIMERA_REDIS", file.redis, &store)?;
        let redis_backup = layers.redis("redis_backup", "CHIMERA_REDIS_BACKUP", file.redis_backup, &store)?;
        if let (None, Some(Setting { source, .. })) = (&redis, &redis_backup) {
            let problem = "stands in for a server that is not named; set `redis` or CHIMERA_REDIS too".to_owned();
            return Err(ConfigError::Invalid { name: "redis_backup", from: source.clone(), problem });
        }
        Ok(Self {
            data_dir,
            store,
            roles,
            redis,
            redis_backup,
            weaviate: layers.weaviate(file.weaviate)?,
            embeddings: layers.embeddings(file.embeddings, file.embeddings_endpoint)?,
            listen: layers.listen(flags.listen, file.listen)?,
            workers: layers.workers(flags.workers, file.workers)?,
            planner_id: layers.planner_id(flags.planner_id, file.planner_id)?,
            sandbox_confinement: layers.confinement(file.sandbox_confinement)?,
            log: layers
                .text("log", "CHIMERA_LOG", flags.log, file.log)?
                .unwrap_or(Setting::default(DEFAULT_LOG.into())),
            mcp_servers: layers.servers(file.mcp.servers)?,
            file: read,
        })
    }

    /// Defaults for everything but the data folder.
    #[cfg(test)]
    pub(crate) fn for_data_dir(data_dir: PathBuf) -> Self {
        Self {
            data_dir: Setting::flag(data_dir, "data-dir"),
            listen: Setting::default(DEFAULT_LISTEN),
            workers: Setting::default(default_workers()),
            planner_id: Setting::default(DEFAULT_PLANNER.to_owned()),
            store: Setting::default(Store::Sqlite),
            roles: Setting::default(Roles::all()),
            redis: None,
            redis_backup: None,
            weaviate: None,
            embeddings: Setting::default(Embeddings::Auto),
            sandbox_confinement: Setting::default(Confinement::default()),
            log: Setting::default(DEFAULT_LOG.to_owned()),
            mcp_servers: BTreeMap::new(),
            file: None,
        }
    }

    /// Each setting's name, value and source, for people.
    pub fn describe(&self) -> Vec<(String, String, String)> {
        fn row<T>(name: &str, setting: &Setting<T>, shown: impl fmt::Display) -> (String, String, String) {
            (name.to_owned(), shown.to_string(), setting.source.to_string())
        }
        let mut rows = vec![
            row("data_dir", &self.data_dir, self.data_dir.value.display()),
            row("listen", &self.listen, self.listen.value),
            row("workers", &self.workers, self.workers.value),
            row("planner_id", &self.planner_id, &self.planner_id.value),
            row("store", &self.store, &self.store.value),
            row("roles", &self.roles, &self.roles.value),
            row("sandbox_confinement", &self.sandbox_confinement, self.sandbox_confinement.value.name()),
            row("log", &self.log, &self.log.value),
        ];
        rows.push(row("embeddings", &self.embeddings, &self.embeddings.value));
        let servers = [("redis", &self.redis), ("redis_backup", &self.redis_backup), ("weaviate", &self.weaviate)];
        for (name, server) in servers {
            rows.extend(server.as_ref().map(|setting| row(name, setting, &setting.value)));
        }
        rows.extend(self.mcp_servers.iter().map(|(name, server)| {
            // Not the whole value: a server's environment may hold secrets.
            row(&format!("mcp.servers.{name}"), server, server.value.command.display())
        }));
        rows
    }

    /// Where a running server says how to reach it.
    pub fn server_file(&self) -> PathBuf {
        self.data_dir.value.join("server.json")
    }

    /// Where the operator's token is.
    pub fn token_file(&self) -> PathBuf {
        self.data_dir.value.join("operator.token")
    }
}

/// A task mostly waits, for commits and for what it calls; guests that compute share the cores whatever this is.
fn default_workers() -> usize {
    (4 * std::thread::available_parallelism().map_or(2, std::num::NonZero::get)).clamp(4, 64)
}

struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    /// Empty counts as not set.
    fn path(&self, name: &'static str) -> Option<PathBuf> {
        (self.0)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn text(&self, setting: &'static str, name: &'static str) -> Result<Option<Setting<String>>, ConfigError> {
        let Some(value) = (self.0)(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let from = Source::Environment(name);
        match value.into_string() {
            Ok(value) => Ok(Some(Setting { value, source: from })),
            Err(_) => Err(ConfigError::Invalid { name: setting, from, problem: "is not UTF-8".to_owned() }),
        }
    }
}

fn choose_data_dir(
    flag: Option<PathBuf>,
    environment: &Environment<'_>,
    file_path: Option<&Path>,
    file: Option<&mut File>,
) -> Result<Setting<PathBuf>, ConfigError> {
    let from_file = file.and_then(|file| file.data_dir.take()).zip(file_path);
    let setting = if let Some(value) = flag {
        Setting { value, source: Source::Flag("data-dir") }
    } else if let Some(value) = environment.path("CHIMERA_DATA_DIR") {
        Setting { value, source: Source::Environment("CHIMERA_DATA_DIR") }
    } else if let Some((value, path)) = from_file {
        // Relative to the file, so that it means the same wherever the command is run.
        let value = path.parent().map_or_else(|| value.clone(), |folder| folder.join(&value));
        Setting { value, source: Source::File(path.to_owned()) }
    } else {
        let folders = directories::ProjectDirs::from("", "", "chimera").ok_or(ConfigError::NoHome)?;
        Setting::default(folders.data_dir().to_owned())
    };
    let value = std::path::absolute(&setting.value).map_err(|error| ConfigError::Invalid {
        name: "data_dir",
        from: setting.source.clone(),
        problem: format!("`{}` cannot be used: {error}", setting.value.display()),
    })?;
    Ok(Setting { value, source: setting.source })
}

fn read_file_if_there(path: &Path) -> Result<Option<File>, ConfigError> {
    match read_file(path) {
        Ok(file) => Ok(Some(file)),
        Err(ConfigError::Unreadable { error, .. }) if is_absent(path, &error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// No such file, or no such folder yet (the platform's start says more about an odd data folder than this could). What
/// is there and cannot be read is not absent: with the defaults instead, other MCP servers would run than the operator
/// said. That includes a link to nowhere.
fn is_absent(path: &Path, error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        && path.symlink_metadata().is_err()
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let malformed = |message| ConfigError::Malformed { path: path.to_owned(), line: None, message };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Not by the size that is told: a pipe tells none.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(malformed(format!("is too large; at most {MAX_FILE_BYTES} bytes are read")));
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed("is not UTF-8".to_owned()))?;
    toml::from_str(&text).map_err(|error| ConfigError::Malformed {
        path: path.to_owned(),
        line: error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1),
        message: error.message().to_owned(),
    })
}

/// The layers above the defaults.
struct Layers<'a> {
    path: &'a Path,
    environment: &'a Environment<'a>,
}

impl Layers<'_> {
    fn text(
        &self,
        setting: &'static str,
        variable: &'static str,
        flag: Option<String>,
        file: Option<String>,
    ) -> Result<Option<Setting<String>>, ConfigError> {
        if let Some(value) = flag {
            return Ok(Some(Setting { value, source: Source::Flag(setting) }));
        }
        if let Some(found) = self.environment.text(setting, variable)? {
            return Ok(Some(found));
        }
        Ok(file.map(|value| Setting { value, source: Source::File(self.path.to_owned()) }))
    }

    fn listen(&self, flag: Option<String>, file: Option<String>) -> Result<Setting<SocketAddr>, ConfigError> {
        match self.text("listen", "CHIMERA_LISTEN", flag, file)? {
            Some(found) => parse_listen(found),
            None => Ok(Setting::default(DEFAULT_LISTEN)),
        }
    }

    fn workers(&self, flag: Option<usize>, file: Option<usize>) -> Result<Setting<usize>, ConfigError> {
        let setting = if let Some(value) = flag {
            Setting::flag(value, "workers")
        } else if let Some(found) = self.environment.text("workers", "CHIMERA_WORKERS")? {
            let value = found.value.parse().map_err(|_| ConfigError::Invalid {
                name: "workers",
                from: found.source.clone(),
                problem: format!("`{}` is not a number; write 1 to {MAX_WORKERS}", found.value),
            })?;
            Setting { value, source: found.source }
        } else if let Some(value) = file {
            Setting { value, source: Source::File(self.path.to_owned()) }
        } else {
            Setting::default(default_workers())
        };
        if (1..=MAX_WORKERS).contains(&setting.value) {
            return Ok(setting);
        }
        Err(ConfigError::Invalid {
            name: "workers",
            from: setting.source,
            problem: format!("{} is not possible; write 1 to {MAX_WORKERS}", setting.value),
        })
    }

    fn planner_id(&self, flag: Option<String>, file: Option<String>) -> Result<Setting<String>, ConfigError> {
        let setting = self
            .text("planner-id", "CHIMERA_PLANNER_ID", flag, file)?
            .unwrap_or(Setting::default(DEFAULT_PLANNER.to_owned()));
        if is_kebab_word(&setting.value) {
            return Ok(setting);
        }
        Err(ConfigError::Invalid {
            name: "planner_id",
            from: setting.source,
            problem: format!("`{}` is not a shard's name: write 1 to 64 of a-z, 0-9 and `-`", setting.value),
        })
    }

    fn store(&self, flag: Option<String>, file: Option<String>) -> Result<Setting<Store>, ConfigError> {
        let Some(Setting { value, source }) = self.text("store", "CHIMERA_STORE", flag, file)? else {
            return Ok(Setting::default(Store::Sqlite));
        };
        let value = match value.as_str() {
            "sqlite" => Store::Sqlite,
            address => {
                let example = "postgres://user:password@host:5432/database, or sqlite";
                let address = Address::parse(address, &["postgres", "postgresql"], example);
                Store::Postgres(address.map_err(|problem| ConfigError::Invalid {
                    name: "store",
                    from: source.clone(),
                    problem,
                })?)
            }
        };
        Ok(Setting { value, source })
    }

    fn roles(
        &self,
        flag: Option<String>,
        file: Option<Vec<String>>,
        store: &Setting<Store>,
    ) -> Result<Setting<Roles>, ConfigError> {
        let Some(Setting { value, source }) =
            self.text("role", "CHIMERA_ROLES", flag, file.map(|all| all.join(",")))?
        else {
            return Ok(Setting::default(Roles::all()));
        };
        let invalid = |problem| ConfigError::Invalid { name: "roles", from: source.clone(), problem };
        let value = Roles::parse(&value).map_err(invalid)?;
        if value != Roles::all() && store.value == Store::Sqlite {
            return Err(invalid(format!(
                "`{value}` leaves something to other processes, and only this one can use a data folder's own database; \
                 write all, or name a PostgreSQL server that they share with --store or CHIMERA_STORE"
            )));
        }
        Ok(Setting { value, source })
    }

    fn redis(
        &self,
        name: &'static str,
        variable: &'static str,
        file: Option<String>,
        store: &Setting<Store>,
    ) -> Result<Option<Setting<Address>>, ConfigError> {
        let Some(Setting { value, source }) = self.text(name, variable, None, file)? else { return Ok(None) };
        let invalid = |problem| ConfigError::Invalid { name, from: source.clone(), problem };
        if store.value == Store::Sqlite {
            return Err(invalid(
                "is of no use to a process that works alone; name the PostgreSQL server that several share with \
                 CHIMERA_STORE too"
                    .to_owned(),
            ));
        }
        let example = "redis://:password@host:6379/0";
        let value = Address::parse(&value, &["redis", "rediss"], example).map_err(invalid)?;
        Ok(Some(Setting { value, source }))
    }

    fn weaviate(&self, file: Option<String>) -> Result<Option<Setting<Address>>, ConfigError> {
        let Some(Setting { value, source }) = self.text("weaviate", "CHIMERA_WEAVIATE", None, file)? else {
            return Ok(None);
        };
        let value = Address::parse(&value, &["http", "https"], "http://:key@host:8080");
        let invalid = |problem| ConfigError::Invalid { name: "weaviate", from: source.clone(), problem };
        Ok(Some(Setting { value: value.map_err(invalid)?, source }))
    }

    fn embeddings(
        &self,
        file: Option<String>,
        endpoint: Option<EndpointSection>,
    ) -> Result<Setting<Embeddings>, ConfigError> {
        let key = self.environment.text("embeddings_endpoint.key", "CHIMERA_EMBEDDINGS_KEY")?;
        let Some(Setting { value, source }) = self.text("embeddings", "CHIMERA_EMBEDDINGS", None, file)? else {
            return Ok(Setting::default(Embeddings::Auto));
        };
        let value = match (value.as_str(), endpoint) {
            ("auto", _) => Embeddings::Auto,
            ("lexical", _) => Embeddings::Lexical,
            ("minilm", _) => Embeddings::MiniLm,
            ("endpoint", Some(section)) => {
                let options = EndpointOptions::new(section.base, section.model, section.dimensions);
                Embeddings::Endpoint(EndpointOptions { key: key.map(|key| key.value).or(section.key), ..options })
            }
            (other, endpoint) => {
                let problem = match (other, endpoint) {
                    ("endpoint", None) => {
                        "which one is not said; add a table [embeddings_endpoint] with base, model and dimensions"
                            .to_owned()
                    }
                    _ => format!("`{other}` is none; write auto, lexical, minilm or endpoint"),
                };
                return Err(ConfigError::Invalid { name: "embeddings", from: source, problem });
            }
        };
        Ok(Setting { value, source })
    }

    fn confinement(&self, file: Option<String>) -> Result<Setting<Confinement>, ConfigError> {
        let Some(found) = self.text("sandbox_confinement", "CHIMERA_SANDBOX_CONFINEMENT", None, file)? else {
            return Ok(Setting::default(Confinement::default()));
        };
        match Confinement::parse(&found.value) {
            Some(value) => Ok(Setting { value, source: found.source }),
            None => Err(ConfigError::Invalid {
                name: "sandbox_confinement",
                from: found.source,
                problem: format!("`{}` is none; write where-known, required or limits-only", found.value),
            }),
        }
    }

    fn servers(
        &self,
        servers: BTreeMap<String, ServerConfig>,
    ) -> Result<BTreeMap<String, Setting<ServerConfig>>, ConfigError> {
        let from = || Source::File(self.path.to_owned());
        let mut settings = BTreeMap::new();
        for (name, server) in servers {
            let value = ServerConfig { name: name.clone(), ..server };
            // The catalog is what checks a server; this one is thrown away.
            ServerCatalog::new().add(value.clone()).map_err(|error| ConfigError::Invalid {
                name: "mcp.servers",
                from: from(),
                problem: error.to_string(),
            })?;
            settings.insert(name, Setting { value, source: from() });
        }
        Ok(settings)
    }
}

fn parse_listen(setting: Setting<String>) -> Result<Setting<SocketAddr>, ConfigError> {
    let Setting { value: text, source } = setting;
    let invalid = |problem: String| ConfigError::Invalid { name: "listen", from: source.clone(), problem };
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.clone(),
    };
    let address: SocketAddr = numeric
        .parse()
        .map_err(|_| invalid(format!("`{text}` is not an address; write for example 127.0.0.1:7700")))?;
    if !address.ip().is_loopback() {
        return Err(invalid(format!(
            "`{text}` is reachable from other machines, and this server is for its own machine only; write 127.0.0.1:{}",
            address.port()
        )));
    }
    Ok(Setting { value: address, source })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
