use super::*;
use crate::error::AgentErrorKind;
use crate::fleet::Fleet;
use crate::planner::AssignStatus;
use crate::planner::standalone::AssignSpec;
use crate::report::campaign_report;
use crate::testkit::{DEMO_GOAL, House, bundled, campaign_of, operator, version};
use chimera_core::approval::{Answer, HumanDecision, OnExpiry};
use chimera_core::clock::Clock;
use chimera_core::failure::codes;
use chimera_core::ids::SystemIds;
use chimera_core::machine::LeaseEnd;
use chimera_core::ports::TaskFilter;
use chimera_core::records::AgentRole;
use chimera_core::task::Lease;

async fn house() -> House {
    House::with(bundled()).await
}

#[tokio::test]
async fn a_campaign_goes_through_its_steps_in_order() {
    let house = house().await;
    let campaign = house.start(campaign_of(DEMO_GOAL)).await;
    let mut order = Vec::new();
    while let Some(leased) = house.lease().await {
        assert!(house.lease().await.is_none(), "a chain has one ready step at a time");
        let key = house.key_of(&leased).await;
        let task = house.finish(&leased, House::good_output(&key), 0.9).await;
        assert_eq!(task.state, TaskState::Approved);
        order.push(key);
    }
    assert_eq!(order, ["find-trends", "summarize", "draft-post", "check-policy", "publish-post"]);
    let view = house.view(campaign.id).await;
    assert_eq!(view.campaign.state, CampaignState::Completed);
    assert!(view.campaign.plan_ms.is_some());
    let publish = view.tasks.last().expect("a task");
    let spec = house.scheduler.spec_of(publish).await.expect("a spec");
    assert_eq!(spec.input, json!({ "text": "The river rises. #river" }));
    let report = campaign_report(&house.store, campaign.id).await.expect("a report");
    assert!(report.audit.valid && report.audit.events > 10, "{:?}", report.audit);
    assert_eq!(report.tasks.len(), 5);
    assert!(report.tasks.iter().all(|task| !task.reason.is_empty()));
}

#[tokio::test]
async fn independent_steps_are_ready_together_and_a_join_waits_for_both() {
    let house = house().await;
    let new = NewCampaign::from_yaml(
        r#"
goal: two at once
inputs: { texts: ["a b c"] }
steps:
  - { id: one, skill: chimera/summarize, input: { texts: "${inputs.texts}" } }
  - { id: two, skill: chimera/summarize, input: { texts: "${inputs.texts}" } }
  - { id: both, skill: chimera/summarize, input: { texts: ["x"] }, depends_on: [one, two] }
"#,
    )
    .expect("readable");
    let campaign = house.start(new).await;
    let (a, b) = (house.lease().await.expect("one"), house.lease().await.expect("two"));
    assert!(house.lease().await.is_none());
    let output = House::good_output("summarize");
    // Both report at once: neither may miss that the other is done.
    tokio::join!(house.finish(&a, output.clone(), 0.9), house.finish(&b, output.clone(), 0.9));
    let join = house.lease().await.expect("the join is ready");
    assert_eq!(house.key_of(&join).await, "both");
    house.finish(&join, output, 0.9).await;
    assert_eq!(house.view(campaign.id).await.campaign.state, CampaignState::Completed);
}

#[tokio::test]
async fn a_transient_failure_waits_and_is_run_again() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts")).await;
    let leased = house.lease().await.expect("a task");
    let task = house.fail(&leased, FailureKind::Transient, codes::UNREACHABLE).await;
    assert_eq!(task.state, TaskState::RetryWait);
    house.scheduler.sweep_turn().await.expect("sweeps");
    assert!(house.lease().await.is_none() || task.run_after <= Some(house.clock.now()), "not before its time");
    house.clock.advance(Duration::from_secs(61));
    house.scheduler.sweep_turn().await.expect("sweeps");
    house.settle().await;
    let again = house.lease().await.expect("again");
    assert_eq!((again.task.id, again.task.attempt, again.task.epoch), (leased.task.id, 2, 1));
}

