//! The parts of `skill.toml` that a native test run needs.
//! It is lenient on purpose: `chimera skill build` checks the whole manifest, this only runs what it says.
//! Read by the self-test runner; the tape asks it whether a call is declared.

use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

use super::recorded::Recorded;
use crate::failure::FailureKind;
use crate::types::Limits;

#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) manifest: u32,
    pub(crate) skill: Skill,
    #[serde(default)]
    pub(crate) capabilities: Capabilities,
    #[serde(default)]
    pub(crate) limits: Limited,
    #[serde(default)]
    pub(crate) selftest: Vec<Selftest>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Skill {
    pub(crate) name: String,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) world: World,
}

/// What the component does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum World {
    /// Tasks.
    #[default]
    Skill,
    /// It gives opinions on finished ones.
    Judge,
}

impl World {
    /// As it is written in `skill.toml`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Skill => "skill",
            Self::Judge => "judge",
        }
    }
}

/// The limits of the manifest, those that it names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Limited {
    time_ms: Option<u64>,
    fuel: Option<u64>,
    memory_mb: Option<u32>,
    output_kb: Option<u32>,
    mcp_calls: Option<u32>,
}

impl Limited {
    /// What a run is told that it may use.
    pub(crate) fn told(&self) -> Limits {
        let default = Limits::default();
        Limits {
            time: self.time_ms.map_or(default.time, Duration::from_millis),
            fuel: self.fuel.unwrap_or(default.fuel),
            memory_mb: self.memory_mb.unwrap_or(default.memory_mb),
            output_kb: self.output_kb.unwrap_or(default.output_kb),
            mcp_calls: self.mcp_calls.unwrap_or(default.mcp_calls),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    mcp: Vec<Slot>,
    memory: Vec<String>,
    scratch: bool,
    trends: Vec<String>,
    secrets: Vec<String>,
    skills: Vec<Dependency>,
}

#[derive(Clone, Debug, Deserialize)]
struct Slot {
    slot: String,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selftest {
    pub(crate) name: String,
    pub(crate) input: Value,
    #[serde(default)]
    pub(crate) clock: Option<String>,
    #[serde(default)]
    pub(crate) seed: u64,
    #[serde(default)]
    pub(crate) answers: Vec<Recorded>,
    #[serde(default)]
    pub(crate) expect: Option<Value>,
    #[serde(default)]
    pub(crate) expect_failure: Option<ExpectedFailure>,
    #[serde(default)]
    pub(crate) min_confidence: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedFailure {
    pub(crate) kind: FailureKind,
    #[serde(default)]
    pub(crate) code: Option<String>,
}

impl Manifest {
    /// Reads the text of a `skill.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: toml::Value = toml::from_str(text).map_err(|error| error.to_string())?;
        let manifest: Self = serde_path_to_error::deserialize(json(value)).map_err(|error| error.to_string())?;
        if manifest.manifest != 1 {
            return Err(format!("manifest = {} is not known; write `manifest = 1`", manifest.manifest));
        }
        Ok(manifest)
    }
}

impl Capabilities {
    /// Why the host would refuse this call, if the manifest does not declare it.
    pub(crate) fn refuses(&self, call: &str, args: &Value) -> Option<String> {
        let text = |key: &str| args.get(key).and_then(Value::as_str).unwrap_or_default();
        let missing = |what: String| Some(format!("skill.toml does not declare {what}"));
        match call.split_once('.') {
            Some(("mcp", function)) => {
                let name = text("slot");
                let Some(slot) = self.mcp.iter().find(|it| it.slot == name) else {
                    return missing(format!("the MCP slot `{name}` in capabilities.mcp"));
                };
                let (list, item) = match function {
                    "call-tool" => (&slot.tools, text("tool")),
                    "read-resource" => (&slot.resources, text("uri")),
                    _ => return None,
                };
                (!list.iter().any(|it| it == item))
                    .then(|| format!("skill.toml does not declare `{item}` for the slot `{name}`"))
            }
            Some(("memory", function)) if !self.memory.iter().any(|it| it == function) => {
                missing(format!("\"{function}\" in capabilities.memory"))
            }
            Some(("trends", function)) if !self.trends.iter().any(|it| it == function) => {
                missing(format!("\"{function}\" in capabilities.trends"))
            }
            Some(("scratch", _)) if !self.scratch => missing("`scratch = true` in capabilities".to_owned()),
            Some(("skills", _)) if !self.skills.iter().any(|it| it.name == text("name")) => {
                missing(format!("`{}` in capabilities.skills", text("name")))
            }
            Some(("secrets", _)) if !self.secrets.iter().any(|it| it == text("name")) => {
                missing(format!("`{}` in capabilities.secrets", text("name")))
            }
            _ => None,
        }
    }
}

/// TOML as JSON; a date becomes its text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(truth) => Value::Bool(truth),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        toml::Value::Table(table) => Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_declared_may_be_called() {
        let manifest = Manifest::parse(
            r#"
            manifest = 1
            [skill]
            name = "a/b"
            version = "0.1.0"
            [capabilities]
            mcp = [{ slot = "social", tools = ["search"], resources = ["x://y"], reason = "r" }]
            memory = ["recall"]
            trends = ["top"]
            secrets = ["token"]
            skills = [{ name = "c/d", version = "^0.1" }]
            [limits]
            fuel = 7
            "#,
        )
        .unwrap();
        assert_eq!(manifest.limits.told(), Limits { fuel: 7, ..Limits::default() });
        let capabilities = manifest.capabilities;
        let refused = |call: &str, args: Value| capabilities.refuses(call, &args).is_some();
        assert!(!refused("mcp.call-tool", json!({"slot": "social", "tool": "search"})));
        assert!(refused("mcp.call-tool", json!({"slot": "social", "tool": "post"})));
        assert!(refused("mcp.call-tool", json!({"slot": "wallet", "tool": "search"})));
        assert!(!refused("mcp.list-tools", json!({"slot": "social"})));
        assert!(!refused("mcp.read-resource", json!({"slot": "social", "uri": "x://y"})));
        assert!(refused("mcp.read-resource", json!({"slot": "social", "uri": "x://z"})));
        assert!(!refused("memory.recall", json!({})));
        assert!(refused("memory.remember", json!({})));
        assert!(refused("memory.forget", json!({})));
        assert!(!refused("trends.top", json!({})));
        assert!(refused("trends.observe", json!({})));
        assert!(refused("scratch.get", json!({})));
        assert!(!refused("secrets.exists", json!({"name": "token"})));
        assert!(refused("secrets.exists", json!({"name": "other"})));
        assert!(!refused("skills.call", json!({"name": "c/d"})));
        assert!(refused("skills.call", json!({"name": "c/e"})));
    }

    #[test]
    fn a_wrong_manifest_says_where() {
        let head = "manifest = 1\n[skill]\nname = \"a/b\"\nversion = \"0.1.0\"\n";
        let error = Manifest::parse(&format!("{head}[[selftest]]\nname = \"x\"\n")).unwrap_err();
        assert!(error.contains("selftest[0]") && error.contains("input"), "{error}");
        let error =
            Manifest::parse(&format!("{head}[[selftest]]\nname = \"x\"\ninput = {{}}\nexpects = 1\n")).unwrap_err();
        assert!(error.contains("expects"), "{error}");
        assert!(Manifest::parse("manifest = 2\n[skill]\nname=\"a/b\"\nversion=\"1.0.0\"").is_err());
        assert!(Manifest::parse("no toml").is_err());
    }
}
