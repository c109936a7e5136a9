//! Plans and campaigns: any graph of steps is done in order, each step once.

#![allow(clippy::unwrap_used)]

mod support;

use chimera_core::campaign::{CampaignState, CampaignView, advance};
use chimera_core::change::{Change, Guard, Write};
use chimera_core::ids::{SequentialIds, TaskId};
use chimera_core::plan::{MAX_STEPS, Plan, PlanError, Question, StepState};
use chimera_core::task::TaskState;
use chimera_core::template::{Scope, Template, TemplateError};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::{campaign, context, outcome, pick, planned, step};

/// For each step the steps before it that it needs.
fn graph() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
    (1..12_usize).prop_flat_map(|count| {
        (0..count).map(|at| prop::collection::btree_set(0..at.max(1), 0..=at.min(4))).collect::<Vec<_>>().prop_map(
            |mut needs| {
                needs[0].clear();
                needs
            },
        )
    })
}

fn key(at: usize) -> String {
    format!("s{at}")
}

fn view_of(needs: &[BTreeSet<usize>], ids: &SequentialIds) -> CampaignView {
    let cx = context(ids, 0.5);
    let campaign = campaign(&cx);
    let steps = needs
        .iter()
        .enumerate()
        .map(|(at, needs)| {
            let mut input = Map::new();
            for need in needs {
                input.insert(key(*need), Template::step(&key(*need), "/made"));
            }
            let depends_on = needs.iter().map(|need| key(*need)).collect();
            step(&campaign, planned(&key(at), Value::Object(input), depends_on), at as u32, &cx)
        })
        .collect();
    CampaignView { campaign, steps, tasks: Vec::new() }
}

fn active(view: &CampaignView) -> Vec<TaskId> {
    view.steps.iter().filter(|step| step.state == StepState::Active).filter_map(|step| step.task).collect()
}

fn finish(view: &mut CampaignView, id: TaskId, state: TaskState) {
    let mut task = view.task(id).unwrap().clone();
    let key = view.steps.iter().find(|step| step.task == Some(id)).unwrap().planned.key.clone();
    task.state = state;
    task.outcome = Some(outcome(json!({ "made": key })));
    view.put_task(task);
}

