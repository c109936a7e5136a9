//! Follows one campaign to its end, showing progress and answering what waits for a human.
//!
//! Reads the truth of this process and sends answers through the API, as any human's answer goes. A hint only wakes it;
//! it always reads the truth again. Called by the demo.

use super::PUBLISHER;
use super::ask::Decide;
use crate::cli::approvals::exact;
use crate::cli::client::Client;
use crate::cli::error::{CliError, CliResult, Exit};
use crate::cli::live::Live;
use crate::cli::output::{Style, one_line};
use chimera_core::approval::{Approval, ApprovalState, HumanDecision};
use chimera_core::campaign::CampaignView;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::ids::CampaignId;
use chimera_core::ports::listen::{Heard, Receiver};
use chimera_core::ports::{ApprovalFilter, Notice, Truth};
use serde_json::json;
use std::time::{Duration, Instant};

/// How often the truth is read again even when nothing was heard.
const REREAD: Duration = Duration::from_secs(1);
/// How long a campaign may stand still, nothing waiting for a human, before the demo gives it up.
const STANDSTILL: Duration = Duration::from_secs(120);

/// How long a task may take to be parked after its question was asked.
const PARKED_WITHIN: Duration = Duration::from_secs(3);

/// Follows a campaign until it is over.
pub(super) async fn follow(
    truth: &dyn Truth,
    client: &Client,
    id: CampaignId,
    decide: Decide,
) -> CliResult<CampaignView> {
    let mut listener = truth.subscribe();
    let mut live = Live::new();
    let mut moved = (0_u64, Instant::now());
    loop {
        let view =
            truth.campaign_view(id).await?.ok_or_else(|| CliError::failed(format!("campaign {id} is gone"), ""))?;
        live.update(&view);
        if view.campaign.state.is_final() {
            live.finish();
            return Ok(view);
        }
        if let Some(astray) = leads_elsewhere(&view) {
            live.finish();
            // In a folder that is kept, a later demo would otherwise go on with it.
            client.post(&format!("/api/v1/campaigns/{id}/cancel"), &json!({})).await?;
            return Err(astray);
        }
        let open = ApprovalFilter { campaign: Some(id), state: Some(ApprovalState::Open), due_before: None };
        for approval in truth.approvals(&open).await? {
            if is_waited_for(&approval, &view, SystemClock.now()) {
                answer(client, &approval, decide, &live).await?;
            }
        }
        // Revisions only grow: their sum changes whenever anything of the campaign does.
        let revisions = view.campaign.rev + view.tasks.iter().map(|task| task.rev).sum::<u64>();
        if revisions != moved.0 {
            moved = (revisions, Instant::now());
        } else if moved.1.elapsed() > STANDSTILL {
            return Err(CliError::failed(
                format!("nothing has happened to the campaign for {} s", STANDSTILL.as_secs()),
                "run it again with --log info to see where it stands",
            ));
        }
        wait(&mut listener, &mut live, id).await;
    }
}

/// A demo ends with a published post: a plan that cannot is told as soon as it is made, not when all of it was done.
fn leads_elsewhere(view: &CampaignView) -> Option<CliError> {
    let skills: Vec<&str> = view.steps.iter().map(|step| step.planned.skill.name.as_str()).collect();
    if skills.is_empty() || skills.contains(&PUBLISHER.0) {
        return None;
    }
    Some(CliError::usage(
        format!("the goal leads to {} only, and a demo ends with a published post", skills.join(", ")),
        "end the goal with \"..., draft a post, check it against our policy and publish it\"; for campaigns of any \
         kind there is `chimera serve` with `chimera campaign run`",
    ))
}

/// A question is asked a moment before its task is parked. A human would not notice; the demo waits for the task, but
/// not for ever: of two questions asked at once a task waits for one only.
fn is_waited_for(approval: &Approval, view: &CampaignView, now: Timestamp) -> bool {
    let is_parked = |id| view.task(id).is_some_and(|task| task.waiting_on == Some(approval.id));
    approval.task.is_none_or(is_parked) || now.since(approval.created_at) > PARKED_WITHIN
}

async fn answer(client: &Client, approval: &Approval, decide: Decide, live: &Live) -> CliResult<()> {
    if decide != Decide::Ask {
        exact(approval, Style::stderr()).iter().for_each(|line| live.note(line));
    }
    if decide == Decide::Ask {
        // The bars draw themselves a moment later; what is asked should not stand beside an old state.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    live.pause();
    let answer = decide.answer(approval).await;
    live.resume();
    let answer = answer?;
    let path = format!("/api/v1/approvals/{}/decide", approval.id);
    match client.post(&path, &json!(answer)).await {
        Ok(_) => {}
        // Somebody answered on the page meanwhile: theirs counts.
        Err(error) if error.exit == Exit::Failed && error.what.contains("decided") => {
            live.note(&format!("decided elsewhere: {}", approval.title));
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let said = match answer.decision {
        HumanDecision::Approve => "approved",
        HumanDecision::Reject => "rejected",
        HumanDecision::Retry => "sent back",
    };
    live.note(&format!("{said}: {}", one_line(&approval.title, 200)));
    Ok(())
}

/// Waits for the next hint, showing progress meanwhile.
async fn wait(listener: &mut Receiver, live: &mut Live, id: CampaignId) {
    let until = tokio::time::Instant::now() + REREAD;
    while let Ok(heard) = tokio::time::timeout_at(until, listener.next()).await {
        match heard {
            Heard::Notice(Notice::Progress { campaign, task, fraction, message }) if campaign == Some(id) => {
                live.progress(task, fraction, &message);
            }
            Heard::Notice(Notice::Audited(event)) if event.draft.campaign == Some(id) => return,
            Heard::Notice(_) => {}
            Heard::Missed => return,
            Heard::Closed => {
                tokio::time::sleep_until(until).await;
                return;
            }
        }
    }
}
