//! Atomicity, guards, neighbours, notices.

use super::fixtures::*;
use chimera_core::approval::ApprovalState;
use chimera_core::audit::{self, AuditEvent};
use chimera_core::change::{Change, Committed, Durability, Guard, OutboxTopic, Write};
use chimera_core::effect::{EffectKey, EffectState};
use chimera_core::ids::*;
use chimera_core::ports::listen::Heard;
use chimera_core::ports::{Notice, PortErrorKind, Truth};
use chimera_core::records::ScratchItem;
use chimera_core::task::{Lease, TaskState};
use futures::future::join_all;
use std::sync::Arc;

/// Commits a change with only this guard and a mark; was it applied, and is the mark there exactly then?
async fn try_guard(store: &dyn Truth, guard: Guard) -> bool {
    let mark = agent();
    let mut change = writes([Write::PutAgent(mark.clone())]);
    change.guard(guard.clone());
    let committed = store.commit(change).await.unwrap();
    let is_marked = store.agents().await.unwrap().contains(&mark);
    match committed {
        Committed::Applied => assert!(is_marked, "{guard:?} held and nothing was written"),
        Committed::Stale(broken) => {
            assert_eq!(broken, guard);
            assert!(!is_marked, "{guard:?} did not hold and something was written");
        }
    }
    is_marked
}

pub async fn every_guard_holds_or_makes_the_change_stale(store: Arc<dyn Truth>) {
    let (spec, mut task) = task();
    let lease = LeaseId::new(&SystemIds);
    task.state = TaskState::Running;
    task.rev = 3;
    task.attempt = 2;
    task.lease = Some(Lease { id: lease, worker: AgentId::new(&SystemIds), until: at(45_000) });
    let mut idle = task.clone();
    idle.id = TaskId::new(&SystemIds);
    idle.state = TaskState::Queued;
    let campaign = campaign();
    let (open, mut closed) = (approval(), approval());
    closed.state = ApprovalState::Cancelled;
    let effect = effect(task.lineage, 0);
    let row = outbox(OutboxTopic::Judge, 5, start());
    let skill = skill();
    let setup = writes([
        Write::PutSpec(spec),
        Write::PutTask(task.clone()),
        Write::PutTask(idle.clone()),
        Write::PutCampaign(campaign.clone()),
        Write::PutApproval(open.clone()),
        Write::PutApproval(closed.clone()),
        Write::PutEffect(effect.clone()),
        Write::PutOutbox(row.clone()),
        Write::PutSkill(version(skill.clone())),
        Write::PutRoute(route(&skill)),
        Write::AppendJournal { task: task.id, epoch: 1, entries: vec![entry(0, "a")] },
    ]);
    assert_eq!(store.commit(setup).await.unwrap(), Committed::Applied);

    let other_key = EffectKey { ordinal: 1, ..effect.key.clone() };
    let mut other_bytes = skill.clone();
    other_bytes.digest = chimera_core::digest::Digest::of(b"other bytes");
    let mut next_version = skill.clone();
    next_version.version.patch += 1;
    let holding = [
        Guard::TaskAbsent(TaskId::new(&SystemIds)),
        Guard::TaskRev(task.id, 3),
        Guard::CampaignRev(campaign.id, 0),
        Guard::LeaseCurrent(task.id, lease, 2),
        Guard::ApprovalOpen(open.id),
        Guard::EffectIs(effect.id, EffectState::Intent),
        Guard::EffectAbsent(other_key),
        Guard::OutboxPresent(row.id),
        Guard::RouteRev(skill.name.clone(), 1),
        Guard::RouteRev("acme/unknown".parse().unwrap(), 0),
        Guard::SkillAbsent(next_version),
        Guard::JournalAbsent(task.id, 1, 1),
        Guard::JournalAbsent(task.id, 2, 0),
        Guard::ScratchRoom(AgentId::new(&SystemIds), "k".into(), ScratchItem::MAX_BYTES),
    ];
    for guard in holding {
        assert!(try_guard(&*store, guard.clone()).await, "{guard:?} should hold");
    }
    let broken = [
        Guard::TaskAbsent(task.id),
        Guard::TaskRev(task.id, 2),
        Guard::TaskRev(task.id, 4),
        Guard::TaskRev(TaskId::new(&SystemIds), 0),
        Guard::CampaignRev(campaign.id, 1),
        Guard::CampaignRev(CampaignId::new(&SystemIds), 0),
        Guard::LeaseCurrent(task.id, LeaseId::new(&SystemIds), 2),
        Guard::LeaseCurrent(task.id, lease, 1),
        Guard::LeaseCurrent(idle.id, lease, 2),
        Guard::ApprovalOpen(closed.id),
        Guard::ApprovalOpen(ApprovalId::new(&SystemIds)),
        Guard::EffectIs(effect.id, EffectState::Done),
        Guard::EffectIs(EffectId::new(&SystemIds), EffectState::Intent),
        Guard::EffectAbsent(effect.key.clone()),
        Guard::OutboxPresent(OutboxId::new(&SystemIds)),
        Guard::RouteRev(skill.name.clone(), 0),
        Guard::RouteRev(skill.name.clone(), 2),
        Guard::RouteRev("acme/unknown".parse().unwrap(), 1),
        Guard::SkillAbsent(skill),
        Guard::SkillAbsent(other_bytes),
        Guard::JournalAbsent(task.id, 1, 0),
        Guard::ScratchRoom(AgentId::new(&SystemIds), "k".into(), ScratchItem::MAX_BYTES + 1),
    ];
    for guard in broken {
        assert!(!try_guard(&*store, guard.clone()).await, "{guard:?} should not hold");
    }
}

