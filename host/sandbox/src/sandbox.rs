//! The sandbox itself: one engine, one linker a world, and the components prepared so far.
//!
//! Preparing happens once a component, however many ask at once: in memory, else from the authenticated disk cache, else
//! compiled. It never keeps a failed one. Called by the executor, the registry, the judge and the CLI.

use crate::admission::Places;
use crate::cache::{DiskCache, Entry};
use crate::compile;
use crate::config::{SandboxConfig, SandboxError};
use crate::engine;
use crate::link::Linkers;
use crate::prepared::Prepared;
use crate::progress::{CompileStage, Compiling, Progress};
use crate::resident::Leaving;
use crate::threads::GuestThreads;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, LimitReached, codes};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Runs skills. Clones are the same sandbox.
#[derive(Clone)]
pub struct Sandbox(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: SandboxConfig,
    pub(crate) engine: Engine,
    linkers: Linkers,
    cache: Option<DiskCache>,
    pub(crate) prepared: Mutex<Recent>,
    /// Components on their way from the disk cache.
    loads: Mutex<HashMap<Digest, Load>>,
    /// Components on their way from their bytes.
    flights: Mutex<HashMap<Digest, Flight>>,
    /// Places for running guests.
    pub(crate) places: Places,
    lanes: Lanes,
    progress: Progress,
    threads: GuestThreads,
}

/// Compiling is heavy: one at a time leaves a core for everything else. But what takes a moment does not queue behind what
/// takes ten seconds.
struct Lanes {
    small: Semaphore,
    large: Semaphore,
}

impl Lanes {
    /// Components up to this size compile within a second or two.
    const SMALL: usize = 2 << 20;

    fn of(&self, bytes: usize) -> &Semaphore {
        if bytes <= Self::SMALL { &self.small } else { &self.large }
    }
}

type Flight = Shared<BoxFuture<'static, Result<Arc<Prepared>, Failure>>>;
type Load = Shared<BoxFuture<'static, Option<Arc<Prepared>>>>;

/// Prepared components, each with the time of its last use (a count).
#[derive(Default)]
pub(crate) struct Recent {
    entries: HashMap<Digest, (Arc<Prepared>, u64)>,
    now: u64,
    pub(crate) leaving: Leaving,
}

impl Recent {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Prepared>> {
        self.now += 1;
        let (prepared, used) = self.entries.get_mut(digest)?;
        *used = self.now;
        prepared.uses.touch();
        Some(prepared.clone())
    }

