//! What only a server has: other processes, a network, rights.

use crate::Schema;
use crate::contract::fixtures::*;
use chimera_core::audit;
use chimera_core::change::{Change, Committed, Guard, OutboxTopic, Write};
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::ids::*;
use chimera_core::ports::listen::{Heard, Receiver};
use chimera_core::ports::{Blobs as _, Notice, PortErrorKind, Queue as _, Truth};
use chimera_core::records::{ScratchItem, TrendItem};
use chimera_core::skill::SkillState;
use chimera_core::task::{Task, TaskState};
use chimera_store::{PostgresOptions, PostgresStore, StoreErrorKind};
use futures::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Runs SQL of the test's own, in the test's schema.
async fn sql(schema: &Schema, text: String) {
    let mut db = PgConnection::connect(&schema.url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut db).await.unwrap();
}

/// Two stores are as good as two processes: they share nothing but the server.
async fn two(schema: &Schema) -> [PostgresStore; 2] {
    [schema.store().await, schema.store().await]
}

fn bump(task: &Task) -> Change {
    let mut next = task.clone();
    next.rev += 1;
    let mut change = writes([Write::PutTask(next)]);
    change.guard(Guard::TaskRev(task.id, task.rev));
    change.audit(draft(None, "task.bumped"));
    change
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_move_one_task_on_one_after_the_other() {
    let schema = Schema::create().await;
    let stores = two(&schema).await;
    let (spec, task) = task();
    let _ = stores[0].commit(creation(&spec, &task)).await.unwrap();
    let movers = (0..8_usize).map(|mover| {
        let store = stores[mover % 2].clone();
        tokio::spawn(async move {
            let mut applied = 0_u64;
            while applied < 10 {
                let now = store.task(task.id).await.unwrap().unwrap();
                if store.commit(bump(&now)).await.unwrap() == Committed::Applied {
                    applied += 1;
                }
            }
        })
    });
    for mover in join_all(movers).await {
        mover.unwrap();
    }
    assert_eq!(stores[1].task(task.id).await.unwrap().unwrap().rev, 80, "a revision was given twice");
    let events = stores[0].audit(None, 0, 1000).await.unwrap();
    assert_eq!(events.len(), 80, "one event for each that was applied");
    audit::verify_through(None, &events, stores[1].audit_head(None).await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_makes_what_was_not_there() {
    let schema = Schema::create().await;
    let stores = two(&schema).await;
    let one_of = async |changes: [Change; 2], what: &str| {
        let [first, second] = changes;
        let (first, second) = tokio::join!(stores[0].commit(first), stores[1].commit(second));
        let applied = [&first, &second].into_iter().filter(|result| matches!(result, Ok(Committed::Applied))).count();
        let stale = [&first, &second].into_iter().filter(|result| matches!(result, Ok(Committed::Stale(_)))).count();
        assert_eq!((applied, stale), (1, 1), "{what}: {first:?}, {second:?}");
    };
    for round in 0..20 {
        let (spec, task) = task();
        let _ = stores[0].commit(writes([Write::PutSpec(spec)])).await.unwrap();
        let mut made = writes([Write::PutTask(task.clone())]);
        made.guard(Guard::TaskAbsent(task.id));
        one_of([made.clone(), made], "a task").await;

        let lineage = LineageId::new(&SystemIds);
        let intent = || {
            let effect = effect(lineage, 0);
            let mut change = writes([Write::PutEffect(effect.clone())]);
            change.guard(Guard::EffectAbsent(effect.key));
            change
        };
        one_of([intent(), intent()], "an effect").await;

        let mut skill = skill();
        skill.version.minor = round;
        skill.name = format!("acme/skill-{round}").parse().unwrap();
        let mut installed = writes([Write::PutSkill(version(skill.clone()))]);
        installed.guard(Guard::SkillAbsent(skill.clone()));
        one_of([installed.clone(), installed], "a version").await;
        let mut routed = writes([Write::PutRoute(route(&skill))]);
        routed.guard(Guard::RouteRev(skill.name.clone(), 0));
        one_of([routed.clone(), routed], "a route").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_claim_each_row_once() {
    let schema = Schema::create().await;
    let stores = two(&schema).await;
    let rows: Vec<_> = (0..300).map(|_| outbox(OutboxTopic::Dispatch, 5, start())).collect();
    let _ = stores[0].commit(writes(rows.iter().cloned().map(Write::PutOutbox))).await.unwrap();
    let claimers = (0..6_usize).map(|claimer| {
        let store = stores[claimer % 2].clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            let mut empty = 0;
            // A row that another is claiming is passed over, so nothing once does not mean nothing left.
            while empty < 3 && mine.len() <= 300 {
                let claimed = store.claim_outbox(OutboxTopic::Dispatch, at(1), at(1_000), 7).await.unwrap();
                empty = if claimed.is_empty() { empty + 1 } else { 0 };
                mine.extend(claimed.into_iter().map(|row| row.id));
            }
            mine
        })
    });
    let claimed: Vec<OutboxId> = join_all(claimers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(claimed.len(), rows.len(), "a row was claimed twice or never");
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), rows.iter().map(|row| row.id).collect());
}

/// Rows in opposite orders, from two processes that both write many at once: nobody may wait in a circle for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_in_any_order_do_not_stop_two_processes() {
    let schema = Schema::create().await;
    let stores = two(&schema).await;
    let made: Vec<_> = (0..20).map(|_| task()).collect();
    for (spec, task) in &made {
        let _ = stores[0].commit(creation(spec, task)).await.unwrap();
    }
    let started = Instant::now();
    let movers = (0..8_usize).map(|mover| {
        let store = stores[mover % 2].clone();
        let mut tasks: Vec<Task> = made.iter().map(|(_, task)| task.clone()).collect();
        if mover % 4 < 2 {
            tasks.reverse();
        }
        tokio::spawn(async move {
            let other = CampaignId::from_uuid(tasks[0].id.as_uuid());
            for _ in 0..20 {
                let mut change = Change::new();
                for task in &mut tasks {
                    task.retries += 1;
                    change.write(Write::PutTask(task.clone()));
                }
                change.audit(draft(Some(other), "all.bumped"));
                change.audit(draft(None, "all.bumped"));
                assert_eq!(store.commit(change).await.unwrap(), Committed::Applied);
            }
        })
    });
    for mover in join_all(movers).await {
        mover.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(60), "they waited for each other: {:?}", started.elapsed());
    let events = stores[0].audit(None, 0, 1000).await.unwrap();
    assert_eq!(events.len(), 160);
    audit::verify(None, &events).unwrap();
}

/// Cuts every connection of a program by the name that it gave.
async fn cut(schema: &Schema, program: &str) {
    sql(schema, format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{program}'"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_cost_at_most_what_was_under_way() {
    let schema = Schema::create().await;
    let program = format!("cut-{}", schema.name);
    let store = PostgresStore::open(PostgresOptions::new(format!("{}&application_name={program}", schema.url())))
        .await
        .unwrap();
    let (spec, task) = task();
    let _ = store.commit(creation(&spec, &task)).await.unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut applied, mut unknown) = (0_u64, 0_u64);
            let ends = Instant::now() + Duration::from_secs(3);
            while Instant::now() < ends {
                let now = match store.task(task.id).await {
                    Ok(found) => found.unwrap(),
                    Err(error) => {
                        assert_eq!(error.kind, PortErrorKind::Unavailable, "{error}");
                        continue;
                    }
                };
                match store.commit(bump(&now)).await {
                    Ok(Committed::Applied) => applied += 1,
                    Ok(Committed::Stale(_)) => {}
                    Err(error) => {
                        assert_eq!(error.kind, PortErrorKind::Unavailable, "{error}");
                        unknown += 1;
                    }
                }
            }
            (applied, unknown)
        }
    });
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        cut(&schema, &program).await;
    }
    let (applied, unknown) = writer.await.unwrap();
    let rev = store.task(task.id).await.unwrap().unwrap().rev;
    assert!(applied > 10, "it did not come back: {applied}");
    assert!((applied..=applied + unknown).contains(&rev), "{applied} applied, {unknown} unknown, revision {rev}");
    let events = store.audit(None, 0, u32::MAX).await.unwrap();
    assert_eq!(events.len() as u64, rev, "an event for each revision");
    audit::verify_through(None, &events, store.audit_head(None).await.unwrap()).unwrap();
}

