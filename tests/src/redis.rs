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
    addresses: Vec<Ipv4Addr>,
}

impl Redis {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_at(&[])
    }

    /// As [`Redis::start`]; it can be reached at these addresses of the machine as well.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_at(addresses: &[Ipv4Addr]) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let addresses = std::iter::once(Ipv4Addr::LOCALHOST).chain(addresses.iter().copied()).collect();
        let mut redis = Self { child: None, port, addresses };
        redis.up()?;
        Ok(redis)
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.url_at(Ipv4Addr::LOCALHOST)
    }

    /// The same by another address of the machine.
    pub fn url_at(&self, address: Ipv4Addr) -> String {
        format!("redis://{address}:{}/0", self.port)
    }

    /// Starts it again, with nothing in it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn up(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--save", "", "--appendonly", "no", "--protected-mode", "no", "--bind"]);
        command.args(self.addresses.iter().map(ToString::to_string));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().context("run the tests through `cargo xtask test`, which installs Redis")?);
        let (address, started) = (SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), Instant::now());
        while TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err() {
            ensure!(started.elapsed() < Duration::from_secs(20), "Redis does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Lets nobody in from now on who has another password; who is in stays in.
    ///
    /// # Errors
    /// When the password so far is another one (empty for none).
    pub fn set_password(&self, so_far: &str, next: &str) -> Result<()> {
        let mut set = Command::new("redis-cli");
        set.args(["-e", "-p", &self.port.to_string(), "config", "set", "requirepass", next]);
        if !so_far.is_empty() {
            set.env("REDISCLI_AUTH", so_far);
        }
        let done = set.stdin(Stdio::null()).output().context("redis-cli comes with Redis")?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
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
