use super::*;
use chimera_core::campaign::new_task;
use chimera_core::change::Context;
use chimera_core::clock::Timestamp;
use chimera_core::ids::{SequentialIds, SpecId};
use chimera_core::manifest::Limits;
use proptest::prelude::*;
use serde_json::json;

fn case(output: Value, confidence: f64) -> Case {
    let ids = SequentialIds::default();
    let cx = Context { now: Timestamp::EPOCH, ids: &ids, actor: chimera_core::audit::Actor::System, chance: 0.5 };
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": {"name": "chimera/check-policy", "version": "0.1.0", "summary": "Checks.", "license": "MIT", "effects": "none"},
        "io": {
            "input": {"type": "object"},
            "output": {"type": "object", "required": ["text", "compliant"], "properties": {
                "text": {"type": "string"}, "compliant": {"type": "boolean", "x-chimera-gate": true}}}
        }
    }))
    .expect("valid");
    let spec = TaskSpec {
        id: SpecId::new(&ids),
        goal: "check it".into(),
        skill: chimera_core::skill::SkillRef {
            name: manifest.skill.name.clone(),
            version: manifest.skill.version.clone(),
            digest: chimera_core::digest::Digest::of(b"x"),
        },
        input: json!({}),
        limits: Limits::default(),
        expect: None,
    };
    let mut task = new_task(&cx);
    task.outcome = Some(Outcome { output, confidence, evidence: vec!["because".into()] });
    Case { task, spec, manifest: Some(Arc::new(manifest)), policy: CampaignPolicy::default() }
}

fn good(confidence: f64) -> Case {
    case(json!({"text": "hello", "compliant": true}), confidence)
}

#[test]
fn confidence_decides_when_every_check_holds() {
    assert_eq!(decide(&good(0.7)).decision, Decision::Approve);
    assert_eq!(decide(&good(0.69)).decision, Decision::Escalate);
    assert_eq!(decide(&good(0.2)).decision, Decision::Escalate);
    assert_eq!(decide(&good(0.1)).decision, Decision::Retry);
    let mut again = good(0.1);
    again.task.retries = 1;
    assert_eq!(decide(&again).decision, Decision::Replan);
}

#[test]
fn a_closed_gate_goes_to_a_human_however_sure_the_skill_is() {
    let verdict = decide(&case(json!({"text": "hello", "compliant": false}), 1.0));
    assert_eq!(verdict.decision, Decision::Escalate);
    assert!(verdict.reason.contains("/compliant"), "{}", verdict.reason);
    assert!(verdict.checks.iter().any(|check| check.name == "gate" && check.result == CheckResult::Failed));
}

#[test]
fn an_unmet_expectation_goes_to_a_human() {
    let mut case = good(1.0);
    case.spec.expect = Some(json!({"text": "other"}));
    assert_eq!(decide(&case).decision, Decision::Escalate);
    case.spec.expect = Some(json!({"compliant": true}));
    assert_eq!(decide(&case).decision, Decision::Approve);
}

#[test]
fn broken_outputs_are_done_again() {
    assert_eq!(decide(&case(json!({"text": " ", "compliant": true}), 1.0)).decision, Decision::Retry);
    assert_eq!(decide(&case(json!({"compliant": true}), 1.0)).decision, Decision::Retry);
    let mut large = good(1.0);
    large.spec.limits.output_kb = 1;
    large.task.outcome.as_mut().expect("there").output["text"] = json!("x".repeat(2000));
    assert_eq!(decide(&large).decision, Decision::Retry);
    let mut silent = good(1.0);
    silent.task.outcome = None;
    assert_eq!(decide(&silent).decision, Decision::Retry);
}

proptest! {
    #[test]
    fn nothing_with_a_failed_check_is_ever_approved(
        confidence in proptest::num::f64::ANY,
        text in "\\PC{0,8}",
        compliant in proptest::option::of(any::<bool>()),
        expect in proptest::option::of(any::<bool>()),
    ) {
        let mut output = json!({"text": text});
        if let Some(compliant) = compliant {
            output["compliant"] = json!(compliant);
        }
        let mut case = case(output, confidence);
        case.spec.expect = expect.map(|compliant| json!({"compliant": compliant}));
        let verdict = decide(&case);
        let failed = verdict.checks.iter().any(|check| check.result == CheckResult::Failed);
        if failed || confidence.is_nan() || confidence < 0.7 {
            prop_assert_ne!(verdict.decision, Decision::Approve);
        } else {
            prop_assert_eq!(verdict.decision, Decision::Approve);
        }
        prop_assert!((0.0..=1.0).contains(&verdict.confidence));
    }
}
