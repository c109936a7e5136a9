//! A campaign as its owner writes it: `campaign.yaml`, or the same shape as JSON through the API.
//!
//! This module reads and checks; it opens no file that an input names and looks at no installed skill (the decomposer
//! does). Every error names the line or the field and says what to write instead. Called by the CLI, the API and the
//! scheduler.

use crate::error::AgentError;
use chimera_core::campaign::{CampaignPolicy, MAX_GOAL_BYTES, MAX_INPUT_BYTES};
use chimera_core::json::{MAX_DEPTH, is_deeper_than};
use chimera_core::manifest::Limits;
use chimera_core::plan::MAX_STEPS;
use chimera_core::skill::SkillName;
use chimera_core::text::{printable, truncated};
use semver::VersionReq;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Largest `campaign.yaml` in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Longest title in bytes.
pub const MAX_TITLE_BYTES: usize = 200;
/// Most inputs of one campaign.
pub const MAX_INPUTS: usize = 64;

/// A campaign before it exists: what `campaign.yaml` says and what `POST /api/v1/campaigns` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCampaign {
    /// A short name for lists; made from the goal if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The goal, in the owner's words; 1 byte to 64 KiB.
    pub goal: String,
    /// What the steps may use; at most 4 MiB together.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// How strict the judge is, and the like.
    #[serde(default)]
    pub policy: CampaignPolicy,
    /// The steps, if the owner wants to say them instead of having the goal split.
    #[serde(default, rename = "steps", skip_serializing_if = "Option::is_none")]
    pub explicit: Option<Vec<ExplicitStep>>,
}

/// One step that the owner wrote down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplicitStep {
    /// Unique in the campaign: 1 to 64 of `a-z 0-9 - _`.
    pub id: String,
    /// `namespace/name`, or `namespace/name@requirement` such as `acme/scan@^1.2`.
    pub skill: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The input; `${steps.<id>.output.<field>}` and `${inputs.<name>}` refer to what comes from elsewhere.
    #[serde(default)]
    pub input: Map<String, Value>,
    /// Steps that must be done before, besides those that the input refers to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<String>,
    /// A JSON subset that the output must contain, else a human is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
    /// Tighter limits than the skill's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsWish>,
}

/// Limits someone wishes for: each at most the skill's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsWish {
    /// Wall time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// Fuel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Linear memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Output in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_kb: Option<u32>,
    /// MCP calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp_calls: Option<u32>,
}

impl LimitsWish {
    /// The wish within what the skill itself allows; at least 1 of everything but MCP calls.
    pub fn within(self, own: Limits) -> Limits {
        Limits {
            time_ms: self.time_ms.unwrap_or(own.time_ms).clamp(1, own.time_ms.max(1)),
            fuel: self.fuel.unwrap_or(own.fuel).clamp(1, own.fuel.max(1)),
            memory_mb: self.memory_mb.unwrap_or(own.memory_mb).clamp(1, own.memory_mb.max(1)),
            output_kb: self.output_kb.unwrap_or(own.output_kb).clamp(1, own.output_kb.max(1)),
            mcp_calls: self.mcp_calls.unwrap_or(own.mcp_calls).min(own.mcp_calls),
        }
    }
}

/// An input that a `campaign.yaml` takes from a file: `{file: posts.jsonl, format: posts}`. The CLI loads it and puts
/// the value in its place; a host never opens a file because a campaign names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInput {
    /// Path, relative to the campaign file.
    pub file: String,
    /// What is in it.
    #[serde(default)]
    pub format: FileFormat,
}

/// What is in an input file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Posts: JSON Lines, RSS or Atom.
    Posts,
    /// Plain text.
    Text,
    /// A JSON value.
    #[default]
    Json,
}

