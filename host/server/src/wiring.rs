//! Puts the rooms together into one process: truth, blobs, sandbox, index, registry, gateway, agents.
//!
//! The only place that knows which implementation stands behind a port. It decides nothing about tasks or skills. Called
//! by `serve`, the demo and the API's tests.

use crate::api::metrics::EventCounts;
use crate::config::{Config, Embeddings};
use crate::stores::{News, Stores};
use chimera_agents::judge::Judge;
use chimera_agents::judge::hitl::Hitl;
use chimera_agents::planner::scheduler::Scheduler;
use chimera_agents::swarm::{Swarm, SwarmDeps, SwarmHandle};
use chimera_agents::worker::replay::Replayer;
use chimera_core::clock::Clock;
use chimera_core::ids::{IdSource, SystemIds};
use chimera_core::ports::{Deny, PortError, Queue, RateLimits, SkillIndex, Truth};
use chimera_core::records::AgentRole;
use chimera_index::{Embeddings as IndexEmbeddings, IndexError, IndexOptions, Indexes, WeaviateOptions};
use chimera_mcp::{CatalogError, Gateway, Idempotency, ServerCatalog, ServerConfig};
use chimera_registry::{FolderBlobs, Registry};
use chimera_sandbox::{Compiler, Sandbox, SandboxConfig, SandboxError};
use chimera_store::StoreError;
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
    /// How often agents may call.
    pub rates: Arc<dyn RateLimits>,
    /// What has happened in this process.
    pub events: Arc<EventCounts>,
    /// What this process does and what others tell, as it happens.
    pub news: News,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where new ids come from.
    pub ids: Arc<dyn IdSource>,
    /// The index of skills.
    pub index: Arc<dyn SkillIndex>,
    /// All indexes, to fill again and to ask how they are.
    pub indexes: Indexes,
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

impl Handles {
    /// Whether tasks are run in this process.
    pub fn works(&self) -> bool {
        self.config.roles.value.agents.contains(&AgentRole::Worker)
    }
}

/// Everything that runs.
pub struct Platform {
    handles: Handles,
    stores: Stores,
    swarm: SwarmHandle,
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
    /// The model or the settings of the indexes cannot be used.
    #[error("the indexes cannot be opened: {0}")]
    Index(#[from] IndexError),
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
        let stores = Stores::open(&config).await?;
        match Self::start_on(config, &data_dir, &stores).await {
            Ok((handles, swarm)) => Ok(Self { handles, stores, swarm }),
            Err(error) => {
                stores.close().await;
                Err(error)
            }
        }
    }

    async fn start_on(config: Config, data_dir: &Path, stores: &Stores) -> Result<(Handles, SwarmHandle), StartError> {
        let executable = crate::executable::this_program().map_err(StartError::NoExecutable)?;
        let catalog = server_catalog(&config, &executable, data_dir)?;
        let fleet = stores.fleet(data_dir)?;
        let (truth, queue) = (stores.truth(), stores.queue());
        let events = EventCounts::start(truth.as_ref());
        let clock = stores.clock();
        let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
        let folder =
            FolderBlobs::open(data_dir.join("blobs")).map_err(|error| port("opening the skills' folder", error))?;
        let blobs = stores.blobs(folder);
        let sandbox = start_sandbox(&config, data_dir, executable).await?;
        let indexes = Indexes::open(index_options(&config)?).await?;
        let (index, memory) = (indexes.skills(), indexes.memory());
        let registry =
            Arc::new(Registry::new(truth.clone(), blobs, sandbox.clone(), index.clone(), clock.clone(), ids.clone()));
        fill_indexes(&indexes, truth.as_ref()).await?;
        let gateway = Gateway::new(truth.clone(), clock.clone(), ids.clone(), &catalog);
        let swarm = Swarm::start(SwarmDeps {
            truth: truth.clone(),
            queue: queue.clone(),
            registry: registry.clone(),
            sandbox: sandbox.clone(),
            gateway: Arc::new(gateway.clone()),
            skill_index: index.clone(),
            memory_index: memory,
            scratch: stores.scratch(),
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
        stores.watch_queue(swarm.scheduler());
        let replayer = Replayer::new(truth.clone(), registry.clone(), sandbox);
        let handles = Handles {
            config: Arc::new(config),
            truth,
            queue,
            rates: stores.rates(),
            events,
            news: stores.news(),
            clock,
            ids,
            index,
            indexes,
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
        self.stores.close().await;
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

/// What the indexes are made of: with the language model if it is there, unless something else is asked for.
fn index_options(config: &Config) -> Result<IndexOptions, StartError> {
    let folder = crate::cli::model_folder(config);
    let embeddings = match &config.embeddings.value {
        Embeddings::Auto if folder.join("model.safetensors").is_file() => IndexEmbeddings::MiniLm { folder },
        Embeddings::Auto | Embeddings::Lexical => IndexEmbeddings::Lexical,
        Embeddings::MiniLm => IndexEmbeddings::MiniLm { folder },
        Embeddings::Endpoint(endpoint) => IndexEmbeddings::Endpoint(endpoint.clone()),
    };
    let is_model = !matches!(embeddings, IndexEmbeddings::Lexical);
    let weaviate = config.weaviate.as_ref().map(|setting| WeaviateOptions::new(setting.value.secret())).transpose();
    Ok(IndexOptions {
        embeddings,
        vectors_file: is_model.then(|| config.data_dir.value.join("vectors")),
        weaviate: weaviate.map_err(IndexError::from)?,
    })
}

/// The indexes are copies: they are filled from the truth at every start.
async fn fill_indexes(indexes: &Indexes, truth: &dyn Truth) -> Result<(), StartError> {
    let filled = indexes.rebuild(truth).await.map_err(|error| port("filling the indexes", error))?;
    tracing::info!(skills = filled.skills, memories = filled.memories, "the indexes are filled");
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
