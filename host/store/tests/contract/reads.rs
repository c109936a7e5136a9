//! Nouns come back as they were written; lists are filtered and ordered.

use super::fixtures::*;
use chimera_core::approval::ApprovalState;
use chimera_core::campaign::CampaignState;
use chimera_core::change::{Committed, Guard, OutboxTopic, Write};
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ids::*;
use chimera_core::ports::{ApprovalFilter, PortErrorKind, TaskFilter, ToolAnswer, Truth, WaitingTask};
use chimera_core::records::{MemoryItem, ScratchItem, TokenScope, TrendItem};
use chimera_core::route::{Route, RunMark};
use chimera_core::skill::SkillState;
use chimera_core::task::{Lease, Outcome, Task, TaskState, Usage};
use chimera_core::verdict::{Check, CheckResult, Decision, Verdict};
use serde_json::json;
use std::sync::Arc;

pub async fn every_noun_reads_back_as_written(store: Arc<dyn Truth>) {
    let campaign = campaign();
    let step = step(campaign.id, 0);
    let (spec, mut task) = task();
    task.campaign = Some(campaign.id);
    task.step = Some(step.id);
    task.deadline = Some(at(1));
    task.usage = Usage { fuel: u64::MAX, wall_ms: 1, peak_memory_bytes: 2, host_calls: 3, mcp_calls: 4 };
    task.outcome =
        Some(Outcome { output: json!({ "b": 0.1, "a": [null] }), confidence: 1.0 / 3.0, evidence: vec!["x".into()] });
    task.failure = Some(Failure::new(FailureKind::Transient, "c", "m").retry_after(3));
    task.verdict = Some(Verdict {
        decision: Decision::Escalate,
        confidence: 0.123_456_789,
        reason: "unsure".into(),
        checks: vec![Check { name: "schema".into(), result: CheckResult::Passed, detail: "fits".into() }],
        took_ms: 5,
    });
    let approval = approval();
    let mut effect = effect(task.lineage, 0);
    effect.answer = Some(ToolAnswer { text: "ok".into(), structured: Some(json!({ "id": 1 })), is_error: false });
    let (grant, call_grant, agent) = (grant(), call_grant(), agent());
    let token = token(TokenScope::Agent(agent.id), "s3cret");
    let memory = memory(agent.id);
    let scratch = ScratchItem { agent: agent.id, key: "k".into(), value: json!([1, "two"]), expires_at: at(3_600_000) };
    let skill = version(skill());
    let row = outbox(OutboxTopic::Plan, 3, start());
    let journal = vec![entry(0, "a"), entry(1, "b")];
    let change = writes([
        Write::PutCampaign(campaign.clone()),
        Write::PutStep(step.clone()),
        Write::PutSpec(spec.clone()),
        Write::PutTask(task.clone()),
        Write::PutApproval(approval.clone()),
        Write::PutEffect(effect.clone()),
        Write::PutGrant(grant.clone()),
        Write::PutGrant(call_grant.clone()),
        Write::PutAgent(agent.clone()),
        Write::PutToken(token.clone()),
        Write::PutMemory(memory.clone()),
        Write::PutScratch(scratch.clone()),
        Write::PutSkill(skill.clone()),
        Write::PutOutbox(row.clone()),
        Write::AppendJournal { task: task.id, epoch: 0, entries: journal.clone() },
    ]);
    let _ = store.commit(change).await.unwrap();

    let view = store.campaign_view(campaign.id).await.unwrap().unwrap();
    assert_eq!((view.campaign, view.steps, view.tasks), (campaign.clone(), vec![step], vec![task.clone()]));
    assert_eq!(store.campaign(campaign.id).await.unwrap(), Some(campaign));
    assert_eq!(store.task(task.id).await.unwrap(), Some(task.clone()));
    assert_eq!(store.spec(spec.id).await.unwrap(), Some(spec));
    assert_eq!(store.approval(approval.id).await.unwrap(), Some(approval));
    assert_eq!(store.effect(effect.id).await.unwrap(), Some(effect.clone()));
    assert_eq!(store.effects(task.lineage).await.unwrap(), [effect]);
    assert_eq!(store.grant(grant.id).await.unwrap(), Some(grant.clone()));
    assert_eq!(store.grant(call_grant.id).await.unwrap(), Some(call_grant.clone()));
    assert_eq!(store.grants(None).await.unwrap(), [grant.clone(), call_grant.clone()]);
    assert_eq!(store.grants(Some(&grant.skill)).await.unwrap(), [grant, call_grant]);
    assert_eq!(store.grants(Some(&"acme/other".parse().unwrap())).await.unwrap(), []);
    assert_eq!(store.agents().await.unwrap(), [agent.clone()]);
    assert_eq!(store.tokens().await.unwrap(), [token]);
    assert_eq!(store.memory(Some(agent.id)).await.unwrap(), [memory.clone()]);
    assert_eq!(store.memory(None).await.unwrap(), [memory]);
    assert_eq!(store.memory(Some(AgentId::new(&SystemIds))).await.unwrap(), []);
    assert_eq!(store.scratch(agent.id, "k", start()).await.unwrap(), Some(scratch));
    assert_eq!(store.skills(None).await.unwrap(), [skill.clone()]);
    assert_eq!(store.skills(Some(&skill.skill.name)).await.unwrap(), [skill]);
    assert_eq!(store.skills(Some(&"acme/other".parse().unwrap())).await.unwrap(), []);
    assert_eq!(store.journal(task.id, 0).await.unwrap(), journal);
    assert_eq!(store.claim_outbox(OutboxTopic::Plan, start(), at(1), 10).await.unwrap(), [row]);
}

