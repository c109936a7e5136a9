//! What a schema may be, before anything is made of it.
//!
//! A few kilobytes of references can unfold to more work than a machine does in a year, or nest deeper than any stack.
//! Nothing here looks at a value: what a schema costs on one is the meter's. Called before a schema is compiled.

use super::parts::{Part, Place, identity, parts, target};
use crate::json::{MAX_DEPTH, is_deeper_than};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Largest schema, as JSON text.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Most patterns of a schema.
pub const MAX_PATTERNS: usize = 64;
/// Longest pattern in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// Most references of a schema.
const MAX_REFERENCES: usize = 1024;
/// Most schemas that a schema unfolds to, when its references are followed until they come round.
const MAX_VISITS: u64 = 20_000;
/// Most schemas inside each other, references followed.
const MAX_LEVELS: u32 = 256;

/// Keywords that change what a reference means; they are taken at the root or nowhere.
const AT_THE_ROOT: [&str; 3] = ["$id", "$schema", "$anchor"];
const NOWHERE: [&str; 5] = ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"];

/// What the compiler needs to know of a schema that is within its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patterns {
    None,
    Some,
}

/// Is the schema within its budget?
pub(super) fn check(root: &Value) -> Result<Patterns, String> {
    if is_deeper_than(root, MAX_DEPTH) {
        return Err(format!("it is nested deeper than {MAX_DEPTH}"));
    }
    let size = root.to_string().len();
    if size > MAX_SCHEMA_BYTES {
        return Err(format!("it is {size} bytes; at most {MAX_SCHEMA_BYTES} are taken"));
    }
    let survey = Survey::of(root)?;
    let mut weights = Weights { root, known: HashMap::new(), open: HashSet::new() };
    for schema in &survey.schemas {
        weights.weigh(schema, 0)?;
    }
    let recursive = survey.recursive()?;
    let starts = recursive.iter().filter_map(|id| survey.targets.get(id).copied());
    for start in std::iter::once(root).chain(starts) {
        Unfolding { root, recursive: &recursive, visits: 0, choices: 0 }.unfold(&[start], 0)?;
    }
    Ok(if survey.patterns == 0 { Patterns::None } else { Patterns::Some })
}

/// Every schema of the document, each once.
struct Survey<'s> {
    root: &'s Value,
    schemas: Vec<&'s Value>,
    /// What references lead to.
    targets: BTreeMap<usize, &'s Value>,
    patterns: usize,
}

impl<'s> Survey<'s> {
    fn of(root: &'s Value) -> Result<Self, String> {
        let mut survey = Self { root, schemas: Vec::new(), targets: BTreeMap::new(), patterns: 0 };
        let is_draft_4 = root.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"));
        let (mut todo, mut seen, mut references) = (vec![root], HashSet::new(), 0_usize);
        while let Some(schema) = todo.pop() {
            let Value::Object(map) = schema else { continue };
            if !seen.insert(identity(schema)) {
                continue;
            }
            let is_root = std::ptr::eq(schema, root);
            check_keywords(map, is_root)?;
            if is_draft_4 && !is_root && map.get("id").is_some_and(Value::is_string) {
                return Err("`id` is taken at the root of a schema only".to_owned());
            }
            survey.count_patterns(map)?;
            survey.schemas.push(schema);
            for part in parts(map) {
                todo.push(match part {
                    Part::Here(one) | Part::Choice(one) | Part::Below(_, one) | Part::Definition(one) => one,
                    Part::Reference(reference) => {
                        references += 1;
                        if references > MAX_REFERENCES {
                            return Err(format!("it has more than {MAX_REFERENCES} references"));
                        }
                        let target = target(root, reference)?;
                        survey.targets.insert(identity(target), target);
                        target
                    }
                });
            }
        }
        Ok(survey)
    }

    fn count_patterns(&mut self, map: &Map<String, Value>) -> Result<(), String> {
        let own = map.get("pattern").and_then(Value::as_str);
        let of_names = map.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        for pattern in own.into_iter().chain(of_names.map(String::as_str)) {
            self.patterns += 1;
            if pattern.len() > MAX_PATTERN_BYTES {
                return Err(format!("a pattern is {} bytes; at most {MAX_PATTERN_BYTES} are taken", pattern.len()));
            }
        }
        if self.patterns > MAX_PATTERNS {
            return Err(format!("it has more than {MAX_PATTERNS} patterns"));
        }
        Ok(())
    }

    /// The targets that lead back to themselves.
    fn recursive(&self) -> Result<BTreeSet<usize>, String> {
        let mut edges: HashMap<usize, Vec<usize>> = HashMap::new();
        for (id, schema) in &self.targets {
            edges.insert(*id, self.references_within(schema)?);
        }
        let comes_round = |start: usize| {
            let (mut todo, mut seen) = (edges.get(&start).cloned().unwrap_or_default(), HashSet::new());
            while let Some(next) = todo.pop() {
                if next == start {
                    return true;
                }
                if seen.insert(next) {
                    todo.extend(edges.get(&next).into_iter().flatten());
                }
            }
            false
        };
        Ok(self.targets.keys().copied().filter(|id| comes_round(*id)).collect())
    }

