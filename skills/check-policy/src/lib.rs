//! Checks a text against a publishing policy and says where and why it does not comply.
//! It never changes the text, and what it cannot read as a rule it refuses, so that no rule is silently skipped.
//! Runs between drafting and publishing; its `compliant` is a gate.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

mod personal;
mod rules;
mod wildcard;
mod words;

use chimera_skill::prelude::*;
use textkit::round4;

/// Most findings that are listed; breaches before warnings.
const MAX_FINDINGS: usize = 100;
/// Longest list of terms or phrases.
const MAX_LIST: usize = 2_000;
/// Longest list of patterns, which take more work each.
const MAX_PATTERNS: usize = 200;
/// Most places that are listed for one term or pattern.
const MAX_PLACES: usize = 20;
/// Longest term, pattern or phrase, in characters.
const MAX_TERM: usize = 200;

/// A text and the policy that it must keep.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The text of the post to check.
    pub text: String,
    /// The policy to check the text against; a rule that is absent is not checked.
    pub policy: Policy,
}

/// A publishing policy.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The longest the text may be, in characters.
    pub max_chars: Option<usize>,
    /// Words and phrases that must not occur: whole words, however they are written or disguised.
    pub banned_terms: Vec<String>,
    /// Patterns that must not occur, at most 200: whole words, `*` for any letters, `?` for one letter.
    pub banned_patterns: Vec<String>,
    /// How many hashtags there may be.
    pub max_hashtags: Option<usize>,
    /// How many people may be mentioned.
    pub max_mentions: Option<usize>,
    /// Whether links are allowed.
    pub allow_links: Option<bool>,
    /// Phrases that must occur, for example a disclosure.
    pub required_phrases: Vec<String>,
    /// The largest share of capitals among the letters, 0 to 1; texts of fewer than 10 letters are not checked.
    pub max_caps_ratio: Option<f64>,
    /// Whether e-mail addresses, phone numbers and card numbers are forbidden.
    pub no_personal_data: Option<bool>,
}

/// The verdict.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The checked text, unchanged.
    pub text: String,
    /// Whether the text keeps every rule of the policy.
    #[schemars(extend("x-chimera-gate" = true))]
    pub compliant: bool,
    /// What was found, in the order of the rules.
    pub findings: Vec<Finding>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The policy's field that it is about.
    pub rule: String,
    /// Whether it breaks the rule or only comes near.
    pub severity: Severity,
    /// What was found; personal data is masked.
    pub evidence: String,
    /// Where it begins, in characters from the start of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<usize>,
    /// Where it ends, in characters from the start of the text; that character is not part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<usize>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It breaks the rule: the text does not comply.
    Error,
    /// A person may want to look at it.
    Warning,
}

impl Finding {
    fn error(rule: &str, evidence: impl Into<String>) -> Self {
        Self { rule: rule.into(), severity: Severity::Error, evidence: evidence.into(), start: None, end: None }
    }

    fn warning(rule: &str, evidence: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(rule, evidence) }
    }

    fn at(mut self, start: usize, end: usize) -> Self {
        self.start = Some(start);
        self.end = Some(end);
        self
    }
}

/// Checks a text against a publishing policy.
#[chimera_skill::skill]
pub fn check_policy(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    validate(&input)?;
    let checked = rules::checked(&input.policy);
    let mut findings = rules::all(&input.text, &input.policy);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    // Errors are listed first when not everything can be: they decide.
    findings.sort_by_key(|finding| finding.severity == Severity::Warning);
    findings.truncate(MAX_FINDINGS);
    debug!(ctx, "{checked} rules, {errors} errors, {warnings} warnings");

    let outcome = Outcome::new(Output { text: input.text, compliant: errors == 0, findings })
        .confidence(confidence(checked, errors, warnings))
        .evidence(format!("{checked} rules checked"))
        .evidence(format!("{errors} broken, {warnings} warnings"));
    Ok(if checked == 0 { outcome.evidence("the policy has no rules, so it allows everything") } else { outcome })
}

/// The rules are exact, so a verdict with rules is nearly certain; each warning is a doubt about a text that passed.
fn confidence(checked: usize, errors: usize, warnings: usize) -> f64 {
    if checked == 0 {
        return 0.4;
    }
    let doubt = if errors == 0 { 0.95_f64.powi(i32::try_from(warnings).unwrap_or(i32::MAX).min(10)) } else { 1.0 };
    round4(0.98 * doubt)
}

fn validate(input: &Input) -> Result<(), Failure> {
    if input.text.trim().is_empty() {
        return Err(Failure::invalid_input("empty-text", "There is no text to check."));
    }
    let policy = &input.policy;
    for (field, list, most) in [
        ("banned_terms", &policy.banned_terms, MAX_LIST),
        ("banned_patterns", &policy.banned_patterns, MAX_PATTERNS),
        ("required_phrases", &policy.required_phrases, MAX_LIST),
    ] {
        if list.len() > most || list.iter().any(|term| textkit::chars(term) > MAX_TERM) {
            return Err(Failure::invalid_input(
                "policy",
                format!("`policy.{field}` may have {most} entries of {MAX_TERM} characters."),
            ));
        }
        // An empty term would silently check nothing.
        if list.iter().any(|term| !term.chars().any(|c| !c.is_whitespace())) {
            return Err(Failure::invalid_input("policy", format!("`policy.{field}` has an empty entry; remove it.")));
        }
    }
    if policy.max_caps_ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
        return Err(Failure::invalid_input("policy", "`policy.max_caps_ratio` must lie between 0 and 1."));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