#[tokio::test]
async fn a_permanent_failure_goes_to_another_version_then_to_a_human() {
    let house = house().await;
    let mut newer = bundled().remove(0);
    let mut older = version(
        "chimera/find-trends",
        "0.0.9",
        "none",
        json!({ "summary": "Finds trends, as it used to." }),
        newer.manifest.io.input.clone(),
        newer.manifest.io.output.clone(),
    );
    older.installed_at = house.clock.now();
    newer.installed_at = house.clock.now();
    house.install(vec![older]).await;
    let campaign = house.start(campaign_of("Find trends in these posts, summarise them")).await;
    let first = house.lease().await.expect("a task");
    assert_eq!(first.spec.skill.version.to_string(), "0.1.0");
    assert_eq!(house.fail(&first, FailureKind::Permanent, codes::TRAP).await.state, TaskState::Failed);
    let second = house.lease().await.expect("the replacement");
    assert_eq!(second.spec.skill.version.to_string(), "0.0.9");
    assert_eq!(second.task.lineage, first.task.lineage, "the ledger must know it as the same");
    assert_ne!(second.task.id, first.task.id);
    house.fail(&second, FailureKind::Permanent, codes::TRAP).await;
    assert!(house.lease().await.is_none());
    let open = house.open_questions().await;
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].kind, ApprovalKind::Stuck);
    assert_eq!(house.view(campaign.id).await.campaign.state, CampaignState::Running);
    house.answer(&open[0], HumanDecision::Approve, None).await;
    let third = house.lease().await.expect("once more");
    assert_eq!(third.task.lineage, first.task.lineage);
    house.finish(&third, House::good_output("find-trends"), 0.9).await;
    let next = house.lease().await.expect("the next step");
    assert_eq!(next.spec.input, json!({ "texts": ["The river rises."] }));
}

#[tokio::test]
async fn a_stuck_step_that_a_human_gives_up_ends_the_campaign() {
    let house = house().await;
    let campaign = house.start(campaign_of("Find trends in these posts, summarise them")).await;
    let leased = house.lease().await.expect("a task");
    house.fail(&leased, FailureKind::Permanent, codes::TRAP).await;
    let open = house.open_questions().await;
    house.answer(&open[0], HumanDecision::Reject, None).await;
    let view = house.view(campaign.id).await;
    assert_eq!(view.campaign.state, CampaignState::Failed);
    assert_eq!(view.campaign.failure.expect("told why").code, codes::TRAP);
    assert!(view.steps.iter().all(|step| matches!(step.state, StepState::Failed | StepState::Cancelled)));
}

#[tokio::test]
async fn replanning_never_takes_a_skill_that_checks_less_or_does_more() {
    let mut skills = bundled();
    let checker = skills[3].clone();
    let mut lax_output = serde_json::Value::clone(&checker.manifest.io.output);
    lax_output["properties"]["compliant"] = json!({ "type": "boolean" });
    let about =
        json!({ "summary": "Checks a draft against a publishing policy, quickly.", "keywords": ["check", "policy"] });
    let input = checker.manifest.io.input.clone();
    skills.push(version("acme/check-policy", "1.0.0", "none", about.clone(), input.clone(), lax_output));
    skills.push(version("acme/check-and-publish", "1.0.0", "write", about, input, checker.manifest.io.output.clone()));
    let house = House::with(skills).await;
    let new = NewCampaign::from_yaml(
        "goal: check\nsteps: [{ id: check, title: check the draft against our policy, skill: chimera/check-policy, input: { text: hi, policy: {} } }]",
    )
    .expect("readable");
    house.start(new).await;
    let leased = house.lease().await.expect("a task");
    house.fail(&leased, FailureKind::Permanent, codes::TRAP).await;
    assert!(house.lease().await.is_none());
    assert_eq!(house.open_questions().await[0].kind, ApprovalKind::Stuck);
}

