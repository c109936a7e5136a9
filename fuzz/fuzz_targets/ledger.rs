//! The rule of the effect ledger, for any history of runs that change their minds: a call is never new while something
//! that may have happened was not asked for again.
//! Sends nothing; the ledger is a list.
//! Run by `cargo fuzz run ledger`.

#![no_main]

use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::effect::{Effect, EffectKey, EffectState, Matched, SentKey, match_call};
use chimera_core::ids::{EffectId, IdSource, LineageId, SequentialIds, TaskId};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::collections::BTreeSet;

/// One call of one run, and what becomes of it if it is let through.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Call {
    tool: bool,
    arguments: u8,
    fate: u8,
}

fn state(fate: u8) -> EffectState {
    use EffectState::{Done, Gated, Intent, NotDone, Refused};
    [Gated, Intent, Done, NotDone, Refused][usize::from(fate % 5)]
}

fn may_have_happened(effect: &Effect) -> bool {
    matches!(effect.state, EffectState::Done | EffectState::Intent | EffectState::Refused)
}

struct Ledger {
    ids: SequentialIds,
    lineage: LineageId,
    task: TaskId,
    effects: Vec<Effect>,
}

impl Ledger {
    fn new() -> Self {
        let ids = SequentialIds::default();
        Self { lineage: LineageId::new(&ids), task: TaskId::new(&ids), ids, effects: Vec::new() }
    }

    fn key(&self, ordinal: u32, call: Call) -> EffectKey {
        EffectKey {
            lineage: self.lineage,
            ordinal,
            tool: if call.tool { "social/publish_post" } else { "shop/buy" }.to_owned(),
            arguments_hash: Digest::of(&[call.arguments % 3]),
        }
    }

    fn effect(&self, key: EffectKey, attempt: u32, fate: u8) -> Effect {
        Effect {
            id: EffectId::from_uuid(self.ids.next_uuid()),
            key,
            campaign: None,
            task: self.task,
            attempt,
            epoch: 0,
            arguments: json!({}),
            state: state(fate),
            sent_key: SentKey::default(),
            answer: None,
            approval: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    /// Whether the run may go on.
    fn call(&mut self, consumed: &mut BTreeSet<EffectId>, key: EffectKey, attempt: u32, call: Call) -> bool {
        match match_call(&self.effects, consumed, &key) {
            Matched::New => {
                let unclaimed = |effect: &&Effect| may_have_happened(effect) && !consumed.contains(&effect.id);
                assert_eq!(self.effects.iter().find(unclaimed), None, "{key:?} is new beside it");
                assert!(self.effects.iter().all(|effect| effect.key != key), "{key:?} is new a second time");
                let effect = self.effect(key, attempt, call.fate);
                consumed.insert(effect.id);
                self.effects.push(effect);
                true
            }
            Matched::Same(same) => {
                assert_eq!(same.key, key);
                let (id, before) = (same.id, same.state);
                if matches!(before, EffectState::Gated | EffectState::NotDone) {
                    // What certainly did not happen may be sent now: by the same rule, its own row aside.
                    let others: Vec<Effect> = self.effects.iter().filter(|effect| effect.id != id).cloned().collect();
                    if match_call(&others, consumed, &key) != Matched::New {
                        return false;
                    }
                    for effect in self.effects.iter_mut().filter(|effect| effect.id == id) {
                        effect.state = state(call.fate);
                    }
                }
                consumed.insert(id);
                true
            }
            Matched::Diverged(unclaimed) => {
                assert!(may_have_happened(unclaimed) && !consumed.contains(&unclaimed.id));
                assert_ne!(unclaimed.key, key);
                false
            }
        }
    }
}

fuzz_target!(|runs: Vec<Vec<Call>>| {
    let mut ledger = Ledger::new();
    let mut longest = 0;
    for (attempt, calls) in (1..).zip(runs.iter().take(16)) {
        let mut consumed = BTreeSet::new();
        for (ordinal, call) in (0..).zip(calls.iter().take(16)) {
            let key = ledger.key(ordinal, *call);
            if !ledger.call(&mut consumed, key, attempt, *call) {
                break;
            }
        }
        longest = longest.max(calls.len().min(16));
    }
    // However the runs changed their minds, no more happened than one run asked for.
    let happened = ledger.effects.iter().filter(|effect| may_have_happened(effect)).count();
    assert!(happened <= longest, "{happened} effects of runs of at most {longest} calls");
    let mut places = BTreeSet::new();
    assert!(
        ledger
            .effects
            .iter()
            .filter(|effect| may_have_happened(effect))
            .all(|effect| places.insert(effect.key.ordinal)),
        "two effects happened at one place"
    );
});
