//! Routes: what is chosen, for whom, and when a trial ends.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::manifest::Manifest;
use chimera_core::route::{Canary, CanaryDecision, CanaryTerms, Choices, Route, RunMark};
use chimera_core::skill::{SkillName, SkillRef, SkillState, SkillVersion};
use proptest::prelude::*;
use semver::{Version, VersionReq};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

fn name() -> SkillName {
    "acme/echo".parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_000)
}

fn v(text: &str) -> Version {
    text.parse().unwrap()
}

fn installed(version: &str, state: SkillState) -> SkillVersion {
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": { "name": "acme/echo", "version": version, "summary": "s", "license": "MIT", "effects": "none" },
        "io": { "input": {}, "output": {} },
    }));
    let skill = SkillRef { name: name(), version: v(version), digest: Digest::of(version.as_bytes()) };
    SkillVersion { skill, manifest: Arc::new(manifest.unwrap()), state, size: 1, installed_at: now() }
}

fn all(versions: &[&str]) -> Vec<SkillVersion> {
    versions.iter().map(|version| installed(version, SkillState::Active)).collect()
}

fn chosen(versions: Vec<SkillVersion>, route: Option<&Route>, wanted: Option<&str>) -> Option<String> {
    let wanted = wanted.map(|wanted| wanted.parse::<VersionReq>().unwrap());
    let first = Choices::of(versions, route, None).into_first(wanted.as_ref());
    first.map(|version| version.skill.version.to_string())
}

fn route(active: &[&str]) -> Route {
    active.iter().fold(Route::new(name(), now()), |route, version| route.activated(&v(version), now()))
}

fn terms(share: u8) -> CanaryTerms {
    CanaryTerms::of_share(share)
}

#[test]
fn without_a_route_the_newest_is_taken() {
    let versions = || all(&["1.0.0", "1.2.0", "2.0.0-rc.1", "1.10.0"]);
    assert_eq!(chosen(versions(), None, None).unwrap(), "1.10.0", "a pre-release is not taken by itself");
    assert_eq!(chosen(versions(), None, Some("~1.2")).unwrap(), "1.2.0");
    assert_eq!(chosen(versions(), None, Some("=2.0.0-rc.1")).unwrap(), "2.0.0-rc.1");
    assert_eq!(chosen(versions(), None, Some("^3")), None);
}

#[test]
fn the_route_is_followed_and_a_requirement_respected() {
    let versions = || all(&["1.0.0", "1.1.0", "1.2.0", "2.0.0"]);
    let route = route(&["1.0.0", "1.1.0"]);
    assert_eq!(chosen(versions(), Some(&route), None).unwrap(), "1.1.0");
    assert_eq!(chosen(versions(), Some(&route), Some("^1")).unwrap(), "1.1.0", "not the newest: the active one");
    assert_eq!(chosen(versions(), Some(&route), Some("^1.2")).unwrap(), "1.2.0", "what only a newer one meets");
    assert_eq!(chosen(versions(), Some(&route), Some("^2")).unwrap(), "2.0.0");
    let nothing_active = Route::new(name(), now());
    assert_eq!(chosen(versions(), Some(&nothing_active), None), None, "nothing is taken that nobody activated");
}

#[test]
fn a_suspended_version_falls_back_to_the_one_before_and_never_forward() {
    let with = |suspended: &[&str]| {
        let mut versions = all(&["1.0.0", "1.1.0", "1.2.0", "2.0.0"]);
        for version in &mut versions {
            if suspended.contains(&version.skill.version.to_string().as_str()) {
                version.state = SkillState::Suspended;
            }
        }
        versions
    };
    let route = route(&["1.0.0", "1.2.0"]);
    assert_eq!(chosen(with(&["1.2.0"]), Some(&route), None).unwrap(), "1.0.0", "what was active before comes first");
    assert_eq!(chosen(with(&["1.2.0", "1.0.0"]), Some(&route), None).unwrap(), "1.1.0", "then what is older");
    assert_eq!(chosen(with(&["1.2.0", "1.1.0", "1.0.0"]), Some(&route), None), None, "2.0.0 was never activated");
    assert_eq!(chosen(with(&[]), Some(&route), None).unwrap(), "1.2.0", "lifted, it is back");
}