/// A process that stops in the middle of a transaction holds its locks; the server ends it, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_does_not_stop_the_others() {
    let schema = Schema::create().await;
    let store = schema.store().await;
    let (spec, task) = task();
    let _ = store.commit(creation(&spec, &task)).await.unwrap();
    let mut stopped = PgConnection::connect(&schema.url()).await.unwrap();
    let hold = format!(
        "SET idle_in_transaction_session_timeout = '1s'; BEGIN; SELECT 1 FROM tasks WHERE id = '{}' FOR UPDATE",
        task.id
    );
    sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut stopped).await.unwrap();
    let started = Instant::now();
    assert_eq!(store.commit(bump(&task)).await.unwrap(), Committed::Applied);
    assert!(started.elapsed() > Duration::from_millis(500), "it did not wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_it_from_opening_is_said_without_the_password() {
    let schema = Schema::create().await;
    let refused = async |url: String| {
        let error = PostgresStore::open(PostgresOptions::new(url)).await.unwrap_err();
        let text = error.to_string();
        assert!(!text.contains("secret"), "{text}");
        (error.kind(), text)
    };
    let (kind, text) = refused("postgres//secret".to_owned()).await;
    assert_eq!(kind, StoreErrorKind::Unreadable, "{text}");
    assert!(text.contains("postgres://user:password@host:port/database"), "{text}");

    // Port 1 is nobody's.
    let (kind, text) = refused("postgres://chimera:secret@127.0.0.1:1/postgres".to_owned()).await;
    assert_eq!(kind, StoreErrorKind::Unavailable, "{text}");
    assert!(text.contains("127.0.0.1:1, database postgres"), "{text}");

    let server = crate::server();
    let (_, place) = server.split_once('@').unwrap();
    let (kind, text) = refused(format!("postgres://nobody-here:secret@{place}")).await;
    assert_eq!(kind, StoreErrorKind::Unreadable, "{text}");
    assert!(text.contains("nobody-here"), "{text}");

    let (rest, _) = server.rsplit_once('/').unwrap();
    let (kind, text) = refused(format!("{rest}/no-such-database")).await;
    assert_eq!(kind, StoreErrorKind::Unreadable, "{text}");
    assert!(text.contains("no-such-database"), "{text}");

    schema.store().await.close().await;
    sql(&schema, "UPDATE _sqlx_migrations SET version = 9000 WHERE version = 1".to_owned()).await;
    let (kind, text) = refused(schema.url()).await;
    assert_eq!(kind, StoreErrorKind::NewerSchema, "{text}");
    assert!(text.contains("upgrade the program"), "{text}");
}

