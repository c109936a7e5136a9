//! What is SQLite's own: the folder, the lock, the schema, closing, damage.

use crate::contract::fixtures::*;
use crate::open;
use chimera_core::audit;
use chimera_core::change::{Committed, OutboxTopic, Write};
use chimera_core::ids::*;
use chimera_core::journal;
use chimera_core::ports::listen::Heard;
use chimera_core::ports::{PortErrorKind, Truth};
use chimera_core::records::{ScratchItem, TokenScope, TrendItem};
use chimera_core::task::TaskState;
use chimera_store::{SqliteOptions, SqliteStore, StoreError, StoreErrorKind};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// A second way into a database file, as somebody with a shell has it.
async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap()
}

/// Without what the store still remembers of it.
async fn reopened(store: SqliteStore, folder: &TempDir) -> SqliteStore {
    store.close().await;
    SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap()
}

async fn tamper(path: &Path, sql: &str) {
    let mut db = raw(path).await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let (store, folder) = open().await;
    let (spec, task) = task();
    let mut change = creation(&spec, &task);
    change.write(Write::PutOutbox(outbox(OutboxTopic::Dispatch, 5, start())));
    change.audit(draft(None, "one"));
    let _ = store.commit(change).await.unwrap();
    let store = reopened(store, &folder).await;
    assert_eq!(store.task(task.id).await.unwrap(), Some(task));
    assert_eq!(store.spec(spec.id).await.unwrap(), Some(spec));
    assert_eq!(store.claim_outbox(OutboxTopic::Dispatch, at(1), at(2), 9).await.unwrap().len(), 1);
    let mut next = writes([]);
    next.audit(draft(None, "two"));
    let _ = store.commit(next).await.unwrap();
    let events = store.audit(None, 0, 10).await.unwrap();
    assert_eq!(events.len(), 2, "the chain goes on where it ended");
    audit::verify(None, &events).unwrap();
    store.check().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let (store, folder) = open().await;
    let options = SqliteOptions::new(folder.path().join("data"));
    let error = SqliteStore::open(options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Locked);
    let StoreError::Locked { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    let clone = store.clone();
    store.close().await;
    let second = SqliteStore::open(options).await.unwrap();
    assert_eq!(clone.commit(writes([])).await.unwrap_err().kind, PortErrorKind::Closed);
    second.close().await;
}

#[tokio::test]
async fn unusable_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreadable, "{error}");
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains("--data-dir"), "{text}");
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "not a folder");
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chimera.db");
    let content = "a letter to my aunt, long enough to be more than a header. ".repeat(100);
    std::fs::write(&path, &content).unwrap();
    let error = SqliteStore::open(SqliteOptions::new(folder.path())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (store, folder) = open().await;
    let path = store.path().to_owned();
    store.close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9000, 'of the future', TRUE, x'00', 1)";
    tamper(&path, newer).await;
    let error = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NewerSchema);
    assert!(error.to_string().contains("9000") && error.to_string().contains("upgrade"), "{error}");
}

/// The schema of before grants of calls, with a grant of a slot in it.
#[tokio::test]
async fn grants_from_before_there_were_two_kinds_are_kept() {
    let (store, folder) = open().await;
    let path = store.path().to_owned();
    store.close().await;
    let grant = grant();
    let older = format!(
        "DROP TABLE grants;
         CREATE TABLE queue (seq INTEGER PRIMARY KEY) STRICT;
         CREATE TABLE grants (
             id TEXT NOT NULL PRIMARY KEY, skill TEXT NOT NULL, slot TEXT NOT NULL, server TEXT NOT NULL,
             granted_at INTEGER NOT NULL, revoked_at INTEGER, body TEXT NOT NULL
         ) STRICT;
         CREATE INDEX grants_of_skill ON grants (skill, granted_at, id);
         INSERT INTO grants VALUES ('{}', '{}', 'social', 'social', {}, NULL, '{}');
         DELETE FROM _sqlx_migrations WHERE version > 1;",
        grant.id,
        grant.skill,
        grant.granted_at.as_millis(),
        serde_json::to_string(&grant).unwrap()
    );
    tamper(&path, &older).await;
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap();
    let call = call_grant();
    let _ = store.commit(writes([Write::PutGrant(call.clone())])).await.unwrap();
    assert_eq!(store.grants(None).await.unwrap(), [grant, call]);
    store.check().await.unwrap();
    store.close().await;
}