pub async fn putting_again_replaces(store: Arc<dyn Truth>) {
    let (spec, mut task) = task();
    let (mut agent, mut skill, mut grant) = (agent(), version(skill()), call_grant());
    let mut token = token(TokenScope::Operator, "one");
    for turn in 0..2 {
        let change = writes([
            Write::PutSpec(spec.clone()),
            Write::PutTask(task.clone()),
            Write::PutAgent(agent.clone()),
            Write::PutSkill(skill.clone()),
            Write::PutGrant(grant.clone()),
            Write::PutToken(token.clone()),
        ]);
        let _ = store.commit(change).await.unwrap();
        assert_eq!(store.task(task.id).await.unwrap(), Some(task.clone()), "turn {turn}");
        assert_eq!(store.agents().await.unwrap(), [agent.clone()]);
        assert_eq!(store.skills(None).await.unwrap(), [skill.clone()]);
        assert_eq!(store.grants(None).await.unwrap(), [grant.clone()]);
        assert_eq!(store.tokens().await.unwrap(), [token.clone()]);
        task.state = TaskState::Failed;
        task.rev = 1;
        agent.name = "renamed".into();
        skill.state = SkillState::Yanked;
        grant.revoked_at = Some(at(5));
        token.revoked_at = Some(at(6));
    }
    let change = writes([
        Write::TouchAgent(agent.id, at(10)),
        Write::TouchAgent(agent.id, at(9)),
        Write::TouchAgent(AgentId::new(&SystemIds), at(9)),
        Write::SetSkillState(skill.skill.clone(), SkillState::Suspended),
    ]);
    let _ = store.commit(change).await.unwrap();
    agent = store.agents().await.unwrap().remove(0);
    assert_eq!((agent.last_seen, agent.name.as_str()), (at(10), "renamed"), "seen is never moved back");
    let suspended = store.skills(None).await.unwrap().remove(0);
    assert_eq!(suspended.state, SkillState::Suspended);
    assert_eq!(suspended.manifest, skill.manifest);
}