#[tokio::test]
async fn questions_hold_their_step_until_they_are_answered_well() {
    let house = house().await;
    let mut new =
        campaign_of("Find trends in these posts, summarise them, draft a post and check it against our policy");
    new.inputs.remove("policy");
    let campaign = house.start(new).await;
    let question = house.open_questions().await.remove(0);
    assert_eq!(question.kind, ApprovalKind::Question);
    let bad = Answer { decision: HumanDecision::Approve, edited: Some(json!("no")), note: None };
    let error = house.hitl.decide(question.id, bad, operator()).await.expect_err("not an object");
    assert_eq!(error.kind(), AgentErrorKind::Invalid);
    for _ in 0..3 {
        let leased = house.lease().await.expect("the first steps go on");
        let key = house.key_of(&leased).await;
        house.finish(&leased, House::good_output(&key), 0.9).await;
    }
    assert!(house.lease().await.is_none(), "the check waits for its policy");
    house.answer(&question, HumanDecision::Approve, Some(json!({ "max_chars": 99 }))).await;
    let leased = house.lease().await.expect("now it can begin");
    assert_eq!(leased.spec.input["policy"], json!({ "max_chars": 99 }));
    let twice = Answer { decision: HumanDecision::Reject, edited: None, note: None };
    let error = house.hitl.decide(question.id, twice, operator()).await.expect_err("decided");
    assert_eq!(error.kind(), AgentErrorKind::Conflict);
    assert!(error.to_string().contains("operator:ada"), "{error}");
    house.finish(&leased, House::good_output("check-policy"), 0.9).await;
    assert_eq!(house.view(campaign.id).await.campaign.state, CampaignState::Completed);
}

#[tokio::test]
async fn a_part_that_fits_nothing_is_asked_before_anything_runs() {
    let house = house().await;
    let campaign = house.start(campaign_of("Find trends in these posts and translate them to French")).await;
    assert_eq!(house.view(campaign.id).await.campaign.state, CampaignState::Planning);
    assert!(house.lease().await.is_none());
    let question = house.open_questions().await.remove(0);
    house.answer(&question, HumanDecision::Approve, Some(json!("skip"))).await;
    assert_eq!(house.view(campaign.id).await.campaign.state, CampaignState::Running);
    assert!(house.lease().await.is_some());

    let other = house.start(campaign_of("Translate the posts to French")).await;
    let question = house.open_questions().await.remove(0);
    house.answer(&question, HumanDecision::Reject, None).await;
    assert_eq!(house.view(other.id).await.campaign.state, CampaignState::Failed);
}

#[tokio::test]
async fn a_dead_worker_is_fenced_off_and_its_late_report_changes_nothing() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts")).await;
    let lost = house.lease().await.expect("a task");
    house.clock.advance(Lease::DURATION + Duration::from_secs(1));
    house.scheduler.sweep_turn().await.expect("sweeps");
    house.settle().await;
    let current = house.lease().await.expect("given to another");
    assert_eq!((current.task.id, current.task.attempt), (lost.task.id, 2));
    assert_eq!(current.task.epoch, lost.task.epoch, "the journal still holds");
    let late = TaskEvent::Finished {
        lease: lost.task.lease.as_ref().expect("a lease").id,
        attempt: lost.task.attempt,
        outcome: chimera_core::task::Outcome { output: json!({}), confidence: 1.0, evidence: Vec::new() },
        usage: chimera_core::task::Usage::default(),
    };
    let error = house.scheduler.apply(lost.task.id, late, Actor::System).await.expect_err("fenced");
    assert_eq!(error.kind(), AgentErrorKind::Conflict);
    let lease = lost.task.lease.as_ref().expect("a lease").id;
    let beat = house.scheduler.heartbeat(lost.task.id, lease, 1, house.worker).await.expect_err("fenced");
    assert_eq!(beat.kind(), AgentErrorKind::Conflict);
    let lease = current.task.lease.as_ref().expect("a lease").id;
    house.scheduler.heartbeat(current.task.id, lease, 2, house.worker).await.expect("alive");
}

#[tokio::test]
async fn a_task_that_kills_three_workers_is_poisoned_and_can_be_replayed() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts")).await;
    for _ in 0..3 {
        house.lease().await.expect("a task");
        house.clock.advance(Lease::DURATION + Duration::from_secs(1));
        house.scheduler.sweep_turn().await.expect("sweeps");
        house.settle().await;
    }
    assert!(house.lease().await.is_none());
    let open = house.open_questions().await;
    assert_eq!(open[0].kind, ApprovalKind::Stuck);
    house.answer(&open[0], HumanDecision::Retry, None).await;
    assert!(house.lease().await.is_some());
}