/// Checks what a change starts: every dependency done, its output in the input.
fn check_started(view: &CampaignView, change: &Change, started: &mut BTreeSet<String>) -> Result<(), TestCaseError> {
    let specs: BTreeMap<_, _> = change
        .writes
        .iter()
        .filter_map(|write| match write {
            Write::PutSpec(spec) => Some((spec.id, spec)),
            _ => None,
        })
        .collect();
    for write in &change.writes {
        let Write::PutTask(task) = write else { continue };
        let step = view.steps.iter().find(|step| Some(step.id) == task.step).unwrap();
        prop_assert!(started.insert(step.planned.key.clone()), "{} was started twice", step.planned.key);
        for need in &step.planned.depends_on {
            let needed = view.steps.iter().find(|other| other.planned.key == *need).unwrap();
            prop_assert_eq!(needed.state, StepState::Done);
            prop_assert_eq!(&specs[&task.spec_id].input[need.as_str()], &json!(need));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_step_of_any_graph_is_done_once_and_in_order(needs in graph(), order in prop::collection::vec(any::<usize>(), 12)) {
        let ids = SequentialIds::default();
        let mut view = view_of(&needs, &ids);
        let mut started = BTreeSet::new();
        for turn in order.iter().chain([&0]) {
            let mut change = Change::new();
            let rev = view.campaign.rev;
            advance(&mut view, &mut change, &context(&ids, 0.5));
            check_started(&view, &change, &mut started)?;
            if view.campaign.finished_at.is_none() || !change.guards.is_empty() {
                prop_assert!(change.guards.contains(&Guard::CampaignRev(view.campaign.id, rev)));
                prop_assert_eq!(view.campaign.rev, rev + 1);
            }
            let Some(id) = pick(&active(&view), *turn).copied() else { break };
            finish(&mut view, id, TaskState::Approved);
        }
        prop_assert_eq!(view.campaign.state, CampaignState::Completed);
        prop_assert_eq!(started.len(), needs.len());
        let mut nothing = Change::new();
        advance(&mut view, &mut nothing, &context(&ids, 0.5));
        prop_assert_eq!(nothing, Change::new(), "a campaign that is over stays as it is");
    }

    #[test]
    fn a_rejected_step_ends_the_campaign_and_nothing_after_it_starts(
        needs in graph(), order in prop::collection::vec(any::<usize>(), 12), rejected in any::<usize>(),
    ) {
        let ids = SequentialIds::default();
        let mut view = view_of(&needs, &ids);
        let rejected = key(rejected % needs.len());
        let mut started = BTreeSet::new();
        for turn in order.iter().chain([&0]) {
            let mut change = Change::new();
            advance(&mut view, &mut change, &context(&ids, 0.5));
            check_started(&view, &change, &mut started)?;
            let Some(id) = pick(&active(&view), *turn).copied() else { break };
            let is_rejected = view.steps.iter().any(|step| step.task == Some(id) && step.planned.key == rejected);
            finish(&mut view, id, if is_rejected { TaskState::Rejected } else { TaskState::Approved });
        }
        prop_assert_eq!(view.campaign.state, CampaignState::Rejected);
        prop_assert!(view.steps.iter().all(|step| !matches!(step.state, StepState::Waiting | StepState::Active)));
        for step in view.steps.iter().filter(|step| step.planned.depends_on.contains(&rejected)) {
            prop_assert!(!started.contains(&step.planned.key));
        }
    }

    #[test]
    fn a_plan_is_put_into_an_order_in_which_it_can_be_done(needs in graph(), shuffle in any::<u64>()) {
        let mut steps: Vec<_> = needs
            .iter()
            .enumerate()
            .map(|(at, needs)| planned(&key(at), json!({}), needs.iter().map(|need| key(*need)).collect()))
            .collect();
        steps.sort_by_key(|step| chimera_core::digest::Digest::of(format!("{shuffle}{}", step.key).as_bytes()));
        let plan = Plan { steps, questions: Vec::new() }.check(&Map::new()).unwrap();
        let mut done = BTreeSet::new();
        for step in &plan.steps {
            prop_assert!(step.depends_on.iter().all(|need| done.contains(need)));
            done.insert(step.key.clone());
        }
        prop_assert_eq!(done.len(), needs.len());
    }

    #[test]
    fn a_circle_is_found_and_named(length in 1..10_usize, extra in 0..5_usize) {
        let mut steps: Vec<_> = (0..length)
            .map(|at| planned(&key(at), json!({}), BTreeSet::from([key((at + 1) % length)])))
            .collect();
        steps.extend((0..extra).map(|at| planned(&format!("e{at}"), json!({}), BTreeSet::from([key(0)]))));
        let PlanError::Cycle(circle) = Plan { steps, questions: Vec::new() }.check(&Map::new()).unwrap_err() else {
            return Err(TestCaseError::fail("no circle was found"));
        };
        prop_assert_eq!(circle.first(), circle.last());
        prop_assert_eq!(circle.len(), length + 1);
        let number = |key: &String| key[1..].parse::<usize>().unwrap();
        for pair in circle.windows(2) {
            prop_assert_eq!(number(&pair[1]), (number(&pair[0]) + 1) % length);
        }
    }
}

#[test]
fn a_step_waits_for_its_answer_and_the_campaign_for_its_questions() {
    let ids = SequentialIds::default();
    let cx = context(&ids, 0.5);
    let mut view = view_of(&[BTreeSet::new(), BTreeSet::new()], &ids);
    view.steps[1].planned.input = Template(json!({ "to": Template::answer("whom") }));
    let question = |key: &str| Question { key: key.to_owned(), step: None, text: "?".to_owned(), schema: json!({}) };
    view.campaign.questions = vec![question("whom"), question("why")];
    advance(&mut view, &mut Change::new(), &cx);
    assert_eq!([view.steps[0].state, view.steps[1].state], [StepState::Active, StepState::Waiting]);
    view.campaign.answers.insert("whom".to_owned(), json!("ada"));
    let mut change = Change::new();
    advance(&mut view, &mut change, &cx);
    let input = change.writes.iter().find_map(|write| match write {
        Write::PutSpec(spec) => Some(spec.input.clone()),
        _ => None,
    });
    assert_eq!(input, Some(json!({ "to": "ada" })));
    for id in active(&view) {
        finish(&mut view, id, TaskState::Approved);
    }
    advance(&mut view, &mut Change::new(), &cx);
    assert_eq!(view.campaign.state, CampaignState::Running, "a question is still open");
    view.campaign.answers.insert("why".to_owned(), json!("because"));
    advance(&mut view, &mut Change::new(), &cx);
    assert_eq!(view.campaign.state, CampaignState::Completed);
}

#[test]
fn an_output_without_the_place_referred_to_fails_the_step_with_its_name() {
    let ids = SequentialIds::default();
    let cx = context(&ids, 0.5);
    let mut view = view_of(&[BTreeSet::new(), BTreeSet::from([0])], &ids);
    view.steps[1].planned.input = Template(json!({ "text": Template::step("s0", "/nowhere") }));
    advance(&mut view, &mut Change::new(), &cx);
    let first = active(&view)[0];
    finish(&mut view, first, TaskState::Approved);
    advance(&mut view, &mut Change::new(), &cx);
    assert_eq!((view.campaign.state, view.steps[1].state), (CampaignState::Failed, StepState::Failed));
    let told = view.campaign.failure.unwrap().message;
    assert!(told.contains("step `s1`") && told.contains("/nowhere"), "{told}");
}

#[test]
fn plans_that_cannot_be_scheduled_say_why() {
    let one = |input: Value, needs: &[&str]| planned("a", input, needs.iter().map(|need| (*need).to_owned()).collect());
    let check = |steps: Vec<_>| Plan { steps, questions: Vec::new() }.check(&Map::new()).unwrap_err().to_string();
    assert_eq!(check(Vec::new()), "the plan has no steps");
    assert_eq!(check(vec![one(json!({}), &[]), one(json!({}), &[])]), "two steps are called `a`: rename one");
    assert_eq!(check(vec![one(json!({}), &["b"])]), "step `a` depends on `b`, which is not a step of this plan");
    assert_eq!(
        check(vec![one(json!({ "$input": "feed" }), &[])]),
        "step `a`: there is no campaign input `feed`: add it under `inputs`"
    );
    assert_eq!(check(vec![one(json!({ "$answer": "who" }), &[])]), "step `a`: no question is called `who`");
    assert_eq!(
        check(vec![one(json!({ "x": [{ "$step": "a", "at": "" }] }), &[])]),
        "the steps a → a wait for each other in a circle: remove one of the dependencies"
    );
    let many = (0..=MAX_STEPS).map(|at| planned(&key(at), json!({}), BTreeSet::new())).collect();
    assert_eq!(check(many), "the plan has 65 steps; at most 64 are allowed: split the campaign");
}

#[test]
fn a_template_is_filled_from_inputs_outputs_and_answers() {
    let inputs = json!({ "feed": [{ "text": "hi" }], "max": 280 });
    let outputs = BTreeMap::from([("sum".to_owned(), json!({ "summary": { "a/b": "short" } }))]);
    let answers = json!({ "tone": "dry" });
    let scope = Scope { inputs: inputs.as_object().unwrap(), outputs: &outputs, answers: answers.as_object().unwrap() };
    let template = Template::from_yaml_value(json!({
        "text": "${steps.sum.output.summary.a/b}",
        "max": "${ inputs.max }",
        "first": "${inputs.feed.0.text}",
        "whole": "${steps.sum.output}",
        "tone": { "$answer": "tone" },
        "literal": ["$5", "a ${inputs.max} b", null, { "$step": 1 }],
    }))
    .unwrap();
    assert_eq!(
        template.resolve(scope).unwrap(),
        json!({
            "text": "short", "max": 280, "first": "hi", "whole": { "summary": { "a/b": "short" } }, "tone": "dry",
            "literal": ["$5", "a ${inputs.max} b", null, { "$step": 1 }],
        })
    );
    assert_eq!(template.steps(), BTreeSet::from(["sum".to_owned()]));
    let told = |template: Value| Template(template).resolve(scope).unwrap_err().to_string();
    assert_eq!(told(Template::step("none", "")), "step `none` has no output");
    assert_eq!(told(Template::step("sum", "/x")), "the output of step `sum` has nothing at `/x`");
    assert_eq!(told(Template::input("none", "")), "there is no campaign input `none`");
    assert_eq!(told(Template::input("max", "/x")), "campaign input `max` has nothing at `/x`");
    assert_eq!(told(Template::answer("who")), "question `who` is not answered");
    for wrong in [
        "${}",
        "${inputs}",
        "${inputs.}",
        "${steps.sum}",
        "${steps.sum.input.x}",
        "${env.HOME}",
        "${inputs.a..b}",
        "${inputs.max} and ${inputs.max}",
        "${inputs.${inputs.max}}",
    ] {
        let refused = Template::from_yaml_value(json!({ "x": [wrong] })).unwrap_err();
        assert_eq!(refused, TemplateError::Malformed(wrong.to_owned()));
    }
}

#[test]
fn an_object_that_is_not_exactly_a_reference_is_literal() {
    let inputs = json!({ "max": 280 });
    let scope =
        Scope { inputs: inputs.as_object().unwrap(), outputs: &BTreeMap::new(), answers: inputs.as_object().unwrap() };
    for literal in [
        json!({ "$input": "max", "unit": "characters" }),
        json!({ "$input": "max", "at": 3 }),
        json!({ "$answer": "max", "at": "/x" }),
        json!({ "$step": "none", "$input": "max" }),
    ] {
        let template = Template(literal.clone());
        assert_eq!(template.references(), []);
        assert_eq!(template.resolve(scope), Ok(literal));
    }
}

fn plain_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^$]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,6}", inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_refers_to_nothing_stays_as_it_is(value in plain_json()) {
        let (inputs, outputs) = (Map::new(), BTreeMap::new());
        let scope = Scope { inputs: &inputs, outputs: &outputs, answers: &inputs };
        let template = Template::from_yaml_value(value.clone()).unwrap();
        prop_assert!(template.references().is_empty());
        prop_assert_eq!(template.resolve(scope).unwrap(), value);
    }
}