pub async fn runs_of_a_version_on_trial_are_counted_and_no_others(store: Arc<dyn Truth>) {
    let skill = skill();
    let mut other = skill.clone();
    other.version.patch += 1;
    assert_eq!(store.routes(None).await.unwrap(), []);
    let route = route(&skill);
    let change = writes([
        Write::PutSkill(version(skill.clone())),
        Write::PutRoute(route.clone()),
        Write::CountRun(skill.clone(), RunMark::Good),
        Write::CountRun(skill.clone(), RunMark::Bad),
        Write::CountRun(other.clone(), RunMark::Bad),
    ]);
    let _ = store.commit(change).await.unwrap();
    let counted = store.routes(Some(&skill.name)).await.unwrap().remove(0);
    let canary = route.canary.clone().map(|canary| canary.counted(RunMark::Good).counted(RunMark::Bad));
    assert_eq!(counted, Route { canary, ..route.clone() }, "the revision is what it was");
    let ended = counted.without_canary(at(7));
    let change = writes([Write::PutRoute(ended.clone()), Write::CountRun(skill.clone(), RunMark::Bad)]);
    let _ = store.commit(change).await.unwrap();
    assert_eq!(store.routes(None).await.unwrap(), [ended], "nothing is on trial any more");
    assert_eq!(store.routes(Some(&"acme/unknown".parse().unwrap())).await.unwrap(), []);
}

pub async fn tasks_are_filtered_and_newest_first(store: Arc<dyn Truth>) {
    let campaign = campaign();
    let mut made = Vec::new();
    let mut change = writes([Write::PutCampaign(campaign.clone())]);
    for index in 0..6_usize {
        let (spec, mut task) = task();
        task.created_at = at(index as i64);
        task.campaign = (index % 2 == 0).then_some(campaign.id);
        task.state = [TaskState::Queued, TaskState::Queued, TaskState::Judging][index % 3];
        change.extend(creation(&spec, &task));
        made.push(task.id);
    }
    let _ = store.commit(change).await.unwrap();
    let list = async |filter: TaskFilter| -> Vec<usize> {
        let found = store.tasks(&filter).await.unwrap();
        found.iter().map(|task| made.iter().position(|id| *id == task.id).unwrap()).collect()
    };
    let of_campaign = Some(campaign.id);
    assert_eq!(list(TaskFilter::default()).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(TaskFilter { limit: Some(2), ..Default::default() }).await, [5, 4]);
    assert_eq!(list(TaskFilter { campaign: of_campaign, ..Default::default() }).await, [4, 2, 0]);
    assert_eq!(list(TaskFilter { states: vec![TaskState::Judging], ..Default::default() }).await, [5, 2]);
    let both = vec![TaskState::Judging, TaskState::Queued];
    assert_eq!(list(TaskFilter { states: both, campaign: of_campaign, limit: Some(9_999_999) }).await, [4, 2, 0]);
    assert!(list(TaskFilter { states: vec![TaskState::Failed], ..Default::default() }).await.is_empty());
}

pub async fn campaigns_are_filtered_and_newest_first(store: Arc<dyn Truth>) {
    let mut made = Vec::new();
    for (index, state) in [CampaignState::Planning, CampaignState::Running, CampaignState::Planning].iter().enumerate()
    {
        let mut campaign = campaign();
        campaign.state = *state;
        campaign.created_at = at(index as i64);
        let _ = store.commit(writes([Write::PutCampaign(campaign.clone())])).await.unwrap();
        made.push(campaign);
    }
    let newest_first: Vec<_> = made.iter().rev().cloned().collect();
    assert_eq!(store.campaigns(&[]).await.unwrap(), newest_first);
    let planning = [newest_first[0].clone(), newest_first[2].clone()];
    assert_eq!(store.campaigns(&[CampaignState::Planning]).await.unwrap(), planning);
    assert_eq!(store.campaigns(&[CampaignState::Planning, CampaignState::Running]).await.unwrap(), newest_first);
}

