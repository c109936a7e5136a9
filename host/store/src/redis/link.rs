//! The connection to a Redis server, made again whenever it breaks.
//!
//! One multiplexed connection serves all callers of a process. The library's own manager is not used: it gives up for good
//! when a server refuses a password once, or is still loading when it is reached, and it makes callers wait for its
//! attempts; here a caller waits for one attempt at most, and between attempts everybody is told at once what is wrong.
//! Called by everything in [`super`].

use super::fault::{Where, breaks_connection};
use crate::error::StoreError;
use crate::rows::PortResult;
use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo as _, Pipeline,
    RedisError, RedisResult, Script, ServerErrorKind,
};
use chimera_core::ports::{PortError, PortErrorKind};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Commands that may wait to be written before callers wait.
const PIPELINE: usize = 4096;
/// How long nothing is tried after the first failure to connect; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long nothing is tried at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How Redis is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// `redis://user:password@host:port/number`, or `rediss://…` with TLS: one server, or an address that leads to the one
    /// that is used now; not a cluster. It holds a secret.
    pub url: String,
    /// Put before every key and channel, for several installations on one server; usually empty.
    pub prefix: String,
    /// How long connecting may take, signing in included.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
}

impl RedisOptions {
    /// The usual options: no prefix, 1 s to connect, 250 ms for an answer.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: String::new(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_millis(250),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

/// A Redis server. Cloning it is cheap; the clones share the connection.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    client: Client,
    place: Where,
    prefix: String,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    live: RwLock<Live>,
    /// Held by the one who connects.
    down: tokio::sync::Mutex<Down>,
}

/// The connection, if there is one, and which one it is.
#[derive(Default)]
struct Live {
    number: u64,
    connection: Option<MultiplexedConnection>,
}

/// Since when and why there is none.
#[derive(Default)]
struct Down {
    failures: u32,
    /// Until when nothing is tried, and what callers are told meanwhile.
    pause: Option<(Instant, PortError)>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("address", &self.0.place.address).finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects, and makes sure that what answers can be used.
    ///
    /// # Errors
    /// [`StoreError`], which says what to do.
    pub async fn open(options: RedisOptions) -> Result<Self, StoreError> {
        let redis = Self::lazy(options)?;
        redis.check().await.map_err(|error| redis.0.place.store_error(&error))?;
        Ok(redis)
    }

