//! Binds the steps that a campaign's owner wrote down, exactly as they are written.
//!
//! It finds the skill version, reads the references, and tells at once what could only fail later: an input the skill
//! does not take, a missing one, an output that no step gives. It adds nothing of its own. Called by the decomposer.

use super::campaign_file::{ExplicitStep, LimitsWish};
use super::catalogue::{Catalogue, list_names};
use super::schema::{self, Need};
use chimera_core::plan::{Plan, PlannedStep};
use chimera_core::skill::SkillVersion;
use chimera_core::template::{Reference, Template};
use chimera_core::text::truncated;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Binds explicit steps.
///
/// # Errors
/// The first problem, as a sentence that names step and field and says what to write.
pub(crate) fn bind(steps: &[ExplicitStep], inputs: &Map<String, Value>, catalogue: &Catalogue) -> Result<Plan, String> {
    let mut chosen: BTreeMap<&str, &SkillVersion> = BTreeMap::new();
    for step in steps {
        let version = catalogue.require(&step.skill).map_err(|problem| format!("step `{}`: {problem}", step.id))?;
        chosen.insert(&step.id, version);
    }
    let mut plan = Plan::default();
    for step in steps {
        let Some(version) = chosen.get(step.id.as_str()) else { continue };
        let input = Template::from_yaml_value(Value::Object(step.input.clone()))
            .map_err(|problem| format!("step `{}`: input: {problem}", step.id))?;
        check_input(step, version, &input, inputs)?;
        check_references(step, &input, &chosen)?;
        plan.steps.push(PlannedStep {
            key: step.id.clone(),
            title: step.title.clone().unwrap_or_else(|| version.manifest.skill.summary.clone()),
            skill: version.skill.clone(),
            input,
            depends_on: step.depends_on.clone(),
            reason: format!("The campaign names `{}`; {} is the newest that fits.", step.skill, version.skill),
            expect: step.expect.clone(),
            limits: step.limits.unwrap_or(LimitsWish::default()).within(version.manifest.limits),
        });
    }
    Ok(plan)
}

fn check_input(
    step: &ExplicitStep,
    version: &SkillVersion,
    input: &Template,
    inputs: &Map<String, Value>,
) -> Result<(), String> {
    let schema = &version.manifest.io.input;
    let Some(given) = input.0.as_object() else { return Ok(()) };
    let known = schema::properties(schema);
    let list = || list_names(&known.iter().map(|property| property.name.to_owned()).collect::<Vec<_>>());
    if let Some(missing) = known.iter().find(|property| {
        property.need == Need::Required
            && !given.contains_key(property.name)
            && property.schema.get("default").is_none()
    }) {
        let name = missing.name;
        let offer =
            if inputs.contains_key(name) { format!(": write `{name}: ${{inputs.{name}}}`") } else { String::new() };
        return Err(format!("step `{}`: input: `{}` needs `{name}`{offer}", step.id, version.skill));
    }
    for (name, value) in given {
        let Some(property) = known.iter().find(|property| property.name == name.as_str()) else {
            if schema::resolve(schema, schema).get("additionalProperties") == Some(&Value::Bool(false)) {
                return Err(format!(
                    "step `{}`: input: `{}` takes no `{name}`; it takes {}",
                    step.id,
                    version.skill,
                    list()
                ));
            }
            continue;
        };
        let literal = Template(value.clone()).references().is_empty();
        let whole_input = match as_whole_input(value) {
            Some(input_name) => inputs.get(&input_name),
            None => literal.then_some(value),
        };
        if let Some(value) = whole_input {
            schema::check_property(schema, property.schema, value).map_err(|problem| {
                format!(
                    "step `{}`: input.{name} does not fit `{}`: {}",
                    step.id,
                    version.skill,
                    truncated(problem, 400)
                )
            })?;
        }
    }
    Ok(())
}

/// The campaign input that a template stands for, when it stands for the whole of it.
fn as_whole_input(value: &Value) -> Option<String> {
    match Template(value.clone()).references().as_slice() {
        [Reference::Input(name, at)] if at.is_empty() && value.get("$input").is_some() => Some(name.clone()),
        _ => None,
    }
}

fn check_references(
    step: &ExplicitStep,
    input: &Template,
    chosen: &BTreeMap<&str, &SkillVersion>,
) -> Result<(), String> {
    for reference in input.references() {
        let Reference::Step(key, at) = reference else { continue };
        // A step that is not in the plan is the plan's own check to refuse, with a better sentence.
        let Some(producer) = chosen.get(key.as_str()) else { continue };
        let Some(field) = at.split('/').nth(1).map(|part| part.replace("~1", "/").replace("~0", "~")) else { continue };
        let known = schema::properties(&producer.manifest.io.output);
        if !known.is_empty() && !known.iter().any(|property| property.name == field) {
            let names: Vec<String> = known.iter().map(|property| property.name.to_owned()).collect();
            return Err(format!(
                "step `{}`: step `{key}` gives no `{field}`; `{}` gives {}",
                step.id,
                producer.skill,
                list_names(&names)
            ));
        }
    }
    Ok(())
}
