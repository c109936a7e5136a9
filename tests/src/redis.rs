//! A Redis server of one test's own, to be killed, stopped and started again, empty.
//!
//! It keeps nothing on disk. Called by the tests of a queue that goes away.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server; killed when dropped.
pub struct Redis {
    child: Option<Child>,
    port: u16,
}

impl Redis {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn start() -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut redis = Self { child: None, port };
        redis.up()?;
        Ok(redis)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Starts it again, with nothing in it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn up(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().context("run the tests through `cargo xtask test`, which installs Redis")?);
        let (address, started) = (SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), Instant::now());
        while TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err() {
            ensure!(started.elapsed() < Duration::from_secs(20), "Redis does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills it.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it hang: it takes connections, and says nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hang(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        Ok(kill_process(Pid::from_raw(i32::try_from(child.id())?).context("no process id")?, signal)?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.go_on();
        self.kill9();
    }
}
