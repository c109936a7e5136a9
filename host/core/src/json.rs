//! Checks on JSON values that several rooms need: size, depth, schema validation and subset matching.
//!
//! Values and schemas come from strangers: everything here is bounded, and no reference is ever fetched. Called at every
//! edge where a value comes in, by the self-tests and the judge.

use serde_json::Value;

/// Deepest nesting of a value that comes in from anywhere: inputs, outputs, arguments, answers, schemas. A value is
/// stored inside others, and what is nested deeper than [`MAX_READABLE_DEPTH`] could be written but never read again.
pub const MAX_DEPTH: usize = 64;
/// Deepest nesting that the JSON reader takes.
pub const MAX_READABLE_DEPTH: usize = 127;
/// Most values in one JSON text: a value takes up to forty times its text in memory.
pub const MAX_VALUES: usize = 65_536;
/// Most values in what is kept for an agent: metadata of a memory, a scratch value.
pub const MAX_KEPT_VALUES: usize = 4_096;

/// How deep a JSON text nests and how many values it holds at most, found without making any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Arrays and objects inside each other.
    pub depth: usize,
    /// Commas and opening brackets outside strings, and one more.
    pub values: usize,
}

impl Extent {
    /// The extent of a text. What is no JSON has one too; it means nothing then.
    pub fn of(text: &str) -> Self {
        let (mut open, mut extent) = (0_usize, Self { depth: 0, values: 1 });
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => skip_string(&mut bytes),
                b'[' | b'{' => {
                    open += 1;
                    extent.depth = extent.depth.max(open);
                    extent.values += 1;
                }
                b']' | b'}' => open = open.saturating_sub(1),
                b',' => extent.values += 1,
                _ => {}
            }
        }
        extent
    }
}

fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// Does the text hold more than [`MAX_VALUES`] values? To be asked before it is parsed.
pub fn has_too_many_values(text: &str) -> bool {
    Extent::of(text).values > MAX_VALUES
}

/// Reads a stranger's JSON text: at most [`MAX_DEPTH`] deep and at most so many values.
///
/// # Errors
/// Why it is not taken, as the end of a sentence that begins with the text's name.
pub fn parse(text: &str, most_values: usize) -> Result<Value, String> {
    let extent = Extent::of(text);
    if extent.depth > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH}"));
    }
    if extent.values > most_values {
        return Err(format!("has {} values; at most {most_values} are taken", extent.values));
    }
    serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))
}

/// Is the value nested deeper than `most`? Stops looking there, so it cannot exhaust the stack.
pub fn is_deeper_than(value: &Value, most: usize) -> bool {
    match value {
        Value::Array(items) => most == 0 || items.iter().any(|item| is_deeper_than(item, most - 1)),
        Value::Object(map) => most == 0 || map.values().any(|item| is_deeper_than(item, most - 1)),
        _ => false,
    }
}

/// Validates a value against a JSON Schema (draft 2020-12): see [`crate::schema::check`].
///
/// # Errors
/// Up to three violations in one sentence, each with the path in the value; or why the schema cannot be used.
pub fn check_schema(schema: &Value, value: &Value) -> Result<(), String> {
    crate::schema::check(schema, value)
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