pub async fn approvals_are_filtered_and_oldest_first(store: Arc<dyn Truth>) {
    let campaign = campaign();
    let (mut first, mut second) = (approval(), approval());
    first.created_at = at(1);
    first.campaign = Some(campaign.id);
    first.deadline = at(100);
    second.created_at = at(2);
    second.state = ApprovalState::Rejected;
    second.deadline = at(200);
    let change = writes([Write::PutApproval(second.clone()), Write::PutApproval(first.clone())]);
    let _ = store.commit(change).await.unwrap();
    let list = async |filter: ApprovalFilter| store.approvals(&filter).await.unwrap();
    assert_eq!(list(ApprovalFilter::default()).await, [first.clone(), second.clone()]);
    let open = ApprovalFilter { state: Some(ApprovalState::Open), ..Default::default() };
    assert_eq!(list(open).await, [first.clone()]);
    let of_campaign = ApprovalFilter { campaign: Some(campaign.id), ..Default::default() };
    assert_eq!(list(of_campaign).await, [first.clone()]);
    let due = |moment| ApprovalFilter { due_before: Some(moment), ..Default::default() };
    assert_eq!(list(due(at(100))).await, []);
    assert_eq!(list(due(at(101))).await, [first]);
    assert_eq!(list(due(at(201))).await.len(), 2);
}

pub async fn leases_and_retries_come_due(store: Arc<dyn Truth>) {
    let (spec, mut running) = task();
    running.state = TaskState::Running;
    running.lease = Some(Lease { id: LeaseId::new(&SystemIds), worker: AgentId::new(&SystemIds), until: at(100) });
    let mut done = running.clone();
    done.id = TaskId::new(&SystemIds);
    done.state = TaskState::Judging;
    let mut waiting = running.clone();
    waiting.id = TaskId::new(&SystemIds);
    waiting.state = TaskState::RetryWait;
    waiting.lease = None;
    waiting.run_after = Some(at(50));
    let tasks = [&running, &done, &waiting].map(|task| Write::PutTask(task.clone()));
    let _ = store.commit(writes(std::iter::once(Write::PutSpec(spec)).chain(tasks))).await.unwrap();
    assert_eq!(store.expired_leases(at(100), 10).await.unwrap(), []);
    assert_eq!(store.expired_leases(at(101), 10).await.unwrap(), [running]);
    assert_eq!(store.expired_leases(at(101), 0).await.unwrap(), []);
    assert_eq!(store.due_retries(at(49), 10).await.unwrap(), []);
    assert_eq!(store.due_retries(at(50), 10).await.unwrap(), [waiting]);
}

pub async fn what_does_not_exist_is_none(store: Arc<dyn Truth>) {
    assert_eq!(store.campaign(CampaignId::new(&SystemIds)).await.unwrap(), None);
    assert_eq!(store.campaign_view(CampaignId::new(&SystemIds)).await.unwrap(), None);
    assert_eq!(store.task(TaskId::new(&SystemIds)).await.unwrap(), None);
    assert_eq!(store.spec(SpecId::new(&SystemIds)).await.unwrap(), None);
    assert_eq!(store.approval(ApprovalId::new(&SystemIds)).await.unwrap(), None);
    assert_eq!(store.grant(GrantId::new(&SystemIds)).await.unwrap(), None);
    assert_eq!(store.effect(EffectId::new(&SystemIds)).await.unwrap(), None);
    assert_eq!(store.effects(LineageId::new(&SystemIds)).await.unwrap(), []);
    assert_eq!(store.journal(TaskId::new(&SystemIds), 0).await.unwrap(), []);
    assert_eq!(store.audit(None, 0, 10).await.unwrap(), []);
    assert_eq!(store.audit_chains().await.unwrap(), []);
    assert_eq!(store.audit_head(None).await.unwrap(), None);
    let _ = store.commit(writes([Write::DeleteOutbox(OutboxId::new(&SystemIds))])).await.unwrap();
}