#[cfg(unix)]
#[tokio::test]
async fn folder_and_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (store, folder) = open().await;
    let _ = store.commit(writes([Write::PutAgent(agent())])).await.unwrap();
    let data = folder.path().join("data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (store, _folder) = open().await;
    let mut listener = store.subscribe();
    // Accepted before the close, so it is committed.
    let mark = agent();
    let pending = tokio::spawn({
        let (store, change) = (store.clone(), writes([Write::PutAgent(mark.clone())]));
        async move { store.commit(change).await }
    });
    assert_eq!(pending.await.unwrap().unwrap(), Committed::Applied);
    store.close().await;
    store.close().await;
    assert_eq!(store.commit(writes([])).await.unwrap_err().kind, PortErrorKind::Closed);
    assert_eq!(store.agents().await.unwrap_err().kind, PortErrorKind::Closed);
    assert_eq!(listener.next().await, Heard::Closed);
    assert_eq!(store.subscribe().next().await, Heard::Closed);
}

#[tokio::test]
async fn tampering_is_found() {
    let attempts = [
        ("UPDATE audit_logs SET detail = '{\"n\":0.2}' WHERE seq = 2", 2),
        ("UPDATE audit_logs SET timestamp = timestamp + 1 WHERE seq = 3", 3),
        ("UPDATE audit_logs SET agent_id = 'judge' WHERE seq = 1", 1),
        ("UPDATE audit_logs SET action = 'nothing.happened' WHERE seq = 5", 5),
        ("UPDATE audit_logs SET review_status = 'approved' WHERE seq = 4", 4),
        ("UPDATE audit_logs SET task_id = '0190f3c2-7b1e-7c3a-9f00-0123456789ab' WHERE seq = 4", 4),
        ("UPDATE audit_logs SET hash = prev_hash WHERE seq = 3", 3),
        ("DELETE FROM audit_logs WHERE seq = 3", 4),
        ("DELETE FROM audit_logs WHERE seq = 1", 2),
        ("DELETE FROM audit_logs WHERE seq = 5", 5),
        ("DELETE FROM audit_logs WHERE seq > 2", 3),
        ("DELETE FROM audit_logs", 1),
        ("DELETE FROM audit_heads", 5),
        ("UPDATE audit_heads SET hash = (SELECT hash FROM audit_logs WHERE seq = 4)", 5),
        ("DELETE FROM audit_logs WHERE seq = 2; UPDATE audit_logs SET seq = seq - 1 WHERE seq = 3", 2),
        (
            "UPDATE audit_logs SET seq = 99 WHERE seq = 2; UPDATE audit_logs SET seq = 2 WHERE seq = 3;
             UPDATE audit_logs SET seq = 3 WHERE seq = 99",
            2,
        ),
    ];
    for (sql, place) in attempts {
        let (store, folder) = open().await;
        for action in ["a.one", "a.two", "a.three", "a.four", "a.five"] {
            let mut change = writes([]);
            change.audit(draft(None, action));
            let _ = store.commit(change).await.unwrap();
        }
        let path = store.path().to_owned();
        store.close().await;
        tamper(&path, sql).await;
        let store = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap();
        let events = store.audit(None, 0, 100).await.unwrap();
        let head = store.audit_head(None).await.unwrap();
        assert_eq!(audit::verify_through(None, &events, head).unwrap_err().seq, place, "{sql}");
        assert_eq!(store.audit_chains().await.unwrap(), [None], "{sql}");
        store.close().await;
    }
}

#[tokio::test]
async fn what_was_removed_from_the_end_stays_missed_when_the_chain_goes_on() {
    let (store, folder) = open().await;
    for action in ["a.one", "a.two", "a.three"] {
        let mut change = writes([]);
        change.audit(draft(None, action));
        let _ = store.commit(change).await.unwrap();
    }
    let path = store.path().to_owned();
    store.close().await;
    tamper(&path, "DELETE FROM audit_logs WHERE seq = 3").await;
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap();
    let mut change = writes([]);
    change.audit(draft(None, "a.four"));
    assert_eq!(store.commit(change).await.unwrap(), Committed::Applied, "work goes on");
    let head = store.audit_head(None).await.unwrap();
    let events = store.audit(None, 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 4], "no position is given twice");
    assert!(audit::verify_through(None, &events, head).is_err());
    store.close().await;
}

