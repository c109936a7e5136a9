//! Every attack by name, with what its manifest allows it and what must become of it.
//!
//! A name is the file `NAME.wat` beside this one, or a generator in [`super::bombs`]. The table decides nothing. Read by
//! `tests/hostile.rs`.

use super::{bombs, build};
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What must become of an attack.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// It is not installed, by one of these rules.
    Refused(&'static [&'static str]),
    /// Its task ends as failed, with this kind and one of these codes.
    Failed { kind: &'static str, codes: &'static [&'static str], limit: Option<&'static str> },
    /// A human is asked, after a failure with this kind and code.
    Asked { kind: &'static str, code: &'static str },
    /// It is too much for admission or the compiler, or becomes a skill that does no harm: within the time that both have.
    Bounded(&'static [&'static str]),
    /// It failed as it may, and is tried again within the hour.
    Retried,
    /// What it tries comes to nothing, and its task goes well.
    Harmless,
    /// It goes well, or ends at its deadline on a machine that is too busy.
    Slow,
}

/// What hands in the bytes.
#[derive(Clone, Copy)]
pub enum Origin {
    /// `NAME.wat`.
    Text,
    /// A function: what would be too large for a file, or is no component. Without a manifest.
    Made(fn() -> Result<Vec<u8>>),
    /// A function: the whole of it, whatever is in it for a manifest.
    Whole(fn() -> Result<Vec<u8>>),
}

/// One attack.
pub struct Attack {
    /// Its name; the skill is `hostile/NAME`.
    pub name: &'static str,
    /// Where its bytes come from.
    pub origin: Origin,
    /// What its manifest declares.
    pub capabilities: Value,
    /// The skills that an operator lets it call.
    pub granted: Vec<&'static str>,
    /// The limits in its manifest.
    pub limits: Value,
    /// How often its task is run.
    pub runs: usize,
    /// What must become of it.
    pub expected: Expected,
}

