//! The hash chains.

use super::fixtures::*;
use chimera_core::audit;
use chimera_core::change::{Guard, Write};
use chimera_core::ids::*;
use chimera_core::ports::Truth;
use futures::future::join_all;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

pub async fn chains_hold_after_concurrent_commits_from_fifty_tasks(store: Arc<dyn Truth>) {
    let chains = [None, Some(CampaignId::new(&SystemIds)), Some(CampaignId::new(&SystemIds))];
    let workers = (0..50_usize).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for turn in 0..6 {
                let mut change = writes([Write::PutAgent(agent())]);
                let chain = chains[(number + turn) % chains.len()];
                change.audit(draft(chain, "first.of-two"));
                change.audit(draft(chain, "second.of-two"));
                change.audit(draft(None, "system.too"));
                let _ = store.commit(change).await.unwrap();
            }
        })
    });
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    let mut count = 0;
    for chain in chains {
        let head = store.audit_head(chain).await.unwrap();
        let events = store.audit(chain, 0, u32::MAX).await.unwrap();
        audit::verify_through(chain, &events, head).unwrap();
        count += events.len();
    }
    assert_eq!(count, 50 * 6 * 3);
    let names: BTreeSet<_> = store.audit_chains().await.unwrap().into_iter().collect();
    assert_eq!(names, BTreeSet::from(chains));
}

pub async fn details_keep_their_hash(store: Arc<dyn Truth>) {
    let mut change = writes([]);
    let details = [
        json!({ "z": 1, "a": { "y": [], "b": null } }),
        json!({ "float": 0.1, "third": 1.0 / 3.0, "tiny": 5e-324, "huge": f64::MAX, "odd": 8.41e21, "one": 1.0 }),
        json!({ "least": i64::MIN, "most": u64::MAX }),
        json!({ "text": "\u{0}\u{1f}\"\\ ✓ 🦁 \u{2028}" }),
        json!({}),
    ];
    for detail in details {
        let mut event = draft(None, "detail");
        event.detail = detail;
        event.actor = "operator:a:b ✓".parse().unwrap();
        event.task = Some(TaskId::new(&SystemIds));
        change.audit(event);
    }
    let drafts = change.audit.clone();
    let _ = store.commit(change).await.unwrap();
    let events = store.audit(None, 0, 100).await.unwrap();
    audit::verify(None, &events).unwrap();
    assert_eq!(events.into_iter().map(|event| event.draft).collect::<Vec<_>>(), drafts);
}

pub async fn pages_of_a_chain_fit_together(store: Arc<dyn Truth>) {
    let mut change = writes([]);
    (0..25).for_each(|_| change.audit(draft(None, "page")));
    let _ = store.commit(change).await.unwrap();
    let mut paged = Vec::new();
    loop {
        let page = store.audit(None, paged.len() as u64, 10).await.unwrap();
        assert!(page.len() <= 10);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, store.audit(None, 0, u32::MAX).await.unwrap());
    audit::verify(None, &paged).unwrap();
    assert_eq!(store.audit(None, u64::MAX, 10).await.unwrap(), []);
}

pub async fn each_chain_has_the_head_of_its_last_event(store: Arc<dyn Truth>) {
    let chains = [None, Some(CampaignId::new(&SystemIds)), Some(CampaignId::new(&SystemIds))];
    assert_eq!(store.audit_head(None).await.unwrap(), None, "nothing was appended yet");
    let (_, task) = task();
    for turn in 1..=3 {
        let mut change = writes([]);
        chains[..turn].iter().for_each(|chain| change.audit(draft(*chain, "one.more")));
        let _ = store.commit(change).await.unwrap();
        // What is stale appends nothing, and moves no head.
        let mut stale = writes([]);
        stale.guard(Guard::TaskRev(task.id, 1));
        chains.iter().for_each(|chain| stale.audit(draft(*chain, "never.happened")));
        let _ = store.commit(stale).await.unwrap();
        for chain in chains {
            let last = store.audit(chain, 0, 100).await.unwrap().pop();
            let head = store.audit_head(chain).await.unwrap();
            assert_eq!(head.map(|head| (head.seq, head.hash)), last.map(|event| (event.seq, event.hash)));
        }
    }
}

pub async fn the_events_of_a_task_are_found_among_others(store: Arc<dyn Truth>) {
    let (task, other) = (TaskId::new(&SystemIds), TaskId::new(&SystemIds));
    let chain = Some(CampaignId::new(&SystemIds));
    let about = |task, action: &'static str| audit::AuditDraft { task: Some(task), ..draft(chain, action) };
    for (first, second) in [("a", "b"), ("c", "d")] {
        let mut change = writes([Write::PutAgent(agent())]);
        change.audit(about(task, first));
        change.audit(about(other, "others"));
        change.audit(draft(chain, "nobodys"));
        change.audit(about(task, second));
        let _ = store.commit(change).await.unwrap();
    }
    let actions = async |chain, task, limit| -> Vec<String> {
        let found = store.audit_of(chain, task, limit).await.unwrap();
        found.into_iter().map(|event| event.draft.action.into_owned()).collect()
    };
    assert_eq!(actions(chain, task, 100).await, ["a", "b", "c", "d"]);
    assert_eq!(actions(chain, task, 3).await, ["a", "b", "c"]);
    assert_eq!(actions(chain, other, 100).await, ["others", "others"]);
    assert_eq!(actions(None, task, 100).await, [""; 0], "another chain has none of it");
}