#[tokio::test]
async fn recovery_gives_back_what_a_killed_process_held_and_counts_the_restart() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts")).await;
    let held = house.lease().await.expect("a task");
    let mine = BTreeSet::from([house.worker]);
    let planner = BTreeSet::from([AgentRole::Planner]);
    house.scheduler.recover(&BTreeSet::new(), &Fleet::Alone, &planner).await.expect("recovers");
    assert_eq!(house.store.task(held.task.id).await.expect("read").expect("there").state, TaskState::Running);
    house.scheduler.recover(&mine, &Fleet::Alone, &planner).await.expect("recovers");
    house.settle().await;
    let again = house.lease().await.expect("ready again");
    assert_eq!((again.task.id, again.task.attempt), (held.task.id, 2));
    assert_eq!((again.task.deaths, again.task.restarts), (0, 1), "nobody said that the host would stop");
    house.scheduler.give_back(&BTreeSet::from([house.worker])).await.expect("given back");
    let queued = house.scheduler.task(held.task.id).await.expect("read");
    assert_eq!((queued.state, queued.deaths, queued.restarts), (TaskState::Queued, 0, 1), "a stop does not count");
}

#[tokio::test]
async fn losing_the_queue_loses_no_task() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts")).await;
    let item = house.scheduler.claim_queue(1).await.expect("claims").remove(0);
    house.scheduler.queue().ack("main", &item.receipt).await.expect("lost");
    assert!(house.lease().await.is_none());
    house.scheduler.redrive_turn().await.expect("redriven");
    assert!(house.lease().await.is_some());
}

#[tokio::test]
async fn an_escalated_verdict_waits_for_a_human_and_a_closed_gate_never_passes_alone() {
    let house = house().await;
    let new = NewCampaign::from_yaml(
        "goal: check\nsteps: [{ id: check, skill: chimera/check-policy, input: { text: hi, policy: {} } }]",
    )
    .expect("readable");
    let campaign = house.start(new).await;
    let leased = house.lease().await.expect("a task");
    let output = json!({ "text": "hi", "compliant": false, "findings": [] });
    let task = house.finish(&leased, output, 1.0).await;
    assert_eq!(task.state, TaskState::AwaitingApproval);
    let question = house.open_questions().await.remove(0);
    house.answer(&question, HumanDecision::Reject, None).await;
    assert_eq!(house.view(campaign.id).await.campaign.state, CampaignState::Rejected);
}

#[tokio::test]
async fn unanswered_questions_escalate_or_are_rejected_but_never_approved() {
    let house = house().await;
    let low = |on_expiry: OnExpiry| {
        let mut new = campaign_of("Find trends in these posts");
        new.policy.on_expiry = on_expiry;
        new
    };
    let patient = house.start(low(OnExpiry::Escalate)).await;
    let leased = house.lease().await.expect("a task");
    house.finish(&leased, House::good_output("find-trends"), 0.5).await;
    let strict = house.start(low(OnExpiry::Reject)).await;
    let leased = house.lease().await.expect("a task");
    house.finish(&leased, House::good_output("find-trends"), 0.5).await;
    assert_eq!(house.open_questions().await.len(), 2);
    house.clock.advance(Approval::DEADLINE + Duration::from_secs(1));
    house.hitl.expire_due().await.expect("handled");
    let open = house.open_questions().await;
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].campaign, open[0].escalations), (Some(patient.id), 1));
    assert!(open[0].deadline > house.clock.now());
    assert_eq!(house.view(strict.id).await.campaign.state, CampaignState::Rejected);
    assert_eq!(house.view(patient.id).await.campaign.state, CampaignState::Running);
}

#[tokio::test]
async fn cancelling_stops_everything_and_closes_the_questions() {
    let house = house().await;
    let mut new =
        campaign_of("Find trends in these posts, summarise them, draft a post and check it against our policy");
    new.inputs.remove("policy");
    let campaign = house.start(new).await;
    let leased = house.lease().await.expect("a task");
    house.scheduler.cancel_campaign(campaign.id, "changed my mind", operator()).await.expect("cancelled");
    let view = house.view(campaign.id).await;
    assert_eq!(view.campaign.state, CampaignState::Cancelled);
    assert!(view.tasks.iter().all(|task| task.state == TaskState::Cancelled));
    assert!(house.open_questions().await.is_empty());
    let lease = leased.task.lease.as_ref().expect("a lease").id;
    assert!(house.scheduler.heartbeat(leased.task.id, lease, 1, house.worker).await.is_err());
    let again = house.scheduler.cancel_campaign(campaign.id, "again", operator()).await.expect_err("over");
    assert_eq!(again.kind(), AgentErrorKind::Conflict);
}

