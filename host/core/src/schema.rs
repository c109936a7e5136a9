//! JSON Schemas of strangers, held against values of strangers, within bounds.
//!
//! A schema is looked at before it is compiled and its cost on a value is counted before it is validated, so no schema
//! keeps a thread for long or overflows its stack. No reference is ever fetched, and `format` only describes. Called
//! through [`crate::json`], by the manifest and by whoever keeps a schema of an MCP server.

mod budget;
mod kept;
mod meter;
mod parts;

pub use budget::{MAX_PATTERNS, MAX_SCHEMA_BYTES};

use crate::json::{MAX_DEPTH, is_deeper_than};
use budget::Patterns;
use jsonschema::{PatternOptions, Validator};
use kept::Kept;
use meter::Detail;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// Largest program that one pattern is compiled to, in bytes.
const MAX_PATTERN_PROGRAM: usize = 256 << 10;
/// How often a pattern with look-around may turn back on one text.
const MAX_TURNS: usize = 10_000;
/// Largest schema and largest value that are looked at in passing, roughly in bytes.
const LIGHT_SCHEMA: usize = 16 << 10;
const LIGHT_VALUE: usize = 4 << 10;

/// How a schema's patterns are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    /// In time linear in the text.
    Linear,
    /// By trying, for what only that can do: look-around and back-references.
    Backtracking,
}

/// A schema that many values are held against, such as those of a manifest: what is known of it is looked up once. It is read
/// and written as the JSON that it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    value: Value,
    /// None inside if it is not small.
    #[serde(skip)]
    kept: OnceLock<Option<Arc<Kept>>>,
}

impl Schema {
    /// As [`check`].
    ///
    /// # Errors
    /// As [`check`].
    pub fn check(&self, value: &Value) -> Result<(), String> {
        check_knowing(self.kept(), self, value)
    }

    /// As [`check_in_passing`].
    pub fn check_in_passing(&self, value: &Value) -> Option<Result<(), String>> {
        check_in_passing_knowing(self.kept(), self, value)
    }

    /// As [`is_light`].
    pub fn is_light(&self, value: &Value) -> bool {
        is_light_knowing(self.kept(), self, value)
    }

    fn kept(&self) -> Option<&Kept> {
        self.kept.get_or_init(|| known(&self.value)).as_deref()
    }
}

impl From<Value> for Schema {
    fn from(value: Value) -> Self {
        Self { value, kept: OnceLock::new() }
    }
}

impl Deref for Schema {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq<Value> for Schema {
    fn eq(&self, other: &Value) -> bool {
        self.value == *other
    }
}

/// What is known of a schema, if it is small.
fn known(schema: &Value) -> Option<Arc<Kept>> {
    is_smaller(schema, LIGHT_SCHEMA).then(|| kept::of(schema))
}

/// Can this schema be used here?
///
/// # Errors
/// Why not, as the end of a sentence that begins with the schema's name.
pub fn admit(schema: &Value) -> Result<(), String> {
    compile(schema).map(|_| ())
}

/// Validates a value against a schema (draft 2020-12 if it does not say another).
///
/// # Errors
/// Up to three violations in one sentence, each with the path in the value; or why the schema cannot be used.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    check_knowing(known(schema).as_deref(), schema, value)
}

fn check_knowing(kept: Option<&Kept>, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(kept) = kept
        && let Some((validator, engine)) = kept.compiled(schema).map_err(unusable)?
    {
        return check_with(schema, value, validator, *engine);
    }
    let (validator, engine) = compile(schema).map_err(unusable)?;
    check_with(schema, value, &validator, engine)
}

fn check_with(schema: &Value, value: &Value, validator: &Validator, engine: Engine) -> Result<(), String> {
    if is_deeper_than(value, MAX_DEPTH) {
        return Err(format!("the value is nested deeper than {MAX_DEPTH}"));
    }
    match meter::measure(schema, value, engine).map_err(unusable)? {
        Detail::Each => tell(validator, value),
        Detail::Whether if validator.is_valid(value) => Ok(()),
        Detail::Whether => Err("the value does not fit; it is too large to say where".to_owned()),
    }
}

/// Like [`check`], if it is so little work that it may be done on a thread that others wait for; else none.
pub fn check_in_passing(schema: &Value, value: &Value) -> Option<Result<(), String>> {
    check_in_passing_knowing(known(schema).as_deref(), schema, value)
}

fn check_in_passing_knowing(kept: Option<&Kept>, schema: &Value, value: &Value) -> Option<Result<(), String>> {
    let kept = kept.filter(|kept| is_light_knowing(Some(kept), schema, value))?;
    Some(match kept.compiled(schema).map_err(unusable) {
        Ok(Some((validator, _))) => tell(validator, value),
        // What is light has no patterns.
        Ok(None) => check_knowing(None, schema, value),
        Err(problem) => Err(problem),
    })
}

/// Is it so little work to hold this value against this schema that it may be done on a thread that others wait for?
pub fn is_light(schema: &Value, value: &Value) -> bool {
    is_light_knowing(known(schema).as_deref(), schema, value)
}

fn is_light_knowing(kept: Option<&Kept>, schema: &Value, value: &Value) -> bool {
    kept.is_some_and(|kept| {
        is_smaller(value, LIGHT_VALUE)
            && !is_deeper_than(value, MAX_DEPTH)
            && match kept.budget() {
                Err(_) => true,
                Ok(Patterns::None) => meter::is_light(schema, value),
                Ok(Patterns::Some) => false,
            }
    })
}

fn unusable(why: String) -> String {
    format!("the schema cannot be used: {why}")
}

fn compile(schema: &Value) -> Result<(Validator, Engine), String> {
    let patterns = budget::check(schema)?;
    build(schema, patterns)
}

fn build(schema: &Value, patterns: Patterns) -> Result<(Validator, Engine), String> {
    let options = || jsonschema::options().should_validate_formats(false);
    let linear = PatternOptions::regex().size_limit(MAX_PATTERN_PROGRAM).dfa_size_limit(MAX_PATTERN_PROGRAM);
    let problem = match options().with_pattern_options(linear).build(schema) {
        Ok(validator) => return Ok((validator, Engine::Linear)),
        Err(problem) => problem,
    };
    if patterns == Patterns::Some {
        let trying = PatternOptions::fancy_regex()
            .size_limit(MAX_PATTERN_PROGRAM)
            .dfa_size_limit(MAX_PATTERN_PROGRAM)
            .backtrack_limit(MAX_TURNS);
        if let Ok(validator) = options().with_pattern_options(trying).build(schema) {
            return Ok((validator, Engine::Backtracking));
        }
    }
    Err(crate::text::truncated(problem.to_string(), 300))
}

fn tell(validator: &Validator, value: &Value) -> Result<(), String> {
    // Hardly anything does not fit, and to say so is quicker than to say why not.
    if validator.is_valid(value) {
        return Ok(());
    }
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

/// Is the value's JSON text shorter than this, roughly? Stops as soon as it is not.
fn is_smaller(value: &Value, most: usize) -> bool {
    fn count(value: &Value, left: &mut usize) -> bool {
        let own = match value {
            Value::String(text) => text.len() + 2,
            _ => 4,
        };
        let Some(rest) = left.checked_sub(own) else { return false };
        *left = rest;
        match value {
            Value::Array(items) => items.iter().all(|item| count(item, left)),
            Value::Object(map) => map.iter().all(|(key, item)| {
                *left = left.saturating_sub(key.len() + 3);
                count(item, left)
            }),
            _ => true,
        }
    }
    count(value, &mut { most })
}