impl NewCampaign {
    /// Reads a `campaign.yaml`. Whether it makes sense is [`NewCampaign::validate`]'s to say, once the input files are
    /// loaded.
    ///
    /// # Errors
    /// [`AgentError::Invalid`] with line and column, the problem, and the fields that are known.
    pub fn from_yaml(text: &str) -> Result<Self, AgentError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(AgentError::Invalid(format!(
                "the campaign file has {} bytes; at most {MAX_FILE_BYTES} are read: keep large inputs in files of their own and name them as `{{file: …}}`",
                text.len()
            )));
        }
        let budget = serde_saphyr::budget! {
            max_events: 200_000,
            max_nodes: 100_000,
            max_depth: 64,
            max_documents: 1,
            max_aliases: 256,
            max_anchors: 256,
            max_total_scalar_bytes: 2 * MAX_FILE_BYTES,
        };
        let options = serde_saphyr::options! { budget: budget };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| unreadable(&error))
    }

    /// The inputs that name a file.
    pub fn file_inputs(&self) -> BTreeMap<String, FileInput> {
        self.inputs
            .iter()
            .filter(|(_, value)| value.get("file").is_some_and(Value::is_string))
            .filter_map(|(name, value)| Some((name.clone(), serde_json::from_value(value.clone()).ok()?)))
            .collect()
    }

    /// The title, or one made from the goal.
    pub fn title(&self) -> String {
        match self.title.as_deref().map(str::trim).filter(|title| !title.is_empty()) {
            Some(title) => title.to_owned(),
            None => {
                let line = self.goal.trim().lines().next().unwrap_or_default().trim();
                let short = truncated(line.to_owned(), 72);
                if short.len() < line.len() { format!("{}…", short.trim_end()) } else { short }
            }
        }
    }

    /// Checks everything that can be checked without knowing what is installed.
    ///
    /// # Errors
    /// [`AgentError::Invalid`] naming the field, the problem and the mend.
    pub fn validate(&self) -> Result<(), AgentError> {
        let goal = self.goal.trim();
        if goal.is_empty() {
            return Err(invalid("goal", "is empty: say in a sentence what is to be achieved"));
        }
        if self.goal.len() > MAX_GOAL_BYTES {
            let problem = format!(
                "has {} bytes; at most {MAX_GOAL_BYTES} (64 KiB) are read: say what is to be done in a few sentences and give long text as an input",
                self.goal.len()
            );
            return Err(invalid("goal", problem));
        }
        if self.title.as_ref().is_some_and(|title| title.len() > MAX_TITLE_BYTES) {
            return Err(invalid("title", format!("is longer than {MAX_TITLE_BYTES} bytes: shorten it")));
        }
        self.validate_inputs()?;
        self.validate_policy()?;
        self.explicit.as_deref().map_or(Ok(()), validate_steps)
    }

    fn validate_inputs(&self) -> Result<(), AgentError> {
        if self.inputs.len() > MAX_INPUTS {
            return Err(invalid("inputs", format!("has {} entries; at most {MAX_INPUTS}", self.inputs.len())));
        }
        for (name, value) in &self.inputs {
            if name.is_empty()
                || name.len() > 64
                || name.contains(['.', '$', '{', '}'])
                || name.contains(char::is_control)
            {
                let shown = truncated(printable(name), 80);
                return Err(invalid(
                    "inputs",
                    format!("`{shown}` is not an input's name: use 1 to 64 letters, digits, `_` or `-`"),
                ));
            }
            if is_deeper_than(value, MAX_DEPTH) {
                return Err(invalid(&format!("inputs.{name}"), "is nested more than 64 deep: flatten it"));
            }
        }
        let size = json_size(&self.inputs);
        if size > MAX_INPUT_BYTES {
            let problem = format!(
                "are {size} bytes together; at most {MAX_INPUT_BYTES} (4 MiB): give less, or split the campaign"
            );
            return Err(invalid("inputs", problem));
        }
        Ok(())
    }

    fn validate_policy(&self) -> Result<(), AgentError> {
        let policy = &self.policy;
        if !(0.0..=1.0).contains(&policy.approve_at) {
            return Err(invalid("policy.approve_at", "must be a number from 0 to 1, such as 0.7"));
        }
        if !(0.0..=policy.approve_at).contains(&policy.retry_below) {
            return Err(invalid("policy.retry_below", "must be a number from 0 to `approve_at`, such as 0.2"));
        }
        if policy.max_replans > 5 {
            return Err(invalid("policy.max_replans", "is at most 5"));
        }
        Ok(())
    }

    /// The explicit steps as the campaign row keeps them.
    pub(crate) fn explicit_value(&self) -> Option<Value> {
        self.explicit.as_ref().map(|steps| json!(steps))
    }
}

