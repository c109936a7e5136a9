use super::*;
use chimera_skill::FailureKind;
use chimera_skill::testing::Harness;

fn run(text: &str, policy: chimera_skill::serde_json::Value) -> (Output, f64) {
    let policy: Policy = chimera_skill::serde_json::from_value(policy).unwrap();
    let outcome = Harness::new(vec![]).run(check_policy, Input { text: text.into(), policy }).result.unwrap();
    (outcome.output, outcome.confidence)
}

fn rules(text: &str, policy: chimera_skill::serde_json::Value) -> Vec<String> {
    run(text, policy).0.findings.into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_good_text_passes_unchanged() {
    let text = "Paid partnership: our bridge reopens in May. #Aller";
    let (output, confidence) = run(
        text,
        json!({"max_chars": 280, "banned_terms": ["scam"], "banned_patterns": ["free*"], "max_hashtags": 2, "max_mentions": 0,
            "allow_links": false, "required_phrases": ["paid partnership"], "max_caps_ratio": 0.3, "no_personal_data": true}),
    );
    assert!(output.compliant, "{:?}", output.findings);
    assert_eq!(output.text, text);
    assert!(confidence > 0.95);
}

#[test]
fn each_rule_finds_its_breach() {
    assert_eq!(rules("12345", json!({"max_chars": 4})), ["max_chars"]);
    assert_eq!(rules("A sc@m!", json!({"banned_terms": ["scam"]})), ["banned_terms"]);
    assert_eq!(rules("Freebies for all", json!({"banned_patterns": ["free*"]})), ["banned_patterns"]);
    assert_eq!(rules("Win big, now", json!({"banned_patterns": ["win b?g"]})), ["banned_patterns"]);
    assert_eq!(rules("#a1 #b2 text", json!({"max_hashtags": 1})), ["max_hashtags"]);
    assert_eq!(rules("hi @ada", json!({"max_mentions": 0})), ["max_mentions"]);
    assert_eq!(rules("see https://x.example", json!({"allow_links": false})), ["allow_links"]);
    assert_eq!(rules("see example.com/x.", json!({"allow_links": false})), ["allow_links"]);
    assert_eq!(rules("hello", json!({"required_phrases": ["ad:"]})), ["required_phrases"]);
    assert_eq!(rules("BUY THIS NOW please", json!({"max_caps_ratio": 0.5})), ["max_caps_ratio"]);
    assert_eq!(rules("mail ada@mail.example", json!({"no_personal_data": true})), ["no_personal_data"]);
}

#[test]
fn rules_that_are_switched_off_find_nothing() {
    assert!(
        rules("https://x.example ada@mail.example", json!({"allow_links": true, "no_personal_data": false})).is_empty()
    );
    assert!(rules("OK FINE", json!({"max_caps_ratio": 0.1})).is_empty());
    assert!(rules("Done.Then we left e.g. today", json!({"allow_links": false})).is_empty());
}

#[test]
fn places_are_characters() {
    let (output, _) = run("🦀 free scam, free*", json!({"banned_terms": ["scam"], "banned_patterns": ["sc*m"]}));
    let places: Vec<(Option<usize>, Option<usize>)> = output.findings.iter().map(|it| (it.start, it.end)).collect();
    assert_eq!(places, [(Some(7), Some(11)), (Some(7), Some(11))]);
}

#[test]
fn a_spelled_link_is_a_warning_not_a_breach() {
    let (output, confidence) = run("go to example dot com", json!({"allow_links": false}));
    assert!(output.compliant);
    assert_eq!(output.findings[0].severity, Severity::Warning);
    assert!(confidence < 0.95);
}

#[test]
fn a_policy_without_rules_is_no_sure_verdict() {
    let (output, confidence) = run("anything", json!({}));
    assert!(output.compliant && confidence < 0.5);
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let failure = |input: chimera_skill::serde_json::Value| {
        let run = Harness::new(vec![]).try_run_json(check_policy, &input).unwrap();
        let failure = run.failure().clone();
        assert_eq!(failure.kind, FailureKind::InvalidInput);
        failure.code
    };
    assert_eq!(failure(json!({"text": " ", "policy": {}})), "empty-text");
    assert_eq!(failure(json!({"text": "x", "policy": {"baned_terms": ["y"]}})), "input-mismatch");
    assert_eq!(failure(json!({"text": "x", "policy": {"banned_terms": [" "]}})), "policy");
    assert_eq!(failure(json!({"text": "x", "policy": {"max_caps_ratio": 2.0}})), "policy");
    assert_eq!(failure(json!({"text": "x", "policy": {"banned_patterns": ["a".repeat(201)]}})), "policy");
}

#[test]
fn the_gate_is_marked_in_the_schema() {
    let described = chimera_skill::describe(check_policy);
    assert_eq!(described["output"]["properties"]["compliant"]["x-chimera-gate"], true);
}

#[test]
fn many_terms_and_a_long_text_are_no_problem() {
    let text = "the quick brown fox jumps over the lazy dog and calls 1234 times ".repeat(8_000);
    let terms: Vec<String> = (0..2_000).map(|at| format!("banned{at}")).collect();
    let (output, _) = run(
        &text,
        json!({"banned_terms": terms, "banned_patterns": ["*xyz*"], "no_personal_data": true, "allow_links": false}),
    );
    assert!(output.compliant);
}
