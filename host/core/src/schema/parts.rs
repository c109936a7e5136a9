//! Where schemas stand inside a schema, and where its references lead.
//!
//! It knows which keywords hold schemas and nothing of what they mean; what stands under other keywords is data. It
//! never follows anything itself. Called by the budget and the meter.

use serde_json::{Map, Value};

/// A schema inside a schema, and what it is held against.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'s> {
    /// The same value.
    Here(&'s Value),
    /// The same value, instead of the part's neighbours or only sometimes.
    Choice(&'s Value),
    /// The same value; the schema is elsewhere.
    Reference(&'s str),
    /// A part of the value.
    Below(Place<'s>, &'s Value),
    /// Nothing, unless something refers to it.
    Definition(&'s Value),
}

/// A part of a value, as a schema names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<'s> {
    Property(&'s str),
    Pattern(&'s str),
    OtherProperties,
    Names,
    Item(usize),
    Items,
}

/// Every schema inside an object schema, one level down.
pub(super) fn parts(map: &Map<String, Value>) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for (key, value) in map {
        match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => parts.push(Part::Reference(reference)),
            ("allOf", Value::Array(many)) => parts.extend(many.iter().map(Part::Here)),
            ("anyOf" | "oneOf", Value::Array(many)) => parts.extend(many.iter().map(Part::Choice)),
            ("not" | "if", one) => parts.push(Part::Here(one)),
            ("then" | "else", one) => parts.push(Part::Choice(one)),
            ("dependentSchemas" | "dependencies", Value::Object(many)) => {
                parts.extend(many.values().filter(|one| is_schema(one)).map(Part::Choice));
            }
            ("properties", Value::Object(many)) => {
                parts.extend(many.iter().map(|(name, one)| Part::Below(Place::Property(name), one)));
            }
            ("patternProperties", Value::Object(many)) => {
                parts.extend(many.iter().map(|(pattern, one)| Part::Below(Place::Pattern(pattern), one)));
            }
            ("additionalProperties" | "unevaluatedProperties", one) => {
                parts.push(Part::Below(Place::OtherProperties, one));
            }
            ("propertyNames", one) => parts.push(Part::Below(Place::Names, one)),
            ("items" | "prefixItems", Value::Array(many)) => {
                parts.extend(many.iter().enumerate().map(|(at, one)| Part::Below(Place::Item(at), one)));
            }
            ("items" | "contains" | "additionalItems" | "unevaluatedItems", one) => {
                parts.push(Part::Below(Place::Items, one));
            }
            ("contentSchema", one) => parts.push(Part::Definition(one)),
            ("$defs" | "definitions", Value::Object(many)) => parts.extend(many.values().map(Part::Definition)),
            _ => {}
        }
    }
    parts
}

/// Only these can be schemas.
pub(super) const fn is_schema(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Bool(_))
}

/// The schema that a reference inside the same document leads to.
pub(super) fn target<'s>(root: &'s Value, reference: &str) -> Result<&'s Value, String> {
    let shown = || crate::text::truncated(reference.to_owned(), 100);
    let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
    let Some(pointer) = pointer else {
        return Err(format!("`$ref` to `{}`: only references inside the schema (`#/$defs/…`) are followed", shown()));
    };
    let found = unescaped(pointer).and_then(|pointer| root.pointer(&pointer)).filter(|found| is_schema(found));
    found.ok_or_else(|| format!("`$ref` to `{}` leads to no schema", shown()))
}

/// A pointer without the percent signs of a URI.
fn unescaped(pointer: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = rest.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

/// What tells one schema of a document from every other: where it lies.
pub(super) fn identity(schema: &Value) -> usize {
    std::ptr::from_ref(schema) as usize
}