pub async fn the_first_broken_guard_is_named(store: Arc<dyn Truth>) {
    let (spec, task) = task();
    let _ = store.commit(creation(&spec, &task)).await.unwrap();
    let (first, second) = (Guard::TaskRev(task.id, 8), Guard::TaskRev(task.id, 9));
    let change = Change { guards: vec![Guard::TaskRev(task.id, 0), first.clone(), second], ..Change::default() };
    assert_eq!(store.commit(change).await.unwrap(), Committed::Stale(first));
}

pub async fn neighbours_of_stale_and_failing_changes_are_applied(store: Arc<dyn Truth>) {
    let lineage = LineageId::new(&SystemIds);
    let _ = store.commit(writes([Write::PutEffect(effect(lineage, 0))])).await.unwrap();
    let made: Vec<_> = (0..60).map(|_| task()).collect();
    let commits = made.iter().enumerate().map(|(index, (spec, task))| {
        let mut change = creation(spec, task);
        change.audit(draft(None, "task.created"));
        match index % 3 {
            1 => change.guard(Guard::TaskRev(task.id, 7)),
            2 => change.write(Write::PutEffect(effect(lineage, 0))),
            _ => {}
        }
        store.commit(change)
    });
    let results = join_all(commits).await;
    for (index, (result, (_, task))) in results.into_iter().zip(&made).enumerate() {
        let found = store.task(task.id).await.unwrap();
        match index % 3 {
            0 => {
                assert_eq!(result.unwrap(), Committed::Applied);
                assert_eq!(found.as_ref(), Some(task));
            }
            1 => {
                assert!(matches!(result.unwrap(), Committed::Stale(_)));
                assert_eq!(found, None);
            }
            _ => {
                assert_eq!(result.unwrap_err().kind, PortErrorKind::Permanent);
                assert_eq!(found, None);
            }
        }
    }
    let events = store.audit(None, 0, 1000).await.unwrap();
    assert_eq!(events.len(), 20, "only applied changes are in the log");
    audit::verify(None, &events).unwrap();
}

