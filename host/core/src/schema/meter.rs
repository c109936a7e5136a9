//! What holding a value against a schema costs, counted before it is done.
//!
//! A small schema and a small value can still be a lot of work together: alternatives that each recurse, a pattern on a
//! long text. The count never stops early where validation might, so it is an upper bound; it compiles nothing. Called
//! before a value is validated.

use super::Engine;
use super::parts::{Part, Place, identity, parts, target};
use serde_json::{Map, Value};

/// Most units of work for one value: a unit is about a look of a keyword at a value.
const MAX_WORK: u64 = 4_000_000;
/// Most units for work that may be done in passing.
const LIGHT_WORK: u64 = 2_000;
/// Most units for which problems are told one by one; above that only that there are some.
const MAX_TOLD: u64 = 200_000;
/// Most schemas inside each other while a value is validated; each takes some of the stack.
const MAX_LEVELS: u32 = 512;

/// How much can be said about a value that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// What and where.
    Each,
    /// Only that it does not.
    Whether,
}

/// Counts the work; an error when it is too much.
pub(super) fn measure(schema: &Value, value: &Value, engine: Engine) -> Result<Detail, String> {
    let mut meter = Meter { root: schema, engine, left: MAX_WORK, told: 0 };
    meter.visit(schema, value, 0).map_err(|stop| match stop {
        Stop::Work => "to hold it against this value takes too much work".to_owned(),
        Stop::Levels => format!("it and this value nest more than {MAX_LEVELS} levels deep"),
    })?;
    let told = meter.told.saturating_add(MAX_WORK - meter.left);
    Ok(if told > MAX_TOLD { Detail::Whether } else { Detail::Each })
}

/// Is it so little work that it may be done in passing?
pub(super) fn is_light(schema: &Value, value: &Value) -> bool {
    let mut meter = Meter { root: schema, engine: Engine::Backtracking, left: LIGHT_WORK, told: 0 };
    meter.visit(schema, value, 0).is_ok() && meter.told < LIGHT_WORK
}

enum Stop {
    Work,
    Levels,
}

struct Meter<'s> {
    root: &'s Value,
    engine: Engine,
    left: u64,
    /// What more it takes to say what does not fit: alternatives are looked at again.
    told: u64,
}

impl<'s> Meter<'s> {
    fn spend(&mut self, units: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(units as u64).ok_or(Stop::Work)?;
        Ok(())
    }

    fn visit(&mut self, schema: &'s Value, value: &Value, level: u32) -> Result<(), Stop> {
        self.spend(1)?;
        let Value::Object(map) = schema else { return Ok(()) };
        if level >= MAX_LEVELS {
            return Err(Stop::Levels);
        }
        self.own_keywords(map, value)?;
        let before = self.left;
        for part in parts(map) {
            match part {
                Part::Here(one) => self.visit(one, value, level + 1)?,
                Part::Choice(one) => {
                    let before = self.left;
                    self.visit(one, value, level + 1)?;
                    self.told = self.told.saturating_add(before - self.left);
                }
                Part::Reference(reference) => {
                    // One that leads nowhere is refused when the schema is compiled.
                    if let Ok(target) = target(self.root, reference)
                        && identity(target) != identity(schema)
                    {
                        self.visit(target, value, level + 1)?;
                    }
                }
                Part::Below(place, one) => self.below(map, place, one, value, level + 1)?,
                Part::Definition(_) => {}
            }
        }
        self.again(map, value, before - self.left)
    }

    /// "Unevaluated" asks for each part of the value which of the neighbours spoke of it, and so tries them again.
    fn again(&mut self, map: &Map<String, Value>, value: &Value, spent: u64) -> Result<(), Stop> {
        let parts = match value {
            Value::Object(fields) if map.contains_key("unevaluatedProperties") => fields.len(),
            Value::Array(items) if map.contains_key("unevaluatedItems") => items.len(),
            _ => return Ok(()),
        };
        let more = spent.saturating_mul(parts as u64 + 1);
        self.left = self.left.checked_sub(more).ok_or(Stop::Work)?;
        Ok(())
    }

    /// The keywords that hold no schemas.
    fn own_keywords(&mut self, map: &Map<String, Value>, value: &Value) -> Result<(), Stop> {
        for (key, keyword) in map {
            self.spend(1)?;
            match (key.as_str(), keyword, value) {
                ("required" | "type", Value::Array(names), _) => self.spend(names.len())?,
                ("enum" | "const", _, Value::Array(_) | Value::Object(_)) => self.spend(size(keyword))?,
                ("enum", Value::Array(options), _) => self.spend(options.len() / 8)?,
                ("dependentRequired", Value::Object(_), Value::Object(_)) => self.spend(size(keyword))?,
                ("uniqueItems", _, Value::Array(_)) => self.spend(size(value))?,
                ("pattern", _, Value::String(text)) => self.spend(self.engine.work(text))?,
                (_, _, Value::String(text)) => self.spend(text.len() / 256)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn below(
        &mut self,
        map: &Map<String, Value>,
        place: Place<'s>,
        schema: &'s Value,
        value: &Value,
        level: u32,
    ) -> Result<(), Stop> {
        match (place, value) {
            (Place::Property(name), Value::Object(fields)) => {
                self.spend(1)?;
                fields.get(name).map_or(Ok(()), |field| self.visit(schema, field, level))
            }
            (Place::Pattern(_), Value::Object(fields)) => fields.iter().try_for_each(|(name, field)| {
                self.spend(self.engine.work(name))?;
                self.visit(schema, field, level)
            }),
            (Place::OtherProperties, Value::Object(fields)) => {
                let named = map.get("properties").and_then(Value::as_object);
                fields.iter().try_for_each(|(name, field)| {
                    self.spend(1)?;
                    if named.is_some_and(|named| named.contains_key(name)) {
                        return Ok(());
                    }
                    self.visit(schema, field, level)
                })
            }
            (Place::Names, Value::Object(fields)) => {
                fields.keys().try_for_each(|name| self.visit(schema, &Value::String(name.clone()), level))
            }
            (Place::Item(at), Value::Array(items)) => {
                self.spend(1)?;
                items.get(at).map_or(Ok(()), |item| self.visit(schema, item, level))
            }
            (Place::Items, Value::Array(items)) => items.iter().try_for_each(|item| self.visit(schema, item, level)),
            _ => Ok(()),
        }
    }
}

impl Engine {
    /// What one pattern costs on one text.
    const fn work(self, text: &str) -> usize {
        1 + text.len()
            * match self {
                Self::Linear => 8,
                Self::Backtracking => 256,
            }
    }
}

/// How much there is of a value: its parts, and the length of its texts.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| name.len() / 64 + size(field) + 1).sum::<usize>() + 1
        }
        Value::String(text) => text.len() / 64 + 1,
        _ => 1,
    }
}
