//! What the planner needs to know of JSON Schemas: properties, local references, and whether what one skill gives fits
//! what another takes.
//!
//! It never fetches a reference and never follows one more than a few times: schemas come from strangers. Where it
//! cannot tell, it says "does not fit", and the planner asks. Called by the decomposer and the replanner.

use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;

/// How many references and levels are followed before giving up.
const MAX_DEPTH: usize = 24;
/// How many schemas are compared or looked at for one answer: a few that refer to each other make an endless number of
/// paths.
const MAX_COMPARED: u32 = 10_000;

/// One top-level property of an object schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Property<'s> {
    /// Its name.
    pub(crate) name: &'s str,
    /// Its own schema, references not yet followed.
    pub(crate) schema: &'s Value,
    /// Whether an object without it is invalid.
    pub(crate) need: Need,
}

/// Whether a property must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It must.
    Required,
    /// It may.
    Optional,
}

/// Follows local references (`#`, `#/$defs/…`, `#/definitions/…`); the node itself if one leads nowhere.
pub(crate) fn resolve<'s>(root: &'s Value, node: &'s Value) -> &'s Value {
    let mut current = node;
    for _ in 0..MAX_DEPTH {
        let Some(reference) = current.get("$ref").and_then(Value::as_str) else { return current };
        let Some(target) = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) else {
            return current;
        };
        current = target;
    }
    current
}

/// The top-level properties of an object schema, in the schema's order.
pub(crate) fn properties(root: &Value) -> Vec<Property<'_>> {
    let object = resolve(root, root);
    let required: BTreeSet<&str> = object
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let Some(map) = object.get("properties").and_then(Value::as_object) else { return Vec::new() };
    map.iter()
        .map(|(name, schema)| Property {
            name,
            schema,
            need: if required.contains(name.as_str()) { Need::Required } else { Need::Optional },
        })
        .collect()
}

/// The top-level property of that name.
pub(crate) fn property<'s>(root: &'s Value, name: &str) -> Option<Property<'s>> {
    properties(root).into_iter().find(|property| property.name == name)
}

/// A schema of its own for one property: the property's schema with the definitions it may refer to.
pub(crate) fn standalone(root: &Value, schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let mut map = map.clone();
    for definitions in ["$defs", "definitions"] {
        if let Some(all) = root.get(definitions) {
            map.entry(definitions).or_insert_with(|| all.clone());
        }
    }
    if let Some(dialect) = root.get("$schema") {
        map.entry("$schema").or_insert_with(|| dialect.clone());
    }
    Value::Object(map)
}

/// Is the value valid for one property of a schema? Bounded work, but not always little: planning runs off the runtime's
/// threads.
///
/// # Errors
/// What does not fit.
pub(crate) fn check_property(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    chimera_core::json::check_schema(&standalone(root, schema), value)
}