    /// Keeps a component, and lets those go that were not used for longest until at most so many, and so many bytes of
    /// machine code, are kept. The one that is wanted now stays, however large it is.
    fn put(&mut self, prepared: Arc<Prepared>, room: usize, room_bytes: u64) {
        self.now += 1;
        // A component that was loaded twice at once: the one before lives on in whoever was given it.
        if let Some((before, _)) = self.entries.insert(prepared.digest(), (prepared, self.now)) {
            self.leaving.put(&before);
        }
        let bytes = |entries: &HashMap<Digest, (Arc<Prepared>, u64)>| -> u64 {
            entries.values().map(|(prepared, _)| prepared.code_bytes()).sum()
        };
        while self.entries.len() > 1 && (self.entries.len() > room || bytes(&self.entries) > room_bytes) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| *digest);
            match oldest {
                Some(digest) => _ = self.forget(&digest),
                None => return,
            }
        }
    }

    pub(crate) fn forget(&mut self, digest: &Digest) -> bool {
        let Some((prepared, _)) = self.entries.remove(digest) else { return false };
        self.leaving.put(&prepared);
        true
    }

    pub(crate) fn all(&self) -> Vec<Arc<Prepared>> {
        self.entries.values().map(|(prepared, _)| prepared.clone()).collect()
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sandbox {
    /// Builds the engine, its pool and its linkers, and opens the disk cache.
    ///
    /// # Errors
    /// [`SandboxError`] when the pool's address space cannot be reserved or the cache folder cannot be used.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let engine = engine::runtime(&config)?;
        let linkers =
            Linkers::new(&engine).map_err(|e| SandboxError::engine(format!("the contract cannot be linked: {e:#}")))?;
        let cache = match &config.cache_dir {
            Some(folder) => Some(DiskCache::open(folder, &engine, config.max_compiled_bytes, config.max_cache_bytes)?),
            None => None,
        };
        Ok(Self(Arc::new(Inner {
            places: Places::new(engine::runs(&config), engine::callees(&config)),
            lanes: Lanes { small: Semaphore::new(1), large: Semaphore::new(1) },
            progress: Progress::default(),
            prepared: Mutex::default(),
            loads: Mutex::default(),
            flights: Mutex::default(),
            config,
            engine,
            linkers,
            cache,
            threads: GuestThreads::start()?,
        })))
    }

    /// Has a future run on the threads for guests, so that one that computes keeps nobody else from being served. For
    /// runs that go on beside other work; whoever waits for nothing but a run may do it on its own thread. Dropping the
    /// handle ends it.
    pub fn spawn<F>(&self, future: F) -> AbortOnDropHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.threads.spawn(future)
    }

    /// What it was built with.
    pub fn config(&self) -> &SandboxConfig {
        &self.0.config
    }

    /// Prepares a component: from memory, from the disk cache, or by compiling it. `digest` is the digest of `wasm`.
    ///
    /// The work goes on when the caller stops waiting, and everybody who asks for the same component waits for the same
    /// work.
    ///
    /// # Errors
    /// Permanent failures `compile-failed` (too large, not a valid component, not its digest, over the compiler's limits)
    /// and `link-failed` (exports no served world, or imports something that is not served).
    pub async fn prepare(&self, digest: &Digest, wasm: &[u8]) -> Result<Arc<Prepared>, Failure> {
        // What is cached under the digest was made from the bytes that have it: these here need not even be looked at.
        if let Some(prepared) = self.prepare_cached(digest).await {
            return Ok(prepared);
        }
        let max = self.0.config.max_component_bytes;
        if wasm.len() > max {
            let message = format!("the component is {} bytes; at most {max} are compiled", wasm.len());
            return Err(Failure::new(FailureKind::Permanent, codes::COMPILE, message));
        }
        self.flight(*digest, wasm).await
    }

    /// What is being compiled now, and how far it is.
    pub fn compiling(&self) -> Vec<Compiling> {
        self.0.progress.all()
    }

    /// The component, if it is prepared and in memory.
    pub fn prepared(&self, digest: &Digest) -> Option<Arc<Prepared>> {
        locked(&self.0.prepared).get(digest)
    }

    /// The component, if it is in memory or in the disk cache: no bytes needed.
    pub async fn prepare_cached(&self, digest: &Digest) -> Option<Arc<Prepared>> {
        if let Some(prepared) = self.prepared(digest) {
            return Some(prepared);
        }
        self.0.cache.as_ref()?;
        self.load(*digest).await
    }

    /// Everybody who asks for the same component waits for the same load.
    fn load(&self, digest: Digest) -> Load {
        let mut loads = locked(&self.0.loads);
        if let Some(load) = loads.get(&digest) {
            return load.clone();
        }
        // Weak: what waits in the map must not keep the map's owner alive when its runtime is gone.
        let (inner, outer) = (self.0.clone(), Arc::downgrade(&self.0));
        let work = tokio::task::spawn_blocking(move || inner.load_cached(&digest)?.ok().map(|found| inner.keep(found)));
        let load = work
            .map(move |joined| {
                if let Some(outer) = outer.upgrade() {
                    locked(&outer.loads).remove(&digest);
                }
                joined.ok().flatten()
            })
            .boxed()
            .shared();
        loads.insert(digest, load.clone());
        load
    }

    fn flight(&self, digest: Digest, wasm: &[u8]) -> Flight {
        let mut flights = locked(&self.0.flights);
        if let Some(flight) = flights.get(&digest) {
            return flight.clone();
        }
        let (inner, wasm) = (self.0.clone(), Arc::<[u8]>::from(wasm));
        let outer = Arc::downgrade(&self.0);
        let work = tokio::spawn(async move {
            let result = inner.load(digest, wasm).await;
            locked(&inner.flights).remove(&digest);
            result
        });
        let flight = work
            .map(move |joined| {
                joined.unwrap_or_else(|_| {
                    // It panicked and could not tidy up after itself: the next one to ask starts afresh.
                    if let Some(outer) = outer.upgrade() {
                        locked(&outer.flights).remove(&digest);
                    }
                    Err(Failure::new(FailureKind::Permanent, codes::COMPILE, "the compiler gave up on the component"))
                })
            })
            .boxed()
            .shared();
        flights.insert(digest, flight.clone());
        flight
    }
}