pub async fn scratch_expires(store: Arc<dyn Truth>) {
    let agent = AgentId::new(&SystemIds);
    let item =
        |key: &str, value: i64, expires_at| ScratchItem { agent, key: key.into(), value: json!(value), expires_at };
    let change = writes([
        Write::PutScratch(item("a", 1, at(10))),
        Write::PutScratch(item("a", 2, at(20))),
        Write::PutScratch(item("b", 3, at(20))),
        Write::DeleteScratch(agent, "b".into()),
        Write::DeleteScratch(agent, "never there".into()),
    ]);
    let _ = store.commit(change).await.unwrap();
    assert_eq!(store.scratch(agent, "a", at(19)).await.unwrap(), Some(item("a", 2, at(20))));
    assert_eq!(store.scratch(agent, "a", at(20)).await.unwrap(), None);
    assert_eq!(store.scratch(agent, "b", at(0)).await.unwrap(), None);
    assert_eq!(store.scratch(AgentId::new(&SystemIds), "a", at(0)).await.unwrap(), None, "another agent's memory");
}

pub async fn trends_are_summed_within_the_window(store: Arc<dyn Truth>) {
    let replayed = trend("cats", 2.0, at(10));
    let change = writes([
        Write::AddTrend(replayed.clone()),
        Write::AddTrend(replayed),
        Write::AddTrend(trend("cats", 1.5, at(20))),
        Write::AddTrend(trend("dogs", 3.0, at(20))),
        Write::AddTrend(trend("ants", 3.0, at(20))),
        Write::AddTrend(trend("past", 99.0, at(5))),
    ]);
    let _ = store.commit(change).await.unwrap();
    let top = store.top_trends(at(10), 2).await.unwrap();
    let seen: Vec<_> = top.iter().map(|top| (top.topic.as_str(), top.weight, top.count)).collect();
    assert_eq!(seen, [("cats", 3.5, 2), ("ants", 3.0, 1)]);
    assert_eq!(store.top_trends(at(21), 10).await.unwrap(), []);
}

pub async fn of_an_agents_observations_the_newest_are_kept(store: Arc<dyn Truth>) {
    let observed = |number: usize| Write::AddTrend(trend("cats", 1.0, at(number as i64)));
    let other = TrendItem { agent: AgentId::new(&SystemIds), ..trend("dogs", 1.0, at(0)) };
    let _ = store.commit(writes([Write::AddTrend(other)])).await.unwrap();
    let _ = store.commit(writes((0..TrendItem::MAX_ITEMS + 5).map(observed))).await.unwrap();
    let count = async |since| -> u64 { store.top_trends(since, 10).await.unwrap().iter().map(|top| top.count).sum() };
    assert_eq!(count(at(0)).await, TrendItem::MAX_ITEMS as u64 + 1, "another agent's is its own");
    assert_eq!(count(at(5)).await, TrendItem::MAX_ITEMS as u64, "the oldest went");
}

pub async fn weights_that_cannot_be_added_up_are_refused(store: Arc<dyn Truth>) {
    for weight in [f64::NAN, f64::INFINITY, -0.5, 1.7e308, TrendItem::MAX_WEIGHT * 1.01] {
        let error = store.commit(writes([Write::AddTrend(trend("x", weight, at(1)))])).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Permanent, "{weight}");
    }
    let largest = (0..3).map(|_| Write::AddTrend(trend("x", TrendItem::MAX_WEIGHT, at(1))));
    let _ = store.commit(writes(largest)).await.unwrap();
    assert_eq!(store.top_trends(at(0), 1).await.unwrap()[0].weight, 3.0 * TrendItem::MAX_WEIGHT);
}

/// An item of about so many bytes, remembered so many milliseconds after the start.
fn remembered(agent: AgentId, millis: i64, bytes: usize) -> MemoryItem {
    MemoryItem { text: "x".repeat(bytes), created_at: at(millis), ..memory(agent) }
}

