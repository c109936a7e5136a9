//! Routes: an operator's decisions about which version new work gets, and what compiled code stays in memory.
//!
//! Each decision is one guarded change with its audit event; work that has a version keeps it. It counts no runs and ends
//! no trial by itself: the reporter and the sweeper do. Called by the API, by installation, and by the swarm (unloading).

use crate::Registry;
use chimera_core::audit::Actor;
use chimera_core::change::{Change, Committed, Guard, Write};
use chimera_core::ports::PortError;
use chimera_core::route::{BadTerms, Canary, CanaryTerms, Choices, Route, rank};
use chimera_core::skill::{SkillName, SkillRef, SkillState, SkillVersion};
use chimera_sandbox::{Hold, Resident};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

/// How long code to which no new work is sent stays in memory after its last run: queued tasks of the same version may
/// follow one another.
const LINGER: Duration = Duration::from_millis(300);
/// How often a decision is tried again when another one came first.
const MAX_TRIES: u32 = 8;

/// What becomes of a version when it is admitted (or consented to).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// New work gets it if no newer version may be run.
    #[default]
    IfNewest,
    /// New work goes on as before.
    No,
    /// A share of new work gets it, if another version is active to take the rest.
    Canary(CanaryTerms),
}

/// A decision about a route that was not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RouteError {
    /// No such skill or version.
    #[error("{0} is not installed; `chimera skill list` shows what is")]
    NotInstalled(String),
    /// The version may not be run.
    #[error("{0} is {1}: only a version that may be run can be given to new work")]
    NotAllowed(SkillRef, &'static str),
    /// There is nothing to go back to.
    #[error(
        "no version that was active before {0} may be run: activate one with `chimera skill activate NAME@VERSION`"
    )]
    NoPrevious(String),
    /// Nothing is on trial.
    #[error("no version of {0} is on trial")]
    NoCanary(SkillName),
    /// A trial needs a version that takes the rest.
    #[error("no version of {0} is active, so nothing could take the rest: activate one first")]
    NoActive(SkillName),
    /// The version has all of new work.
    #[error("{0} is active already: it gets all new work")]
    ActiveAlready(SkillRef),
    /// The terms make no sense.
    #[error(transparent)]
    Terms(#[from] BadTerms),
    /// Somebody else decides at the same time.
    #[error("the route of {0} changes too often; try again")]
    Busy(SkillName),
    /// The host could not do it.
    #[error("the route could not be changed: {0}")]
    Host(#[from] PortError),
}

/// Compiled code in memory, and which version it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedCode {
    /// The version; none for code that was never asked for as an installed version (a component that is being looked at).
    pub skill: Option<SkillRef>,
    /// What the sandbox says of it.
    pub resident: Resident,
}

/// A decision: the route as it shall be, and the audit event's name and detail.
struct Decided {
    route: Route,
    action: &'static str,
    detail: Value,
}

/// What a decision is made from.
struct Scene {
    versions: Vec<SkillVersion>,
    route: Route,
}

impl Scene {
    fn version(&self, version: &Version) -> Result<&SkillVersion, RouteError> {
        let found = self.versions.iter().find(|known| known.skill.version == *version);
        found.ok_or_else(|| RouteError::NotInstalled(format!("{}@{version}", self.route.name)))
    }

    /// A version that new work may be given.
    fn allowed(&self, version: &Version) -> Result<&SkillVersion, RouteError> {
        let found = self.version(version)?;
        match not_allowed(found.state) {
            None => Ok(found),
            Some(why) => Err(RouteError::NotAllowed(found.skill.clone(), why)),
        }
    }

    fn may_run(&self, version: &Version) -> bool {
        self.allowed(version).is_ok()
    }
}

const fn not_allowed(state: SkillState) -> Option<&'static str> {
    match state {
        SkillState::Active => None,
        SkillState::Suspended => Some("suspended"),
        SkillState::AwaitingConsent => Some("waiting for consent"),
        SkillState::Yanked => Some("yanked"),
    }
}

impl Registry {
    /// The route of a skill, as it is followed now: one that was never decided leads to the newest version.
    ///
    /// # Errors
    /// [`RouteError::NotInstalled`]; [`RouteError::Host`].
    pub async fn route(&self, name: &SkillName) -> Result<Route, RouteError> {
        Ok(self.scene(name).await?.route)
    }

    async fn scene(&self, name: &SkillName) -> Result<Scene, RouteError> {
        let versions = self.truth.skills(Some(name)).await?;
        if versions.is_empty() {
            return Err(RouteError::NotInstalled(name.to_string()));
        }
        let kept = self.truth.routes(Some(name)).await?.pop();
        let route = kept.unwrap_or_else(|| implied(name, &versions, self.clock.now()));
        Ok(Scene { versions, route })
    }

