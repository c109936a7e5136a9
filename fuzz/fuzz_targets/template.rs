//! Input templates with any references: lowering and filling never panic, and nothing but references is replaced.
//! Runs nothing.
//! Run by `cargo fuzz run template`.

#![no_main]

use chimera_core::template::{Reference, Scope, Template};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Text that is likely to mean something.
#[derive(Debug, Clone, Arbitrary)]
enum Word {
    Step,
    Input,
    Answer,
    At,
    Name(u8),
    Pointer(u8),
    StepPath(u8, u8),
    InputPath(u8, u8),
    Free(String),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Self::Step => "$step".to_owned(),
            Self::Input => "$input".to_owned(),
            Self::Answer => "$answer".to_owned(),
            Self::At => "at".to_owned(),
            Self::Name(name) => format!("n{}", name % 4),
            Self::Pointer(name) => format!("/n{}", name % 4),
            Self::StepPath(step, field) => format!("${{steps.n{}.output.n{}}}", step % 4, field % 4),
            Self::InputPath(input, field) => format!("${{inputs.n{}.n{}}}", input % 4, field % 4),
            Self::Free(text) => text.clone(),
        }
    }
}

#[derive(Debug, Clone, Arbitrary)]
enum Piece {
    Null,
    Flag(bool),
    Number(i32),
    Text(Word),
    Array(Vec<Piece>),
    Object(Vec<(Word, Piece)>),
}

impl Piece {
    fn value(&self, depth: u8) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Flag(flag) => json!(flag),
            Self::Number(number) => json!(number),
            Self::Text(word) => json!(word.text()),
            Self::Array(_) | Self::Object(_) if depth > 60 => Value::Null,
            Self::Array(items) => items.iter().map(|item| item.value(depth + 1)).collect(),
            Self::Object(entries) => Value::Object(map(entries, depth + 1)),
        }
    }
}

fn map(entries: &[(Word, Piece)], depth: u8) -> Map<String, Value> {
    entries.iter().map(|(key, item)| (key.text(), item.value(depth))).collect()
}

#[derive(Debug, Arbitrary)]
struct Case {
    template: Piece,
    inputs: Vec<(Word, Piece)>,
    outputs: Vec<(Word, Piece)>,
    answers: Vec<(Word, Piece)>,
}

/// How many texts, numbers and flags it holds.
fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(leaves).sum(),
        Value::Object(map) => map.values().map(leaves).sum(),
        Value::Null => 0,
        _ => 1,
    }
}

/// How many of them are no part of a reference.
fn literals(value: &Value) -> usize {
    match value {
        _ if is_reference(value) => 0,
        Value::Array(items) => items.iter().map(literals).sum(),
        Value::Object(map) => map.values().map(literals).sum(),
        leaf => leaves(leaf),
    }
}

/// Is it one reference and nothing else? A reference to the whole may leave its empty pointer out.
fn is_reference(value: &Value) -> bool {
    let found = Template(value.clone()).references();
    let [reference] = found.as_slice() else { return false };
    let full = reference_value(reference);
    let mut short = full.clone();
    if let Value::Object(map) = &mut short
        && map.get("at").is_some_and(|at| at == "")
    {
        map.remove("at");
    }
    [full, short].contains(value)
}

fn reference_value(reference: &Reference) -> Value {
    match reference {
        Reference::Step(key, at) => Template::step(key, at),
        Reference::Input(name, at) => Template::input(name, at),
        Reference::Answer(question) => Template::answer(question),
    }
}

fuzz_target!(|case: Case| {
    let raw = case.template.value(0);
    let Ok(template) = Template::from_yaml_value(raw) else { return };
    let again = Template::from_yaml_value(template.0.clone()).expect("what was lowered has no `${…}` left");
    assert_eq!(again, template, "lowering twice is lowering once");

    let inputs = map(&case.inputs, 0);
    let outputs: BTreeMap<String, Value> = map(&case.outputs, 0).into_iter().collect();
    let answers = map(&case.answers, 0);
    let scope = Scope { inputs: &inputs, outputs: &outputs, answers: &answers };
    let references = template.references();
    let filled: Vec<_> =
        references.iter().map(|reference| Template(reference_value(reference)).resolve(scope)).collect();
    let resolved = template.resolve(scope);
    assert_eq!(resolved.is_ok(), filled.iter().all(Result::is_ok), "a template fails with its references only");
    let Ok(resolved) = resolved else { return };
    if references.is_empty() {
        assert_eq!(resolved, template.0, "what is no reference is literal");
    }
    let put_in: usize = filled.iter().flatten().map(leaves).sum();
    assert_eq!(leaves(&resolved), literals(&template.0) + put_in, "something literal was lost: {:#}", template.0);
});