/// As a server is that has become a standby, or whose operator has said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_may_only_be_read_is_read() {
    let schema = Schema::create().await;
    let read_only = format!("{}&options[default_transaction_read_only]=on", schema.url());
    let error = PostgresStore::open(PostgresOptions::new(read_only.clone())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("read-only transaction"), "{error}");

    let (spec, task) = task();
    let _ = schema.store().await.commit(creation(&spec, &task)).await.unwrap();
    let store = PostgresStore::open(PostgresOptions::new(read_only)).await.unwrap();
    assert_eq!(store.task(task.id).await.unwrap().as_ref(), Some(&task));
    let error = store.commit(bump(&task)).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("read-only transaction"), "{error}");
    let claim = store.claim_outbox(OutboxTopic::Judge, at(0), at(1), 1).await.unwrap_err();
    assert_eq!(claim.kind, PortErrorKind::Unavailable, "{claim}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_says_so_and_has_kept_everything() {
    let schema = Schema::create().await;
    let store = schema.store().await;
    let (spec, task) = task();
    let commits = (0..100).map(|_| store.commit(writes([Write::PutAgent(agent())])));
    let (kept, ()) = tokio::join!(join_all(commits), async {
        tokio::task::yield_now().await;
        store.close().await;
    });
    let applied = kept.iter().filter(|result| matches!(result, Ok(Committed::Applied))).count();
    assert!(kept.iter().all(|result| result.as_ref().is_ok_and(|it| *it == Committed::Applied)
        || result.as_ref().is_err_and(|error| error.kind == PortErrorKind::Closed)));
    assert_eq!(store.commit(creation(&spec, &task)).await.unwrap_err().kind, PortErrorKind::Closed);
    assert_eq!(store.task(task.id).await.unwrap_err().kind, PortErrorKind::Closed);
    store.close().await;
    let again = schema.store().await;
    assert_eq!(again.agents().await.unwrap().len(), applied, "what was answered is there, and nothing else");
}