#[tokio::test]
async fn a_noun_that_could_not_be_read_again_is_refused_and_harms_no_other() {
    let (store, _folder) = open().await;
    let (mut spec, task) = task();
    spec.input = (0..130).fold(json!(1), |inner, _| json!([inner]));
    let (other_spec, other) = crate::contract::fixtures::task();
    let (deep, fine) = tokio::join!(store.commit(creation(&spec, &task)), store.commit(creation(&other_spec, &other)));
    assert_eq!(deep.unwrap_err().kind, PortErrorKind::Permanent);
    assert_eq!(fine.unwrap(), Committed::Applied);
    assert_eq!(store.task(task.id).await.unwrap(), None, "nothing of it was written");
    assert_eq!(store.spec(other_spec.id).await.unwrap(), Some(other_spec));
    store.close().await;
}

#[tokio::test]
async fn a_damaged_version_or_memory_keeps_nobody_from_the_others() {
    let (store, _folder) = open().await;
    let agent = agent();
    let (first, second) = (memory(agent.id), memory(agent.id));
    let writes = [
        Write::PutAgent(agent),
        Write::PutMemory(first.clone()),
        Write::PutMemory(second.clone()),
        Write::PutSkill(version(skill())),
    ];
    let _ = store.commit(crate::contract::fixtures::writes(writes)).await.unwrap();
    tamper(store.path(), &format!("UPDATE agent_memory SET body = '{{}}' WHERE id = '{}'", first.id)).await;
    tamper(store.path(), "UPDATE skill_versions SET body = '{}'").await;
    assert_eq!(store.memory(None).await.unwrap(), [second]);
    assert_eq!(store.skills(None).await.unwrap(), []);
    store.close().await;
}

#[tokio::test]
async fn a_damaged_row_is_named() {
    let (store, folder) = open().await;
    let (spec, task) = task();
    let (other_spec, other) = crate::contract::fixtures::task();
    let mut change = creation(&spec, &task);
    change.extend(creation(&other_spec, &other));
    change.audit(draft(None, "a.b"));
    let _ = store.commit(change).await.unwrap();
    tamper(store.path(), &format!("UPDATE tasks SET body = '{{}}' WHERE id = '{}'", task.id)).await;
    tamper(store.path(), "UPDATE audit_logs SET hash = 'short'").await;
    let store = reopened(store, &folder).await;
    let error = store.task(task.id).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Corrupt);
    assert!(error.message.contains("tasks") && error.message.contains(&task.id.to_string()), "{error}");
    assert_eq!(store.task(other.id).await.unwrap(), Some(other), "the others can still be read");
    let error = store.audit(None, 0, 9).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Corrupt);
    assert!(error.message.contains("audit_logs") && error.message.contains("system 1"), "{error}");
    store.close().await;
}

