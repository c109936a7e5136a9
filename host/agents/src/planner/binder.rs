//! Binds the inputs of chosen skills: from the campaign's inputs, from each other's outputs, from the goal's own words
//! and numbers.
//!
//! A required input that nothing provides gets a producing skill put before it, if one can work with what is there, and
//! otherwise becomes a question; values are never made up, and no skill that changes the outside world is ever added by
//! itself. Pure: it reads nothing and writes nothing. Called by the decomposer.

use super::catalogue::Catalogue;
use super::clauses::{Clause, Quantity, Rank, canonical_unit};
use super::decomposer::short;
use super::schema::{self, Need, Place, Property};
use super::words::{identifier_stems, is_content, stem, stems, words};
use chimera_core::campaign::Campaign;
use chimera_core::manifest::Effects;
use chimera_core::plan::{MAX_STEPS, Plan, PlannedStep, Question};
use chimera_core::skill::SkillVersion;
use chimera_core::template::Template;
use chimera_core::text::truncated;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How deep a chain of added producers may be.
const MAX_CHAIN: usize = 4;
/// How many producers are tried for one input.
const MAX_PRODUCERS: usize = 6;
/// Names of inputs that want the owner's words.
const WANTS_GOAL: &[&str] = &["brief", "goal", "instruction", "objectiv", "prompt", "request", "task"];

/// A part of a goal with the skill chosen for it.
#[derive(Debug, Clone)]
pub(crate) struct Part<'c> {
    /// The skill version.
    pub(crate) version: &'c SkillVersion,
    /// The owner's words.
    text: String,
    quantities: Vec<Quantity>,
    reason: String,
}

impl<'c> Part<'c> {
    /// A part with the reason for its skill.
    pub(crate) fn new(clause: &Clause, version: &'c SkillVersion, reason: String) -> Self {
        Self { version, text: clause.full_text(), quantities: clause.quantities.clone(), reason }
    }

    /// Takes in the next part, which wants the same skill.
    pub(crate) fn merge(&mut self, next: Self) {
        self.text = format!("{}; {}", self.text, next.text);
        self.reason = format!("{} {}", self.reason, next.reason);
        for quantity in next.quantities {
            if !self.quantities.iter().any(|held| held.unit == quantity.unit) {
                self.quantities.push(quantity);
            }
        }
    }
}

/// Where a bound value comes from.
#[derive(Debug, Clone)]
struct Binding {
    template: Value,
    source: String,
}

/// A step that is being bound.
#[derive(Debug)]
struct Draft<'c> {
    key: String,
    part: Part<'c>,
    bindings: BTreeMap<String, Binding>,
    depends_on: BTreeSet<usize>,
    notes: Vec<String>,
}

/// Binds parts into a plan.
pub(crate) struct Binder<'a, 'c> {
    campaign: &'a Campaign,
    catalogue: &'c Catalogue,
    background: Vec<String>,
    drafts: Vec<Draft<'c>>,
    /// Indices of `drafts` in the order in which they are to be done.
    order: Vec<usize>,
    questions: Vec<Question>,
}

impl<'a, 'c> Binder<'a, 'c> {
    /// A binder for one campaign; `background` are the parts of its goal that are no instructions.
    pub(crate) fn new(campaign: &'a Campaign, catalogue: &'c Catalogue, background: Vec<String>) -> Self {
        Self { campaign, catalogue, background, drafts: Vec::new(), order: Vec::new(), questions: Vec::new() }
    }

    /// Binds every part; the plan still wants [`Plan::check`].
    pub(crate) fn bind(mut self, parts: Vec<Part<'c>>) -> Plan {
        for part in parts {
            let index = self.add(part);
            self.order.push(index);
        }
        let said: Vec<usize> = self.order.clone();
        for index in said.iter().copied() {
            self.bind_step(index, 0);
        }
        self.order_effects(&said);
        self.into_plan()
    }

    fn add(&mut self, part: Part<'c>) -> usize {
        let base = part.version.skill.name.name();
        let taken = |key: &str| self.drafts.iter().any(|draft| draft.key == key);
        let mut key = base.to_owned();
        let mut count = 2;
        while taken(&key) {
            key = format!("{base}-{count}");
            count += 1;
        }
        self.drafts.push(Draft {
            key,
            part,
            bindings: BTreeMap::new(),
            depends_on: BTreeSet::new(),
            notes: Vec::new(),
        });
        self.drafts.len() - 1
    }

