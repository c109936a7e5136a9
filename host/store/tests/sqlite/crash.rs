//! The process is killed as by `kill -9`: what was answered is there, what was not is there whole or not at all.
//!
//! The test starts this test binary again with a folder in its environment; [`child`] then commits until it dies.

use crate::contract::fixtures::*;
use chimera_core::audit;
use chimera_core::change::{Change, Committed, OutboxTopic, Write};
use chimera_core::ids::*;
use chimera_core::ports::Truth;
use chimera_core::task::{Task, TaskSpec};
use chimera_store::{SqliteOptions, SqliteStore};
use futures::StreamExt as _;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use uuid::Uuid;

const FOLDER: &str = "CHIMERA_TEST_CRASH_FOLDER";
const WIDTH: &str = "CHIMERA_TEST_CRASH_WIDTH";

/// More changes than the child ever gets to make.
const CHANGES: u64 = 100_000;

/// The change of that number: a spec, a task, an outbox row and an event, each recognisable.
fn numbered(number: u64) -> Change {
    let id = Uuid::from_u64_pair(7, number);
    let (spec, task) = task();
    let spec = TaskSpec { id: SpecId::from_uuid(id), ..spec };
    let task = Task { id: TaskId::from_uuid(id), spec_id: spec.id, ..task };
    let mut change = creation(&spec, &task);
    let mut row = outbox(OutboxTopic::Dispatch, 5, start());
    row.id = OutboxId::from_uuid(id);
    change.write(Write::PutOutbox(row));
    let mut event = draft(None, "task.created");
    event.detail = json!({ "number": number });
    change.audit(event);
    change
}

/// Does nothing unless it was started by [`start_child`].
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let width: usize = std::env::var(WIDTH).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(SqliteOptions::new(folder)).await.unwrap();
        let first = store.audit(None, 0, u32::MAX).await.unwrap().len() as u64 * 1_000;
        let commits = futures::stream::iter(first..first + CHANGES).map(|number| {
            let store = store.clone();
            async move { (number, store.commit(numbered(number)).await.unwrap()) }
        });
        let mut commits = commits.buffer_unordered(width);
        while let Some((number, committed)) = commits.next().await {
            assert_eq!(committed, Committed::Applied);
            println!("answered {number}");
        }
    });
}

fn start_child(folder: &Path, width: usize, failpoint: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(WIDTH, width.to_string())
        .env_remove("CHIMERA_FAILPOINT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(failpoint) = failpoint {
        command.env("CHIMERA_FAILPOINT", failpoint);
    }
    command.spawn().unwrap()
}

fn answered(output: &str) -> BTreeSet<u64> {
    output.lines().filter_map(|line| line.rsplit_once("answered ")?.1.parse().ok()).collect()
}

/// Waits for the child to be killed; the numbers it was answered.
fn wait(mut child: Child) -> BTreeSet<u64> {
    use std::os::unix::process::ExitStatusExt as _;
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "{output}");
    answered(&output)
}

/// Opens what the child left; the numbers of the changes that are there, each checked to be there whole.
async fn survivors(folder: &Path) -> BTreeSet<u64> {
    let store = SqliteStore::open(SqliteOptions::new(folder)).await.unwrap();
    store.check().await.unwrap();
    let events = store.audit(None, 0, u32::MAX).await.unwrap();
    let head = store.audit_head(None).await.unwrap();
    audit::verify_through(None, &events, head).unwrap();
    assert_eq!(head.map(|head| head.seq), events.last().map(|event| event.seq));
    let numbers: BTreeSet<u64> = events.iter().map(|event| event.draft.detail["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), events.len());
    let id = |number: &u64| Uuid::from_u64_pair(7, *number);
    for number in &numbers {
        let task = store.task(TaskId::from_uuid(id(number))).await.unwrap().expect("an event without its task");
        assert!(store.spec(task.spec_id).await.unwrap().is_some());
    }
    store.release_outbox_claims().await.unwrap();
    let rows = store.claim_outbox(OutboxTopic::Dispatch, at(1), at(2), u32::MAX).await.unwrap();
    let rows: BTreeSet<OutboxId> = rows.iter().map(|row| row.id).collect();
    assert_eq!(rows, numbers.iter().map(|number| OutboxId::from_uuid(id(number))).collect());
    let next = numbers.last().map_or(0, |last| last + 1);
    let tasks_beyond = store.task(TaskId::from_uuid(id(&next))).await.unwrap();
    assert_eq!(tasks_beyond, None, "a task without its event");
    // And the store goes on.
    let mut change = numbered(CHANGES * 1_000_000 + next);
    change.audit.clear();
    change.writes.retain(|write| !matches!(write, Write::PutOutbox(_)));
    assert_eq!(store.commit(change).await.unwrap(), Committed::Applied);
    store.close().await;
    numbers
}

#[tokio::test]
async fn killed_before_a_commit_nothing_of_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let answered = wait(start_child(folder.path(), 1, Some("store.before_commit=7")));
    assert_eq!(answered, (0..6).collect());
    assert_eq!(survivors(folder.path()).await, (0..6).collect());
}

#[tokio::test]
async fn killed_after_a_commit_all_of_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let answered = wait(start_child(folder.path(), 1, Some("store.after_commit=7")));
    assert_eq!(answered, (0..6).collect());
    assert_eq!(survivors(folder.path()).await, (0..7).collect());
}

#[tokio::test]
async fn killed_within_group_commits_nothing_answered_is_lost() {
    for failpoint in ["store.before_commit=5", "store.after_commit=5"] {
        let folder = tempfile::tempdir().unwrap();
        let answered = wait(start_child(folder.path(), 50, Some(failpoint)));
        let there = survivors(folder.path()).await;
        assert!(there.is_superset(&answered), "{failpoint}: answered and lost: {:?}", answered.difference(&there));
    }
}

#[tokio::test]
async fn killed_at_any_moment_nothing_answered_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut answered_so_far = BTreeSet::new();
    for round in 0..6_u64 {
        let mut child = start_child(folder.path(), 20, None);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut output = String::new();
        for line in lines.by_ref().take(30 + 37 * round as usize) {
            output.push_str(&line.unwrap());
            output.push('\n');
        }
        child.kill().unwrap();
        for line in lines {
            output.push_str(&line.unwrap());
            output.push('\n');
        }
        child.wait().unwrap();
        let answered = answered(&output);
        assert!(!answered.is_empty(), "round {round}: {output}");
        answered_so_far.extend(answered);
        let there = survivors(folder.path()).await;
        let lost: Vec<_> = answered_so_far.difference(&there).collect();
        assert!(lost.is_empty(), "round {round}: answered and lost: {lost:?}");
    }
}
