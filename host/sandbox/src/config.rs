//! What a sandbox is built with.
//!
//! Values with defaults that fit a machine of any size; nothing here opens, reads or starts anything. Filled by the
//! server's configuration and by tests.

use std::path::PathBuf;
use std::time::Duration;

/// What a [`Sandbox`](crate::Sandbox) is built with.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Where compiled components are kept between runs of the program; not kept if none. The folder is made with mode
    /// 0700 and belongs to the sandbox alone.
    pub cache_dir: Option<PathBuf>,
    /// Largest component in bytes.
    pub max_component_bytes: usize,
    /// Most runs at once; more wait for a place until their deadline.
    pub max_concurrent: usize,
    /// Longest time that compiling one component may take; in a child process, half of it may be computed.
    pub compile_time: Duration,
    /// Address space of a compiling child process in bytes; [`Compiler::InProcess`] is not bounded by it.
    pub compile_memory_bytes: u64,
    /// Most bytes of machine code that one component may become.
    pub max_compiled_bytes: u64,
    /// Most bytes of machine code kept in `cache_dir`, least recently used out first.
    pub max_cache_bytes: u64,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What stands around a compiling child process.
    pub confinement: Confinement,
    /// Largest JSON text that is passed into or out of a guest in one piece.
    pub payload_bytes: usize,
    /// Compiled components kept in memory, least recently used out first.
    pub prepared_in_memory: usize,
    /// Bytes of machine code kept in memory with them. What is let go comes back from the disk cache within milliseconds.
    pub prepared_bytes: u64,
    /// How often guests are interrupted to let others run and to look at their deadline.
    pub tick: Duration,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            max_component_bytes: 32 << 20,
            max_concurrent: 256,
            compile_time: Duration::from_secs(120),
            compile_memory_bytes: 4 << 30,
            max_compiled_bytes: 512 << 20,
            max_cache_bytes: 4 << 30,
            compiler: Compiler::InProcess,
            confinement: Confinement::default(),
            payload_bytes: 1 << 20,
            prepared_in_memory: 64,
            prepared_bytes: 64 << 20,
            tick: Duration::from_millis(10),
        }
    }
}

/// Where components are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// On a thread of this process: quick to start, but a component that takes too long cannot be stopped, only given
    /// up. For tests and for skills that the operator wrote.
    InProcess,
    /// In a child process (`<this program> compile-component`, which calls [`crate::compile_child_main`]), confined by
    /// [`SandboxConfig::confinement`] and killed when its time is over. For components of strangers.
    Child(PathBuf),
}

/// What stands around a compiling child process, besides the limits on memory, time and files that always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confinement {
    /// On Linux only the system calls that compiling takes (seccomp), and no compiling where the kernel cannot promise
    /// that. On systems that know no such filter: the limits alone.
    #[default]
    WhereKnown,
    /// The filter, or no compiling.
    Required,
    /// The limits alone. For kernels without seccomp, when every author is trusted.
    LimitsOnly,
}

impl Confinement {
    /// Its name in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WhereKnown => "where-known",
            Self::Required => "required",
            Self::LimitsOnly => "limits-only",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::WhereKnown, Self::Required, Self::LimitsOnly].into_iter().find(|it| it.name() == name)
    }
}

/// A sandbox that could not be built.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SandboxError {
    /// Decides what the caller does.
    pub kind: SandboxErrorKind,
    /// What went wrong and what to do about it.
    pub message: String,
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxErrorKind {
    /// The engine cannot be built on this machine.
    Engine,
    /// The cache folder cannot be used.
    Cache,
}

impl SandboxError {
    pub(crate) fn engine(message: impl Into<String>) -> Self {
        Self { kind: SandboxErrorKind::Engine, message: message.into() }
    }

    pub(crate) fn cache(message: impl Into<String>) -> Self {
        Self { kind: SandboxErrorKind::Cache, message: message.into() }
    }
}