/// Splits `namespace/name[@requirement]`.
///
/// # Errors
/// A sentence that says what is wrong and what to write.
pub fn parse_skill(text: &str) -> Result<(SkillName, Option<VersionReq>), String> {
    let (name, requirement) = match text.split_once('@') {
        Some((name, requirement)) => (name, Some(requirement)),
        None => (text, None),
    };
    let name: SkillName = name.trim().parse().map_err(|error| format!("{error}"))?;
    let requirement = requirement
        .map(|wanted| {
            let wanted = truncated(printable(wanted.trim()), 80);
            VersionReq::parse(&wanted).map_err(|error| {
                format!("`{wanted}` is not a version requirement ({error}): write for example `{name}@^0.1`")
            })
        })
        .transpose()?;
    Ok((name, requirement))
}

fn validate_steps(steps: &[ExplicitStep]) -> Result<(), AgentError> {
    if steps.is_empty() {
        return Err(invalid("steps", "is empty: name at least one step, or leave it out to have the goal split"));
    }
    if steps.len() > MAX_STEPS {
        return Err(invalid("steps", format!("has {} entries; at most {MAX_STEPS}: split the campaign", steps.len())));
    }
    for (index, step) in steps.iter().enumerate() {
        let is_key = (1..=64).contains(&step.id.len())
            && step.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !is_key {
            let shown = truncated(printable(&step.id), 80);
            return Err(invalid(
                &format!("steps[{index}].id"),
                format!("`{shown}` is not a step's id: use 1 to 64 of a-z, 0-9, `-` and `_`"),
            ));
        }
        parse_skill(&step.skill).map_err(|problem| invalid(&format!("steps.{}.skill", step.id), problem))?;
        let mut values = step
            .input
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .chain(step.expect.iter().map(|expect| ("expect", expect)));
        if let Some((name, _)) = values.find(|(_, value)| is_deeper_than(value, MAX_DEPTH)) {
            let shown = truncated(printable(name), 80);
            return Err(invalid(&format!("steps.{}.{shown}", step.id), "is nested more than 64 deep: flatten it"));
        }
    }
    Ok(())
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> AgentError {
    AgentError::Invalid(format!("campaign: {field}: {problem}"))
}

fn unreadable(error: &serde_saphyr::Error) -> AgentError {
    let bare = error.without_snippet();
    let place = bare.location().map_or_else(String::new, |at| format!("line {}, column {}: ", at.line(), at.column()));
    let text = truncated(printable(&bare.to_string()), 500).replace('\n', " ");
    AgentError::Invalid(format!(
        "campaign file: {place}{text}. It is YAML with `goal:` and, if wanted, `title:`, `inputs:`, `policy:` and `steps:`"
    ))
}

/// Length of the compact JSON text, without building it.
fn json_size(map: &Map<String, Value>) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, map) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"
title: Weekly post
goal: Find what people talk about and publish a post.
inputs:
  posts: { file: posts.jsonl, format: posts }
  policy: { banned: [war] }
policy: { approve_at: 0.6 }
steps:
  - id: trends
    skill: chimera/find-trends@^0.1
    input: { posts: "${inputs.posts}", top: 5 }
  - id: sum
    skill: chimera/summarize
    input: { texts: "${steps.trends.output.texts}" }
    depends_on: [trends]
    expect: { sentences: 3 }
    limits: { time_ms: 5000 }
