//! A server's tools as this side keeps them: bounded, pinned, and with the place of an idempotency key.
//!
//! Everything here comes from a stranger: names, descriptions and schemas are data, and an annotation is only ever a
//! suggestion to the operator. Nothing is sent from here. Called by the client and the gateway.

use crate::config::Idempotency;
use chimera_core::digest::Digest;
use chimera_core::json::{MAX_DEPTH, is_deeper_than};
use chimera_core::ports::ToolInfo;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most tools that are kept of one server.
pub(crate) const MAX_TOOLS: usize = 512;
/// Largest schema of one tool, in bytes of JSON.
const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Longest name.
const MAX_NAME_BYTES: usize = 128;
/// Longest description that is shown; the pin covers all of it.
const MAX_DESCRIPTION_BYTES: usize = 4 * 1024;

/// A tool of a server, for the operator who may grant it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerTool {
    /// Name, description and schema.
    pub info: ToolInfo,
    /// The server says that it changes nothing. A suggestion, never a decision.
    pub read_only_hint: bool,
    /// SHA-256 of the canonical name, description and schema: what a grant pins.
    pub pin: Digest,
}

/// A server's tools by name.
pub(crate) type ToolTable = BTreeMap<String, ServerTool>;

impl ServerTool {
    /// The tool, or why it is not kept.
    pub(crate) fn read(tool: rmcp::model::Tool) -> Result<Self, String> {
        let name = tool.name.into_owned();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(format!("a name must be 1 to {MAX_NAME_BYTES} bytes without control characters"));
        }
        let description = tool.description.map(String::from).unwrap_or_default();
        let input_schema = Value::Object(tool.input_schema.as_ref().clone());
        if is_deeper_than(&input_schema, MAX_DEPTH) {
            return Err(format!("its schema is nested deeper than {MAX_DEPTH}"));
        }
        if input_schema.to_string().len() > MAX_SCHEMA_BYTES {
            return Err(format!("its schema is larger than {} KiB", MAX_SCHEMA_BYTES >> 10));
        }
        let pin = Digest::of_json(&json!({ "name": name, "description": description, "schema": input_schema }));
        let description = chimera_core::text::truncated(description, MAX_DESCRIPTION_BYTES);
        let read_only_hint = tool.annotations.and_then(|hints| hints.read_only_hint).unwrap_or(false);
        Ok(Self { info: ToolInfo { name, description, input_schema }, read_only_hint, pin })
    }

    /// Where this tool takes an idempotency key. A server that takes it as an argument takes it only on tools whose
    /// schema has that argument: others would ignore it, and sending such a call twice could do it twice.
    pub(crate) fn key_place<'c>(&self, idempotency: &'c Idempotency) -> Option<KeyPlace<'c>> {
        match idempotency {
            Idempotency::None => None,
            Idempotency::Meta(key) => Some(KeyPlace::Meta(key)),
            Idempotency::Argument(name) => {
                let properties = self.info.input_schema.get("properties").and_then(Value::as_object)?;
                properties.contains_key(name).then_some(KeyPlace::Argument(name))
            }
        }
    }

    /// What a skill is shown: without the argument that only the host sets.
    pub(crate) fn for_skill(&self, idempotency: &Idempotency) -> ToolInfo {
        let mut info = self.info.clone();
        if let Some(KeyPlace::Argument(name)) = self.key_place(idempotency) {
            if let Some(Value::Object(properties)) = info.input_schema.get_mut("properties") {
                properties.shift_remove(name);
            }
            if let Some(Value::Array(required)) = info.input_schema.get_mut("required") {
                required.retain(|item| item.as_str() != Some(name));
            }
        }
        info
    }
}

/// Where an idempotency key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyPlace<'c> {
    Argument(&'c str),
    Meta(&'c str),
}

/// What is sent: arguments and `_meta`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) tool: String,
    pub(crate) arguments: Map<String, Value>,
    pub(crate) meta: Option<(String, String)>,
}

impl Request {
    /// A request; none if the arguments are no object.
    pub(crate) fn new(tool: &str, arguments: &Value, key: Option<(KeyPlace<'_>, String)>) -> Option<Self> {
        let mut arguments = arguments.as_object()?.clone();
        let mut meta = None;
        match key {
            // A guest's own value under this name would collide with the ledger's key: the host's wins.
            Some((KeyPlace::Argument(name), key)) => {
                arguments.insert(name.to_owned(), Value::String(key));
            }
            Some((KeyPlace::Meta(name), key)) => meta = Some((name.to_owned(), key)),
            None => {}
        }
        Some(Self { tool: tool.to_owned(), arguments, meta })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    fn tool(schema: Value) -> rmcp::model::Tool {
        serde_json::from_value(json!({ "name": "t", "description": "d", "inputSchema": schema })).unwrap()
    }

    #[test]
    fn a_pin_is_independent_of_key_order_and_covers_everything() {
        let pin = |schema, description: &str| {
            let mut tool = tool(schema);
            tool.description = Some(description.to_owned().into());
            ServerTool::read(tool).unwrap().pin
        };
        let one = pin(json!({"type": "object", "title": "x"}), "d");
        assert_eq!(one, pin(json!({"title": "x", "type": "object"}), "d"));
        assert_ne!(one, pin(json!({"title": "y", "type": "object"}), "d"));
        let long = "d".repeat(MAX_DESCRIPTION_BYTES);
        assert_ne!(pin(json!({}), &format!("{long}1")), pin(json!({}), &format!("{long}2")));
    }

    #[test]
    fn only_a_tool_that_has_the_argument_takes_the_key() {
        let idempotency = Idempotency::Argument("key".to_owned());
        let without = ServerTool::read(tool(json!({"type": "object", "properties": {"text": {}}}))).unwrap();
        assert_eq!(without.key_place(&idempotency), None);
        let with = ServerTool::read(tool(
            json!({"type": "object", "properties": {"text": {}, "key": {}}, "required": ["key", "text"]}),
        ))
        .unwrap();
        assert_eq!(with.key_place(&idempotency), Some(KeyPlace::Argument("key")));
        let shown = with.for_skill(&idempotency).input_schema;
        assert_eq!(shown, json!({"type": "object", "properties": {"text": {}}, "required": ["text"]}));
    }

    #[test]
    fn the_hosts_key_wins_over_the_guests() {
        let place = KeyPlace::Argument("key");
        let request = Request::new("t", &json!({"key": "guest's"}), Some((place, "host's".to_owned()))).unwrap();
        assert_eq!(request.arguments.get("key"), Some(&json!("host's")));
        assert_eq!(Request::new("t", &json!([1]), None), None);
    }

    #[test]
    fn deep_values_are_noticed() {
        let mut deep = json!(1);
        for _ in 0..=MAX_DEPTH {
            deep = json!([deep]);
        }
        assert!(is_deeper_than(&deep, MAX_DEPTH));
        assert!(!is_deeper_than(&deep[0], MAX_DEPTH));
        assert!(ServerTool::read(tool(json!({ "a": deep }))).is_err());
    }
}