#[test]
fn rolling_back_goes_from_version_to_version_and_forgets_the_bad_one() {
    let route = route(&["1.0.0", "1.1.0", "1.2.0"]);
    let back = route.rolled_back(|_| true, now()).unwrap();
    assert_eq!((back.active.clone(), back.rev), (Some(v("1.1.0")), route.rev + 1));
    assert_eq!(back.previous, [v("1.0.0")]);
    let mut versions = all(&["1.0.0", "1.2.0"]);
    versions.push(installed("1.1.0", SkillState::Suspended));
    assert_eq!(chosen(versions, Some(&back), None).unwrap(), "1.0.0", "not 1.2.0, which was rolled back");
    assert_eq!(back.rolled_back(|_| true, now()).unwrap().active, Some(v("1.0.0")));
    assert_eq!(route.rolled_back(|version| *version != v("1.1.0"), now()).unwrap().active, Some(v("1.0.0")));
    assert!(back.rolled_back(|_| false, now()).is_none());
    let again = back.activated(&v("1.0.0"), now());
    assert_eq!((again.active, again.previous), (Some(v("1.0.0")), vec![v("1.1.0")]), "each once");
    let many = (0..20).fold(route, |route, minor| route.activated(&Version::new(3, minor, 0), now()));
    assert_eq!(many.previous.len(), Route::MAX_PREVIOUS);
    assert_eq!(many.previous[0], Version::new(3, 18, 0));
}

#[test]
fn a_share_of_lineages_falls_on_the_canary_and_stays_there() {
    let route = route(&["1.0.0"]).with_canary(v("1.1.0"), terms(10), now());
    let takes = |lineage: u128, route: &Route| {
        let versions = all(&["1.0.0", "1.1.0"]);
        let choices = Choices::of(versions, Some(route), Some(Uuid::from_u128(lineage)));
        choices.first(None).unwrap().skill.version == v("1.1.0")
    };
    let taken: Vec<u128> = (0..4000).filter(|lineage| takes(*lineage, &route)).collect();
    assert!((300..500).contains(&taken.len()), "10 % of 4000, found {}", taken.len());
    let larger = route.with_canary(v("1.1.0"), terms(50), now());
    assert!(taken.iter().all(|lineage| takes(*lineage, &larger)), "a larger share takes nobody's away");
    assert_eq!(chosen(all(&["1.0.0", "1.1.0"]), Some(&route), None).unwrap(), "1.0.0", "no lineage: no trial");
    assert_eq!(chosen(all(&["1.0.0", "1.1.0"]), Some(&route), Some("=1.1.0")).unwrap(), "1.1.0");
    let promoted = route.activated(&v("1.1.0"), now());
    assert_eq!((promoted.canary, promoted.previous), (None, vec![v("1.0.0")]));
}

#[test]
fn only_the_skill_s_own_failures_count_against_it() {
    let mark = |kind, code: &str| RunMark::of_failure(&Failure::new(kind, code, ""));
    for code in [codes::TRAP, codes::DEADLINE, codes::FUEL, codes::MEMORY, codes::OUTPUT_INVALID, "its-own-word"] {
        assert_eq!(mark(FailureKind::Permanent, code), Some(RunMark::Bad), "{code}");
    }
    assert_eq!(mark(FailureKind::Security, codes::NOT_DECLARED), Some(RunMark::Bad));
    for kind in [FailureKind::InvalidInput, FailureKind::Transient, FailureKind::Denied, FailureKind::Poison] {
        assert_eq!(mark(kind, "x"), None, "{kind:?}");
    }
    for code in [codes::HOST, codes::EFFECT_UNKNOWN, codes::REFUSED] {
        assert_eq!(mark(FailureKind::Permanent, code), None, "{code}");
    }
}

#[test]
fn terms_outside_their_ranges_are_refused() {
    assert_eq!(terms(1).check(), Ok(()));
    let bad = [
        CanaryTerms { share: 0, ..terms(1) },
        CanaryTerms { share: 100, ..terms(1) },
        CanaryTerms { max_failures: f64::NAN, ..terms(1) },
        CanaryTerms { max_failures: 1.1, ..terms(1) },
        CanaryTerms { min_runs: 0, ..terms(1) },
        CanaryTerms { promote_after: Some(49), ..terms(1) },
    ];
    for terms in bad {
        assert!(terms.check().is_err(), "{terms:?}");
    }
}

