//! What a compiling child must not be able to do, tried for real.
//!
//! A child that is told to tries one thing from inside its walls, instead of compiling. That is how the tests and
//! `chimera doctor` know that the walls stand on this machine, and not only in the code. The things themselves are
//! harmless. Called by the child and by [`check_confinement`].

use crate::compile::{ChildEnd, ChildRun};
use crate::config::{Compiler, Confinement, SandboxConfig};
use std::path::Path;
use std::time::Duration;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Socket,
    OpenFile,
    Program,
    Process,
    ExecutableMemory,
    SignalParent,
    Descriptor,
}

impl Attempt {
    const ALL: [Self; 7] = [
        Self::Socket,
        Self::OpenFile,
        Self::Program,
        Self::Process,
        Self::ExecutableMemory,
        Self::SignalParent,
        Self::Descriptor,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Socket => "open a socket",
            Self::OpenFile => "open a file",
            Self::Program => "start a program",
            Self::Process => "fork",
            Self::ExecutableMemory => "make memory executable",
            Self::SignalParent => "send its parent a signal",
            Self::Descriptor => "get one more descriptor",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attempt| attempt.name() == name)
    }

    /// Tries it. True if it was done.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "the raw calls are what an attacker would make")]
    pub(crate) fn succeeds(self) -> bool {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: each call has valid arguments, and what it might bring (a descriptor, a page, a copy of this process) is
        // left alone until this process ends, which is at once.
        let result = unsafe {
            match self {
                Self::Socket => i64::from(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
                Self::OpenFile => i64::from(libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY)),
                Self::Program => {
                    let arguments = [c"true".as_ptr(), std::ptr::null()];
                    i64::from(libc::execve(c"/bin/true".as_ptr(), arguments.as_ptr(), std::ptr::null()))
                }
                Self::Process => i64::from(libc::fork()),
                Self::ExecutableMemory => {
                    let rights = libc::PROT_READ | libc::PROT_EXEC;
                    let page = libc::mmap(null, 4096, rights, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
                    if page == libc::MAP_FAILED { -1 } else { 0 }
                }
                // Signal 0 only asks whether one could be sent.
                Self::SignalParent => i64::from(libc::kill(libc::getppid(), 0)),
                Self::Descriptor => i64::from(libc::dup(0)),
            }
        };
        result >= 0
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn succeeds(self) -> bool {
        true
    }
}

/// Tries from inside a real compiling child what must not be possible there. `program` is what
/// [`Compiler::Child`] would start.
///
/// # Errors
/// What was possible, or why it could not be tried; a sentence for people.
pub async fn check_confinement(program: &Path) -> Result<(), String> {
    let config = SandboxConfig {
        compiler: Compiler::Child(program.to_owned()),
        confinement: Confinement::Required,
        compile_time: Duration::from_secs(20),
        ..SandboxConfig::default()
    };
    for attempt in Attempt::ALL {
        let run = ChildRun { program, config: &config, attempt: Some(attempt) };
        match run.finish(&[]).await {
            // It was told that it may not, or ended by the filter; both say what it wrote.
            Ok(ChildEnd::Done(said)) if said == b"refused" => {}
            Ok(ChildEnd::Forbidden) => {}
            Ok(ChildEnd::Done(_)) => return Err(format!("a compiling process could {}", attempt.name())),
            Ok(ChildEnd::Unconfined(why)) => return Err(why),
            Ok(end) => {
                return Err(format!("a compiling process that tried to {} ended oddly: {end:?}", attempt.name()));
            }
            Err(failure) => return Err(failure.message),
        }
    }
    Ok(())
}
