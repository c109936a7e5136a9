//! Ends trials of skill versions: withdraws a version that fails too often, makes one active that has shown enough.
//!
//! What is to be done is [`chimera_core::route::Canary::decide`]'s to say; the runs were counted with their reports. Called
//! by the sweeper, and by the reporter after each failure, so that a bad version is withdrawn at once.

use super::scheduler::Scheduler;
use crate::error::AgentError;
use chimera_core::audit::Actor;
use chimera_core::change::{Change, Guard, Write};
use chimera_core::route::{CanaryDecision, Route};
use chimera_core::skill::{SkillName, SkillState};
use serde_json::json;

impl Scheduler {
    /// Looks at every trial.
    ///
    /// # Errors
    /// `Unavailable` when the truth cannot be read or written.
    pub(crate) async fn settle_canaries(&self) -> Result<(), AgentError> {
        for route in self.truth().routes(None).await? {
            self.settle(route).await?;
        }
        Ok(())
    }

    /// Looks at the trial of one skill; trouble is the sweeper's to try again.
    pub(crate) async fn settle_canary(&self, name: &SkillName) {
        let done = async {
            match self.truth().routes(Some(name)).await?.pop() {
                Some(route) => self.settle(route).await,
                None => Ok(()),
            }
        };
        if let Err(error) = done.await {
            tracing::warn!(%name, %error, "a trial could not be looked at; the next sweep tries again");
        }
    }

    async fn settle(&self, route: Route) -> Result<(), AgentError> {
        let Some(canary) = &route.canary else { return Ok(()) };
        let versions = self.truth().skills(Some(&route.name)).await?;
        let tried = versions.iter().find(|known| known.skill.version == canary.version);
        // A version that broke the rules was suspended with the report of it: no number of good runs outweighs that.
        let may_run = tried.is_some_and(|version| version.state == SkillState::Active);
        let decision = if may_run { canary.decide() } else { CanaryDecision::Withdraw };
        let cx = self.context(Actor::Planner);
        let (next, action) = match decision {
            CanaryDecision::GoOn => return Ok(()),
            CanaryDecision::Withdraw => (route.without_canary(cx.now), "skill.canary_rolled_back"),
            CanaryDecision::Promote => (route.activated(&canary.version, cx.now), "skill.canary_promoted"),
        };
        let detail = json!({
            "name": route.name, "canary": canary, "failure_rate": canary.failure_rate(), "active": next.active,
            "reason": if may_run { "failure-rate" } else { "not-allowed-to-run" },
        });
        let mut change = Change::new();
        change.guard(Guard::RouteRev(route.name.clone(), route.rev));
        change.write(Write::PutRoute(next));
        change.audit(cx.event(action).detail(detail));
        // Stale: somebody else decided first, which is as good.
        let _ = self.commit(change).await?;
        Ok(())
    }
}