    /// Gives all new work to a version; a trial that is under way ends. The same again changes nothing.
    ///
    /// # Errors
    /// [`RouteError`] when it is not installed or may not be run.
    pub async fn activate(&self, name: &SkillName, version: &Version, actor: Actor) -> Result<Route, RouteError> {
        self.decide(name, actor, |scene, now| {
            let skill = &scene.allowed(version)?.skill;
            let same = scene.route.active.as_ref() == Some(version) && scene.route.canary.is_none();
            if same && scene.route.rev > 0 {
                return Ok(None);
            }
            let detail = json!({ "skill": skill, "before": scene.route.active, "canary_ended": ended(&scene.route) });
            let route = scene.route.activated(version, now);
            Ok(Some(Decided { route, action: "skill.activated", detail }))
        })
        .await
    }

    /// Gives all new work to the version that was active before and may be run; a trial that is under way ends.
    ///
    /// # Errors
    /// [`RouteError::NoPrevious`] when there is none.
    pub async fn rollback(&self, name: &SkillName, actor: Actor) -> Result<Route, RouteError> {
        self.decide(name, actor, |scene, now| {
            let route = scene.route.rolled_back(|version| scene.may_run(version), now).ok_or_else(|| {
                let from = scene.route.active.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
                RouteError::NoPrevious(format!("{name}{from}"))
            })?;
            let detail = json!({ "name": name, "from": scene.route.active, "to": route.active,
                "canary_ended": ended(&scene.route) });
            Ok(Some(Decided { route, action: "skill.rolled_back", detail }))
        })
        .await
    }

    /// Gives a share of new work to a version, on trial; another trial ends.
    ///
    /// # Errors
    /// [`RouteError`] when it is not installed, may not be run, is active, nothing is active, or the terms make no sense.
    pub async fn start_canary(
        &self,
        name: &SkillName,
        version: &Version,
        terms: CanaryTerms,
        actor: Actor,
    ) -> Result<Route, RouteError> {
        terms.check()?;
        self.decide(name, actor, |scene, now| {
            let skill = scene.allowed(version)?.skill.clone();
            match &scene.route.active {
                None => return Err(RouteError::NoActive(name.clone())),
                Some(active) if active == version => return Err(RouteError::ActiveAlready(skill)),
                Some(_) => {}
            }
            let detail = json!({ "skill": skill, "terms": terms, "canary_ended": ended(&scene.route) });
            let route = scene.route.with_canary(version.clone(), terms, now);
            Ok(Some(Decided { route, action: "skill.canary_started", detail }))
        })
        .await
    }

    /// Ends a trial: nothing new gets the version.
    ///
    /// # Errors
    /// [`RouteError::NoCanary`].
    pub async fn stop_canary(&self, name: &SkillName, actor: Actor) -> Result<Route, RouteError> {
        self.decide(name, actor, |scene, now| {
            let canary = on_trial(&scene.route)?;
            let route = scene.route.without_canary(now);
            Ok(Some(Decided {
                route,
                action: "skill.canary_stopped",
                detail: json!({ "name": name, "canary": canary }),
            }))
        })
        .await
    }

    /// Ends a trial well: all new work gets the version.
    ///
    /// # Errors
    /// [`RouteError::NoCanary`]; [`RouteError::NotAllowed`] when it may not be run any more.
    pub async fn promote_canary(&self, name: &SkillName, actor: Actor) -> Result<Route, RouteError> {
        self.decide(name, actor, |scene, now| {
            let canary = on_trial(&scene.route)?;
            scene.allowed(&canary.version)?;
            let route = scene.route.activated(&canary.version, now);
            let detail = json!({ "name": name, "canary": canary, "before": scene.route.active });
            Ok(Some(Decided { route, action: "skill.canary_promoted", detail }))
        })
        .await
    }