/// Until it hears this, for as long as a slow machine may need.
pub async fn hears(listener: &mut Receiver, wanted: Notice) {
    let heard = async { while listener.next().await != Heard::Notice(wanted.clone()) {} };
    tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap_or_else(|_| panic!("never heard {wanted:?}"));
}

/// Both are there, and have told each other what they tell at first.
async fn two_that_listen(schema: &Schema) -> [PostgresStore; 2] {
    let stores = two(schema).await;
    for (speaker, listener) in [(0, 1), (1, 0)] {
        let mut ear = stores[listener].subscribe();
        let told = async {
            loop {
                stores[speaker].tell(Notice::Queued);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = hears(&mut ear, Notice::Queued) => {}
            () = told => {}
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_hear_of_each_others_commits() {
    let schema = Schema::create().await;
    let stores = two_that_listen(&schema).await;
    let (mut here, mut there) = (stores[0].subscribe(), stores[1].subscribe());
    let mut change = writes([Write::PutOutbox(outbox(OutboxTopic::Judge, 5, start()))]);
    change.audit(draft(None, "something.happened"));
    let _ = stores[0].commit(change).await.unwrap();
    hears(&mut there, Notice::Outbox(OutboxTopic::Judge)).await;
    hears(&mut there, Notice::Elsewhere).await;
    stores[0].tell(Notice::Queued);
    hears(&mut there, Notice::Queued).await;
    // What a process says itself it does not hear a second time.
    let mut own = Vec::new();
    while let Ok(heard) = tokio::time::timeout(Duration::from_millis(300), here.next()).await {
        own.push(heard);
    }
    let of_events = own.iter().filter(|heard| matches!(heard, Heard::Notice(Notice::Audited(_)))).count();
    let of_rows = own.iter().filter(|heard| **heard == Heard::Notice(Notice::Outbox(OutboxTopic::Judge))).count();
    assert_eq!((of_events, of_rows), (1, 1), "{own:?}");
    assert!(!own.contains(&Heard::Notice(Notice::Elsewhere)), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_counts_everywhere_soon() {
    let schema = Schema::create().await;
    let stores = two_that_listen(&schema).await;
    let skill = skill();
    let _ = stores[0].commit(writes([Write::PutSkill(version(skill.clone()))])).await.unwrap();
    let state = async |store: &PostgresStore| store.skills(Some(&skill.name)).await.unwrap()[0].state;
    // Both keep it now.
    assert_eq!(state(&stores[0]).await, SkillState::Active);
    assert_eq!(state(&stores[1]).await, SkillState::Active);
    let suspended = Write::SetSkillState(skill.clone(), SkillState::Suspended);
    let _ = stores[0].commit(writes([suspended])).await.unwrap();
    assert_eq!(state(&stores[0]).await, SkillState::Suspended, "at once where it was written");
    let began = Instant::now();
    while state(&stores[1]).await != SkillState::Suspended {
        assert!(began.elapsed() < Duration::from_secs(5), "the other process goes on with what it knew");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_one_queue() {
    let schema = Schema::create().await;
    let queues = two(&schema).await.map(|store| store.queue());
    let tasks: Vec<(TaskId, u8)> = (0..300).map(|index| (TaskId::new(&SystemIds), (index % 10) as u8)).collect();
    let (first, second) = tokio::join!(queues[0].push("main", &tasks, at(0)), queues[1].push("main", &tasks, at(0)));
    first.and(second).unwrap();
    assert_eq!(queues[0].len("main").await.unwrap(), 300, "both pushed all of them");
    let claimers = queues.clone().map(|queue| {
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = queue.claim("main", 9, at(1), at(1_000)).await.unwrap();
                if claimed.is_empty() || mine.len() > 300 {
                    return mine;
                }
                for queued in claimed {
                    queue.ack("main", &queued.receipt).await.unwrap();
                    mine.push(queued.task);
                }
            }
        })
    });
    let claimed: Vec<TaskId> = join_all(claimers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(claimed.len(), 300);
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>().len(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_shared_and_checked() {
    let schema = Schema::create().await;
    let stores = two(&schema).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let digest = stores[0].put(&bytes).await.unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    assert_eq!(stores[1].put(&bytes).await.unwrap(), digest, "twice is no error");
    assert_eq!(stores[1].get(&digest).await.unwrap().as_deref(), Some(&*bytes));
    assert_eq!(stores[1].get(&Digest::of(b"others")).await.unwrap(), None);
    let damage =
        format!("UPDATE blobs SET bytes = overlay(bytes placing 'x'::bytea from 17) WHERE digest = '{digest}'");
    sql(&schema, damage).await;
    assert_eq!(stores[1].get(&digest).await.unwrap_err().kind, PortErrorKind::Corrupt);
    let _ = stores[0].put(&bytes).await.unwrap();
    assert_eq!(stores[1].get(&digest).await.unwrap().as_deref(), Some(&*bytes), "keeping them again mends it");
    let too_many = stores[0].put(&vec![0; (64 << 20) + 1]).await.unwrap_err();
    assert_eq!(too_many.kind, PortErrorKind::Permanent);
}

/// An id as one that is drawn at this moment.
fn drawn_at(moment: Timestamp) -> TaskId {
    let millis = u128::try_from(moment.as_millis()).unwrap();
    TaskId::from_uuid(Uuid::from_u128((millis << 80) | (rand_low() & ((1 << 80) - 1))))
}

fn rand_low() -> u128 {
    Uuid::now_v7().as_u128().wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 16
}

/// Claims, as a process does all the time; each a second after the one before.
async fn turns(store: &PostgresStore, from: Timestamp, count: u64) {
    for turn in 0..count {
        let now = from.plus(Duration::from_secs(turn + 1));
        let _ = store.claim_outbox(OutboxTopic::Plan, now, now, 1).await.unwrap();
    }
}

async fn count(schema: &Schema, sql: &str) -> i64 {
    let mut db = PgConnection::connect(&schema.url()).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_a_time_is_thrown_away_afterwards() {
    let schema = Schema::create().await;
    let store = schema.store().await;
    let agent = AgentId::new(&SystemIds);
    let item = |number: u32, expires_at| {
        Write::PutScratch(ScratchItem { agent, key: number.to_string(), value: json!(1), expires_at })
    };
    let _ = store.commit(writes((0..2_500).map(|number| item(number, at(10))))).await.unwrap();
    let _ = store.commit(writes([item(9_999, at(10_000_000))])).await.unwrap();
    let age = TrendItem::KEPT.as_millis() as i64;
    let observed = [trend("old", 1.0, at(-age)), trend("new", 1.0, at(1))].map(Write::AddTrend);
    let _ = store.commit(writes(observed)).await.unwrap();
    turns(&store, at(100), 1).await;
    assert_eq!(count(&schema, "SELECT count(*) FROM ephemeral_memory").await, 1_501, "a little at a time");
    turns(&store, at(2_000), 3).await;
    assert_eq!(count(&schema, "SELECT count(*) FROM ephemeral_memory").await, 1);
    assert_eq!(count(&schema, "SELECT items FROM kept WHERE what = 'scratch'").await, 1);
    let topics: Vec<_> = store.top_trends(at(-2 * age), 9).await.unwrap().into_iter().map(|top| top.topic).collect();
    assert_eq!(topics, ["new"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journals_go_when_nothing_replays_them_a_week_at_once() {
    let schema = Schema::create().await;
    let store = schema.store().await;
    // The partitions of the first weeks are made.
    turns(&store, at(0), 1).await;
    let week = Duration::from_secs(7 * 24 * 3600);
    let ended_at = at(1_000);
    let make = async |id: TaskId, state, epoch| {
        let (spec, mut task) = task();
        (task.id, task.state, task.epoch, task.updated_at) = (id, state, epoch, ended_at);
        let mut change = creation(&spec, &task);
        for epoch in 0..=epoch {
            let entries = (0..10).map(|ordinal| entry(ordinal, "a")).collect();
            change.write(Write::AppendJournal { task: task.id, epoch, entries });
        }
        let _ = store.commit(change).await.unwrap();
        id
    };
    // Drawn in the first week; in the second, where one does not end; and by somebody who knows no time.
    let ended = make(drawn_at(at(5)), TaskState::Approved, 1).await;
    let next_week = at(0).plus(week);
    let late = make(drawn_at(next_week), TaskState::Failed, 0).await;
    let running = make(drawn_at(next_week.plus(Duration::from_secs(1))), TaskState::Running, 1).await;
    let foreign = make(TaskId::from_uuid(Uuid::from_u128(u128::MAX - rand_low())), TaskState::Rejected, 0).await;
    let left = async || {
        let mut left = Vec::new();
        for (task, epoch) in [(ended, 0), (ended, 1), (late, 0), (running, 0), (running, 1), (foreign, 0)] {
            left.push(store.journal(task, epoch).await.unwrap().len());
        }
        left
    };
    assert_eq!(left().await, [10; 6]);
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'journal'::regclass";
    assert_eq!(count(&schema, partitions).await, 3, "two weeks and the others");
    turns(&store, ended_at.plus(Duration::from_secs(3590)), 1).await;
    assert_eq!(left().await, [10; 6]);
    // An epoch that is over goes after an hour.
    turns(&store, ended_at.plus(Duration::from_secs(3600)), 2).await;
    assert_eq!(left().await, [0, 10, 10, 0, 10, 10]);
    turns(&store, ended_at.plus(week), 2).await;
    assert_eq!(left().await, [0, 0, 0, 0, 10, 0], "what may still run keeps its journal however old it is");
    // The first week has no journal any more, and no table; the second keeps its own for the one that goes on.
    turns(&store, at(0).plus(week * 4), 2).await;
    let names = "SELECT count(*) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                 WHERE inhparent = 'journal'::regclass AND relname = 'journal_w'";
    let first = at(0).as_millis().div_euclid(7 * 24 * 3600 * 1000);
    let of = |week: i64| names.replace("'journal_w'", &format!("'journal_w{week}'"));
    assert_eq!(count(&schema, &of(first)).await, 0, "the first week's table is still there");
    assert_eq!(count(&schema, &of(first + 1)).await, 1, "the second week's table is gone");
    assert_eq!(left().await, [0, 0, 0, 0, 10, 0]);
}

/// Leases and deadlines are moments that processes compare: their present is the server's, whatever their own clocks say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_present_is_the_servers() {
    let schema = Schema::create().await;
    let stores = two(&schema).await;
    let mut db = PgConnection::connect(&schema.url()).await.unwrap();
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    for store in &stores {
        let clock = store.clock();
        let before: i64 = sqlx::query_scalar(now).fetch_one(&mut db).await.unwrap();
        let between = clock.now().as_millis();
        let after: i64 = sqlx::query_scalar(now).fetch_one(&mut db).await.unwrap();
        assert!((before - 500..=after + 500).contains(&between), "{before} {between} {after}");
    }
}
