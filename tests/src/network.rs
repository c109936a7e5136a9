//! A network namespace with a cable to the machine's own, to be cut and joined again.
//!
//! What is cut says nothing: packets are lost, and no connection is refused or reset. Everything goes with the namespace
//! when it is dropped. Called by the tests of processes that the network keeps apart.

use crate::privilege::system;
use anyhow::Result;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

/// A namespace; removed when dropped, after the processes in it have ended.
pub struct Namespace {
    name: String,
    near: Ipv4Addr,
}

/// Each of one test program has a number.
static NEXT: AtomicU8 = AtomicU8::new(0);

impl Namespace {
    /// Makes one, with a cable that carries.
    ///
    /// # Errors
    /// When `ip` is not installed, or the privileges are missing.
    pub fn create() -> Result<Self> {
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // A name of an interface has at most fifteen characters.
        let name = format!("ch{process:x}x{number:x}");
        let [.., low] = process.to_be_bytes();
        // Four addresses a cable, of those that are set aside for trials between networks (RFC 2544).
        let (near, far) = (Ipv4Addr::new(198, 18, low, number * 4 + 1), Ipv4Addr::new(198, 18, low, number * 4 + 2));
        system("ip", &["netns", "add", &name])?;
        let namespace = Self { name, near };
        let (here, name) = (namespace.cable(), namespace.name.as_str());
        system("ip", &["link", "add", &here, "type", "veth", "peer", "name", "far", "netns", name])?;
        system("ip", &["address", "add", &format!("{near}/30"), "dev", &here])?;
        system("ip", &["link", "set", &here, "up"])?;
        system("ip", &["-n", name, "address", "add", &format!("{far}/30"), "dev", "far"])?;
        system("ip", &["-n", name, "link", "set", "far", "up"])?;
        system("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Where the machine is reached from inside.
    pub fn near(&self) -> Ipv4Addr {
        self.near
    }

    /// What a program is started with to be inside.
    pub fn launcher(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Nothing goes through any more.
    ///
    /// # Errors
    /// When the cable is gone.
    pub fn cut(&self) -> Result<()> {
        system("ip", &["link", "set", &self.cable(), "down"])
    }

    /// Everything goes through again.
    ///
    /// # Errors
    /// When the cable is gone.
    pub fn join(&self) -> Result<()> {
        system("ip", &["link", "set", &self.cable(), "up"])
    }

    /// The end of the cable that is on the machine.
    fn cable(&self) -> String {
        format!("{}h", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The other end goes with it.
        let _ = system("ip", &["link", "delete", &self.cable()]);
        let _ = system("ip", &["netns", "delete", &self.name]);
    }
}