#[test]
fn a_route_reads_back_as_written() {
    let route = route(&["1.0.0", "1.1.0"]).with_canary(v("2.0.0-rc.1"), terms(10), now());
    let text = serde_json::to_string(&route).unwrap();
    assert_eq!(serde_json::from_str::<Route>(&text).unwrap(), route);
}

proptest! {
    /// Whatever the order of good and bad runs: the trial is not decided before its least runs; it is withdrawn at the
    /// first run from then on after which the rate is over the bound, and never promoted over it.
    #[test]
    fn a_trial_ends_when_its_figures_say_so(
        marks in prop::collection::vec(any::<bool>(), 0..300),
        max_failures in 0.0..=1.0_f64,
        min_runs in 1_u32..100,
        more in prop::option::of(0_u32..100),
    ) {
        let terms = CanaryTerms { share: 10, max_failures, min_runs, promote_after: more.map(|more| min_runs + more) };
        let mut canary = Canary { version: v("1.1.0"), terms, runs: 0, failures: 0, started_at: now() };
        let (mut runs, mut bad) = (0_u32, 0_u32);
        for is_bad in marks {
            canary = canary.counted(if is_bad { RunMark::Bad } else { RunMark::Good });
            runs += 1;
            bad += u32::from(is_bad);
            prop_assert_eq!((canary.runs, canary.failures), (runs, bad));
            let is_over = f64::from(bad) / f64::from(runs) > max_failures;
            let expected = match (runs >= min_runs, is_over, terms.promote_after) {
                (false, ..) => CanaryDecision::GoOn,
                (true, true, _) => CanaryDecision::Withdraw,
                (true, false, Some(enough)) if runs >= enough => CanaryDecision::Promote,
                (true, false, _) => CanaryDecision::GoOn,
            };
            prop_assert_eq!(canary.decide(), expected);
        }
    }

    /// Nothing is ever chosen that may not be run, that does not meet the requirement, or that is on trial elsewhere;
    /// and if the active version may be run and meets the requirement, only the canary goes before it.
    #[test]
    fn what_is_chosen_is_allowed(
        states in prop::collection::vec(0_u8..4, 1..8),
        decisions in prop::collection::vec((0_usize..8, any::<bool>()), 0..8),
        canary in prop::option::of(0_usize..8),
        lineage in prop::option::of(any::<u128>()),
        wanted in prop::option::of(0_usize..8),
    ) {
        const STATES: [SkillState; 4] =
            [SkillState::Active, SkillState::Suspended, SkillState::AwaitingConsent, SkillState::Yanked];
        let version = |minor: usize| Version::new(1, (minor % states.len()) as u64, 0);
        let versions: Vec<SkillVersion> = states
            .iter()
            .enumerate()
            .map(|(minor, state)| installed(&format!("1.{minor}.0"), STATES[usize::from(*state)]))
            .collect();
        let allowed = |wanted: &Version| versions.iter().any(|v| v.skill.version == *wanted && v.state == SkillState::Active);
        let mut route = Route::new(name(), now());
        for (minor, back) in decisions {
            route = match route.rolled_back(allowed, now()) {
                Some(back_again) if back => back_again,
                _ => route.activated(&version(minor), now()),
            };
            prop_assert!(route.previous.iter().all(|old| Some(old) != route.active.as_ref()));
        }
        if let Some(minor) = canary {
            route = route.with_canary(version(minor), CanaryTerms::of_share(50), now());
        }
        let wanted = wanted.map(|minor| VersionReq::parse(&format!("={}", version(minor))).unwrap());
        let choices = Choices::of(versions.clone(), Some(&route), lineage.map(Uuid::from_u128));
        let first = choices.first(wanted.as_ref()).map(|chosen| chosen.skill.version.clone());
        if let Some(first) = &first {
            prop_assert!(allowed(first));
            prop_assert!(wanted.as_ref().is_none_or(|wanted| wanted.matches(first)));
        }
        let tried = route.canary.as_ref().filter(|canary| route.active.as_ref() != Some(&canary.version));
        let falls = tried.is_some_and(|canary| lineage.is_some_and(|l| canary.takes(&name(), Uuid::from_u128(l))));
        if wanted.is_none() && !falls {
            prop_assert!(tried.is_none_or(|canary| first.as_ref() != Some(&canary.version)));
            if let Some(active) = route.active.as_ref().filter(|active| allowed(active)) {
                prop_assert_eq!(first.as_ref(), Some(active));
            }
        }
    }
}
