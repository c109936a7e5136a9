use super::*;
use crate::planner::{AssignSpec, LeasedTask};
use crate::testkit::{House, bundled, operator};
use crate::worker::reporter::report_run;
use chimera_core::change::{Guard, Write};
use chimera_core::clock::Clock as _;
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ids::{SystemIds, TaskId};
use chimera_core::machine::TaskEvent;
use chimera_core::ports::Truth as _;
use chimera_core::task::{Lease, Outcome, TaskState};
use serde_json::json;

/// A house in which a task of no campaign was taken, and its lease is not written.
async fn taken() -> (House, LeasedTask, DeferredLease) {
    let house = House::with(bundled()).await;
    let spec = AssignSpec {
        skill: "chimera/summarize".to_owned(),
        input: json!({ "texts": ["The river rises."] }),
        limits: None,
        goal: None,
        expect: None,
    };
    house.scheduler.assign(TaskId::new(&SystemIds), spec, 5, None, operator()).await.expect("assigned");
    let (leased, deferred) = take(&house).await.expect("a task");
    (house, leased, deferred)
}

async fn take(house: &House) -> Option<(LeasedTask, DeferredLease)> {
    let item = house.scheduler.claim_queue(1).await.expect("claimed").pop()?;
    let taken = house.scheduler.take_all(&[(&item, house.worker)], &|_, _| true).await.pop().expect("an answer");
    let taken = taken.expect("taken")?;
    let lease = taken.leased.task.lease.as_ref().expect("a lease").id;
    let deferred = DeferredLease::new(house.scheduler.clone(), item, lease, taken.unwritten.expect("not written"));
    Some((taken.leased, deferred))
}

/// What a run that went well reports.
async fn good(house: &House, leased: &LeasedTask) -> Executed {
    let version = house.store.skills(Some(&leased.spec.skill.name)).await.expect("read").remove(0);
    let outcome = Outcome { output: House::good_output("summarize"), confidence: 0.95, evidence: Vec::new() };
    let failure = Failure::new(FailureKind::Transient, "never", "never told");
    Executed {
        end: RunEnd::Finished(outcome),
        manifest: Some(version.manifest),
        ..Executed::failed(failure, leased.spec.skill.clone())
    }
}

async fn report(
    house: &House,
    leased: &LeasedTask,
    deferred: &DeferredLease,
    executed: Executed,
) -> Result<Task, AgentError> {
    let lease = leased.task.lease.clone().expect("a lease");
    report_run(&house.scheduler, leased, &lease, Some(deferred), executed).await
}

async fn in_truth(house: &House, leased: &LeasedTask) -> Task {
    house.store.task(leased.task.id).await.expect("read").expect("there")
}

async fn events(house: &House, leased: &LeasedTask) -> Vec<String> {
    let events = house.store.audit_of(None, leased.task.id, 100).await.expect("read");
    events.into_iter().map(|event| event.draft.action.into_owned()).collect()
}

/// What is on the queue once every claim is over.
async fn on_the_queue(house: &House) -> usize {
    house.clock.advance(Duration::from_secs(60));
    house.scheduler.claim_queue(10).await.expect("claimed").len()
}

#[tokio::test]
async fn the_lease_is_written_with_the_report_and_both_are_audited() {
    let (house, leased, deferred) = taken().await;
    assert_eq!(in_truth(&house, &leased).await.state, TaskState::Queued);
    assert_eq!(events(&house, &leased).await, ["task.created"]);
    let executed = good(&house, &leased).await;
    let done = report(&house, &leased, &deferred, executed).await.expect("reported");
    assert_eq!((done.state, done.attempt), (TaskState::Approved, 1));
    assert_eq!(in_truth(&house, &leased).await, done);
    assert_eq!(events(&house, &leased).await, ["task.created", "task.leased", "task.reported", "task.approved"]);
    assert_eq!(on_the_queue(&house).await, 0, "it was acknowledged");
}

#[tokio::test]
async fn a_task_that_was_cancelled_meanwhile_stays_cancelled() {
    let (house, leased, deferred) = taken().await;
    let cancelled = TaskEvent::Cancelled { reason: "no longer wanted".to_owned() };
    house.scheduler.apply(leased.task.id, cancelled, operator()).await.expect("cancelled");
    let executed = good(&house, &leased).await;
    let refused = report(&house, &leased, &deferred, executed).await.expect_err("nobody wants it");
    assert_eq!(refused.kind(), AgentErrorKind::Conflict);
    assert_eq!(in_truth(&house, &leased).await.state, TaskState::Cancelled);
    let refused = deferred.write().await.expect_err("it is lost");
    assert_eq!(refused.kind(), AgentErrorKind::Conflict);
}

