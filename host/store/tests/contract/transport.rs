//! What is relayed, journalled and sent at most once.

use super::fixtures::*;
use chimera_core::change::{Committed, OutboxTopic, Write};
use chimera_core::digest::Digest;
use chimera_core::effect::EffectState;
use chimera_core::ids::*;
use chimera_core::ports::{PortErrorKind, Truth};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;

pub async fn the_journal_takes_an_entry_once(store: Arc<dyn Truth>) {
    let task = TaskId::new(&SystemIds);
    let append = |epoch, entries| writes([Write::AppendJournal { task, epoch, entries }]);
    let _ = store.commit(append(0, vec![entry(1, "b"), entry(0, "a")])).await.unwrap();
    let again = store.commit(append(0, vec![entry(1, "b"), entry(2, "c")])).await.unwrap();
    assert_eq!(again, Committed::Applied, "the same entry again is no error");
    let error = store.commit(append(0, vec![entry(3, "d"), entry(1, "other")])).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Permanent);
    let _ = store.commit(append(1, vec![entry(0, "afresh")])).await.unwrap();
    assert_eq!(store.journal(task, 0).await.unwrap(), [entry(0, "a"), entry(1, "b"), entry(2, "c")]);
    assert_eq!(store.journal(task, 1).await.unwrap(), [entry(0, "afresh")]);
}

pub async fn an_effect_is_in_the_ledger_once(store: Arc<dyn Truth>) {
    let lineage = LineageId::new(&SystemIds);
    let mut first = effect(lineage, 0);
    let _ = store.commit(writes([Write::PutEffect(first.clone())])).await.unwrap();
    let error = store.commit(writes([Write::PutEffect(effect(lineage, 0))])).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Permanent);
    first.state = EffectState::Done;
    first.updated_at = at(5);
    let second = effect(lineage, 1);
    let change = writes([Write::PutEffect(second.clone()), Write::PutEffect(first.clone())]);
    let _ = store.commit(change).await.unwrap();
    assert_eq!(store.effects(lineage).await.unwrap(), [first, second]);
}

pub async fn a_skill_version_is_immutable(store: Arc<dyn Truth>) {
    let installed = version(skill());
    let _ = store.commit(writes([Write::PutSkill(installed.clone())])).await.unwrap();
    let mut forged = installed.clone();
    forged.skill.digest = Digest::of(b"other bytes");
    let error = store.commit(writes([Write::PutSkill(forged)])).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Permanent);
    assert_eq!(store.skills(None).await.unwrap(), [installed]);
}

pub async fn due_outbox_rows_are_claimed_by_priority(store: Arc<dyn Truth>) {
    let low = outbox(OutboxTopic::Dispatch, 1, start());
    let mut older = outbox(OutboxTopic::Dispatch, 9, start());
    older.created_at = at(-10);
    let high = outbox(OutboxTopic::Dispatch, 9, start());
    let later = outbox(OutboxTopic::Dispatch, 9, at(100));
    let other = outbox(OutboxTopic::Judge, 9, start());
    let rows = [&low, &high, &older, &later, &other].map(|row| Write::PutOutbox(row.clone()));
    let _ = store.commit(writes(rows)).await.unwrap();
    let claim = async |now, limit| store.claim_outbox(OutboxTopic::Dispatch, now, at(1_000), limit).await.unwrap();
    assert_eq!(claim(at(1), 2).await, [older.clone(), high]);
    assert_eq!(claim(at(1), 10).await, [low]);
    assert_eq!(claim(at(1), 10).await, []);
    assert_eq!(claim(at(100), 10).await, [later]);
    assert_eq!(store.claim_outbox(OutboxTopic::Judge, at(1), at(2), 10).await.unwrap(), [other]);
    older.available_at = at(200);
    let _ = store.commit(writes([Write::PutOutbox(older.clone())])).await.unwrap();
    assert_eq!(claim(at(199), 10).await, []);
    assert_eq!(claim(at(200), 10).await, [older], "a row that is put again is no longer claimed");
}

pub async fn an_outbox_row_is_claimed_by_one(store: Arc<dyn Truth>) {
    let rows: Vec<_> = (0..200).map(|_| outbox(OutboxTopic::Dispatch, 5, start())).collect();
    let _ = store.commit(writes(rows.iter().cloned().map(Write::PutOutbox))).await.unwrap();
    let claimers = (0..10).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = store.claim_outbox(OutboxTopic::Dispatch, at(1), at(1_000), 7).await.unwrap();
                // More than there is: a claim is given twice, which would never end.
                if claimed.is_empty() || mine.len() > 200 {
                    return mine;
                }
                mine.extend(claimed.into_iter().map(|row| row.id));
            }
        })
    });
    let claimed: Vec<OutboxId> = join_all(claimers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(claimed.len(), rows.len(), "a row was claimed twice or never");
    let distinct: BTreeSet<_> = claimed.into_iter().collect();
    assert_eq!(distinct, rows.iter().map(|row| row.id).collect());
}

pub async fn an_unfinished_outbox_claim_is_claimed_again(store: Arc<dyn Truth>) {
    let row = outbox(OutboxTopic::Plan, 5, start());
    let _ = store.commit(writes([Write::PutOutbox(row.clone())])).await.unwrap();
    let claim = async |now, until| store.claim_outbox(OutboxTopic::Plan, now, until, 10).await.unwrap();
    assert_eq!(claim(at(0), at(100)).await, [row.clone()]);
    assert_eq!(claim(at(100), at(200)).await, [], "still claimed at its last moment");
    assert_eq!(claim(at(101), at(200)).await, [row.clone()]);
    store.release_outbox_claims().await.unwrap();
    assert_eq!(claim(at(102), at(300)).await, [row.clone()]);
    let _ = store.commit(writes([Write::DeleteOutbox(row.id)])).await.unwrap();
    assert_eq!(claim(at(1_000), at(2_000)).await, []);
}
