use super::*;
use crate::testkit::{House, bundled, campaign_of};
use chimera_core::clock::Timestamp;
use chimera_core::ports::TruthScratch;
use chimera_core::task::Lease;
use chimera_index::LexicalMemory;
use serde_json::json;

async fn ports() -> (House, TruthPorts) {
    let house = House::with(bundled()).await;
    house.start(campaign_of("Find trends in these posts")).await;
    let leased = house.lease().await.expect("a task");
    let run = RunIdentity {
        task: leased.task.id,
        campaign: leased.task.campaign,
        lease: leased.task.lease.as_ref().expect("a lease").id,
        attempt: leased.task.attempt,
        epoch: leased.task.epoch,
        agent: agent_of(&leased.spec.skill.name),
        path: String::new(),
    };
    let truth: Arc<dyn Truth> = Arc::new(house.store.clone());
    let scratch = Arc::new(TruthScratch::new(truth.clone()));
    let ports = TruthPorts { run, truth, memory: Arc::new(LexicalMemory::new()), scratch, clock: house.clock.clone() };
    (house, ports)
}

async fn fence_off(house: &House) {
    house.clock.advance(Lease::DURATION + Duration::from_secs(1));
    house.scheduler.sweep_turn().await.expect("sweeps");
}

fn entry(ordinal: u32) -> JournalEntry {
    JournalEntry {
        ordinal,
        call: "scratch.get".into(),
        request: Digest::of(b"x"),
        answer: (&json!({ "ok": null })).into(),
    }
}

#[tokio::test]
async fn a_call_repeated_after_a_crash_writes_once() {
    let (house, ports) = ports().await;
    let first = ports.remember(3, "the river rises", json!({})).await.expect("remembered");
    let again = ports.remember(3, "the river rises", json!({})).await.expect("remembered");
    let other = ports.remember(4, "the bridge is closed", json!({})).await.expect("remembered");
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_eq!(house.store.memory(Some(ports.run.agent)).await.expect("read").len(), 2);
    let hits = ports.recall("river", 500).await.expect("recalled");
    assert_eq!(hits[0].item.text, "the river rises");
    for _ in 0..2 {
        ports.observe(5, "river", 2.0, "test").await.expect("observed");
    }
    let top = TrendsPort::top(&ports, Duration::from_secs(60), 10).await.expect("top");
    assert_eq!((top[0].topic.as_str(), top[0].weight, top[0].count), ("river", 2.0, 1));
}

#[tokio::test]
async fn what_is_forgotten_is_gone_from_the_truth_and_the_index_and_nobody_elses_is() {
    let (house, ports) = ports().await;
    let other = TruthPorts {
        run: RunIdentity { agent: agent_of(&"acme/other".parse().expect("a name")), ..ports.run.clone() },
        ..ports.clone()
    };
    let kept = ports.remember(3, "the river rises", json!({})).await.expect("remembered");
    let gone = ports.remember(4, "the river falls", json!({})).await.expect("remembered");
    let others = other.remember(5, "the river is theirs", json!({})).await.expect("remembered");
    for id in [&gone, &gone, &others, "no id at all"] {
        ports.forget(id).await.expect("forgotten, or never there");
    }
    let found = |hits: Vec<MemoryHit>| hits.iter().map(|hit| hit.item.id.to_string()).collect::<Vec<_>>();
    assert_eq!(found(ports.recall("river", 50).await.expect("recalled")), [kept]);
    assert_eq!(found(other.recall("river", 50).await.expect("recalled")), [others]);
    assert_eq!(house.store.memory(None).await.expect("read").len(), 2);
    fence_off(&house).await;
    assert!(ports.forget(&gone).await.is_err(), "a run that was fenced off forgets nothing");
}

#[tokio::test]
async fn a_run_that_was_fenced_off_writes_nothing() {
    let (house, ports) = ports().await;
    ports.append(vec![entry(0)]).await.expect("journalled");
    fence_off(&house).await;
    assert_eq!(ports.append(vec![entry(1)]).await.expect_err("fenced").kind, PortErrorKind::Closed);
    assert!(ports.remember(0, "x", json!({})).await.is_err());
    assert!(ScratchPort::put(&ports, "k", json!(1)).await.is_err());
    assert!(ports.observe(0, "t", 1.0, "s").await.is_err());
    assert_eq!(house.store.memory(None).await.expect("read"), []);
    let next = TruthPorts { run: RunIdentity { attempt: ports.run.attempt + 1, ..ports.run.clone() }, ..ports.clone() };
    let kept = next.load().await.expect("read");
    assert_eq!(kept.len(), 1, "the next attempt of the epoch is told the same");
}

