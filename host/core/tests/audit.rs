//! The hash chain: nothing in it can be changed, removed from the middle or reordered unseen.

#![allow(clippy::unwrap_used)]

mod support;

use chimera_core::audit::{Actor, AuditDraft, AuditEvent, Head, ReviewStatus, genesis, link, verify, verify_through};
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::ids::{AgentId, CampaignId, SequentialIds, TaskId};
use proptest::prelude::*;
use serde_json::json;

fn chain(campaign: Option<CampaignId>, length: usize) -> Vec<AuditEvent> {
    let ids = SequentialIds::default();
    let mut head = genesis(campaign);
    (0..length)
        .map(|at| {
            let draft = AuditDraft {
                campaign,
                task: (at % 2 == 0).then(|| TaskId::new(&ids)),
                action: format!("task.step{at}").into(),
                actor: if at % 3 == 0 { Actor::Judge } else { Actor::Worker(AgentId::new(&ids)) },
                at: Timestamp::from_millis(at as i64),
                review: ReviewStatus::None,
                detail: json!({ "n": at, "b": [1, 2], "a": "x" }),
            };
            let event = link(at as u64 + 1, head, draft);
            head = event.hash;
            event
        })
        .collect()
}

fn campaign() -> Option<CampaignId> {
    Some(CampaignId::new(&SequentialIds::default()))
}

fn damage(event: &mut AuditEvent, how: usize) {
    let draft = &mut event.draft;
    match how {
        0 => draft.action.to_mut().push('x'),
        1 => draft.actor = Actor::Operator("mallory".to_owned()),
        2 => draft.at = draft.at.plus(std::time::Duration::from_millis(1)),
        3 => draft.review = ReviewStatus::Approved,
        4 => draft.detail["n"] = json!(-1),
        5 => draft.detail["more"] = json!(null),
        6 => draft.task = Some(TaskId::from_uuid(uuid::Uuid::from_u128(99))),
        7 => draft.campaign = None,
        8 => event.seq += 1,
        9 => event.hash = Digest::of(b"other"),
        _ => event.prev_hash = Digest::of(b"other"),
    }
}

/// Chains that were written before the text was made directly must still hold.
#[test]
fn an_event_is_hashed_as_its_canonical_json() {
    let ids = SequentialIds::default();
    for (review, named) in [
        (ReviewStatus::None, "none"),
        (ReviewStatus::Pending, "pending"),
        (ReviewStatus::Approved, "approved"),
        (ReviewStatus::Rejected, "rejected"),
        (ReviewStatus::Expired, "expired"),
    ] {
        for campaign in [None, campaign()] {
            let draft = AuditDraft {
                campaign,
                task: campaign.map(|_| TaskId::new(&ids)),
                action: "odd \"action\" \\ \u{1}ä".into(),
                actor: Actor::Operator("a \"name\"".to_owned()),
                at: Timestamp::from_millis(1_780_000_000_123),
                review,
                detail: json!({ "z": [1, 1.5, -3e30, null, true], "a": { "y": "\n", "b\"": "ü" }, "": {} }),
            };
            let whole = json!({ "seq": 7, "prev_hash": genesis(campaign), "campaign": draft.campaign,
                "task_id": draft.task, "action": draft.action, "agent_id": draft.actor, "timestamp": draft.at,
                "review_status": named, "detail": draft.detail });
            assert_eq!(link(7, genesis(campaign), draft).hash, Digest::of_json(&whole));
        }
    }
}

proptest! {
    #[test]
    fn any_one_change_is_found(length in 1..20_usize, at in any::<prop::sample::Index>(), how in 0..11_usize) {
        let campaign = campaign();
        let mut events = chain(campaign, length);
        prop_assert_eq!(verify(campaign, &events).unwrap(), events[length - 1].hash);
        let at = at.index(length);
        damage(&mut events[at], how);
        let found = verify(campaign, &events).unwrap_err();
        prop_assert!((at as u64 + 1..=at as u64 + 2).contains(&found.seq), "{}", found);
    }

    #[test]
    fn a_change_that_hashes_itself_anew_is_found_at_the_next_event(length in 2..20_usize, at in any::<prop::sample::Index>()) {
        let campaign = campaign();
        let mut events = chain(campaign, length);
        let at = at.index(length - 1);
        let mut draft = events[at].draft.clone();
        draft.action.to_mut().push('x');
        events[at] = link(events[at].seq, events[at].prev_hash, draft);
        prop_assert_eq!(verify(campaign, &events).unwrap_err().seq, at as u64 + 2);
    }

    #[test]
    fn removing_or_swapping_events_is_found(length in 2..20_usize, at in any::<prop::sample::Index>(), swap in any::<bool>()) {
        let campaign = campaign();
        let mut events = chain(campaign, length);
        let head = events[length - 1].hash;
        let at = at.index(length - 1);
        if swap {
            events.swap(at, at + 1);
        } else {
            events.remove(at);
        }
        prop_assert!(verify(campaign, &events).is_err());
        // What is cut off at the end cannot be seen in the rest; the head says it.
        let cut = &chain(campaign, length)[..length - 1];
        prop_assert_ne!(verify(campaign, cut).unwrap(), head);
    }
}

#[test]
fn a_chain_that_does_not_reach_its_head_is_broken() {
    let whole = chain(None, 4);
    let head = |at: usize| Some(Head { seq: at as u64, hash: whole[at - 1].hash });
    assert_eq!(verify_through(None, &whole, head(4)), Ok(whole[3].hash));
    assert_eq!(verify_through(None, &whole, head(2)), Ok(whole[3].hash), "it may have grown since");
    assert_eq!(verify_through(None, &[], None), Ok(genesis(None)));
    let place = |events: &[AuditEvent], head| verify_through(None, events, head).unwrap_err().seq;
    assert_eq!(place(&whole[..2], head(4)), 3);
    assert_eq!(place(&[], head(4)), 1);
    assert_eq!(place(&whole, None), 4);
    assert_eq!(place(&whole, Some(Head { seq: 4, hash: whole[2].hash })), 4);
    assert_eq!(place(&whole, Some(Head { seq: 0, hash: genesis(None) })), 0);
}

#[test]
fn a_chain_cannot_pass_for_another() {
    let events = chain(campaign(), 3);
    assert!(verify(None, &events).is_err());
    assert_eq!(verify(None, &[]).unwrap(), genesis(None));
    assert_ne!(genesis(None), genesis(campaign()));
}

#[test]
fn actors_are_read_back_as_they_were_written() {
    let id = AgentId::from_uuid(uuid::Uuid::from_u128(5));
    for actor in [
        Actor::System,
        Actor::Planner,
        Actor::Judge,
        Actor::Worker(id),
        Actor::Agent(id),
        Actor::Operator("ada:lovelace".to_owned()),
    ] {
        assert_eq!(actor.to_string().parse(), Ok(actor));
    }
    for wrong in ["", "root", "worker:", "worker:5", "robot:x"] {
        assert!(wrong.parse::<Actor>().is_err(), "{wrong}");
    }
}
