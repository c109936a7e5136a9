//! Puts the rooms together into one process: truth, blobs, sandbox, index, registry, gateway, agents.
//!
//! The only place that knows which implementation stands behind a port. It decides nothing about tasks or skills. Called
//! by `serve`, the demo and the API's tests.

use crate::config::{Config, Store};
use chimera_agents::fleet::Fleet;
use chimera_agents::judge::Judge;
use chimera_agents::judge::hitl::Hitl;
use chimera_agents::planner::scheduler::Scheduler;
use chimera_agents::swarm::{Swarm, SwarmDeps, SwarmHandle};
use chimera_agents::worker::replay::Replayer;
use chimera_core::clock::{Clock, SystemClock};
use chimera_core::ids::{IdSource, SystemIds};
use chimera_core::ports::{Blobs, Deny, MemoryIndex, PortError, Queue, SkillIndex, Truth};
use chimera_index::{LexicalIndex, LexicalMemory};
use chimera_mcp::{CatalogError, Gateway, Idempotency, ServerCatalog, ServerConfig};
use chimera_registry::{FolderBlobs, LayeredBlobs, Registry};
use chimera_sandbox::{Compiler, Sandbox, SandboxConfig, SandboxError};
use chimera_store::{
    FolderLock, MemoryQueue, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, StoreError, claim_folder,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the bundled MCP server.
pub const SOCIAL: &str = "social";

/// The platform's rooms, for those who ask them. Cheap to clone.
#[derive(Clone)]
pub struct Handles {
    /// What the process was told.
    pub config: Arc<Config>,
    /// The truth.
    pub truth: Arc<dyn Truth>,
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where new ids come from.
    pub ids: Arc<dyn IdSource>,
    /// The index of skills.
    pub index: Arc<dyn SkillIndex>,
    /// The registry.
    pub registry: Arc<Registry>,
    /// The gateway to the MCP servers.
    pub gateway: Gateway,
    /// What turns events into changes.
    pub scheduler: Scheduler,
    /// What judges finished tasks.
    pub judge: Judge,
    /// What carries out a human's answers.
    pub hitl: Hitl,
    /// What runs tasks again from their journals.
    pub replayer: Replayer,
}

/// Everything that runs.
pub struct Platform {
    handles: Handles,
    store: OpenStore,
    swarm: SwarmHandle,
}

/// The truth, wherever it is.
enum OpenStore {
    /// In the data folder.
    Sqlite(SqliteStore),
    /// On a server; the data folder is this process's all the same.
    Postgres { store: PostgresStore, _lock: FolderLock },
}

impl OpenStore {
    async fn open(config: &Config) -> Result<Self, StoreError> {
        let data_dir = &config.data_dir.value;
        match &config.store.value {
            Store::Sqlite => Ok(Self::Sqlite(SqliteStore::open(SqliteOptions::new(data_dir)).await?)),
            Store::Postgres(address) => {
                let lock = claim_folder(data_dir)?;
                let store = PostgresStore::open(PostgresOptions::new(address.secret())).await?;
                Ok(Self::Postgres { store, _lock: lock })
            }
        }
    }

    fn truth(&self) -> Arc<dyn Truth> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres { store, .. } => Arc::new(store.clone()),
        }
    }

    fn queue(&self) -> Arc<dyn Queue> {
        match self {
            Self::Sqlite(_) => Arc::new(MemoryQueue::new()),
            Self::Postgres { store, .. } => Arc::new(store.queue()),
        }
    }

    /// The skills' bytes, in a folder that is this process's, and for all where the truth is.
    fn blobs(&self, folder: FolderBlobs) -> Arc<dyn Blobs> {
        match self {
            Self::Sqlite(_) => Arc::new(folder),
            Self::Postgres { store, .. } => Arc::new(LayeredBlobs::new(folder, Arc::new(store.clone()))),
        }
    }

    fn fleet(&self, data_dir: &Path) -> Result<Fleet, StartError> {
        match self {
            Self::Sqlite(_) => Ok(Fleet::Alone),
            Self::Postgres { .. } => Ok(Fleet::Shared { node: node(data_dir)? }),
        }
    }

    async fn close(self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres { store, .. } => store.close().await,
        }
    }
}

