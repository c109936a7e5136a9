//! The sandbox itself: one engine, one linker a world, and the components prepared so far.
//!
//! Preparing happens once a component, however many ask at once: in memory, else from the authenticated disk cache, else
//! compiled. It never keeps a failed one. Called by the executor, the registry, the judge and the CLI.

use crate::admission::Places;
use crate::cache::DiskCache;
use crate::compile;
use crate::config::{SandboxConfig, SandboxError};
use crate::engine;
use crate::link::Linkers;
use crate::prepared::Prepared;
use crate::resident::Leaving;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
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
    flights: Mutex<HashMap<Digest, Flight>>,
    /// Places for running guests.
    pub(crate) places: Places,
    /// Compiling is heavy: one at a time leaves a core for everything else.
    compiling: Semaphore,
}

type Flight = Shared<BoxFuture<'static, Result<Arc<Prepared>, Failure>>>;

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

    fn put(&mut self, prepared: Arc<Prepared>, room: usize) {
        self.now += 1;
        // A component that was loaded twice at once: the one before lives on in whoever was given it.
        if let Some((before, _)) = self.entries.insert(prepared.digest(), (prepared, self.now)) {
            self.leaving.put(&before);
        }
        while self.entries.len() > room.max(1) {
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
            compiling: Semaphore::new(1),
            prepared: Mutex::default(),
            flights: Mutex::default(),
            config,
            engine,
            linkers,
            cache,
        })))
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
        if let Some(prepared) = self.prepared(digest) {
            return Ok(prepared);
        }
        let max = self.0.config.max_component_bytes;
        if wasm.len() > max {
            let message = format!("the component is {} bytes; at most {max} are compiled", wasm.len());
            return Err(Failure::new(FailureKind::Permanent, codes::COMPILE, message));
        }
        self.flight(*digest, wasm).await
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
        let (inner, digest) = (self.0.clone(), *digest);
        let loading = tokio::task::spawn_blocking(move || inner.load_cached(&digest));
        match loading.await {
            Ok(Some(Ok(prepared))) => Some(self.0.keep(prepared)),
            _ => None,
        }
    }

    fn flight(&self, digest: Digest, wasm: &[u8]) -> Flight {
        let mut flights = locked(&self.0.flights);
        if let Some(flight) = flights.get(&digest) {
            return flight.clone();
        }
        let (inner, wasm) = (self.0.clone(), Arc::<[u8]>::from(wasm));
        let outer = self.0.clone();
        let work = tokio::spawn(async move {
            let result = inner.load(digest, wasm).await;
            locked(&inner.flights).remove(&digest);
            result
        });
        let flight = work
            .map(move |joined| {
                joined.unwrap_or_else(|_| {
                    // It panicked and could not tidy up after itself: the next one to ask starts afresh.
                    locked(&outer.flights).remove(&digest);
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
        locked(&self.prepared).put(prepared.clone(), self.config.prepared_in_memory);
        prepared
    }

    async fn load(self: &Arc<Self>, digest: Digest, wasm: Arc<[u8]>) -> Result<Arc<Prepared>, Failure> {
        let (inner, bytes) = (self.clone(), wasm.clone());
        let cached = blocking(move || {
            if Digest::of(&bytes) != digest {
                let message = format!("the bytes are not those of {digest}");
                return Err(Failure::new(FailureKind::Permanent, codes::COMPILE, message));
            }
            match inner.load_cached(&digest) {
                Some(loaded) => loaded.map(Some),
                None => compile::validate(&bytes).map(|()| None),
            }
        })
        .await?;
        if let Some(prepared) = cached {
            return Ok(self.keep(prepared));
        }
        // The semaphore is never closed.
        let _turn = self.compiling.acquire().await;
        let code = compile::compile(&self.engine, &self.config, wasm).await?;
        let inner = self.clone();
        let prepared = blocking(move || {
            if let Some(Err(e)) = inner.cache.as_ref().map(|cache| cache.put(&digest, &code)) {
                tracing::warn!(%digest, "the compiled skill cannot be kept: {e}");
            }
            inner.link(digest, &code)
        })
        .await?;
        Ok(self.keep(prepared))
    }

    /// The component as the disk cache has it; none if it has none that can be used.
    fn load_cached(&self, digest: &Digest) -> Option<Result<Prepared, Failure>> {
        let code = self.cache.as_ref()?.get(digest)?;
        Some(self.link(*digest, &code))
    }

    fn link(&self, digest: Digest, code: &[u8]) -> Result<Prepared, Failure> {
        let component = self.deserialize(code).map_err(|e| {
            Failure::new(
                FailureKind::Permanent,
                codes::COMPILE,
                format!("the compiled component cannot be loaded: {e:#}"),
            )
        })?;
        Prepared::new(&self.engine, &self.linkers, digest, &component)
    }

    #[expect(unsafe_code, reason = "loading machine code is unsafe by nature; there is no other way to load it")]
    fn deserialize(&self, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: `code` must be what `Engine::precompile_component` made. It comes from exactly two places: this
        // process or its compiling child, a moment ago; or the disk cache, which gives only bytes whose MAC, made with a
        // key that only this sandbox has, shows that it wrote them from one of the former for this very engine and
        // digest. It is a copy in memory that nobody else can change.
        unsafe { Component::deserialize(&self.engine, code) }
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