    fn bind_step(&mut self, index: usize, depth: usize) {
        let version = self.drafts[index].part.version;
        let root = &version.manifest.io.input;
        let mut used_units = BTreeSet::new();
        for property in schema::properties(root) {
            let mut misfit = None;
            let binding = self
                .by_campaign(index, property, &mut misfit)
                .or_else(|| self.by_step(index, property))
                .or_else(|| self.by_numbers(index, property, &mut used_units))
                .or_else(|| self.by_words(index, property))
                .or_else(|| default_of(property));
            let binding = match (binding, property.need) {
                (Some(binding), _) => Some(binding),
                (None, Need::Required) => {
                    let produced = if misfit.is_none() { self.by_new_step(index, property, depth) } else { None };
                    Some(produced.unwrap_or_else(|| self.ask(index, property, misfit.as_deref())))
                }
                (None, Need::Optional) => {
                    if let Some(problem) = misfit {
                        let note = format!("the campaign's `{}` was left out: {problem}", property.name);
                        self.drafts[index].notes.push(note);
                    }
                    None
                }
            };
            if let Some(binding) = binding {
                self.drafts[index].bindings.insert(property.name.to_owned(), binding);
            }
        }
        let unused: Vec<String> = self.drafts[index]
            .part
            .quantities
            .iter()
            .filter(|quantity| !used_units.contains(&quantity.unit))
            .map(|quantity| format!("{} {}", quantity.most, quantity.unit))
            .collect();
        if !unused.is_empty() {
            let note = format!("no input of the skill takes the limit {}", unused.join(", "));
            self.drafts[index].notes.push(note);
        }
    }

    /// A campaign input of that name, if it is valid for the property. A step that was given it and passes it on
    /// changed comes first.
    fn by_campaign(&self, index: usize, property: Property<'_>, misfit: &mut Option<String>) -> Option<Binding> {
        let root = &self.drafts[index].part.version.manifest.io.input;
        let (name, value) = find_named(&self.campaign.inputs, property.name)?;
        if let Err(problem) = schema::check_property(root, property.schema, value) {
            *misfit = Some(truncated(problem, 400));
            return None;
        }
        let passes_on = |producer: usize| {
            self.drafts[producer].bindings.contains_key(property.name)
                && self.gives(producer, index, property).is_some()
        };
        if self.before(index).any(passes_on) {
            return None;
        }
        Some(Binding { template: Template::input(name, ""), source: format!("campaign input `{name}`") })
    }

    /// The latest earlier step that gives it; for a required one also a later step, which then comes first.
    fn by_step(&mut self, index: usize, property: Property<'_>) -> Option<Binding> {
        let earlier: Vec<usize> = self.before(index).collect();
        let mut producer = earlier.into_iter().rev().find(|other| self.gives(*other, index, property).is_some());
        if producer.is_none() && property.need == Need::Required {
            let later: Vec<usize> = self.after(index).collect();
            producer = later
                .into_iter()
                .rev()
                .filter(|other| !self.reaches(*other, index))
                .find(|other| self.gives(*other, index, property).is_some());
        }
        let producer = producer?;
        let field = self.gives(producer, index, property)?;
        self.drafts[index].depends_on.insert(producer);
        Some(self.bind_to(producer, &field))
    }

    fn bind_to(&self, producer: usize, field: &str) -> Binding {
        let key = &self.drafts[producer].key;
        let pointer = format!("/{}", field.replace('~', "~0").replace('/', "~1"));
        Binding { template: Template::step(key, &pointer), source: format!("`{field}` of step `{key}`") }
    }

    /// The output of `producer` that has the property's name and fits it.
    fn gives(&self, producer: usize, consumer: usize, property: Property<'_>) -> Option<String> {
        let given = &self.drafts[producer].part.version.manifest.io.output;
        let taken = &self.drafts[consumer].part.version.manifest.io.input;
        field_that_fits(given, taken, property)
    }

    fn before(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        self.order.iter().copied().take_while(move |other| *other != index)
    }

    fn after(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        self.order.iter().copied().skip_while(move |other| *other != index).skip(1)
    }