    /// Connects when it is first used: for a host that starts without Redis too.
    ///
    /// # Errors
    /// [`StoreError::RedisAddress`] when the address cannot be read.
    pub fn lazy(options: RedisOptions) -> Result<Self, StoreError> {
        let refused = |error: RedisError| StoreError::RedisAddress { cause: error.category().to_owned() };
        let info = options.url.as_str().into_connection_info().map_err(refused)?;
        let secret = info.redis_settings().password().map(str::to_owned);
        let place = Where { address: address(info.addr(), info.redis_settings().db()), secret };
        let info = info.clone().set_redis_settings(info.redis_settings().clone().set_skip_set_lib_name());
        let client = Client::open(info).map_err(refused)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.response_timeout))
            .set_pipeline_buffer_size(PIPELINE);
        Ok(Self(Arc::new(Shared {
            client,
            place,
            prefix: options.prefix,
            config,
            connect_timeout: options.connect_timeout,
            live: RwLock::default(),
            down: tokio::sync::Mutex::default(),
        })))
    }

    /// Where the server is, without any secret.
    pub fn address(&self) -> &str {
        &self.0.place.address
    }

    /// Does it answer?
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn ping(&self) -> Result<(), PortError> {
        self.command(&redis::cmd("PING")).await
    }

    /// Removes every key of its prefix, for whoever made a prefix of their own; does nothing without one.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn remove_all(&self) -> Result<(), PortError> {
        if self.prefix().is_empty() {
            return Ok(());
        }
        let pattern: String = self.prefix().chars().flat_map(escaped).chain(['*']).collect();
        let mut cursor = 0_u64;
        loop {
            let scan = redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000).to_owned();
            let (next, keys): (u64, Vec<String>) = self.command(&scan).await?;
            if !keys.is_empty() {
                self.command::<()>(redis::cmd("UNLINK").arg(keys)).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.0.prefix
    }

    pub(super) fn place(&self) -> &Where {
        &self.0.place
    }

    /// One command; as [`Self::calls`].
    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> PortResult<T> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command.clone());
        let (answer,) = self.send(&pipeline, None).await?;
        Ok(answer)
    }

    /// Several commands in one round trip; as [`Self::calls`].
    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> PortResult<T> {
        self.send(pipeline, None).await
    }

    /// Calls of one script in one round trip: in a second one if the server does not know the script (any more). They are
    /// made once more when the connection turns out to be broken, since a server that was restarted shows only then: so
    /// they must be such as may be made twice. What is not answered in time is not asked again.
    pub(super) async fn calls<T: FromRedisValue>(&self, script: &Script, calls: &Pipeline) -> PortResult<T> {
        self.send(calls, Some(script)).await
    }

    async fn send<T: FromRedisValue>(&self, pipeline: &Pipeline, script: Option<&Script>) -> PortResult<T> {
        let mut is_first = true;
        loop {
            let (number, mut connection) = self.connection().await?;
            let answer = match (pipeline.query_async(&mut connection).await, script) {
                (Err(error), Some(script)) if is_unknown_script(&error) => {
                    match script.load_async(&mut connection).await {
                        Ok(_) => pipeline.query_async(&mut connection).await,
                        Err(error) => Err(error),
                    }
                }
                (answer, _) => answer,
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if breaks_connection(&error) {
                self.forget(number);
            }
            if !(is_first && error.is_connection_dropped()) {
                return Err(self.0.place.port_error(&error));
            }
            is_first = false;
        }
    }

    async fn connection(&self) -> PortResult<(u64, MultiplexedConnection)> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        // Others who come meanwhile wait here for this one attempt.
        let mut down = self.0.down.lock().await;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if let Some((until, error)) = &down.pause
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(connection) => {
                if down.failures > 0 {
                    tracing::info!(address = self.address(), "Redis answers again");
                }
                *down = Down::default();
                Ok(self.keep(connection))
            }
            Err(error) => {
                let told = self.0.place.port_error(&error);
                if down.failures == 0 {
                    tracing::warn!(error = %told, "Redis cannot be reached");
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << down.failures.min(10)).min(LONGEST_PAUSE);
                // Processes that lost the same server do not come back at the same moment.
                let pause = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
                down.failures = down.failures.saturating_add(1);
                down.pause = Some((Instant::now() + pause, told.clone()));
                Err(told)
            }
        }
    }

    /// A connection that has answered once: without that, what accepts and hangs up would be connected to again and again.
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.0.client.get_multiplexed_async_connection_with_config(&self.0.config).await?;
        let () = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(connection)
    }

    /// A connection of its own that only listens.
    pub(super) async fn listening(&self) -> PortResult<redis::aio::PubSub> {
        match tokio::time::timeout(self.0.connect_timeout, self.0.client.get_async_pubsub()).await {
            Ok(connected) => connected.map_err(|error| self.0.place.port_error(&error)),
            Err(_) => Err(self.0.place.port_error_of(PortErrorKind::Unavailable, "it does not answer in time")),
        }
    }

    fn live(&self) -> Option<(u64, MultiplexedConnection)> {
        let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
        live.connection.clone().map(|connection| (live.number, connection))
    }

    fn keep(&self, connection: MultiplexedConnection) -> (u64, MultiplexedConnection) {
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        live.number += 1;
        live.connection = Some(connection.clone());
        (live.number, connection)
    }

    /// Lets go of that connection, unless there is a newer one already.
    fn forget(&self, number: u64) {
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.number == number {
            live.connection = None;
        }
    }

    async fn check(&self) -> RedisResult<()> {
        let mut connection = self.connect().await?;
        // What cannot say its version is judged by what it does.
        let info: RedisResult<String> = redis::cmd("INFO").arg("server").query_async(&mut connection).await;
        if let Some(version) = info.ok().as_deref().and_then(version)
            && version < OLDEST
        {
            let found = format!("its version is {}.{}", version.0, version.1);
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, "it is too old", found)));
        }
        self.keep(connection);
        Ok(())
    }
}

/// The oldest version that gives claims of others back by itself (XAUTOCLAIM).
const OLDEST: (u32, u32) = (6, 2);

fn version(info: &str) -> Option<(u32, u32)> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    let mut numbers = version.trim().split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// For people: without user and password.
fn address(address: &ConnectionAddr, db: i64) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}, database {db}"),
        ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port} (TLS), database {db}"),
        ConnectionAddr::Unix(path) => format!("{}, database {db}", path.display()),
        _ => "an unknown place".to_owned(),
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// A character of a key as one of a pattern.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let is_special = matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\');
    is_special.then_some('\\').into_iter().chain([character])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_links_never_show_the_password() {
        let options = RedisOptions::new("redis://eve:hunter2@localhost:7777/3");
        let redis = Redis::lazy(options.clone()).expect("an address");
        let told = format!("{options:?} {redis:?} {}", redis.address());
        assert!(!told.contains("hunter2") && !told.contains("eve"), "{told}");
        assert_eq!(redis.address(), "localhost:7777, database 3");
    }

    #[test]
    fn an_address_that_cannot_be_read_is_refused_without_being_repeated() {
        for url in ["", "hunter2", "http://:hunter2@localhost", "redis://:hunter2@localhost/x", "redis://:hunter2@"] {
            let error = Redis::lazy(RedisOptions::new(url)).expect_err(url).to_string();
            assert!(error.contains("redis://") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("# Server\r\nredis_version:7.0.15\r\nx:1\r\n"), Some((7, 0)));
        assert_eq!(version("redis_version:x"), None);
        assert_eq!(version(""), None);
    }
}