pub async fn full_memory_forgets_the_oldest(store: Arc<dyn Truth>) {
    let (agent, other) = (AgentId::new(&SystemIds), AgentId::new(&SystemIds));
    let kept = async |agent| store.memory(Some(agent)).await.unwrap();
    let mut items: Vec<MemoryItem> =
        (0..MemoryItem::MAX_ITEMS).map(|number| remembered(agent, number as i64, 1)).collect();
    let others = remembered(other, 0, 1);
    let put = items.iter().chain([&others]).cloned().map(Write::PutMemory);
    let _ = store.commit(writes(put)).await.unwrap();
    assert_eq!(kept(agent).await.len(), MemoryItem::MAX_ITEMS);

    // The same item again takes no second place.
    items[5].text = "y".to_owned();
    let _ = store.commit(writes([Write::PutMemory(items[5].clone())])).await.unwrap();
    assert_eq!(kept(agent).await, items);
    let newest = remembered(agent, 1_000_000, 1);
    let _ = store.commit(writes([Write::PutMemory(newest.clone())])).await.unwrap();
    let found = kept(agent).await;
    assert_eq!((found.len(), &found[0], found.last()), (MemoryItem::MAX_ITEMS, &items[1], Some(&newest)));

    // What is forgotten is gone, and nothing of anybody else's; twice is once.
    let gone = items.remove(3);
    for _ in 0..2 {
        let forget = [Write::DeleteMemory(agent, gone.id), Write::DeleteMemory(agent, others.id)];
        let _ = store.commit(writes(forget)).await.unwrap();
    }
    let found = kept(agent).await;
    assert_eq!((found.len(), &found[1], found.contains(&gone)), (MemoryItem::MAX_ITEMS - 1, &items[2], false));

    // One large item pushes out as many as it needs, and never itself, whatever the clock said.
    let large = remembered(agent, -1, MemoryItem::MAX_BYTES - 1000);
    let _ = store.commit(writes([Write::PutMemory(large.clone())])).await.unwrap();
    let found = kept(agent).await;
    assert_eq!(found[0], large);
    assert!(found.iter().map(MemoryItem::size).sum::<usize>() <= MemoryItem::MAX_BYTES);
    assert_eq!(found.last(), Some(&newest));
    assert_eq!(kept(other).await, [others], "another agent's memory is its own");
}

pub async fn memory_stays_within_its_limits_whoever_writes(store: Arc<dyn Truth>) {
    let agent = AgentId::new(&SystemIds);
    let size = MemoryItem::MAX_BYTES / 10;
    let puts = (0..40).map(|number| {
        let store = Arc::clone(&store);
        let item = remembered(agent, number, size);
        tokio::spawn(async move { store.commit(writes([Write::PutMemory(item)])).await })
    });
    for put in futures::future::join_all(puts).await {
        let _ = put.unwrap().unwrap();
    }
    let kept = store.memory(Some(agent)).await.unwrap();
    assert_eq!(kept.len(), 9, "text and metadata of ten are more than the limit");
}

pub async fn scratch_has_room_for_so_much(store: Arc<dyn Truth>) {
    let (agent, other) = (AgentId::new(&SystemIds), AgentId::new(&SystemIds));
    let item = |agent, key: &str, bytes: usize| ScratchItem {
        agent,
        key: key.into(),
        value: json!("x".repeat(bytes)),
        expires_at: at(10),
    };
    let put = async |item: ScratchItem| {
        let room = Guard::ScratchRoom(item.agent, item.key.clone(), item.size());
        let mut change = writes([Write::PutScratch(item)]);
        change.guard(room);
        matches!(store.commit(change).await.unwrap(), Committed::Applied)
    };
    let almost_all = (1..ScratchItem::MAX_KEYS).map(|number| Write::PutScratch(item(agent, &number.to_string(), 1)));
    let _ = store.commit(writes(almost_all)).await.unwrap();
    assert!(put(item(agent, "last", 1)).await);
    assert!(!put(item(agent, "one too many", 1)).await);
    assert!(put(item(agent, "last", 2)).await, "a value takes the place of the old one");
    assert!(put(item(other, "one too many", 1)).await, "another agent has room of its own");
    let _ = store.commit(writes([Write::DeleteScratch(agent, "7".into())])).await.unwrap();
    assert!(put(item(agent, "one too many", 1)).await, "a key was deleted");

    let half = ScratchItem::MAX_BYTES / 2 - 100;
    assert!(put(item(other, "a", half)).await && put(item(other, "b", half)).await);
    assert!(!put(item(other, "c", 1000)).await);
    assert!(put(item(other, "b", half - 1000)).await && put(item(other, "c", 1000)).await);
}