/// The JSON types that a schema admits; none when it says nothing about types.
pub(crate) fn types(root: &Value, schema: &Value) -> Option<BTreeSet<String>> {
    let schema = resolve(root, schema);
    match schema.get("type") {
        Some(Value::String(one)) => Some(BTreeSet::from([one.clone()])),
        Some(Value::Array(many)) => Some(many.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => {
            let values = schema.get("enum").and_then(Value::as_array)?;
            Some(values.iter().map(|value| type_of(value).to_owned()).collect())
        }
    }
}

/// Does the schema admit this type (and is it said so)?
pub(crate) fn admits(root: &Value, schema: &Value, name: &str) -> bool {
    branches(root, schema).iter().any(|branch| types(root, branch).is_some_and(|types| types.contains(name)))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The alternatives of `anyOf`/`oneOf`, or the schema itself.
fn branches<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s Value> {
    let schema = resolve(root, schema);
    for key in ["anyOf", "oneOf"] {
        if let Some(many) = schema.get(key).and_then(Value::as_array) {
            return many.iter().map(|branch| resolve(root, branch)).collect();
        }
    }
    vec![schema]
}

/// A schema and the document it lives in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'s> {
    /// The document, for references.
    pub(crate) root: &'s Value,
    /// The schema.
    pub(crate) schema: &'s Value,
}

/// Is every value of `given` of a type and shape that `taken` admits? Ranges, lengths and patterns are not compared:
/// they are checked on the value itself when the step starts.
pub(crate) fn fits(given: Place<'_>, taken: Place<'_>) -> bool {
    fits_within(given, taken, 0, &Cell::new(MAX_COMPARED))
}

fn fits_within(given: Place<'_>, taken: Place<'_>, depth: usize, left: &Cell<u32>) -> bool {
    if depth > MAX_DEPTH || left.get() == 0 {
        return false;
    }
    left.set(left.get() - 1);
    let wanted = branches(taken.root, taken.schema);
    if wanted.iter().any(|branch| says_nothing(branch)) {
        return true;
    }
    branches(given.root, given.schema).into_iter().all(|given_branch| {
        let Some(given_types) = types(given.root, given_branch) else { return false };
        !given_types.is_empty()
            && given_types.iter().all(|name| {
                wanted.iter().any(|branch| {
                    admits_type(taken.root, branch, name)
                        && fits_shape(
                            name,
                            Place { root: given.root, schema: given_branch },
                            Place { root: taken.root, schema: branch },
                            depth,
                            left,
                        )
                })
            })
    })
}

fn says_nothing(schema: &Value) -> bool {
    match schema {
        Value::Bool(all) => *all,
        Value::Object(map) => {
            let tells =
                ["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties", "items", "not", "if"];
            !tells.iter().any(|key| map.contains_key(*key))
        }
        _ => false,
    }
}

fn admits_type(root: &Value, schema: &Value, name: &str) -> bool {
    types(root, schema).is_some_and(|types| types.contains(name) || (name == "integer" && types.contains("number")))
}

fn fits_shape(name: &str, given: Place<'_>, taken: Place<'_>, depth: usize, left: &Cell<u32>) -> bool {
    if let Some(allowed) = taken.schema.get("enum").and_then(Value::as_array) {
        let Some(offered) = given.schema.get("enum").and_then(Value::as_array) else { return false };
        return offered.iter().all(|value| allowed.contains(value));
    }
    match name {
        "array" => match (given.schema.get("items"), taken.schema.get("items")) {
            (_, None) => true,
            (None, Some(wanted)) => says_nothing(wanted),
            (Some(offered), Some(wanted)) => fits_within(
                Place { root: given.root, schema: offered },
                Place { root: taken.root, schema: wanted },
                depth + 1,
                left,
            ),
        },
        "object" => fits_object(given, taken, depth, left),
        _ => true,
    }
}

fn fits_object(given: Place<'_>, taken: Place<'_>, depth: usize, left: &Cell<u32>) -> bool {
    let map = |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let names = |schema: &Value| -> BTreeSet<String> {
        let list = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (offered, wanted): (Map<String, Value>, Map<String, Value>) = (map(given.schema), map(taken.schema));
    let always = names(given.schema);
    if names(taken.schema).iter().any(|name| !always.contains(name)) {
        return false;
    }
    wanted.iter().all(|(name, schema)| {
        offered.get(name).is_none_or(|found| {
            fits_within(Place { root: given.root, schema: found }, Place { root: taken.root, schema }, depth + 1, left)
        })
    })
}

/// Paths of the boolean properties marked `"x-chimera-gate": true`: an output is only good if all of them are true.
pub(crate) fn gates(root: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_gates(root, root, "", 0, &mut found, &mut { MAX_COMPARED });
    found
}

fn collect_gates(root: &Value, schema: &Value, path: &str, depth: usize, found: &mut Vec<String>, left: &mut u32) {
    if depth > 6 || found.len() >= 64 {
        return;
    }
    let schema = resolve(root, schema);
    let Some(map) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in map {
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        let here = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        let marked = |node: &Value| node.get("x-chimera-gate") == Some(&json!(true));
        if marked(property) || marked(resolve(root, property)) {
            found.push(here);
        } else {
            collect_gates(root, property, &here, depth + 1, found, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(given: &Value, taken: &Value) -> bool {
        fits(Place { root: given, schema: given }, Place { root: taken, schema: taken })
    }

    #[test]
    fn types_fit_or_do_not() {
        let string = json!({"type": "string"});
        let maybe = json!({"type": ["string", "null"]});
        let any_of = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        assert!(fit(&string, &string) && fit(&string, &maybe) && fit(&string, &any_of));
        assert!(!fit(&maybe, &string), "null would not be taken");
        assert!(!fit(&any_of, &string));
        assert!(fit(&any_of, &maybe));
        assert!(fit(&json!({"type": "integer"}), &json!({"type": "number"})));
        assert!(!fit(&json!({"type": "number"}), &json!({"type": "integer"})));
        assert!(fit(&json!({"type": "number"}), &json!({})), "anything is taken");
        assert!(!fit(&json!({}), &string), "unknown does not fit");
    }

    #[test]
    fn arrays_and_objects_fit_by_their_parts() {
        let strings = json!({"type": "array", "items": {"type": "string"}});
        let numbers = json!({"type": "array", "items": {"type": "number"}});
        assert!(fit(&strings, &strings) && !fit(&numbers, &strings));
        assert!(fit(&strings, &json!({"type": "array"})));
        let post = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
        let bare = json!({"type": "object", "properties": {"text": {"type": "string"}}});
        assert!(fit(&post, &bare) && !fit(&bare, &post));
    }

    #[test]
    fn references_are_followed_and_loops_end() {
        let root = json!({"type": "object", "properties": {"posts": {"type": "array", "items": {"$ref": "#/$defs/P"}}},
            "$defs": {"P": {"type": "object", "properties": {"next": {"$ref": "#/$defs/P"}}}}});
        let posts = property(&root, "posts").expect("there");
        assert_eq!(posts.need, Need::Optional);
        let place = Place { root: &root, schema: posts.schema };
        assert!(!fits(place, place), "a shape without end cannot be compared, and that ends");
        let looped = json!({"$defs": {"L": {"$ref": "#/$defs/L"}}, "$ref": "#/$defs/L"});
        assert!(types(&looped, &looped).is_none());
        assert!(check_property(&looped, &looped, &json!(1)).is_err(), "and cannot be used");
        check_property(&root, posts.schema, &json!([{"next": {}}])).expect("definitions come along");
    }

    #[test]
    fn comparing_and_looking_for_gates_end_soon() {
        let again: Map<String, Value> = (0..100).map(|at| (format!("p{at}"), json!({"$ref": "#"}))).collect();
        let wide = json!({"type": "object", "properties": again});
        assert!(gates(&wide).is_empty());
        assert!(!fit(&wide, &wide), "too much to compare does not fit");
        let branch =
            |at: u32| json!({"type": "object", "title": at, "properties": {"x": {"$ref": "#"}, "y": {"$ref": "#"}}});
        let choices = json!({"anyOf": [branch(0), branch(1), branch(2)]});
        assert!(!fit(&choices, &choices));
    }

    #[test]
    fn gates_are_found_in_nested_objects() {
        let root = json!({"type": "object", "properties": {
            "ok": {"type": "boolean", "x-chimera-gate": true},
            "inner": {"$ref": "#/$defs/I"}},
            "$defs": {"I": {"type": "object", "properties": {"safe": {"type": "boolean", "x-chimera-gate": true}}}}});
        assert_eq!(gates(&root), ["/ok", "/inner/safe"]);
    }
}