#[tokio::test]
async fn of_two_runs_of_one_task_one_report_is_accepted() {
    let (house, leased, deferred) = taken().await;
    house.clock.advance(Duration::from_secs(31));
    let (again, other) = take(&house).await.expect("its claim is over, and the truth knows of no lease");
    assert_eq!(again.task.id, leased.task.id);
    let executed = good(&house, &again).await;
    report(&house, &again, &other, executed.clone()).await.expect("the first report");
    let refused = report(&house, &leased, &deferred, executed).await.expect_err("the second");
    assert_eq!(refused.kind(), AgentErrorKind::Conflict);
    let accepted = events(&house, &leased).await.into_iter().filter(|action| action == "task.approved").count();
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn a_failure_writes_the_lease_and_counts() {
    let (house, leased, deferred) = taken().await;
    let failure = Failure::new(FailureKind::Transient, "passing", "it passes");
    let executed = Executed::failed(failure, leased.spec.skill.clone());
    let done = report(&house, &leased, &deferred, executed).await.expect("reported");
    assert_eq!((done.state, done.attempt), (TaskState::RetryWait, 1));
    assert_eq!(events(&house, &leased).await[1], "task.leased");
}

struct Counted(std::sync::atomic::AtomicUsize);

#[async_trait]
impl Journal for Counted {
    async fn load(&self) -> Result<Vec<JournalEntry>, PortError> {
        Ok(Vec::new())
    }

    async fn append(&self, entries: Vec<JournalEntry>) -> Result<(), PortError> {
        self.0.fetch_add(entries.len(), std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn a_journal_that_is_written_before_the_end_writes_the_lease_first() {
    let (house, leased, deferred) = taken().await;
    let (lease, counted) = (Arc::new(deferred), Arc::new(Counted(0.into())));
    let journal = LeaseFirst { lease: lease.clone(), journal: counted.clone() };
    let entry =
        JournalEntry { ordinal: 0, call: "random".into(), request: Digest::of(b"x"), answer: (&json!(1)).into() };
    journal.append(vec![entry.clone()]).await.expect("appended");
    assert_eq!(counted.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    let running = in_truth(&house, &leased).await;
    assert_eq!((running.state, &running.lease), (TaskState::Running, &leased.task.lease));
    let executed = good(&house, &leased).await;
    let done = report(&house, &leased, &lease, executed).await.expect("reported");
    assert_eq!((done.state, done.attempt), (TaskState::Approved, 1));
    assert_eq!(on_the_queue(&house).await, 0);

    let (house, leased, deferred) = taken().await;
    let cancelled = TaskEvent::Cancelled { reason: "no longer wanted".to_owned() };
    house.scheduler.apply(leased.task.id, cancelled, operator()).await.expect("cancelled");
    let (lease, counted) = (Arc::new(deferred), Arc::new(Counted(0.into())));
    let journal = LeaseFirst { lease, journal: counted.clone() };
    let refused = journal.append(vec![entry]).await.expect_err("the task is not the run's");
    assert_eq!(refused.kind, PortErrorKind::Closed);
    assert_eq!(counted.0.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_lease_whose_write_was_not_waited_for_is_known_again() {
    let (house, leased, deferred) = taken().await;
    let change = deferred.unwritten().await.expect("held").expect("not written");
    assert!(matches!(change.guards.as_slice(), [Guard::TaskRev(..)]));
    assert!(change.writes.iter().any(|write| matches!(write, Write::PutTask(_))));
    let written = house.store.commit(change.clone()).await.expect("written behind its back");
    assert_eq!(written, Committed::Applied);
    let executed = good(&house, &leased).await;
    let done = report(&house, &leased, &deferred, executed).await.expect("reported");
    assert_eq!((done.state, done.attempt), (TaskState::Approved, 1));
    let leases = events(&house, &leased).await.into_iter().filter(|action| action == "task.leased").count();
    assert_eq!(leases, 1);

    let (house, _, deferred) = taken().await;
    let change = deferred.unwritten().await.expect("held").expect("not written");
    let written = house.store.commit(change).await.expect("written behind its back");
    assert_eq!(written, Committed::Applied);
    deferred.write().await.expect("it is ours");
    assert_eq!(deferred.unwritten().await.expect("held"), None);
}

#[tokio::test]
async fn only_brief_good_runs_of_what_can_leave_no_trace_are_deferred() {
    let (house, leased, _) = taken().await;
    let brief = BriefRuns::since(house.clock.now());
    let fresh = Task { attempt: 0, ..leased.task.clone() };
    assert!(!brief.may_defer(&fresh, &leased.spec), "nothing is known of it");
    let executed = good(&house, &leased).await;
    brief.learn(&executed);
    assert!(brief.may_defer(&fresh, &leased.spec));
    assert!(!brief.may_defer(&leased.task, &leased.spec), "it was tried before");
    let older = Task { created_at: Timestamp::EPOCH, ..fresh.clone() };
    assert!(!brief.may_defer(&older, &leased.spec), "the host may have died on it");
    let due = Task { deadline: Some(house.clock.now().plus(Lease::DURATION)), ..fresh.clone() };
    assert!(!brief.may_defer(&due, &leased.spec), "whether it may begin is decided with its lease");

    let mut slow = executed.clone();
    slow.usage.wall_ms = BRIEF_MS + 1;
    brief.learn(&slow);
    assert!(!brief.may_defer(&fresh, &leased.spec));
    brief.learn(&executed);
    let failure = Failure::new(FailureKind::Transient, "passing", "it passes");
    brief.learn(&Executed::failed(failure, leased.spec.skill.clone()));
    assert!(!brief.may_defer(&fresh, &leased.spec));

    let versions = house.store.skills(Some(&"chimera/publish-post".parse().expect("a name"))).await.expect("read");
    let capable = Executed { manifest: Some(versions[0].manifest.clone()), ..executed };
    brief.learn(&capable);
    assert!(!brief.may_defer(&fresh, &leased.spec), "it may act on the world");
}