/// What this process's agents are told from others' by: drawn once for a data folder, which is one process's at a time.
fn node(data_dir: &Path) -> Result<String, StartError> {
    let path = data_dir.join("node");
    let unusable = |error: std::io::Error| StartError::Node { path: path.clone(), error };
    match std::fs::read_to_string(&path) {
        Ok(text) if is_node(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| unusable(std::io::Error::other(error)))?;
    let drawn = hex::encode(bytes);
    crate::auth::write_private(&path, &format!("{drawn}\n")).map_err(unusable)?;
    Ok(drawn)
}

fn is_node(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A platform that could not be started; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder is locked, unreadable, damaged or too new.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sandbox cannot be built.
    #[error("the sandbox cannot be started: {0}")]
    Sandbox(#[from] SandboxError),
    /// A room failed on what is stored.
    #[error("{what} failed: {error}; check the data folder's disk and permissions")]
    Port {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: PortError,
    },
    /// A configured MCP server cannot be used.
    #[error("the MCP servers cannot be used: {0}; mend chimera.toml")]
    Servers(#[from] CatalogError),
    /// The agents did not start.
    #[error("the agents cannot be started: {0}")]
    Agents(String),
    /// The process cannot tell itself from others.
    #[error("{} cannot be used: {error}; make the data folder writable for this user", path.display())]
    Node {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The program does not know where it is itself.
    #[error("this program's own path is not known: {0}; start it by its full path")]
    NoExecutable(std::io::Error),
}

impl Platform {
    /// Starts everything on the configured data folder.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let data_dir = config.data_dir.value.clone();
        let store = OpenStore::open(&config).await?;
        match Self::start_on(config, &data_dir, &store).await {
            Ok((handles, swarm)) => Ok(Self { handles, store, swarm }),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    async fn start_on(
        config: Config,
        data_dir: &Path,
        store: &OpenStore,
    ) -> Result<(Handles, SwarmHandle), StartError> {
        let executable = crate::executable::this_program().map_err(StartError::NoExecutable)?;
        let catalog = server_catalog(&config, &executable, data_dir)?;
        let fleet = store.fleet(data_dir)?;
        let (truth, queue) = (store.truth(), store.queue());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
        let folder =
            FolderBlobs::open(data_dir.join("blobs")).map_err(|error| port("opening the skills' folder", error))?;
        let blobs = store.blobs(folder);
        let sandbox = start_sandbox(&config, data_dir, executable).await?;
        let index: Arc<dyn SkillIndex> = Arc::new(LexicalIndex::new());
        let memory: Arc<dyn MemoryIndex> = Arc::new(LexicalMemory::new());
        let registry =
            Arc::new(Registry::new(truth.clone(), blobs, sandbox.clone(), index.clone(), clock.clone(), ids.clone()));
        fill_indexes(&registry, truth.as_ref(), memory.as_ref()).await?;
        let gateway = Gateway::new(truth.clone(), clock.clone(), ids.clone(), &catalog);
        let swarm = Swarm::start(SwarmDeps {
            truth: truth.clone(),
            queue: queue.clone(),
            registry: registry.clone(),
            sandbox: sandbox.clone(),
            gateway: Arc::new(gateway.clone()),
            skill_index: index.clone(),
            memory_index: memory,
            // No secret can be configured yet, so none exists.
            secrets: Arc::new(Deny),
            clock: clock.clone(),
            ids: ids.clone(),
            workers: config.workers.value,
            planner_id: config.planner_id.value.clone(),
            roles: config.roles.value.agents.clone(),
            fleet,
        })
        .await
        .map_err(|error| StartError::Agents(error.to_string()))?;
        let replayer = Replayer::new(truth.clone(), registry.clone(), sandbox);
        let handles = Handles {
            config: Arc::new(config),
            truth,
            queue,
            clock,
            ids,
            index,
            registry,
            gateway,
            scheduler: swarm.scheduler().clone(),
            judge: swarm.judge().clone(),
            hitl: swarm.hitl().clone(),
            replayer,
        };
        Ok((handles, swarm))
    }

    /// The rooms.
    pub fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Stops the agents, then the MCP servers, then the store. What was running is taken up at the next start.
    pub async fn shutdown(self) {
        self.swarm.shutdown().await;
        self.handles.gateway.shutdown().await;
        self.store.close().await;
    }
}

fn port(what: &'static str, error: PortError) -> StartError {
    StartError::Port { what, error }
}

/// Building the engine takes a while: not on the runtime's own threads.
async fn start_sandbox(config: &Config, data_dir: &Path, executable: PathBuf) -> Result<Sandbox, StartError> {
    let config = SandboxConfig {
        cache_dir: Some(data_dir.join("cache")),
        compiler: Compiler::Child(executable),
        confinement: config.sandbox_confinement.value,
        ..SandboxConfig::default()
    };
    chimera_sandbox::give_memory_back();
    let built = tokio::task::spawn_blocking(move || Sandbox::new(config)).await;
    match built {
        Ok(built) => Ok(built?),
        Err(error) => Err(StartError::Agents(error.to_string())),
    }
}

/// The indexes live in memory: they are filled from the truth at every start.
async fn fill_indexes(registry: &Registry, truth: &dyn Truth, memory: &dyn MemoryIndex) -> Result<(), StartError> {
    let skills = registry.rebuild_index().await.map_err(|error| port("filling the index of skills", error))?;
    let items = truth.memory(None).await.map_err(|error| port("reading the agents' memory", error))?;
    for item in &items {
        if let Err(error) = memory.put(item).await {
            tracing::error!(item = %item.id, %error, "a memory cannot be found until the next start");
        }
    }
    tracing::info!(skills, memories = items.len(), "the indexes are filled");
    Ok(())
}

/// The configured servers, and `social` unless one of that name is configured.
fn server_catalog(config: &Config, executable: &Path, data_dir: &Path) -> Result<ServerCatalog, CatalogError> {
    let mut catalog = ServerCatalog::new();
    let mut social = ServerConfig::new(SOCIAL, executable);
    let state = data_dir.join("social.json").display().to_string();
    social.args = ["mcp", "serve", SOCIAL, "--state"].map(str::to_owned).into_iter().chain([state]).collect();
    social.idempotency = Idempotency::Argument("idempotency_key".to_owned());
    catalog.add(social)?;
    for server in config.mcp_servers.values() {
        catalog.add(server.value.clone())?;
    }
    Ok(catalog)
}