    /// Does `from` wait, directly or not, for `to`?
    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                open.extend(self.drafts[next].depends_on.iter().copied());
            }
        }
        false
    }

    /// A number of the goal that limits what the property limits.
    fn by_numbers(&self, index: usize, property: Property<'_>, used: &mut BTreeSet<String>) -> Option<Binding> {
        let part = &self.drafts[index].part;
        let quantity = matching_quantity(&part.version.manifest.io.input, property, &part.quantities)?;
        schema::check_property(&part.version.manifest.io.input, property.schema, &json!(quantity.most)).ok()?;
        used.insert(quantity.unit.clone());
        Some(Binding { template: json!(quantity.most), source: format!("{}, from the goal", quantity.most) })
    }

    /// The owner's words, for an input that is made for them. An optional one gets them only when they say more than
    /// that the skill is to do what it does.
    fn by_words(&self, index: usize, property: Property<'_>) -> Option<Binding> {
        let part = &self.drafts[index].part;
        let root = &part.version.manifest.io.input;
        let name = identifier_stems(property.name);
        if !wants_words(property.name) || !schema::admits(root, property.schema, "string") {
            return None;
        }
        let whole_goal = name.iter().any(|stem| stem == "goal" || stem == "objectiv");
        let mut text = if whole_goal { self.campaign.goal.clone() } else { part.text.clone() };
        if property.need == Need::Optional && !whole_goal && !says_more(&part.text, part.version) {
            text.clear();
        }
        for more in self.background.iter().filter(|_| !whole_goal) {
            text.push_str(if text.is_empty() { "" } else { ". " });
            text.push_str(more);
        }
        if text.is_empty() || schema::check_property(root, property.schema, &json!(text)).is_err() {
            return None;
        }
        let source = format!("the goal's words “{}”", short(&text));
        Some(Binding { template: json!(text), source })
    }

    /// Puts a skill before this step that makes the missing input out of what is there.
    fn by_new_step(&mut self, index: usize, property: Property<'_>, depth: usize) -> Option<Binding> {
        if depth >= MAX_CHAIN || self.drafts.len() >= MAX_STEPS {
            return None;
        }
        let consumer = self.drafts[index].part.version;
        let visited = BTreeSet::new();
        let producer = self.cheapest_producer(consumer, property, index, &visited, depth)?;
        let reason = format!(
            "{} was added although the goal does not name it: `{}` needs `{}`, and it makes that from what is there.",
            producer.skill, consumer.skill.name, property.name
        );
        let text = producer.manifest.skill.summary.clone();
        let new = self.add(Part { version: producer, text, quantities: Vec::new(), reason });
        let place = self.order.iter().position(|other| *other == index).unwrap_or(self.order.len());
        self.order.insert(place, new);
        self.bind_step(new, depth + 1);
        let field = self.gives(new, index, property)?;
        self.drafts[index].depends_on.insert(new);
        Some(self.bind_to(new, &field))
    }

    /// The producer of a property that needs no question and the fewest further steps.
    fn cheapest_producer(
        &self,
        consumer: &'c SkillVersion,
        property: Property<'_>,
        index: usize,
        visited: &BTreeSet<String>,
        depth: usize,
    ) -> Option<&'c SkillVersion> {
        let mut best: Option<(usize, &'c SkillVersion)> = None;
        for candidate in self.producers(consumer, property, visited) {
            let mut visited = visited.clone();
            visited.insert(candidate.skill.name.to_string());
            if let Some(steps) = self.steps_needed(candidate, index, &visited, depth + 1)
                && best.is_none_or(|(fewest, _)| steps < fewest)
            {
                best = Some((steps, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }

    fn producers(
        &self,
        consumer: &'c SkillVersion,
        property: Property<'_>,
        visited: &BTreeSet<String>,
    ) -> Vec<&'c SkillVersion> {
        let catalogue: &'c Catalogue = self.catalogue;
        let planned: BTreeSet<&str> = self.drafts.iter().map(|draft| draft.part.version.skill.name.as_str()).collect();
        catalogue
            .all()
            .filter(|version| version.manifest.skill.effects != Effects::Write)
            .filter(|version| version.skill.name != consumer.skill.name)
            .filter(|version| !planned.contains(version.skill.name.as_str()))
            .filter(|version| !visited.contains(version.skill.name.as_str()))
            .filter(|version| {
                field_that_fits(&version.manifest.io.output, &consumer.manifest.io.input, property).is_some()
            })
            .take(MAX_PRODUCERS)
            .collect()
    }

    /// How many further steps a candidate before `index` would need; none if it would need a question.
    fn steps_needed(
        &self,
        candidate: &'c SkillVersion,
        index: usize,
        visited: &BTreeSet<String>,
        depth: usize,
    ) -> Option<usize> {
        let root = &candidate.manifest.io.input;
        let mut steps = 1;
        for property in schema::properties(root).into_iter().filter(|property| property.need == Need::Required) {
            let from_campaign = find_named(&self.campaign.inputs, property.name)
                .is_some_and(|(_, value)| schema::check_property(root, property.schema, value).is_ok());
            let from_step = || {
                self.before(index).any(|producer| {
                    let given = &self.drafts[producer].part.version.manifest.io.output;
                    field_that_fits(given, root, property).is_some()
                })
            };
            let from_words = wants_words(property.name) && schema::admits(root, property.schema, "string");
            if from_campaign || from_words || from_step() || property.schema.get("default").is_some() {
                continue;
            }
            if depth >= MAX_CHAIN {
                return None;
            }
            let producer = self.cheapest_producer(candidate, property, index, visited, depth)?;
            let mut visited = visited.clone();
            visited.insert(producer.skill.name.to_string());
            steps += self.steps_needed(producer, index, &visited, depth + 1)?;
        }
        Some(steps)
    }

    fn ask(&mut self, index: usize, property: Property<'_>, misfit: Option<&str>) -> Binding {
        let draft = &self.drafts[index];
        let version = draft.part.version;
        let key = format!("{}-{}", draft.key, identifier_key(property.name));
        let about = property
            .schema
            .get("description")
            .and_then(Value::as_str)
            .map_or_else(String::new, |text| format!(" ({})", truncated(text.replace('\n', " "), 200)));
        let text = match misfit {
            Some(problem) => format!(
                "The campaign's `{}` does not fit step `{}` ({}): {problem}. What shall it be?",
                property.name, draft.key, version.skill
            ),
            None => format!(
                "Step `{}` ({}) needs `{}`{about}, and nothing in the campaign gives it. What shall it be?",
                draft.key, version.skill, property.name
            ),
        };
        let schema = schema::standalone(&version.manifest.io.input, property.schema);
        self.questions.push(Question { key: key.clone(), step: Some(draft.key.clone()), text, schema });
        Binding { template: Template::answer(&key), source: "a human's answer".to_owned() }
    }

    /// What changes the outside world comes after everything that was said before it.
    fn order_effects(&mut self, said: &[usize]) {
        for (place, index) in said.iter().enumerate() {
            let is_effect = self.drafts[*index].part.version.manifest.skill.effects == Effects::Write;
            for before in said[..place].iter().filter(|_| is_effect) {
                if !self.reaches(*before, *index) {
                    self.drafts[*index].depends_on.insert(*before);
                }
            }
        }
    }

    fn into_plan(self) -> Plan {
        let keys: Vec<String> = self.drafts.iter().map(|draft| draft.key.clone()).collect();
        let mut drafts: Vec<Option<Draft<'c>>> = self.drafts.into_iter().map(Some).collect();
        let steps = self
            .order
            .into_iter()
            .filter_map(|index| drafts.get_mut(index).and_then(Option::take))
            .map(|draft| draft.into_step(&keys))
            .collect();
        Plan { steps, questions: self.questions }
    }
}

impl Draft<'_> {
    fn into_step(self, keys: &[String]) -> PlannedStep {
        let version = self.part.version;
        let sources: Vec<String> =
            self.bindings.iter().map(|(name, binding)| format!("{name} ← {}", binding.source)).collect();
        let mut reason = self.part.reason;
        if !sources.is_empty() {
            reason.push_str(&format!(" Inputs: {}.", sources.join("; ")));
        }
        if !self.notes.is_empty() {
            reason.push_str(&format!(" Note: {}.", self.notes.join("; ")));
        }
        let input: Map<String, Value> =
            self.bindings.into_iter().map(|(name, binding)| (name, binding.template)).collect();
        PlannedStep {
            key: self.key,
            title: short(&self.part.text),
            skill: version.skill.clone(),
            input: Template(Value::Object(input)),
            depends_on: self.depends_on.iter().filter_map(|index| keys.get(*index).cloned()).collect(),
            reason,
            expect: None,
            limits: version.manifest.limits,
        }
    }
}

/// Is the input made for the owner's words, by its name?
fn wants_words(name: &str) -> bool {
    identifier_stems(name).last().is_some_and(|last| WANTS_GOAL.contains(&last.as_str()))
}

fn default_of(property: Property<'_>) -> Option<Binding> {
    let default = property.schema.get("default").filter(|_| property.need == Need::Required)?;
    Some(Binding { template: default.clone(), source: "the skill's default".to_owned() })
}

/// The output property of the same name (or the same but for its number) that fits an input property.
pub(crate) fn field_that_fits(given: &Value, taken: &Value, property: Property<'_>) -> Option<String> {
    let outputs = schema::properties(given);
    let fits = |output: &Property<'_>| {
        schema::fits(Place { root: given, schema: output.schema }, Place { root: taken, schema: property.schema })
            && output.need == Need::Required
    };
    let same = outputs.iter().find(|output| output.name == property.name).filter(|output| fits(output));
    let alike = || outputs.iter().find(|output| same_but_number(output.name, property.name) && fits(output));
    same.or_else(alike).map(|output| output.name.to_owned())
}

