//! What an operator says of their MCP servers.
//!
//! It is read from `[mcp.servers.NAME]` of the configuration and starts nothing. A server's environment may hold secrets,
//! so its values are never shown. Called by the binary's configuration and by the gateway.

use chimera_core::skill::is_kebab_word;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How one server is started and spoken to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Its name in grants: a kebab-case word. In a configuration it is the table's name.
    #[serde(skip)]
    pub name: String,
    /// The program. A name without a slash is looked up in `PATH`.
    pub command: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its whole environment, besides `PATH` and `LANG`. Never shown: the values may be secrets.
    #[serde(default, serialize_with = "hidden")]
    pub env: BTreeMap<String, String>,
    /// Whether it recognises a call that it was sent before.
    #[serde(default)]
    pub idempotency: Idempotency,
    /// How long one call may take, in milliseconds in the configuration; 1 to 30,000, 10,000 if absent.
    #[serde(default = "default_call_timeout", rename = "call_timeout_ms", with = "millis")]
    pub call_timeout: Duration,
    /// How long it may take to start, in milliseconds in the configuration; 1 to 120,000, 30,000 if absent. A server of
    /// the old revision that does not answer to the new one's greeting needs more than 10 seconds.
    #[serde(default = "default_start_timeout", rename = "start_timeout_ms", with = "millis")]
    pub start_timeout: Duration,
}

impl ServerConfig {
    /// A server without arguments, environment or idempotency.
    pub fn new(name: impl Into<String>, command: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            idempotency: Idempotency::None,
            call_timeout: default_call_timeout(),
            start_timeout: default_start_timeout(),
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("name", &self.name)
            .field("command", &self.command)
            .field("args", &self.args)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("idempotency", &self.idempotency)
            .field("call_timeout", &self.call_timeout)
            .field("start_timeout", &self.start_timeout)
            .finish()
    }
}

/// Whether and where a server takes an idempotency key, so that a call with an unknown outcome may be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idempotency {
    /// It takes none: a call with an unknown outcome is a question to a human.
    #[default]
    None,
    /// As the argument of this name, on those tools whose schema has it.
    Argument(String),
    /// As this key of the request's `_meta`, on every tool.
    Meta(String),
}

/// The operator's servers by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct ServerCatalog(BTreeMap<String, ServerConfig>);

/// A server that cannot be used: which, what is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mcp.servers.{name}: {problem}")]
pub struct CatalogError {
    /// The server.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

impl ServerCatalog {
    /// No servers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a server under its name; one of the same name is replaced.
    ///
    /// # Errors
    /// [`CatalogError`] for a name that is no kebab-case word, an empty command or a time limit out of range.
    pub fn add(&mut self, config: ServerConfig) -> Result<(), CatalogError> {
        check(&config).map_err(|problem| CatalogError {
            name: chimera_core::text::printable(&chimera_core::text::truncated(config.name.clone(), 64)),
            problem,
        })?;
        self.0.insert(config.name.clone(), config);
        Ok(())
    }

    /// The server of that name.
    pub fn get(&self, name: &str) -> Option<&ServerConfig> {
        self.0.get(name)
    }

    /// The servers by name.
    pub fn iter(&self) -> impl Iterator<Item = &ServerConfig> {
        self.0.values()
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl<'de> Deserialize<'de> for ServerCatalog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut catalog = Self::new();
        for (name, config) in BTreeMap::<String, ServerConfig>::deserialize(deserializer)? {
            catalog.add(ServerConfig { name, ..config }).map_err(D::Error::custom)?;
        }
        Ok(catalog)
    }
}

fn check(config: &ServerConfig) -> Result<(), String> {
    if !is_kebab_word(&config.name) {
        return Err("a server's name is 1 to 64 of a-z, 0-9 and `-`, starting with a letter".to_owned());
    }
    if config.command.as_os_str().is_empty() {
        return Err("`command` is empty; write the program to start".to_owned());
    }
    if let Idempotency::Argument(name) | Idempotency::Meta(name) = &config.idempotency
        && (name.is_empty() || name.len() > 128)
    {
        return Err("`idempotency` names an argument or a `_meta` key of 1 to 128 bytes".to_owned());
    }
    if let Some(name) = config.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(format!("`env` has the name {name:?}, which no environment can hold"));
    }
    let limits = [
        ("call_timeout_ms", config.call_timeout, Duration::from_secs(30)),
        ("start_timeout_ms", config.start_timeout, Duration::from_secs(120)),
    ];
    match limits.iter().find(|(_, span, most)| span.is_zero() || span > most) {
        Some((field, _, most)) => Err(format!("`{field}` is outside 1 to {}", most.as_millis())),
        None => Ok(()),
    }
}

const fn default_call_timeout() -> Duration {
    Duration::from_secs(10)
}

const fn default_start_timeout() -> Duration {
    Duration::from_secs(30)
}

fn hidden<S: Serializer>(env: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(env.keys().map(|name| (name, "(hidden)")))
}

mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    fn read(text: &str) -> Result<ServerCatalog, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_catalog_is_read_with_its_defaults() {
        let catalog = read(
            "[social]\ncommand = \"chimera\"\nargs = [\"mcp\", \"serve\"]\nidempotency = { argument = \"idempotency_key\" }\n\
             [other]\ncommand = \"x\"\nidempotency = \"none\"\ncall_timeout_ms = 500\n",
        )
        .unwrap();
        assert_eq!(catalog.names(), ["other", "social"]);
        let social = catalog.get("social").unwrap();
        assert_eq!(social.name, "social");
        assert_eq!(social.idempotency, Idempotency::Argument("idempotency_key".to_owned()));
        assert_eq!(social.call_timeout, Duration::from_secs(10));
        assert_eq!(catalog.get("other").unwrap().call_timeout, Duration::from_millis(500));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_place() {
        for (text, expected) in [
            ("[Social]\ncommand = \"x\"", "kebab"),
            ("[a]\ncommand = \"\"", "`command` is empty"),
            ("[a]\ncommand = \"x\"\ncall_timeout_ms = 0", "call_timeout_ms"),
            ("[a]\ncommand = \"x\"\ncall_timeout_ms = 40000", "call_timeout_ms"),
            ("[a]\ncommand = \"x\"\nunknown = 1", "unknown"),
            ("[a]\ncommand = \"x\"\nname = \"b\"", "name"),
            ("[a]\ncommand = \"x\"\nidempotency = { meta = \"\" }", "idempotency"),
        ] {
            let problem = read(text).unwrap_err();
            let found = problem.contains(expected) || (expected == "kebab" && problem.contains("a-z"));
            assert!(found, "{text}: {problem}");
        }
    }

    #[test]
    fn secrets_of_the_environment_are_not_shown() {
        let mut config = ServerConfig::new("a", "x");
        config.env.insert("TOKEN".to_owned(), "s3cret-value".to_owned());
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(shown.contains("TOKEN") && !shown.contains("s3cret-value"), "{shown}");
    }
}
