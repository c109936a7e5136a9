//! What of root's privileges a test has: some faults are the kernel's, and only root may ask for them.
//!
//! A test that lacks one says so and is skipped; with it, it never is. Called by the tests' disks and networks.

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// A privilege, by its number (capabilities(7), `linux/capability.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Privilege {
    /// `CAP_NET_ADMIN`: networks.
    Network = 12,
    /// `CAP_SYS_ADMIN`: mounts and namespaces.
    System = 21,
}

/// Are these all there? Says which is not, for whoever reads why a test was skipped.
///
/// # Errors
/// When the kernel does not tell.
pub fn has(privileges: &[Privilege]) -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("the kernel names no privileges")?;
    let held = u64::from_str_radix(line.trim(), 16)?;
    for privilege in privileges {
        if held & (1 << (*privilege as u8)) == 0 {
            println!("skipped: this needs the privilege {privilege:?}, which root has");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs one of the system's programs.
pub(crate) fn system(program: &str, args: &[&str]) -> Result<()> {
    let done = Command::new(program).args(args).stdin(Stdio::null()).output().with_context(|| {
        format!("{program} is not installed; run the tests through `cargo xtask test`, which installs it")
    })?;
    if !done.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
