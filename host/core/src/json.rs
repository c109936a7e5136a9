//! Checks on JSON values that several rooms need: schema validation and subset matching.
//!
//! Schemas come from strangers: no reference is ever fetched. Called by the sandbox's callers (input, output), the
//! self-tests and the judge.

use serde_json::Value;

/// Validates a value against a JSON Schema (draft 2020-12).
///
/// # Errors
/// Up to three violations in one sentence, each with the path in the value.
pub fn check_schema(schema: &Value, value: &Value) -> Result<(), String> {
    let validator = jsonschema::validator_for(schema).map_err(|e| format!("the schema cannot be used: {e}"))?;
    let problems: Vec<String> = validator
        .iter_errors(value)
        .take(3)
        .map(|e| {
            let path = e.instance_path().to_string();
            let place = if path.is_empty() { "the value".to_owned() } else { format!("`{path}`") };
            format!("{place}: {}", crate::text::truncated(e.to_string(), 300))
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Does `value` contain `subset`? Objects: every key of the subset, recursively. Arrays: same length, element by
/// element. Numbers compare by value (`1` equals `1.0`).
pub fn contains(value: &Value, subset: &Value) -> bool {
    match (value, subset) {
        (Value::Object(value), Value::Object(subset)) => {
            subset.iter().all(|(key, wanted)| value.get(key).is_some_and(|found| contains(found, wanted)))
        }
        (Value::Array(value), Value::Array(subset)) => {
            value.len() == subset.len() && value.iter().zip(subset).all(|(found, wanted)| contains(found, wanted))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (value, subset) => value == subset,
    }
}
