//! Makes a manifest of a `skill.toml`, the schemas beside it and what the component describes of itself.
//!
//! Schemas given as file names are read only from inside the skill's own folder. The result is validated by
//! [`Manifest::from_value`] like any other manifest. Called by `chimera skill build`.

use chimera_core::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError};
use serde_json::{Map, Value, json};
use std::path::{Component, Path};

fn error(field: impl Into<String>, problem: impl Into<String>) -> ManifestError {
    ManifestError { field: field.into(), problem: problem.into() }
}

/// Reads a `skill.toml`. `[io] input` and `output` are inline tables, or file names relative to `base`; what is absent
/// is taken from `describe` (`{"input": …, "output": …}`), and for a judge from the contract, which says what it gets.
///
/// # Errors
/// [`ManifestError`] with the field, the problem and what to write instead.
pub fn assemble_manifest(skill_toml: &str, describe: Option<Value>, base: &Path) -> Result<Manifest, ManifestError> {
    if skill_toml.len() > MAX_MANIFEST_BYTES {
        return Err(error("manifest", format!("is {} bytes; at most {MAX_MANIFEST_BYTES} are read", skill_toml.len())));
    }
    let table: toml::Table =
        toml::from_str(skill_toml).map_err(|e| error("manifest", format!("is not TOML: {}", e.to_string().trim())))?;
    let mut manifest = json_of_table(table);
    let is_judge = manifest.get("skill").and_then(|skill| skill.get("world")) == Some(&json!("judge"));
    let describe = if is_judge { Some(judge_schemas()) } else { describe };
    let io = manifest.entry("io").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(io) = io else {
        return Err(error("io", "must be a table: `[io]` with `input` and `output`"));
    };
    for key in ["input", "output"] {
        let schema = match io.remove(key) {
            Some(Value::String(file)) => read_schema(key, &file, base)?,
            Some(inline) => inline,
            None => described(key, describe.as_ref())?,
        };
        io.insert(key.to_owned(), schema);
    }
    Manifest::from_value(Value::Object(manifest))
}

/// What every judge gets and gives, as JSON Schemas.
fn judge_schemas() -> Value {
    let text = json!({ "type": "string" });
    let sure = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let decisions = ["approve", "retry", "replan", "escalate", "reject"];
    json!({
        "input": {
            "type": "object",
            "properties": {
                "goal": text, "skill": text, "input": {}, "output": {}, "confidence": sure,
                "evidence": { "type": "array", "items": text },
            },
        },
        "output": {
            "type": "object",
            "properties": { "decision": { "enum": decisions }, "confidence": sure, "reason": text },
            "required": ["decision", "confidence", "reason"],
        },
    })
}

fn described(key: &str, describe: Option<&Value>) -> Result<Value, ManifestError> {
    describe.and_then(|described| described.get(key)).cloned().ok_or_else(|| {
        error(
            format!("io.{key}"),
            format!(
                "is missing, and the component does not describe it; write `[io] {key} = \"schemas/{key}.json\"` or an inline table"
            ),
        )
    })
}

fn read_schema(key: &str, file: &str, base: &Path) -> Result<Value, ManifestError> {
    let field = format!("io.{key}");
    let relative = Path::new(file);
    let stays_inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let outside = || error(field.clone(), format!("`{file}` leaves the skill's folder; name a file inside it"));
    if !stays_inside || file.is_empty() {
        return Err(outside());
    }
    let unreadable = |e: std::io::Error| error(field.clone(), format!("`{file}` cannot be read: {e}"));
    // A link inside the folder may still point outside: compare where both really are.
    let root = base.canonicalize().map_err(unreadable)?;
    let path = root.join(relative).canonicalize().map_err(unreadable)?;
    if !path.starts_with(&root) {
        return Err(outside());
    }
    let meta = path.metadata().map_err(unreadable)?;
    if !meta.is_file() || meta.len() > MAX_MANIFEST_BYTES as u64 {
        return Err(error(field, format!("`{file}` must be a file of at most {MAX_MANIFEST_BYTES} bytes")));
    }
    let bytes = std::fs::read(&path).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|e| error(field.clone(), format!("`{file}` is not JSON: {e}")))
}

fn json_of_table(table: toml::Table) -> Map<String, Value> {
    table.into_iter().map(|(key, value)| (key, json_of(value))).collect()
}

/// TOML's values as JSON; a date becomes its text, a number that JSON cannot write becomes null (and is refused then).
fn json_of(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(at) => Value::String(at.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json_of).collect()),
        toml::Value::Table(table) => Value::Object(json_of_table(table)),
    }
}