#[tokio::test]
async fn scratch_is_forgotten_after_an_hour() {
    let (house, ports) = ports().await;
    ScratchPort::put(&ports, "k", json!({ "a": 1 })).await.expect("put");
    assert_eq!(ScratchPort::get(&ports, "k").await.expect("read"), Some(json!({ "a": 1 })));
    house.clock.advance(ScratchItem::KEPT + Duration::from_secs(1));
    assert_eq!(ScratchPort::get(&ports, "k").await.expect("read"), None);
    assert!(house.clock.now() > Timestamp::EPOCH);
}

#[tokio::test]
async fn what_is_too_large_or_makes_no_sense_is_refused() {
    let (_house, ports) = ports().await;
    let large = "x".repeat(MAX_VALUE_BYTES + 1);
    assert!(ports.remember(0, &large, json!({})).await.is_err());
    assert!(ports.remember(0, "x", json!([1])).await.is_err());
    assert!(ScratchPort::put(&ports, "", json!(1)).await.is_err());
    assert!(ScratchPort::put(&ports, &"k".repeat(MAX_KEY_BYTES + 1), json!(1)).await.is_err());
    assert!(ScratchPort::put(&ports, "k", json!(large)).await.is_err());
    for weight in [f64::NAN, f64::INFINITY, -1.0, 1.000_001e9, 1.7e308] {
        assert!(ports.observe(0, "t", weight, "s").await.is_err());
    }
    assert!(ports.observe(0, " ", 1.0, "s").await.is_err());
}

#[tokio::test]
async fn a_skill_that_fills_its_scratch_is_told_what_to_do() {
    let (house, ports) = ports().await;
    let large = json!("x".repeat(MAX_VALUE_BYTES - 2));
    let fits = ScratchItem::MAX_BYTES / (MAX_VALUE_BYTES + 4);
    for number in 0..fits {
        ScratchPort::put(&ports, &format!("{number:04}"), large.clone()).await.expect("there is room");
    }
    let full = ScratchPort::put(&ports, "more", large.clone()).await.expect_err("full");
    let HostError::Failure(failure) = full else { panic!("expected a failure, found {full:?}") };
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Permanent, codes::SCRATCH_FULL));
    assert!(failure.message.contains("delete keys"), "{}", failure.message);
    ScratchPort::put(&ports, "0000", large.clone()).await.expect("a value takes the place of the old one");
    ScratchPort::delete(&ports, "0001").await.expect("deleted");
    ScratchPort::put(&ports, "more", large.clone()).await.expect("there is room again");
    let other = TruthPorts {
        run: RunIdentity { agent: agent_of(&"acme/other".parse().expect("a name")), ..ports.run.clone() },
        ..ports.clone()
    };
    ScratchPort::put(&other, "k", large).await.expect("another skill has room of its own");
    drop(house);
}

#[tokio::test]
async fn memory_that_is_full_forgets_the_oldest_in_the_truth_and_in_the_index() {
    let (house, ports) = ports().await;
    let text = |number: usize| format!("{number:04} {}", "river ".repeat(10_000));
    let fits = MemoryItem::MAX_BYTES / (text(0).len() + 2);
    for (number, ordinal) in (0..fits + 3).zip(0..) {
        house.clock.advance(Duration::from_millis(1));
        ports.remember(ordinal, &text(number), json!({})).await.expect("remembered");
    }
    let kept = house.store.memory(Some(ports.run.agent)).await.expect("read");
    assert_eq!(kept.len(), fits);
    assert_eq!(kept[0].text, text(3), "the oldest are forgotten");
    assert!(kept.iter().map(MemoryItem::size).sum::<usize>() <= MemoryItem::MAX_BYTES);
    assert!(ports.recall("0002", 50).await.expect("recalled").iter().all(|hit| hit.item.text != text(2)));
    assert_eq!(ports.recall("0003", 1).await.expect("recalled")[0].item.text, text(3));
}

#[test]
fn every_skill_has_a_memory_of_its_own() {
    let agent = |name: &str| agent_of(&name.parse().expect("a name"));
    assert_eq!(agent("acme/scan"), agent("acme/scan"));
    assert_ne!(agent("acme/scan"), agent("acme/scam"));
}