#[tokio::test]
async fn credentials_follow_the_newest_token() {
    let (store, _folder) = open().await;
    let agent = agent();
    let mut first = token(TokenScope::Agent(agent.id), "first");
    let mut second = token(TokenScope::Agent(agent.id), "second");
    second.created_at = at(1);
    let mut db = raw(store.path()).await;
    let mut steps = vec![
        (vec![Write::PutToken(first.clone())], None),
        (vec![Write::PutAgent(agent.clone())], Some(first.hash)),
        (vec![Write::PutToken(second.clone())], Some(second.hash)),
        (vec![Write::PutToken(token(TokenScope::Operator, "other"))], Some(second.hash)),
    ];
    second.revoked_at = Some(at(2));
    first.revoked_at = Some(at(3));
    steps.push((vec![Write::PutToken(second)], Some(first.hash)));
    steps.push((vec![Write::PutToken(first), Write::PutAgent(agent)], None));
    for (step, (changes, expected)) in steps.into_iter().enumerate() {
        let _ = store.commit(writes(changes)).await.unwrap();
        let found: Option<Option<String>> =
            sqlx::query_scalar("SELECT credentials FROM agents").fetch_optional(&mut db).await.unwrap();
        assert_eq!(found.flatten(), expected.map(|hash| hash.to_string()), "step {step}");
    }
    db.close().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn expired_scratch_is_thrown_away() {
    let (store, _folder) = open().await;
    let agent = AgentId::new(&SystemIds);
    let item =
        |key: &str, expires_at| Write::PutScratch(ScratchItem { agent, key: key.into(), value: json!(1), expires_at });
    let _ = store.commit(writes([item("old", at(10)), item("new", at(10_000))])).await.unwrap();
    let _ = store.claim_outbox(OutboxTopic::Plan, at(100), at(200), 1).await.unwrap();
    let mut db = raw(store.path()).await;
    let left: Vec<String> = sqlx::query_scalar("SELECT key FROM ephemeral_memory").fetch_all(&mut db).await.unwrap();
    assert_eq!(left, ["new"]);
    db.close().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn all_expired_scratch_is_thrown_away_without_a_pause() {
    let (store, _folder) = open().await;
    let agent = AgentId::new(&SystemIds);
    let item = |number: u32| {
        Write::PutScratch(ScratchItem { agent, key: number.to_string(), value: json!(1), expires_at: at(10) })
    };
    let _ = store.commit(writes((0..2_500).map(item))).await.unwrap();
    let mut db = raw(store.path()).await;
    let mut left = Vec::new();
    for _ in 0..4 {
        // The clock stands still: what is left over is not left for a minute.
        let _ = store.claim_outbox(OutboxTopic::Plan, at(100), at(200), 1).await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM ephemeral_memory").fetch_one(&mut db).await.unwrap();
        left.push(count);
    }
    assert_eq!(left, [1_500, 500, 0, 0]);
    let kept: i64 = sqlx::query_scalar("SELECT items + bytes FROM kept").fetch_one(&mut db).await.unwrap();
    assert_eq!(kept, 0, "what is gone takes no room");
    db.close().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn old_observations_are_thrown_away_and_no_sum_is_infinite() {
    let (store, _folder) = open().await;
    let age = TrendItem::KEPT.as_millis() as i64;
    let observed = [trend("old", 1.0, at(-age)), trend("new", 1.0, at(1))].map(Write::AddTrend);
    let _ = store.commit(writes(observed)).await.unwrap();
    let _ = store.claim_outbox(OutboxTopic::Plan, at(0), at(200), 1).await.unwrap();
    let topics: Vec<_> = store.top_trends(at(-2 * age), 9).await.unwrap().into_iter().map(|top| top.topic).collect();
    assert_eq!(topics, ["new"]);
    let huge = "INSERT INTO content_trends VALUES ('a', 'x', 'huge', 1.7e308, 's', 99999999999999),
                ('b', 'x', 'huge', 1.7e308, 's', 99999999999999)";
    tamper(store.path(), huge).await;
    let top = store.top_trends(at(0), 1).await.unwrap().remove(0);
    assert_eq!((top.topic.as_str(), top.count), ("huge", 2));
    assert!(top.weight.is_finite());
    store.close().await;
}

#[tokio::test]
async fn journals_are_thrown_away_when_nothing_replays_them() {
    const ENTRIES: u32 = 1_200;
    let (store, _folder) = open().await;
    let ended_at = at(1_000);
    let week = i64::try_from(journal::KEPT.as_millis()).unwrap();
    let hour = i64::try_from(journal::OLD_EPOCH_KEPT.as_millis()).unwrap();
    let mut change = writes([]);
    let mut make = |state, epoch| {
        let (spec, mut task) = task();
        (task.state, task.epoch, task.updated_at) = (state, epoch, ended_at);
        change.extend(creation(&spec, &task));
        for epoch in 0..=epoch {
            let entries = (0..ENTRIES).map(|ordinal| entry(ordinal, "a")).collect();
            change.write(Write::AppendJournal { task: task.id, epoch, entries });
        }
        task.id
    };
    let (ended, failed) = (make(TaskState::Approved, 1), make(TaskState::Failed, 0));
    let (running, waiting) = (make(TaskState::Running, 0), make(TaskState::AwaitingApproval, 1));
    let _ = store.commit(change).await.unwrap();
    let left = async || {
        let mut left = Vec::new();
        for (task, epoch) in [(ended, 0), (ended, 1), (failed, 0), (running, 0), (waiting, 0), (waiting, 1)] {
            left.push(store.journal(task, epoch).await.unwrap().len());
        }
        left
    };
    let all = ENTRIES as usize;
    let turn = async |now| drop(store.claim_outbox(OutboxTopic::Plan, now, now, 1).await.unwrap());
    turn(at(1_000 + hour - 1)).await;
    assert_eq!(left().await, [all; 6]);
    // An epoch that is over goes after an hour, some at a time and without a pause.
    let an_hour_later = at(1_000 + hour + 60_000);
    turn(an_hour_later).await;
    assert_eq!(left().await.iter().sum::<usize>(), 6 * all - 1_000);
    for _ in 0..4 {
        turn(an_hour_later).await;
    }
    assert_eq!(left().await, [0, all, all, all, 0, all]);
    turn(at(1_000 + week - 1)).await;
    assert_eq!(left().await, [0, all, all, all, 0, all], "what ended less than a week ago can be looked at");
    for _ in 0..4 {
        turn(at(1_000 + week + 60_000)).await;
    }
    assert_eq!(left().await, [0, 0, 0, all, 0, all], "what may still run keeps its journal however old it is");
    store.close().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_costs_nobody_anything() {
    let (store, _folder) = open().await;
    let (spec, task) = task();
    let mut change = creation(&spec, &task);
    change.audit(draft(None, "task.created"));
    {
        let mut commit = Box::pin(store.commit(change));
        // Polled once: the writer has it. Then the caller is gone.
        assert!(futures::poll!(&mut commit).is_pending());
    }
    let mut next = writes([]);
    next.audit(draft(None, "next"));
    assert_eq!(store.commit(next).await.unwrap(), Committed::Applied);
    let events = store.audit(None, 0, 10).await.unwrap();
    audit::verify(None, &events).unwrap();
    let is_there = store.task(task.id).await.unwrap().is_some();
    assert_eq!(events.len(), if is_there { 2 } else { 1 }, "all or nothing");
    store.close().await;
}

/// Beside the database: what was written since the last time that all of it was carried over.
fn log_bytes(store: &SqliteStore) -> u64 {
    let mut path = store.path().as_os_str().to_owned();
    path.push("-wal");
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

#[tokio::test]
async fn the_write_ahead_log_is_carried_over_and_stays_small() {
    let (store, _folder) = open().await;
    let agent = AgentId::new(&SystemIds);
    let mut largest = 0;
    for _ in 0..1_500 {
        let mut item = memory(agent);
        item.text = "x".repeat(40 << 10);
        let _ = store.commit(writes([Write::PutMemory(item)])).await.unwrap();
        largest = largest.max(log_bytes(&store));
    }
    assert!(largest < 80 << 20, "{largest} bytes of 60 MiB and more that were written");
    store.check().await.unwrap();
    let path = store.path().to_owned();
    store.close().await;
    assert!(!path.with_extension("db-wal").exists(), "a store that is closed leaves no log behind");
}

#[tokio::test]
async fn the_writer_recovers_when_somebody_else_held_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { busy_timeout: Duration::from_millis(50), ..SqliteOptions::new(folder.path()) };
    let store = SqliteStore::open(options).await.unwrap();
    let mut change = writes([Write::PutAgent(agent())]);
    change.audit(draft(None, "a.b"));
    let mut other = raw(store.path()).await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert_eq!(store.commit(change.clone()).await.unwrap_err().kind, PortErrorKind::Unavailable);
    assert_eq!(store.agents().await.unwrap(), [], "reading goes on meanwhile");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(store.commit(change).await.unwrap(), Committed::Applied);
    audit::verify(None, &store.audit(None, 0, 10).await.unwrap()).unwrap();
    assert_eq!(store.agents().await.unwrap().len(), 1);
    other.close().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn specified_columns_are_real_columns() {
    let (store, _folder) = open().await;
    let mut db = raw(store.path()).await;
    for sql in [
        "SELECT id, type, credentials, status, last_seen FROM agents",
        "SELECT id, planner_id, worker_id, spec_id, status, confidence, created_at, updated_at FROM tasks",
        "SELECT task_id, action, agent_id, timestamp, review_status FROM audit_logs",
        "SELECT id, type, amount, currency, status, timestamp FROM transactions",
    ] {
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
    }
    db.close().await.unwrap();
    store.close().await;
}