#[tokio::test]
async fn mistakes_are_told_when_the_campaign_is_made_and_nothing_is_kept() {
    let house = house().await;
    for yaml in [
        "goal: x\nsteps: [{ id: a, skill: acme/nothing }]",
        "goal: x\nsteps: [{ id: a, skill: chimera/summarize, input: { texts: [x] }, depends_on: [b] }, { id: b, skill: chimera/summarize, input: { texts: [x] }, depends_on: [a] }]",
        "goal: ''",
    ] {
        let new = NewCampaign::from_yaml(yaml).expect("readable");
        let error = house.scheduler.create_campaign(new, operator()).await.expect_err("refused");
        assert_eq!(error.kind(), AgentErrorKind::Invalid, "{error}");
    }
    assert!(house.store.campaigns(&[]).await.expect("read").is_empty());
}

fn assign_spec(texts: &[&str]) -> AssignSpec {
    AssignSpec {
        skill: "chimera/summarize".to_owned(),
        input: json!({ "texts": texts }),
        limits: None,
        goal: None,
        expect: None,
    }
}

#[tokio::test]
async fn assigning_twice_is_one_task_and_other_content_is_refused() {
    let house = house().await;
    let id = TaskId::new(&SystemIds);
    let assign = |texts: &'static [&'static str]| {
        let scheduler = house.scheduler.clone();
        async move { scheduler.assign(id, assign_spec(texts), 5, None, operator()).await }
    };
    let (one, two) = tokio::join!(assign(&["a"]), assign(&["a"]));
    assert_eq!(one.expect("made").status, AssignStatus::Queued);
    assert_eq!(two.expect("the same").status, AssignStatus::Queued);
    assert_eq!(house.store.tasks(&TaskFilter::default()).await.expect("read").len(), 1);
    let other = assign(&["b"]).await.expect_err("other content");
    assert_eq!(other.kind(), AgentErrorKind::Conflict);
    house.settle().await;
    let leased = house.lease().await.expect("ready");
    let again = assign(&["a"]).await.expect("the same");
    assert_eq!((again.status, again.assigned_worker_id), (AssignStatus::Assigned, Some(house.worker)));
    let task = house.finish(&leased, House::good_output("summarize"), 0.9).await;
    assert_eq!(task.state, TaskState::Approved);
    let bad = house.scheduler.assign(TaskId::new(&SystemIds), assign_spec(&[]), 10, None, operator()).await;
    assert_eq!(bad.expect_err("priority").kind(), AgentErrorKind::Invalid);
}

#[tokio::test]
async fn what_could_not_be_read_again_is_not_assigned() {
    let house = house().await;
    let deep = (0..=64).fold(json!(1), |inner, _| json!([inner]));
    for spec in [
        AssignSpec { input: json!({ "texts": ["x"], "more": deep }), ..assign_spec(&["x"]) },
        AssignSpec { expect: Some(deep.clone()), ..assign_spec(&["x"]) },
    ] {
        let error = house.scheduler.assign(TaskId::new(&SystemIds), spec, 5, None, operator()).await.expect_err("deep");
        assert_eq!(error.kind(), AgentErrorKind::Invalid);
        assert!(error.to_string().contains("nested deeper than 64"), "{error}");
    }
    let mut new =
        NewCampaign::from_yaml("goal: x\nsteps: [{ id: a, skill: chimera/summarize, input: { texts: [x] } }]")
            .expect("readable");
    if let Some(step) = new.explicit.as_mut().and_then(|steps| steps.first_mut()) {
        step.expect = Some(deep);
    }
    let error = house.scheduler.create_campaign(new, operator()).await.expect_err("deep");
    assert!(error.to_string().contains("steps.a.expect"), "{error}");
}

#[tokio::test]
async fn assigning_hears_of_the_worker_that_takes_it() {
    let house = house().await;
    let id = TaskId::new(&SystemIds);
    let assigning = house.scheduler.assign(id, assign_spec(&["a"]), 5, None, operator());
    let working = async {
        loop {
            house.scheduler.relay_turn().await.expect("relays");
            if house.lease().await.is_some() {
                return;
            }
        }
    };
    let (assigned, ()) = tokio::join!(assigning, working);
    // The wait is short and the machine may be busy: what counts is that a worker heard of in time is named.
    let assigned = assigned.expect("assigned");
    if assigned.status == AssignStatus::Assigned {
        assert_eq!(assigned.assigned_worker_id, Some(house.worker));
    }
}