    async fn decide(
        &self,
        name: &SkillName,
        actor: Actor,
        decision: impl Fn(&Scene, chimera_core::clock::Timestamp) -> Result<Option<Decided>, RouteError>,
    ) -> Result<Route, RouteError> {
        for _ in 0..MAX_TRIES {
            let scene = self.scene(name).await?;
            let cx = self.context(actor.clone());
            let Some(decided) = decision(&scene, cx.now)? else { return Ok(scene.route) };
            let mut change = Change::new();
            change.guard(Guard::RouteRev(name.clone(), scene.route.rev));
            change.write(Write::PutRoute(decided.route.clone()));
            change.audit(cx.event(decided.action).detail(decided.detail));
            if let Committed::Applied = self.truth.commit(change).await? {
                return Ok(decided.route);
            }
        }
        Err(RouteError::Busy(name.clone()))
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Compiled code

    /// Compiled code in memory.
    pub fn loaded(&self) -> Vec<LoadedCode> {
        let residents = self.sandbox.loaded();
        let mut names = self.loaded_as.lock().unwrap_or_else(PoisonError::into_inner);
        // What is no longer in memory need not be known by name.
        names.retain(|digest, _| residents.iter().any(|resident| resident.digest == *digest));
        let named = |resident: Resident| LoadedCode { skill: names.get(&resident.digest).cloned(), resident };
        residents.into_iter().map(named).collect()
    }

    /// Takes the compiled code of a version out of memory; what runs goes on and frees it at its end. Says whether there was
    /// any.
    ///
    /// # Errors
    /// [`RouteError::NotInstalled`]; [`RouteError::Host`].
    pub async fn unload(&self, name: &SkillName, version: &Version, actor: Actor) -> Result<bool, RouteError> {
        let skill = self.scene(name).await?.version(version)?.skill.clone();
        let was_there = self.sandbox.unload(&skill.digest);
        if was_there {
            let mut change = Change::new();
            change.audit(self.context(actor).event("skill.unloaded").detail(json!({ "skill": skill })));
            // Without guards it cannot be stale.
            let _ = self.truth.commit(change).await?;
        }
        Ok(was_there)
    }

    /// Takes out of memory what no new work is sent to and nothing has used for a moment; says how many versions. To be
    /// called several times a second.
    ///
    /// # Errors
    /// [`PortError`] if the truth cannot be read.
    pub async fn unload_unrouted(&self) -> Result<usize, PortError> {
        let idle: Vec<SkillRef> = self
            .loaded()
            .into_iter()
            .filter(|code| {
                let resident = &code.resident;
                resident.hold == Hold::Kept && resident.runs == 0 && resident.idle >= LINGER
            })
            .filter_map(|code| code.skill)
            .collect();
        if idle.is_empty() {
            return Ok(0);
        }
        let routes = self.truth.routes(None).await?;
        let routes: HashMap<&SkillName, &Route> = routes.iter().map(|route| (&route.name, route)).collect();
        let gone = idle.iter().filter(|skill| {
            let is_left = routes.get(&skill.name).is_some_and(|route| !route.leads_to(&skill.version));
            is_left && self.sandbox.unload(&skill.digest)
        });
        Ok(gone.count())
    }

    pub(crate) fn note_loaded(&self, skill: &SkillRef) {
        let mut names = self.loaded_as.lock().unwrap_or_else(PoisonError::into_inner);
        names.entry(skill.digest).or_insert_with(|| skill.clone());
    }

    /// Adds to the change that lets a version be run what follows for its skill's route; says what that is.
    pub(crate) async fn route_admitted(
        &self,
        skill: &SkillRef,
        activation: Activation,
        change: &mut Change,
    ) -> Result<Value, PortError> {
        let name = &skill.name;
        let mut versions = self.truth.skills(Some(name)).await?;
        versions.retain(|known| known.skill.version != skill.version);
        let kept = self.truth.routes(Some(name)).await?.pop();
        let route = kept.unwrap_or_else(|| implied(name, &versions, self.clock.now()));
        let now = self.clock.now();
        let is_newest = versions
            .iter()
            .filter(|known| known.state == SkillState::Active)
            .all(|known| rank(&known.skill.version) < rank(&skill.version));
        let (next, told) = match activation {
            Activation::Canary(terms) if route.active.is_some() => {
                (route.with_canary(skill.version.clone(), terms, now), json!({ "canary": terms }))
            }
            Activation::Canary(_) | Activation::IfNewest if is_newest => {
                (route.activated(&skill.version, now), json!({ "active": true, "canary_ended": ended(&route) }))
            }
            // Written down, so that a name without a route does not lead to it.
            _ if route.rev == 0 => (Route { rev: 1, ..route.clone() }, json!({ "active": false })),
            _ => return Ok(json!({ "active": false })),
        };
        change.guard(Guard::RouteRev(name.clone(), route.rev));
        change.write(Write::PutRoute(next));
        Ok(told)
    }
}

/// What a name without a route leads to, as a route.
fn implied(name: &SkillName, versions: &[SkillVersion], now: chimera_core::clock::Timestamp) -> Route {
    let newest = Choices::of(versions.to_vec(), None, None).into_first(None);
    Route { active: newest.map(|version| version.skill.version), ..Route::new(name.clone(), now) }
}

fn on_trial(route: &Route) -> Result<Canary, RouteError> {
    route.canary.clone().ok_or_else(|| RouteError::NoCanary(route.name.clone()))
}

/// The trial that a decision ends, with its figures.
fn ended(route: &Route) -> Value {
    json!(route.canary)
}