pub async fn a_failing_write_leaves_nothing(store: Arc<dyn Truth>) {
    let campaign = campaign();
    let (spec, mut task) = task();
    task.campaign = Some(campaign.id);
    let mut change = creation(&spec, &task);
    change.write(Write::PutCampaign(campaign.clone()));
    change.write(Write::PutOutbox(outbox(OutboxTopic::Dispatch, 5, start())));
    change.write(Write::AddTrend(trend("cats", f64::NAN, start())));
    change.audit(draft(Some(campaign.id), "campaign.created"));
    let error = store.commit(change.clone()).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Permanent);
    assert_eq!(store.campaign(campaign.id).await.unwrap(), None);
    assert_eq!(store.task(task.id).await.unwrap(), None);
    assert_eq!(store.spec(spec.id).await.unwrap(), None);
    assert_eq!(store.claim_outbox(OutboxTopic::Dispatch, at(1), at(2), 10).await.unwrap(), []);
    assert_eq!(store.audit(Some(campaign.id), 0, 10).await.unwrap(), []);

    change.writes.pop();
    assert_eq!(store.commit(change).await.unwrap(), Committed::Applied);
    let events = store.audit(Some(campaign.id), 0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    audit::verify(Some(campaign.id), &events).unwrap();
}

pub async fn of_two_changes_from_the_same_revision_one_is_stale(store: Arc<dyn Truth>) {
    let (spec, task) = task();
    let _ = store.commit(creation(&spec, &task)).await.unwrap();
    let rivals = join_all((0..20).map(|priority| {
        let mut next = task.clone();
        next.rev = 1;
        next.priority = priority;
        let mut change = writes([Write::PutTask(next)]);
        change.guard(Guard::TaskRev(task.id, 0));
        store.commit(change)
    }))
    .await;
    let applied = rivals.into_iter().filter(|result| matches!(result, Ok(Committed::Applied))).count();
    assert_eq!(applied, 1);
    assert_eq!(store.task(task.id).await.unwrap().unwrap().rev, 1);
}

pub async fn writes_are_applied_whatever_their_order(store: Arc<dyn Truth>) {
    let campaign = campaign();
    let step = step(campaign.id, 0);
    let (spec, mut task) = task();
    task.campaign = Some(campaign.id);
    task.step = Some(step.id);
    let change = writes([
        Write::PutTask(task.clone()),
        Write::PutStep(step.clone()),
        Write::PutSpec(spec),
        Write::PutCampaign(campaign.clone()),
    ]);
    assert_eq!(store.commit(change).await.unwrap(), Committed::Applied);
    let view = store.campaign_view(campaign.id).await.unwrap().unwrap();
    assert_eq!((view.campaign, view.steps, view.tasks), (campaign, vec![step], vec![task]));

    let (_, orphan) = super::fixtures::task();
    let error = store.commit(writes([Write::PutTask(orphan)])).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Permanent, "a task without its spec is refused");
}

pub async fn listeners_hear_what_was_committed(store: Arc<dyn Truth>) {
    let mut listener = store.subscribe();
    let (spec, task) = task();
    let mut stale = creation(&spec, &task);
    stale.guard(Guard::TaskRev(task.id, 1));
    stale.audit(draft(None, "never.happened"));
    assert!(matches!(store.commit(stale).await.unwrap(), Committed::Stale(_)));

    let mut change = creation(&spec, &task);
    change.write(Write::PutOutbox(outbox(OutboxTopic::Judge, 5, start())));
    change.audit(draft(None, "task.created"));
    let _ = store.commit(change).await.unwrap();
    let progress = Notice::Progress { campaign: None, task: task.id, fraction: 0.5, message: "half".to_owned() };

    let Heard::Notice(Notice::Audited(event)) = listener.next().await else { panic!("expected the event first") };
    assert_eq!(event.draft.action, "task.created");
    assert_eq!(store.audit(None, 0, 10).await.unwrap(), [AuditEvent::clone(&event)]);
    assert_eq!(listener.next().await, Heard::Notice(Notice::Outbox(OutboxTopic::Judge)));
    store.tell(progress.clone());
    assert_eq!(listener.next().await, Heard::Notice(progress));
}