fn find_named<'m>(inputs: &'m Map<String, Value>, name: &str) -> Option<(&'m str, &'m Value)> {
    inputs
        .get_key_value(name)
        .or_else(|| inputs.iter().find(|(other, _)| same_but_number(other, name)))
        .map(|(name, value)| (name.as_str(), value))
}

fn same_but_number(a: &str, b: &str) -> bool {
    let (a, b) = (identifier_stems(a), identifier_stems(b));
    !a.is_empty() && a == b
}

fn identifier_key(name: &str) -> String {
    let key: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    truncated(key, 48)
}

/// The quantity that an integer property limits: by its name, else by its description.
fn matching_quantity<'q>(root: &Value, property: Property<'_>, quantities: &'q [Quantity]) -> Option<&'q Quantity> {
    let is_number = schema::admits(root, property.schema, "integer") || schema::admits(root, property.schema, "number");
    if !is_number {
        return None;
    }
    let name: Vec<String> = identifier_stems(property.name).iter().map(|stem| canonical_unit(stem)).collect();
    if name.first().is_some_and(|first| first == "min" || first == "least") {
        return None;
    }
    let by_name = quantities.iter().find(|quantity| name.contains(&quantity.unit));
    let limits = ["max", "limit", "most", "top", "count", "n", "length"];
    let is_limit = name.iter().any(|stem| limits.contains(&stem.as_str()));
    let about: BTreeSet<String> = property
        .schema
        .get("description")
        .and_then(Value::as_str)
        .map(|text| stems(text).iter().map(|stem| canonical_unit(stem)).collect())
        .unwrap_or_default();
    by_name.or_else(|| quantities.iter().find(|quantity| is_limit && about.contains(&quantity.unit))).or_else(|| {
        let ranks = name.iter().any(|stem| stem == "top" || stem == "limit");
        quantities.iter().find(|quantity| ranks && quantity.rank == Rank::Top)
    })
}

/// Does the text say more than that the skill is to do what it does?
fn says_more(text: &str, version: &SkillVersion) -> bool {
    let manifest = &version.manifest;
    let mut known: BTreeSet<String> = stems(&manifest.skill.summary);
    known.extend(identifier_stems(version.skill.name.name()));
    known.extend(manifest.skill.keywords.iter().chain(&manifest.skill.examples).flat_map(|text| stems(text)));
    for schema in [&manifest.io.input, &manifest.io.output] {
        known.extend(schema::properties(schema).iter().flat_map(|property| identifier_stems(property.name)));
    }
    let limits = [
        "character",
        "char",
        "word",
        "sentenc",
        "hashtag",
        "short",
        "long",
        "short",
        "keep",
        "least",
        "under",
        "limit",
    ];
    words(text)
        .iter()
        .filter(|word| is_content(word))
        .map(|word| stem(word))
        .any(|stem| !known.contains(&stem) && !limits.contains(&stem.as_str()))
}
