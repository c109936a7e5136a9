//! Input templates: how a step's input is made of the campaign's inputs and earlier steps' outputs.
//!
//! A template is JSON in which an object `{"$step": "<key>", "at": "/pointer"}` stands for a piece of a finished step's
//! output, `{"$input": "<name>", "at": "/pointer"}` for a piece of a campaign input and `{"$answer": "<question>"}` for
//! what a human answered. Everything else is literal. Resolving is pure; it never runs anything. In a `campaign.yaml`
//! the same references may be written as strings: `${steps.<key>.output.path}` and `${inputs.<name>.path}`, where the
//! string must be the whole value. Called by the planner (to check) and the scheduler (to fill).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A step's input before its references are filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Value);

/// Where a reference points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// Output of a step, by its key, at a JSON pointer (RFC 6901; empty for the whole).
    Step(String, String),
    /// A campaign input, by name, at a JSON pointer.
    Input(String, String),
    /// A human's answer to a question, by the question's key.
    Answer(String),
}

/// A reference that could not be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The step has no output (yet) or is not in the plan.
    #[error("step `{0}` has no output")]
    NoStep(String),
    /// No such campaign input.
    #[error("there is no campaign input `{0}`")]
    NoInput(String),
    /// The question is not answered.
    #[error("question `{0}` is not answered")]
    NoAnswer(String),
    /// The pointer leads nowhere.
    #[error("{0} has nothing at `{1}`")]
    NoPlace(String, String),
    /// A `${…}` string that cannot be read.
    #[error("`{0}` is not a reference: write ${{steps.<key>.output.<field>}} or ${{inputs.<name>}}")]
    Malformed(String),
}

/// The values references can point to.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Campaign inputs by name.
    pub inputs: &'a Map<String, Value>,
    /// Outputs of finished steps by key.
    pub outputs: &'a BTreeMap<String, Value>,
    /// Human answers by question key.
    pub answers: &'a Map<String, Value>,
}

impl Template {
    /// The template `{"$step": key, "at": pointer}`.
    pub fn step(key: &str, pointer: &str) -> Value {
        json!({ "$step": key, "at": pointer })
    }

    /// The template `{"$input": name, "at": pointer}`.
    pub fn input(name: &str, pointer: &str) -> Value {
        json!({ "$input": name, "at": pointer })
    }

    /// The template `{"$answer": question}`.
    pub fn answer(question: &str) -> Value {
        json!({ "$answer": question })
    }

    /// Reads the `${…}` strings of a `campaign.yaml` value into references.
    ///
    /// # Errors
    /// [`TemplateError::Malformed`] naming the string.
    pub fn from_yaml_value(value: Value) -> Result<Self, TemplateError> {
        Ok(Self(lower(value)?))
    }

    /// All references in it.
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        collect(&self.0, &mut found);
        found
    }

    /// The keys of all steps it refers to.
    pub fn steps(&self) -> BTreeSet<String> {
        self.references()
            .into_iter()
            .filter_map(|reference| match reference {
                Reference::Step(key, _) => Some(key),
                _ => None,
            })
            .collect()
    }

    /// Fills every reference.
    ///
    /// # Errors
    /// The first reference that leads nowhere.
    pub fn resolve(&self, scope: Scope<'_>) -> Result<Value, TemplateError> {
        fill(&self.0, scope)
    }
}

/// An object is a reference only if it is exactly one: whatever else it held would be lost when it is filled.
fn as_reference(map: &Map<String, Value>) -> Option<Reference> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    let at = match (map.len(), map.get("at")) {
        (1, _) => String::new(),
        (2, Some(Value::String(at))) => at.clone(),
        _ => return None,
    };
    if let Some(key) = text("$step") {
        return Some(Reference::Step(key, at));
    }
    if let Some(name) = text("$input") {
        return Some(Reference::Input(name, at));
    }
    text("$answer").filter(|_| map.len() == 1).map(Reference::Answer)
}

fn collect(value: &Value, found: &mut Vec<Reference>) {
    match value {
        Value::Object(map) => match as_reference(map) {
            Some(reference) => found.push(reference),
            None => map.values().for_each(|item| collect(item, found)),
        },
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

fn fill(value: &Value, scope: Scope<'_>) -> Result<Value, TemplateError> {
    match value {
        Value::Object(map) => match as_reference(map) {
            Some(reference) => look_up(&reference, scope),
            None => map
                .iter()
                .map(|(key, item)| Ok((key.clone(), fill(item, scope)?)))
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object),
        },
        Value::Array(items) => {
            items.iter().map(|item| fill(item, scope)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        scalar => Ok(scalar.clone()),
    }
}

fn look_up(reference: &Reference, scope: Scope<'_>) -> Result<Value, TemplateError> {
    match reference {
        Reference::Step(key, at) => {
            let output = scope.outputs.get(key).ok_or_else(|| TemplateError::NoStep(key.clone()))?;
            output
                .pointer(at)
                .cloned()
                .ok_or_else(|| TemplateError::NoPlace(format!("the output of step `{key}`"), at.clone()))
        }
        Reference::Input(name, at) => {
            let input = scope.inputs.get(name).ok_or_else(|| TemplateError::NoInput(name.clone()))?;
            input
                .pointer(at)
                .cloned()
                .ok_or_else(|| TemplateError::NoPlace(format!("campaign input `{name}`"), at.clone()))
        }
        Reference::Answer(key) => scope.answers.get(key).cloned().ok_or_else(|| TemplateError::NoAnswer(key.clone())),
    }
}

fn lower(value: Value) -> Result<Value, TemplateError> {
    match value {
        Value::String(text) => match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            Some(path) => lower_path(path).ok_or(TemplateError::Malformed(text)),
            None => Ok(Value::String(text)),
        },
        Value::Array(items) => items.into_iter().map(lower).collect::<Result<Vec<_>, _>>().map(Value::Array),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, item)| Ok((key, lower(item)?)))
            .collect::<Result<Map<_, _>, _>>()
            .map(Value::Object),
        scalar => Ok(scalar),
    }
}

fn lower_path(path: &str) -> Option<Value> {
    // Two references in one text, such as `${inputs.a} and ${inputs.b}`, are not one with an odd name.
    if path.contains(['$', '{', '}']) {
        return None;
    }
    let mut parts = path.trim().split('.');
    let root = parts.next()?;
    let name = parts.next().filter(|name| !name.is_empty())?;
    let rest: Vec<&str> = parts.collect();
    let pointer = |rest: &[&str]| {
        rest.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect::<String>()
    };
    if rest.iter().any(|part| part.is_empty()) {
        return None;
    }
    match root {
        "inputs" => Some(Template::input(name, &pointer(&rest))),
        "steps" if rest.first() == Some(&"output") => Some(Template::step(name, &pointer(&rest[1..]))),
        _ => None,
    }
}