    fn references_within(&self, schema: &'s Value) -> Result<Vec<usize>, String> {
        let (mut todo, mut found) = (vec![schema], BTreeSet::new());
        while let Some(next) = todo.pop() {
            let Value::Object(map) = next else { continue };
            for part in parts(map) {
                match part {
                    Part::Here(one) | Part::Choice(one) | Part::Below(_, one) => todo.push(one),
                    Part::Definition(_) => {}
                    Part::Reference(reference) => {
                        found.insert(identity(target(self.root, reference)?));
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

fn check_keywords(map: &Map<String, Value>, is_root: bool) -> Result<(), String> {
    if let Some(keyword) = NOWHERE.iter().find(|keyword| map.contains_key(**keyword)) {
        return Err(format!("`{keyword}` is not taken; refer to `#/$defs/…` with `$ref`"));
    }
    match AT_THE_ROOT.iter().find(|keyword| !is_root && map.contains_key(**keyword)) {
        Some(keyword) => Err(format!("`{keyword}` is taken at the root of a schema only")),
        None => Ok(()),
    }
}

/// How many schemas one and the same value is held against.
struct Weights<'s> {
    root: &'s Value,
    known: HashMap<usize, (u64, u32)>,
    open: HashSet<usize>,
}

impl<'s> Weights<'s> {
    /// How many, and how many inside each other.
    fn weigh(&mut self, schema: &'s Value, level: u32) -> Result<(u64, u32), String> {
        let Value::Object(map) = schema else { return Ok((1, 1)) };
        let id = identity(schema);
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        if !self.open.insert(id) {
            return Err("a `$ref` leads back to itself without going down into the value".to_owned());
        }
        if level >= MAX_LEVELS {
            return Err(too_deep());
        }
        let (mut weight, mut height) = (1_u64, 0);
        for part in parts(map) {
            let next = match part {
                Part::Here(one) | Part::Choice(one) => one,
                Part::Reference(reference) => target(self.root, reference)?,
                Part::Below(..) | Part::Definition(_) => continue,
            };
            let (more, higher) = self.weigh(next, level + 1)?;
            (weight, height) = (weight.saturating_add(more), height.max(higher));
        }
        if weight > MAX_VISITS {
            return Err(too_much());
        }
        if height >= MAX_LEVELS {
            return Err(too_deep());
        }
        self.open.remove(&id);
        self.known.insert(id, (weight, height + 1));
        Ok((weight, height + 1))
    }
}

/// Follows a schema down into a value that has everything it speaks of, each recursive reference once.
struct Unfolding<'a, 's> {
    root: &'s Value,
    recursive: &'a BTreeSet<usize>,
    visits: u64,
    choices: usize,
}

impl<'s> Unfolding<'_, 's> {
    /// `together` are the schemas that one place of the value is held against.
    fn unfold(&mut self, together: &[&'s Value], level: u32) -> Result<(), String> {
        if level >= MAX_LEVELS {
            return Err(too_deep());
        }
        // Alternatives may each speak of the same place in their own way; what holds at once may not double.
        let mut below: BTreeMap<(usize, Place<'s>), Vec<&'s Value>> = BTreeMap::new();
        let mut entered = HashSet::new();
        let mut todo: Vec<(usize, &'s Value)> = together.iter().map(|schema| (0, *schema)).collect();
        while let Some((choice, schema)) = todo.pop() {
            self.visits += 1;
            if self.visits > MAX_VISITS {
                return Err(too_much());
            }
            let Value::Object(map) = schema else { continue };
            for part in parts(map) {
                match part {
                    Part::Here(one) => todo.push((choice, one)),
                    Part::Choice(one) => {
                        self.choices += 1;
                        todo.push((self.choices, one));
                    }
                    Part::Below(place, one) => below.entry((choice, place)).or_default().push(one),
                    Part::Definition(_) => {}
                    Part::Reference(reference) => {
                        let target = target(self.root, reference)?;
                        if !self.recursive.contains(&identity(target)) {
                            todo.push((choice, target));
                        } else if !entered.insert(identity(target)) {
                            let shown = crate::text::truncated(reference.to_owned(), 100);
                            return Err(format!(
                                "a value is held against the recursive `{shown}` more than once, so that the work \
                                 doubles with every level of the value"
                            ));
                        }
                    }
                }
            }
        }
        below.values().try_for_each(|together| self.unfold(together, level + 1))
    }
}

fn too_much() -> String {
    format!("its references unfold to more than {MAX_VISITS} schemas; refer to each definition once")
}

fn too_deep() -> String {
    format!("its references unfold to more than {MAX_LEVELS} schemas inside each other")
}