pub async fn waiting_tasks_come_oldest_first_page_by_page(store: Arc<dyn Truth>) {
    let mut expected = Vec::new();
    for number in 0..7_i64 {
        let (spec, mut task) = task();
        // Two are of the same moment; the last one does not wait any more.
        task.created_at = at(100 - number / 2);
        task.priority = u8::try_from(number).unwrap();
        task.state = if number == 6 { TaskState::Approved } else { TaskState::Queued };
        let _ = store.commit(creation(&spec, &task)).await.unwrap();
        if task.state == TaskState::Queued {
            let Task { id, planner_id, priority, created_at, .. } = task;
            expected.push(WaitingTask { task: id, planner_id, priority, created_at });
        }
    }
    expected.sort_by_key(|waiting| (waiting.created_at, waiting.task));
    let (mut found, mut last) = (Vec::new(), None);
    loop {
        let page = store.queued(last.as_ref(), 4).await.unwrap();
        assert!(page.len() <= 4);
        last = page.last().cloned();
        if last.is_none() {
            break;
        }
        found.extend(page);
    }
    assert_eq!(found, expected);
}

pub async fn a_refused_change_is_not_read(store: Arc<dyn Truth>) {
    let (spec, task) = task();
    let _ = store.commit(creation(&spec, &task)).await.unwrap();
    let moved = Task { state: TaskState::Queued, rev: task.rev + 1, ..task.clone() };
    let mut stale = writes([Write::PutTask(moved.clone())]);
    stale.guard(Guard::TaskRev(task.id, task.rev + 7));
    assert!(matches!(store.commit(stale).await.unwrap(), Committed::Stale(_)));
    assert_eq!(store.task(task.id).await.unwrap(), Some(task.clone()));
    let lineage = LineageId::new(&SystemIds);
    let failing = writes([
        Write::PutTask(moved.clone()),
        Write::PutEffect(effect(lineage, 0)),
        Write::PutEffect(effect(lineage, 0)),
    ]);
    assert_eq!(store.commit(failing).await.unwrap_err().kind, PortErrorKind::Permanent);
    assert_eq!(store.task(task.id).await.unwrap(), Some(task));
    let _ = store.commit(writes([Write::PutTask(moved.clone())])).await.unwrap();
    assert_eq!(store.task(moved.id).await.unwrap(), Some(moved));
}

pub async fn hostile_text_is_only_text(store: Arc<dyn Truth>) {
    let evil = "'; DROP TABLE tasks; -- \u{0} \" \\ %_ \u{202e}✓";
    let agent_id = AgentId::new(&SystemIds);
    let (spec, mut task) = task();
    task.planner_id = evil.to_owned();
    let scratch = ScratchItem { agent: agent_id, key: evil.into(), value: json!(evil), expires_at: at(9) };
    let mut remembered = memory(agent_id);
    remembered.text = evil.into();
    let mut change = creation(&spec, &task);
    change.write(Write::PutScratch(scratch.clone()));
    change.write(Write::PutMemory(remembered.clone()));
    change.write(Write::AddTrend(trend(evil, 1.0, at(1))));
    let _ = store.commit(change).await.unwrap();
    assert_eq!(store.task(task.id).await.unwrap(), Some(task));
    assert_eq!(store.scratch(agent_id, evil, at(0)).await.unwrap(), Some(scratch));
    assert_eq!(store.memory(None).await.unwrap(), [remembered]);
    assert_eq!(store.top_trends(at(0), 1).await.unwrap()[0].topic, evil);
}