impl Inner {
    fn keep(&self, prepared: Prepared) -> Arc<Prepared> {
        let prepared = Arc::new(prepared);
        locked(&self.prepared).put(prepared.clone(), self.config.prepared_in_memory, self.config.prepared_bytes);
        prepared
    }

    async fn load(self: &Arc<Self>, digest: Digest, wasm: Arc<[u8]>) -> Result<Arc<Prepared>, Failure> {
        let telling = self.progress.begin(digest, wasm.len());
        let (inner, bytes) = (self.clone(), wasm.clone());
        let cached = blocking(move || {
            // Another flight may have landed since the caller looked.
            if let Some(loaded) = inner.load_cached(&digest) {
                return loaded.map(Some);
            }
            if Digest::of(&bytes) != digest {
                let message = format!("the bytes are not those of {digest}");
                return Err(Failure::new(FailureKind::Permanent, codes::COMPILE, message));
            }
            compile::validate(&bytes).map(|()| None)
        })
        .await?;
        if let Some(prepared) = cached {
            return Ok(self.keep(prepared));
        }
        telling.stage(CompileStage::Waiting);
        // The semaphores are never closed.
        let turn = self.lanes.of(wasm.len()).acquire().await;
        telling.stage(CompileStage::Compiling);
        let code = compile::compile(&self.engine, &self.config, wasm).await?;
        drop(turn);
        telling.stage(CompileStage::Keeping);
        let inner = self.clone();
        let prepared = blocking(move || {
            if let Some(Err(e)) = inner.cache.as_ref().map(|cache| cache.put(&digest, &code)) {
                tracing::warn!(%digest, "the compiled skill cannot be kept: {e}");
            }
            // A mapped file takes memory only for what is run of it, and the system may take that back: the code of a
            // stranger's skill may be a hundred times what it runs.
            inner.load_cached(&digest).unwrap_or_else(|| inner.link(digest, inner.load_compiled(&code)))
        })
        .await?;
        Ok(self.keep(prepared))
    }

    /// The component as the disk cache has it; none if it has none that can be used.
    fn load_cached(&self, digest: &Digest) -> Option<Result<Prepared, Failure>> {
        let entry = self.cache.as_ref()?.get(digest)?;
        Some(self.link(*digest, self.load_entry(&entry)))
    }

    fn link(&self, digest: Digest, loaded: wasmtime::Result<Component>) -> Result<Prepared, Failure> {
        let component = loaded.map_err(|e| {
            let permanent = |message| Failure::new(FailureKind::Permanent, codes::COMPILE, message);
            match engine::beyond_pool(&e) {
                Some((beyond, what)) => {
                    let LimitReached { name, max, used } = beyond;
                    permanent(format!("the component has {used} {what}; at most {max} are given"))
                        .limit(name, max, used)
                }
                None => permanent(format!("the compiled component cannot be loaded: {e:#}")),
            }
        })?;
        Prepared::new(&self.engine, &self.linkers, digest, &component)
    }

    #[expect(unsafe_code, reason = "loading machine code is unsafe by nature; there is no other way to load it")]
    fn load_compiled(&self, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: `code` must be what `Engine::precompile_component` made. It comes from this process or its compiling
        // child, a moment ago, and is a copy in memory that nobody else can change.
        unsafe { Component::deserialize(&self.engine, code) }
    }

    #[expect(unsafe_code, reason = "loading machine code is unsafe by nature; there is no other way to load it")]
    fn load_entry(&self, entry: &Entry) -> wasmtime::Result<Component> {
        // The name of the open descriptor, not of the file: what is mapped is what was verified. The tag behind the code
        // is no part of the ELF image and is ignored.
        let fd = entry.file.as_raw_fd();
        let path = if cfg!(target_os = "linux") { format!("/proc/self/fd/{fd}") } else { format!("/dev/fd/{fd}") };
        // SAFETY: the file must hold what `Engine::precompile_component` made, and must not change while it is mapped.
        // Its tag, made with a key that only this sandbox has, shows that it was written from the compiler's output for
        // this very engine and digest. It is a plain file without a second name, in a folder with mode 0700, owned and
        // writable by this user alone; this program replaces and removes entries, and never writes into one that has its
        // name.
        unsafe { Component::deserialize_file(&self.engine, path) }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Failure::new(FailureKind::Permanent, codes::COMPILE, "the component cannot be loaded: the loader gave up"))
    })
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("config", &self.0.config).finish_non_exhaustive()
    }
}