pub async fn changes_handed_over_together_are_each_by_themselves(store: Arc<dyn Truth>) {
    let (first, second) = (task(), task());
    let once = |(spec, task): &(chimera_core::task::TaskSpec, chimera_core::task::Task)| {
        let mut change = creation(spec, task);
        change.guard(Guard::TaskAbsent(task.id));
        change
    };
    let answers = store.commit_all(vec![once(&first), once(&first), once(&second)]).await;
    let answers: Vec<Committed> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        answers,
        [Committed::Applied, Committed::Stale(Guard::TaskAbsent(first.1.id)), Committed::Applied],
        "in their order, and a stale one costs its neighbours nothing"
    );
    assert!(store.commit_all(Vec::new()).await.is_empty());
    let nobody = TaskId::new(&SystemIds);
    let ids = [second.1.id, nobody, first.1.id, second.1.id];
    let tasks = [Some(second.1.clone()), None, Some(first.1.clone()), Some(second.1.clone())];
    assert_eq!(store.tasks_by_ids(&ids).await.unwrap(), tasks);
    let specs = [SpecId::new(&SystemIds), first.0.id, second.0.id];
    assert_eq!(store.specs_by_ids(&specs).await.unwrap(), [None, Some(first.0), Some(second.0)]);
}

pub async fn a_view_is_one_moment(store: Arc<dyn Truth>) {
    let mut campaign = campaign();
    let (spec, mut task) = task();
    task.campaign = Some(campaign.id);
    let mut change = creation(&spec, &task);
    change.write(Write::PutCampaign(campaign.clone()));
    let _ = store.commit(change).await.unwrap();
    let id = campaign.id;
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for rev in 1..=100 {
                campaign.rev = rev;
                task.rev = rev;
                let change = writes([Write::PutCampaign(campaign.clone()), Write::PutTask(task.clone())]);
                let _ = store.commit(change).await.unwrap();
            }
        }
    });
    let mut seen = 0;
    while !writer.is_finished() {
        let view = store.campaign_view(id).await.unwrap().unwrap();
        assert_eq!(view.campaign.rev, view.tasks[0].rev, "two moments in one view");
        assert!(view.campaign.rev >= seen, "the view went back in time");
        seen = view.campaign.rev;
    }
    writer.await.unwrap();
    assert_eq!(store.campaign_view(id).await.unwrap().unwrap().campaign.rev, 100, "a commit is seen by the next read");
}

/// Longer than what is sent to a database at once, wherever its mistake is, and between neighbours that go well.
pub async fn a_long_change_is_kept_whole_or_not_at_all(store: Arc<dyn Truth>) {
    let lineage = LineageId::new(&SystemIds);
    let taken = effect(lineage, 0);
    let _ = store.commit(writes([Write::PutEffect(taken.clone())])).await.unwrap();
    let remembered = |agent: AgentId| (0..50).map(move |_| Write::PutMemory(memory(agent)));
    let changes = (0..60_usize).map(|place| {
        let agent = AgentId::new(&SystemIds);
        let mut change = writes(remembered(agent));
        // Every second one takes the key of an effect that another has.
        let is_good = place % 2 == 0;
        let key = if is_good { effect(LineageId::new(&SystemIds), 0) } else { effect(lineage, 0) };
        change.writes.insert(place.min(50), Write::PutEffect(key));
        change.audit(draft(None, "long"));
        change.durability = if place % 3 == 0 { Durability::WithNext } else { Durability::Now };
        (agent, is_good, change)
    });
    let commits = changes.map(|(agent, is_good, change)| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { (agent, is_good, store.commit(change).await) })
    });
    let mut kept = 0;
    for commit in join_all(commits).await {
        let (agent, is_good, committed) = commit.unwrap();
        assert_eq!(committed.is_ok(), is_good, "{committed:?}");
        assert_eq!(store.memory(Some(agent)).await.unwrap().len(), if is_good { 50 } else { 0 });
        kept += usize::from(is_good);
    }
    let events = store.audit(None, 0, 1000).await.unwrap();
    assert_eq!(events.len(), kept, "what was undone is in no chain");
    audit::verify(None, &events).unwrap();
}