#[tokio::test]
async fn a_task_past_its_deadline_is_not_started() {
    let house = house().await;
    let id = TaskId::new(&SystemIds);
    let deadline = house.clock.now().plus(Duration::from_secs(10));
    house.scheduler.assign(id, assign_spec(&["a"]), 5, Some(deadline), operator()).await.expect("made");
    house.settle().await;
    house.clock.advance(Duration::from_secs(11));
    assert!(house.lease().await.is_none());
    let task = house.store.task(id).await.expect("read").expect("there");
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(task.failure.expect("why").code, codes::DEADLINE);
}

#[tokio::test]
async fn a_sweep_does_not_end_a_lease_that_was_renewed() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts")).await;
    let leased = house.lease().await.expect("a task");
    house.clock.advance(Lease::DURATION + Duration::from_secs(1));
    let seen = house.store.expired_leases(house.clock.now(), 10).await.expect("read").remove(0);
    let lease = leased.task.lease.as_ref().expect("a lease").id;
    house.scheduler.heartbeat(leased.task.id, lease, 1, house.worker).await.expect("alive after all");
    let mut extra = Change::new();
    extra.guard(Guard::TaskRev(seen.id, seen.rev));
    let lost = TaskEvent::LeaseExpired { cause: LeaseEnd::WorkerLost };
    let error = house.scheduler.apply_with(seen.id, lost, &extra, Actor::System).await.expect_err("it lives");
    assert_eq!(error.kind(), AgentErrorKind::Conflict);
    assert_eq!(house.store.task(seen.id).await.expect("read").expect("there").state, TaskState::Running);
}

#[tokio::test]
async fn a_task_that_is_over_leaves_no_question_open() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts, summarise them")).await;
    let leased = house.lease().await.expect("a task");
    let asked = house.ask_about_effect(&leased.task, 0).await;
    assert_eq!(house.fail(&leased, FailureKind::Permanent, codes::DEADLINE).await.state, TaskState::Failed);
    let closed = house.store.approval(asked.id).await.expect("read").expect("there");
    assert_eq!(closed.state, ApprovalState::Cancelled, "nothing would follow from an answer");
    let open = house.open_questions().await;
    assert_eq!(open.iter().map(|asked| asked.kind).collect::<Vec<_>>(), [ApprovalKind::Stuck]);
}

#[tokio::test]
async fn refusing_one_of_two_effects_asked_for_at_once_closes_the_other_question() {
    let (house, leased) = House::publishing().await;
    let one = house.ask_about_effect(&leased.task, 0).await;
    let two = house.ask_about_effect(&leased.task, 1).await;
    house.park(&leased, &one).await;
    house.answer(&one, HumanDecision::Reject, None).await;
    assert_eq!(house.scheduler.task(leased.task.id).await.expect("there").state, TaskState::Rejected);
    assert!(house.open_questions().await.is_empty(), "question {} is of a task that is over", two.id);
}

#[tokio::test]
async fn only_the_holder_keeps_a_lease_alive() {
    let house = house().await;
    house.start(campaign_of("Find trends in these posts")).await;
    let leased = house.lease().await.expect("a task");
    let held = leased.task.lease.clone().expect("leased");
    house.clock.advance(Duration::from_secs(30));
    let beat = |lease, attempt, agent| house.scheduler.heartbeat(leased.task.id, lease, attempt, agent);
    let stranger = AgentId::new(&SystemIds);
    for refused in [beat(held.id, 1, stranger).await, beat(held.id, 2, house.worker).await] {
        assert_eq!(refused.expect_err("not theirs").kind(), AgentErrorKind::Conflict);
    }
    let until = beat(held.id, 1, house.worker).await.expect("alive");
    assert_eq!(until, house.clock.now().plus(Lease::DURATION));
    house.clock.advance(Duration::from_secs(44));
    house.scheduler.sweep_turn().await.expect("sweeps");
    assert_eq!(house.scheduler.task(leased.task.id).await.expect("there").state, TaskState::Running);
    house.clock.advance(Duration::from_secs(2));
    house.scheduler.sweep_turn().await.expect("sweeps");
    assert_eq!(house.scheduler.task(leased.task.id).await.expect("there").state, TaskState::Queued);
    assert_eq!(beat(held.id, 1, house.worker).await.expect_err("lost").kind(), AgentErrorKind::Conflict);
}
