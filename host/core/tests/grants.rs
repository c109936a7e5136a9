//! Grants: what covers a wish, and how both kinds are written.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use chimera_core::audit::Actor;
use chimera_core::clock::Timestamp;
use chimera_core::grant::{
    Asker, CallGrant, Calling, Grant, Permits, SlotGrant, ToolMode, ToolPolicy, Want, call_command, calling, covering,
};
use chimera_core::ids::{CampaignId, GrantId, SequentialIds};
use chimera_core::skill::SkillName;
use proptest::prelude::*;
use semver::{Version, VersionReq};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

fn name(text: &str) -> SkillName {
    text.parse().unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn grant(ids: &SequentialIds, campaign: Option<CampaignId>, granted: i64, permits: Permits) -> Grant {
    Grant {
        id: GrantId::new(ids),
        skill: name("acme/post"),
        campaign,
        permits,
        granted_by: Actor::System,
        granted_at: at(granted),
        expires_at: None,
        revoked_at: None,
    }
}

fn slot() -> Permits {
    let policy = ToolPolicy { mode: ToolMode::EffectWithApproval, pin: None };
    Permits::Slot(SlotGrant {
        slot: "social".to_owned(),
        server: "s".to_owned(),
        tools: BTreeMap::from([("publish".to_owned(), policy)]),
        resources: BTreeSet::from(["post://1".to_owned()]),
    })
}

fn call(callee: &str, version: &str) -> Permits {
    Permits::Call(CallGrant { callee: name(callee), version: version.parse().unwrap() })
}

#[test]
fn the_nearest_grant_covers_and_one_that_is_over_does_not() {
    let ids = SequentialIds::default();
    let campaign = CampaignId::new(&ids);
    let mut grants = vec![
        grant(&ids, None, 5, slot()),
        grant(&ids, Some(campaign), 1, slot()),
        grant(&ids, None, 9, slot()),
        grant(&ids, Some(campaign), 20, call("acme/other", "*")),
    ];
    let (post, other) = (name("acme/post"), name("acme/other"));
    let find = |grants: &[Grant], skill: &SkillName, campaign, want| {
        covering(grants, Asker { skill, campaign, now: at(50) }, "social", want).map(|(grant, _)| grant.id)
    };
    assert_eq!(find(&grants, &post, Some(campaign), Want::Tool("publish")), Some(grants[1].id));
    assert_eq!(find(&grants, &post, None, Want::Tool("publish")), Some(grants[2].id));
    assert_eq!(find(&grants, &post, None, Want::Resource("post://1")), Some(grants[2].id));
    assert_eq!(find(&grants, &post, None, Want::Tool("delete")), None);
    grants[1].revoked_at = Some(Timestamp::EPOCH);
    assert_eq!(find(&grants, &post, Some(campaign), Want::List), Some(grants[2].id));
    grants[2].expires_at = Some(at(50));
    assert_eq!(find(&grants, &post, None, Want::List), Some(grants[0].id), "it ends at that moment");
    grants[0].expires_at = Some(at(51));
    assert_eq!(find(&grants, &post, None, Want::List), Some(grants[0].id), "and not before");
    assert_eq!(find(&grants, &other, None, Want::List), None);
}

#[test]
fn a_call_is_granted_by_name_and_version() {
    let ids = SequentialIds::default();
    let grants = [grant(&ids, None, 5, call("acme/other", "^0.1")), grant(&ids, None, 9, slot())];
    let (post, other, third) = (name("acme/post"), name("acme/other"), name("acme/third"));
    let asker = |skill| Asker { skill, campaign: None, now: at(50) };
    let says = |skill, callee, version: &str| calling(&grants, asker(skill), callee, Some(&version.parse().unwrap()));
    assert_eq!(says(&post, &other, "0.1.4"), Calling::Granted(&grants[0]));
    assert_eq!(says(&post, &other, "0.2.0"), Calling::OtherVersions(grants[0].call().unwrap()));
    assert_eq!(says(&post, &other, "0.1.4-rc.1"), Calling::OtherVersions(grants[0].call().unwrap()));
    assert_eq!(says(&post, &third, "0.1.4"), Calling::NotGranted);
    assert_eq!(says(&other, &post, "0.1.4"), Calling::NotGranted, "a grant has a direction");
    assert_eq!(calling(&grants, asker(&post), &other, None), Calling::Granted(&grants[0]));
    assert_eq!(calling(&grants, asker(&post), &third, None), Calling::NotGranted);
    let any = CallGrant { callee: other, version: VersionReq::STAR };
    assert!(any.allows(&"1.0.0-rc.1".parse().unwrap()), "`*` is every version");
}

#[test]
fn the_command_for_a_version_grants_that_version() {
    let (post, other) = (name("acme/post"), name("acme/other"));
    assert_eq!(call_command(&post, &other, None), "chimera grant add acme/post --skill acme/other");
    for version in ["0.1.4", "2.0.0", "1.0.0-rc.1", "0.0.3"] {
        let version: Version = version.parse().unwrap();
        let command = call_command(&post, &other, Some(&version));
        let (_, requirement) = command.split_once('@').unwrap();
        let granted = CallGrant { callee: other.clone(), version: requirement.parse().unwrap() };
        assert!(granted.allows(&version), "{command}");
    }
}

#[test]
fn both_kinds_are_read_as_they_were_written() {
    let ids = SequentialIds::default();
    for permits in [slot(), call("acme/other", ">=0.1, <0.3")] {
        let grant = Grant { expires_at: Some(at(7)), ..grant(&ids, None, 5, permits) };
        let written = serde_json::to_string(&grant).unwrap();
        assert_eq!(serde_json::from_str::<Grant>(&written).unwrap(), grant);
    }
    // As it was written before there were two kinds.
    let old = json!({
        "id": GrantId::new(&ids), "skill": "acme/post", "slot": "social", "server": "s",
        "tools": { "publish": { "mode": "effect-with-approval" } }, "resources": ["post://1"],
        "granted_by": Actor::System, "granted_at": "1970-01-01T00:00:00.005Z",
    });
    let read: Grant = serde_json::from_value(old.clone()).unwrap();
    assert_eq!((&read.permits, read.expires_at), (&slot(), None));
    assert_eq!(serde_json::to_value(&read).unwrap(), old);
    let neither = json!({
        "id": GrantId::new(&ids), "skill": "acme/post", "slot": "social",
        "granted_by": Actor::System, "granted_at": "1970-01-01T00:00:00.005Z",
    });
    assert!(serde_json::from_value::<Grant>(neither).is_err());
}

const NAMES: [&str; 3] = ["a/a", "a/b", "a/c"];
const REQUIREMENTS: [&str; 6] = ["*", "^0.1", "=0.2.0", ">=1.0.0, <2.0.0", "~1.2.3", "^1.0.0-rc.1"];
const VERSIONS: [&str; 7] = ["0.1.0", "0.1.9", "0.2.0", "1.0.0-rc.1", "1.0.0", "1.2.4", "2.0.0"];

/// A grant by parts: who, whom, which versions, in which campaign, until when, taken back when.
type Parts = (usize, usize, usize, Option<usize>, Option<i64>, bool);

fn parts() -> impl Strategy<Value = Parts> {
    let campaign = prop::option::of(0..2_usize);
    (0..3_usize, 0..3_usize, 0..REQUIREMENTS.len(), campaign, prop::option::of(0..100_i64), any::<bool>())
}

proptest! {
    /// A call is granted exactly when one grant in force names both skills, the place and the version.
    #[test]
    fn a_call_is_granted_when_one_grant_says_all_of_it(
        grants in prop::collection::vec(parts(), 0..6),
        (caller, callee, version) in (0..3_usize, 0..3_usize, 0..VERSIONS.len()),
        campaign in prop::option::of(0..2_usize),
        now in 0..100_i64,
    ) {
        let ids = SequentialIds::default();
        let campaigns = [CampaignId::new(&ids), CampaignId::new(&ids)];
        let version: Version = VERSIONS[version].parse().unwrap();
        let covers = |&(who, whom, which, place, end, is_revoked): &Parts| {
            let requirement = REQUIREMENTS[which];
            let fits = requirement == "*" || requirement.parse::<VersionReq>().unwrap().matches(&version);
            let is_here = place.is_none() || place == campaign;
            who == caller && whom == callee && fits && is_here && end.is_none_or(|end| now < end) && !is_revoked
        };
        let built: Vec<Grant> = grants.iter().map(|&(who, whom, which, place, end, is_revoked)| Grant {
            skill: name(NAMES[who]),
            expires_at: end.map(at),
            revoked_at: is_revoked.then(|| at(0)),
            ..grant(&ids, place.map(|place| campaigns[place]), 0, call(NAMES[whom], REQUIREMENTS[which]))
        }).collect();
        let (caller, callee) = (name(NAMES[caller]), name(NAMES[callee]));
        let asker = Asker { skill: &caller, campaign: campaign.map(|place| campaigns[place]), now: at(now) };
        let says = calling(&built, asker, &callee, Some(&version));
        prop_assert_eq!(matches!(says, Calling::Granted(_)), grants.iter().any(covers));
        if let Calling::Granted(grant) = says {
            prop_assert!(covers(&grants[built.iter().position(|one| one.id == grant.id).unwrap()]));
        }
    }
}