"#;

    #[test]
    fn a_whole_file_is_read() {
        let campaign = NewCampaign::from_yaml(GOOD).expect("readable");
        campaign.validate().expect("valid");
        assert_eq!(campaign.policy.approve_at, 0.6);
        let steps = campaign.explicit.as_ref().expect("steps");
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[1].limits.expect("limits").time_ms, Some(5000));
        let files = campaign.file_inputs();
        assert_eq!(files["posts"], FileInput { file: "posts.jsonl".into(), format: FileFormat::Posts });
        assert!(!files.contains_key("policy"));
        let json = serde_json::to_value(&campaign).expect("json");
        assert_eq!(serde_json::from_value::<NewCampaign>(json).expect("the API takes the same shape"), campaign);
    }

    #[test]
    fn errors_name_the_place_and_the_mend() {
        let unknown = NewCampaign::from_yaml("goal: x\nstepz: []\n").expect_err("unknown field").to_string();
        assert!(unknown.contains("line 2") && unknown.contains("stepz") && unknown.contains("steps"), "{unknown}");
        let broken = NewCampaign::from_yaml("goal: [unclosed\n").expect_err("broken").to_string();
        assert!(broken.contains("line "), "{broken}");
        let missing = NewCampaign::from_yaml("title: x\n").expect_err("no goal").to_string();
        assert!(missing.contains("goal"), "{missing}");
    }

    #[test]
    fn limits_of_size_are_held() {
        let goal = |goal: String| NewCampaign { goal, ..NewCampaign::default() };
        let large = goal("x".repeat(1 << 20)).validate().expect_err("1 MB goal").to_string();
        assert!(large.contains("1048576") && large.contains("64 KiB"), "{large}");
        assert!(goal("  ".into()).validate().is_err());
        let mut heavy = goal("ok".into());
        heavy.inputs.insert("text".into(), Value::String("y".repeat(MAX_INPUT_BYTES)));
        assert!(heavy.validate().expect_err("too much").to_string().contains("4 MiB"));
        assert!(NewCampaign::from_yaml(&" ".repeat(MAX_FILE_BYTES + 1)).is_err());
    }

    #[test]
    fn bad_policies_and_steps_are_refused() {
        let mut campaign = NewCampaign { goal: "x".into(), ..NewCampaign::default() };
        campaign.policy.approve_at = f64::NAN;
        assert!(campaign.validate().is_err());
        campaign.policy = CampaignPolicy { retry_below: 0.9, ..CampaignPolicy::default() };
        assert!(campaign.validate().is_err());
        let bad = NewCampaign::from_yaml("goal: x\nsteps: [{id: A B, skill: a/b}]").expect("reads");
        assert!(bad.validate().expect_err("id").to_string().contains("steps[0].id"));
        let bad = NewCampaign::from_yaml("goal: x\nsteps: [{id: a, skill: nope}]").expect("reads");
        assert!(bad.validate().expect_err("skill").to_string().contains("namespace/name"));
        let bad = NewCampaign::from_yaml("goal: x\nsteps: [{id: a, skill: \"a/b@zzz\"}]").expect("reads");
        assert!(bad.validate().expect_err("requirement").to_string().contains("^0.1"));
    }

    #[test]
    fn an_alias_bomb_is_refused_quickly() {
        let mut bomb = String::from("goal: x\ninputs:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let previous = level - 1;
            let list = vec![format!("*a{previous}"); 10].join(", ");
            bomb.push_str(&format!("  a{level}: &a{level} [{list}]\n"));
        }
        assert!(NewCampaign::from_yaml(&bomb).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,300}") {
            if let Ok(campaign) = NewCampaign::from_yaml(&text) {
                let _ = campaign.validate();
                let _ = campaign.file_inputs();
                let _ = campaign.title();
            }
        }

        #[test]
        fn reading_yaml_like_text_never_panics(
            lines in proptest::collection::vec("(goal|title|inputs|steps|policy|- id|  skill|x)?:? ?[\\[\\]{}&*!|>'\"a-z0-9${}. -]{0,20}", 0..20)
        ) {
            if let Ok(campaign) = NewCampaign::from_yaml(&lines.join("\n")) {
                let _ = campaign.validate();
            }
        }
    }
}
