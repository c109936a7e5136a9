//! Where this program is, for starting itself again: the compiler's child and the bundled server.
//!
//! Called by the wiring, the demo and the skill commands. It never looks at `PATH`.

use std::path::{Path, PathBuf};

/// A path that starts this very program.
///
/// On Linux that is `/proc/self/exe`, which stays valid and stays the same program when the file is replaced by a newer
/// build while this one runs: a child of another version would not understand what its parent says.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn this_program() -> std::io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_path_buf()) } else { std::env::current_exe() }
}
