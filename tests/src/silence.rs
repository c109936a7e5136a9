//! A server that takes every connection and never says a word.
//!
//! It is what a client's bounds of time are for. Called by the tests of servers that hang.

use anyhow::Result;
use std::net::{Ipv4Addr, TcpListener};

/// Such a server; it ends with the test program.
pub struct Silence {
    port: u16,
}

impl Silence {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn listen() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            // Kept, because a connection that is dropped would be closed.
            let mut taken = Vec::new();
            taken.extend(listener.incoming());
        });
        Ok(Self { port })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}