impl Attack {
    /// The bytes that a stranger hands in.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = match self.origin {
            Origin::Text => {
                let file = build::folder().join(format!("{}.wat", self.name));
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                build::component(&text).with_context(|| format!("building {}", self.name))?
            }
            Origin::Made(make) => make().with_context(|| format!("making {}", self.name))?,
            Origin::Whole(make) => return make().with_context(|| format!("making {}", self.name)),
        };
        let manifest = build::manifest(self.name, &self.capabilities, &self.limits);
        build::embed(&mut bytes, manifest.to_string().as_bytes());
        Ok(bytes)
    }

    fn with(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    fn capabilities(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Declares a skill that it calls, and has the operator let it.
    fn may_call(mut self, skill: &'static str) -> Self {
        self.granted.push(skill);
        self.capabilities(calls(skill))
    }

    fn runs(mut self, runs: usize) -> Self {
        self.runs = runs;
        self
    }

    /// Other limits than the usual ones.
    fn limits(mut self, other: Value) -> Self {
        for (name, value) in other.as_object().into_iter().flatten() {
            self.limits[name] = value.clone();
        }
        self
    }
}

fn attack(name: &'static str, expected: Expected) -> Attack {
    let limits = json!({
        "time_ms": 10_000, "fuel": 50_000_000_000_u64, "memory_mb": 64, "output_kb": 64, "mcp_calls": 4,
    });
    Attack { name, origin: Origin::Text, capabilities: json!({}), granted: Vec::new(), limits, runs: 1, expected }
}

fn refused(name: &'static str, rules: &'static [&'static str]) -> Attack {
    attack(name, Expected::Refused(rules))
}

fn fails(name: &'static str, codes: &'static [&'static str]) -> Attack {
    attack(name, Expected::Failed { kind: "permanent", codes, limit: None })
}

/// It ends at a limit, which the failure names.
fn reaches(name: &'static str, limit: &'static str, code: &'static [&'static str]) -> Attack {
    attack(name, Expected::Failed { kind: "permanent", codes: code, limit: Some(limit) })
}

fn harmless(name: &'static str) -> Attack {
    attack(name, Expected::Harmless)
}

const DEADLINE: &[&str] = &["deadline-exceeded"];
const FUEL: &[&str] = &["fuel-exhausted"];
const MEMORY: &[&str] = &["memory-limit"];
const TRAP: &[&str] = &["trap"];
const LIMIT: &[&str] = &["limit-reached"];

/// A short life for what can only be ended by the clock.
fn late(name: &'static str) -> Attack {
    reaches(name, "time", DEADLINE).limits(json!({ "time_ms": 700 }))
}

/// All attacks.
pub fn attacks() -> Vec<Attack> {
    [
        // First, because they take longest; and what of them is kept is forgotten over the others.
        compile_bombs(),
        fuel_and_time(),
        memory_and_tables(),
        stack_and_handles(),
        output_and_logs(),
        surroundings(),
        results(),
        arguments(),
        reaching(),
        canonical_abi(),
        imports_and_exports(),
        features(),
        component_bombs(),
        manifests_and_bytes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn fuel_and_time() -> Vec<Attack> {
    let burns = |name| reaches(name, "fuel", FUEL).limits(json!({ "fuel": 20_000_000 }));
    vec![
        burns("fuel-loop"),
        burns("fuel-recursion"),
        burns("fuel-br-table"),
        late("time-spin"),
        late("time-sleep"),
        late("time-far-future"),
        reaches("time-many-polls", "readings", &["call-limit"]),
        reaches("time-poll-ready", "readings", &["call-limit"]),
        late("time-clock-spin"),
        harmless("time-stdin"),
    ]
}

fn memory_and_tables() -> Vec<Attack> {
    vec![
        reaches("memory-grow", "memory", MEMORY),
        reaches("memory-steps", "memory", MEMORY),
        reaches("memory-all-at-once", "memory", MEMORY),
        reaches("memory-initial", "memory", MEMORY).limits(json!({ "memory_mb": 16 })),
        late("memory-fill-storm"),
        late("memory-copy-storm"),
        fails("memory-out-of-bounds", TRAP),
        reaches("table-grow", "tables", LIMIT),
        refused("table-huge", &["compile-failed"]),
        refused("table-many", &["compile-failed"]),
        late("table-fill-storm"),
    ]
}

fn stack_and_handles() -> Vec<Attack> {
    vec![
        reaches("stack-deep", "stack", TRAP),
        reaches("stack-indirect", "stack", TRAP),
        reaches("stack-huge-frames", "stack", TRAP),
        reaches("stack-realloc", "stack", TRAP),
        reaches("stack-post-return", "stack", TRAP),
        reaches("handles-hoard", "handles", LIMIT),
        fails("handles-drop-twice", TRAP),
        fails("handles-use-after-drop", TRAP),
        fails("handles-forged", TRAP),
        fails("handles-wrong-type", TRAP),
        fails("handles-dropped-parent", TRAP),
    ]
}

fn output_and_logs() -> Vec<Attack> {
    vec![
        reaches("random-at-once", "random", LIMIT),
        reaches("random-in-total", "random", LIMIT),
        fails("random-word-by-word", &["limit-reached", "deadline-exceeded"]).limits(json!({ "time_ms": 2_000 })),
        attack("stdout-lines", Expected::Slow).limits(json!({ "time_ms": 4_000 })),
        attack("stdout-one-line", Expected::Slow).limits(json!({ "time_ms": 4_000 })),
        harmless("stdout-garbage"),
        fails("stdout-beyond-permit", TRAP),
        fails("stdout-zeroes", TRAP),
        attack("log-flood", Expected::Slow).limits(json!({ "time_ms": 4_000 })),
        harmless("progress-flood"),
    ]
}

fn surroundings() -> Vec<Attack> {
    vec![
        harmless("ambient-environment"),
        harmless("ambient-files"),
        harmless("ambient-terminal"),
        fails("exit-well", TRAP),
        fails("exit-badly", TRAP),
        harmless("clock-tampering"),
        harmless("winch-table"),
        harmless("reuse-memory").runs(20),
        harmless("reuse-table").runs(20),
    ]
}

fn results() -> Vec<Attack> {
    let invalid = |name| fails(name, &["output-invalid"]);
    let unsure = |name| fails(name, &["confidence-invalid"]);
    vec![
        reaches("output-huge", "output", &["output-too-large"]).limits(json!({ "memory_mb": 512 })),
        reaches("output-beyond-limit", "output", &["output-too-large"]),
        reaches("evidence-million", "output", &["output-too-large"]),
        reaches("evidence-aliased", "output", &["output-too-large"]),
        invalid("json-deep"),
        invalid("json-unclosed"),
        invalid("json-million-values").limits(json!({ "output_kb": 1024 })),
        invalid("json-garbage"),
        fails("json-not-utf8", TRAP),
        invalid("json-surrogate"),
        invalid("json-huge-number"),
        invalid("json-two-values"),
        unsure("confidence-nan"),
        unsure("confidence-negative"),
        unsure("confidence-above-one"),
        unsure("confidence-infinite"),
        attack("failure-loud", Expected::Failed { kind: "permanent", codes: &[], limit: None }),
        attack("failure-impostor", Expected::Asked { kind: "denied", code: "skill-refused-by-human" }),
        attack("failure-retry-never", Expected::Retried),
    ]
}

fn arguments() -> Vec<Attack> {
    let told = |name, code| attack(name, Expected::Failed { kind: "invalid-input", codes: code, limit: None });
    let too_large = |name| told(name, &["payload-too-large"]);
    vec![
        too_large("argument-tool").capabilities(social()),
        too_large("argument-memory").capabilities(json!({ "memory": ["remember"] })),
        too_large("argument-recall").capabilities(json!({ "memory": ["recall"] })),
        too_large("argument-scratch").capabilities(json!({ "scratch": true })),
        too_large("argument-trends").capabilities(json!({ "trends": ["observe"] })),
        too_large("argument-skill").capabilities(calls("hostile/well-behaved")),
        reaches("argument-aliased", "output", &["output-too-large"]).capabilities(social()),
        told("calls-at-once", &["argument-invalid"]).capabilities(social()),
        fails("calls-count", &["call-limit"]).capabilities(social()),
        late("calls-endless").capabilities(json!({ "secrets": ["key"] })),
        fails("calls-itself", &["call-limit"]).may_call("hostile/calls-itself"),
        reaches("calls-itself-often", "skill-calls", &["call-limit"]).may_call("hostile/calls-itself-often"),
        late("calls-itself-and-spins").may_call("hostile/calls-itself-and-spins"),
    ]
}

fn social() -> Value {
    json!({ "mcp": [{ "slot": "social", "tools": ["publish_post"], "reason": "to be denied" }] })
}

fn calls(skill: &str) -> Value {
    json!({ "skills": [{ "name": skill, "version": "*" }] })
}

fn reaching() -> Vec<Attack> {
    let breach = |name| attack(name, Expected::Asked { kind: "security", code: "not-declared" });
    vec![
        attack("reach-ungranted-tool", Expected::Asked { kind: "denied", code: "not-granted" }).capabilities(social()),
        attack("calls-ungranted", Expected::Asked { kind: "denied", code: "not-granted" })
            .capabilities(calls("hostile/well-behaved")),
        breach("reach-undeclared-tool").capabilities(social()),
        breach("reach-undeclared-slot").capabilities(social()),
        breach("reach-resource").capabilities(social()),
        breach("reach-memory").capabilities(json!({ "memory": ["remember"] })),
        breach("reach-secret").capabilities(json!({ "secrets": ["key"] })),
        breach("reach-skill").capabilities(calls("hostile/other")),
        refused("reach-undeclared-interface", &["import-undeclared"]),
    ]
}

fn canonical_abi() -> Vec<Attack> {
    vec![
        fails("abi-realloc-out-of-bounds", TRAP),
        fails("abi-realloc-beyond-memory", TRAP),
        harmless("abi-realloc-null"),
        fails("abi-realloc-traps", TRAP),
        late("abi-realloc-spins"),
        fails("abi-realloc-reenters", TRAP),
        harmless("abi-realloc-grows"),
        fails("abi-realloc-misaligned", TRAP),
        fails("abi-result-misaligned", TRAP),
        fails("abi-result-beyond-memory", TRAP),
        fails("abi-result-discriminant", TRAP),
        fails("abi-enum-discriminant", TRAP),
        fails("abi-option-discriminant", TRAP),
        fails("abi-string-overflow", TRAP),
        fails("abi-string-huge", &["trap", "output-too-large"]),
        fails("abi-list-overflow", &["trap", "output-too-large"]),
        fails("abi-list-misaligned", TRAP),
        fails("abi-argument-overflow", &["trap", "output-too-large"]),
        fails("abi-argument-enum", TRAP),
        fails("abi-poll-nothing", TRAP),
        fails("abi-post-return-traps", TRAP),
        late("abi-post-return-spins"),
        fails("abi-post-return-calls", TRAP),
        late("start-spins"),
        fails("start-traps", TRAP),
        reaches("start-grows", "memory", MEMORY),
    ]
}

fn imports_and_exports() -> Vec<Attack> {
    vec![
        refused("import-sockets", &["import-refused"]),
        refused("import-http", &["import-refused"]),
        refused("import-unknown", &["import-unknown"]),
        refused("import-other-contract", &["contract-not-served"]),
        refused("export-missing", &["export-missing"]),
        refused("export-mistyped", &["export-mismatch"]),
        refused("export-more", &["export-missing", "export-unknown"]),
        refused("module-alone", &["not-a-component"]),
    ]
}

/// What the engine has and no guest gets: most of its recent advisories were there.
fn features() -> Vec<Attack> {
    [
        "feature-gc",
        "feature-threads",
        "feature-memory64",
        "feature-table64",
        "feature-exceptions",
        "feature-relaxed-simd",
        "feature-stack-switching",
        "feature-custom-page-sizes",
        "feature-wide-arithmetic",
        "feature-multi-memory",
        "feature-tail-calls",
        "feature-async",
        "feature-async-task",
        "feature-function-references",
    ]
    .into_iter()
    .map(|name| refused(name, &["invalid-component"]))
    .collect()
}

/// Large to compile: refused at a limit, or compiled within it.
fn compile_bombs() -> Vec<Attack> {
    let bomb = |name, make| attack(name, Expected::Bounded(&["compile-failed", "size-limit"])).with(Origin::Made(make));
    vec![
        bomb("bomb-one-function", bombs::one_function),
        bomb("bomb-locals", bombs::locals),
        bomb("bomb-functions", bombs::functions),
        bomb("bomb-data", bombs::data),
        bomb("bomb-data-segments", bombs::data_segments),
        bomb("bomb-elements", bombs::elements),
        bomb("bomb-types", bombs::types),
        bomb("bomb-globals", bombs::globals),
    ]
}

fn component_bombs() -> Vec<Attack> {
    let made = |attack: Attack, make| attack.with(Origin::Made(make));
    const TOO_MUCH: &[&str] = &["compile-failed", "invalid-component", "size-limit"];
    vec![
        made(refused("bomb-type-size", TOO_MUCH), bombs::type_size),
        made(refused("bomb-type-depth", TOO_MUCH), bombs::type_depth),
        made(refused("bomb-component-depth", TOO_MUCH), bombs::component_depth),
        made(refused("bomb-instances-doubled", TOO_MUCH), bombs::instances_doubled),
        made(refused("bomb-instances-some", TOO_MUCH), bombs::instances_some),
        made(refused("bomb-instances-many", TOO_MUCH), bombs::instances_many),
        made(reaches("memory-several", "memory", MEMORY), bombs::memories),
        made(refused("memory-many", TOO_MUCH), bombs::memories_many),
        made(fails("abi-transcoding", TRAP), bombs::transcoding),
        made(refused("bomb-imports", &["export-missing"]), bombs::imports),
        made(refused("bomb-exports", &["export-missing"]), bombs::exports),
        made(refused("bomb-long-name", &["export-missing"]), bombs::long_name),
        made(attack("bomb-custom-sections", Expected::Bounded(&["size-limit"])), bombs::custom_sections),
    ]
}

fn manifests_and_bytes() -> Vec<Attack> {
    let whole = |name, rules, make| refused(name, rules).with(Origin::Whole(make));
    const INVALID: &[&str] = &["manifest-invalid"];
    const NOTHING: &[&str] = &["not-a-component"];
    vec![
        whole("manifest-twice", &["manifest-duplicate"], bombs::manifest_twice),
        whole("manifest-missing", &["manifest-missing"], bombs::manifest_missing),
        whole("manifest-inside", &["manifest-missing"], bombs::manifest_inside),
        whole("manifest-oversize", INVALID, bombs::manifest_oversize),
        whole("manifest-not-utf8", INVALID, bombs::manifest_not_utf8),
        whole("manifest-not-json", INVALID, bombs::manifest_not_json),
        whole("manifest-deep", INVALID, bombs::manifest_deep),
        whole("manifest-greedy", INVALID, bombs::manifest_greedy),
        whole("manifest-path", INVALID, bombs::manifest_path),
        whole("bytes-too-many", &["size-limit"], bombs::too_big),
        whole("bytes-truncated", &["invalid-component"], bombs::truncated),
        whole("bytes-lying-section", &["invalid-component"], bombs::lying_section),
        whole("bytes-empty", NOTHING, bombs::empty),
        whole("bytes-machine-code", NOTHING, bombs::elf),
    ]
}
