//! Routes: which version of a skill new work gets, and how a new version is tried on a share of it first.
//!
//! A route only chooses; what was chosen before stays with the task that it was chosen for. Everything here is pure:
//! counting, choosing and deciding are functions of values. Called by the registry (an operator's wishes), the planner and
//! the callees (choosing), the reporter (counting) and the sweeper (deciding).

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::failure::{Failure, FailureKind, codes};
use crate::skill::{SkillName, SkillState, SkillVersion};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which version of a skill new work gets (a row of `skill_routes`). A name without a route gets its newest version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The skill.
    pub name: SkillName,
    /// What new work gets; none while nothing was activated.
    pub active: Option<Version>,
    /// What was active before, latest first, each once, at most [`Route::MAX_PREVIOUS`]: where a rollback goes, and what is
    /// taken while the active version is suspended. A version that was rolled back is not among them.
    pub previous: Vec<Version>,
    /// The version that is being tried on a share of new work.
    pub canary: Option<Canary>,
    /// Decisions so far, from 1; a decision made from an older revision is stale. Counting a run is no decision.
    pub rev: u64,
    /// When it was last decided.
    pub updated_at: Timestamp,
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// The version.
    pub version: Version,
    /// How much it gets, and when the trial ends.
    #[serde(flatten)]
    pub terms: CanaryTerms,
    /// Runs that say something of the version: those that were done, and those that failed by its own fault.
    pub runs: u32,
    /// Runs that failed by its own fault.
    pub failures: u32,
    /// When the trial began.
    pub started_at: Timestamp,
}

/// How much of new work a canary gets, and when its trial ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CanaryTerms {
    /// Percent of new work, 1 to 99.
    pub share: u8,
    /// It is withdrawn when more than this share of its runs failed, 0 to 1.
    pub max_failures: f64,
    /// Not decided before this many runs, 1 to 1,000,000.
    pub min_runs: u32,
    /// It becomes active after this many runs within the bound; never by itself if absent. At least `min_runs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_after: Option<u32>,
}

/// Terms that make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// Outside 1 to 99.
    #[error("share is {0} %: it must be 1 to 99; to give a version everything, activate it")]
    Share(u8),
    /// Outside 0 to 1.
    #[error("max_failures must be from 0 to 1 (0 % to 100 %)")]
    MaxFailures,
    /// Outside 1 to 1,000,000.
    #[error("min_runs is {0}: it must be 1 to 1,000,000")]
    MinRuns(u32),
    /// Fewer than `min_runs`.
    #[error("promote_after is {0}: it must be at least min_runs and at most 1,000,000")]
    PromoteAfter(u32),
}

impl CanaryTerms {
    /// The terms when only a share is said: more than 5 % of at least 50 runs.
    pub const fn of_share(share: u8) -> Self {
        Self { share, max_failures: 0.05, min_runs: 50, promote_after: None }
    }

    /// Says what is wrong with them.
    ///
    /// # Errors
    /// [`BadTerms`] for the first that is outside its range.
    pub fn check(&self) -> Result<(), BadTerms> {
        const MOST: u32 = 1_000_000;
        if !(1..=99).contains(&self.share) {
            return Err(BadTerms::Share(self.share));
        }
        if !(0.0..=1.0).contains(&self.max_failures) {
            return Err(BadTerms::MaxFailures);
        }
        if !(1..=MOST).contains(&self.min_runs) {
            return Err(BadTerms::MinRuns(self.min_runs));
        }
        match self.promote_after {
            Some(runs) if !(self.min_runs..=MOST).contains(&runs) => Err(BadTerms::PromoteAfter(runs)),
            _ => Ok(()),
        }
    }
}

/// What a run says of the version that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMark {
    /// It did what it was asked.
    Good,
    /// It failed by its own fault.
    Bad,
}

impl RunMark {
    /// What a failure says of the version: nothing, when the input, a grant, a server or the host was the cause.
    pub fn of_failure(failure: &Failure) -> Option<Self> {
        // The host's own trouble, and answers of people, come as permanent failures too.
        const NOT_ITS_OWN: [&str; 5] =
            [codes::HOST, codes::REFUSED, codes::EFFECT_UNKNOWN, codes::UNREACHABLE, codes::INPUT_INVALID];
        match failure.kind {
            FailureKind::Permanent if NOT_ITS_OWN.contains(&failure.code.as_str()) => None,
            FailureKind::Permanent | FailureKind::Security => Some(Self::Bad),
            FailureKind::InvalidInput | FailureKind::Transient | FailureKind::Denied | FailureKind::Poison => None,
        }
    }
}

/// What is to become of a canary now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryDecision {
    /// The trial goes on.
    GoOn,
    /// Too many of its runs failed: nothing new gets it.
    Withdraw,
    /// It has shown what it can: it becomes active.
    Promote,
}

impl Canary {
    /// Share of its runs that failed; 0 before the first.
    pub fn failure_rate(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { f64::from(self.failures) / f64::from(self.runs) }
    }

    /// The same trial with one more run.
    #[must_use]
    pub fn counted(mut self, mark: RunMark) -> Self {
        self.runs = self.runs.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(mark == RunMark::Bad));
        self
    }

    /// What is to become of it after the runs so far.
    pub fn decide(&self) -> CanaryDecision {
        if self.runs < self.terms.min_runs {
            return CanaryDecision::GoOn;
        }
        if self.failure_rate() > self.terms.max_failures {
            return CanaryDecision::Withdraw;
        }
        match self.terms.promote_after {
            Some(runs) if self.runs >= runs => CanaryDecision::Promote,
            _ => CanaryDecision::GoOn,
        }
    }

    /// Does new work of this lineage get the canary? The same lineage always gets the same answer, so that what is tried
    /// again stays on its version; another version on trial falls on other lineages.
    pub fn takes(&self, name: &SkillName, lineage: Uuid) -> bool {
        let text = format!("{name}@{} {lineage}", self.version);
        let digest = Digest::of(text.as_bytes());
        let number = digest.as_bytes().iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        number % 100 < u64::from(self.terms.share)
    }
}

impl Route {
    /// Most earlier versions that are remembered.
    pub const MAX_PREVIOUS: usize = 8;

    /// The route of a skill of which nothing is active yet; not written before something is decided.
    pub fn new(name: SkillName, now: Timestamp) -> Self {
        Self { name, active: None, previous: Vec::new(), canary: None, rev: 0, updated_at: now }
    }

    fn decided(&self, now: Timestamp) -> Self {
        Self { rev: self.rev + 1, updated_at: now, ..self.clone() }
    }

    /// New work gets this version; a trial that is under way ends.
    #[must_use]
    pub fn activated(&self, version: &Version, now: Timestamp) -> Self {
        let mut next = self.decided(now);
        next.canary = None;
        if next.active.as_ref() != Some(version) {
            next.previous.retain(|old| old != version);
            if let Some(old) = next.active.replace(version.clone()) {
                next.previous.insert(0, old);
            }
            next.previous.truncate(Self::MAX_PREVIOUS);
        }
        next
    }

    /// New work gets the latest version before the active one that `is_allowed`; none if there is none. The one that was
    /// active is forgotten: nothing falls back to it.
    #[must_use]
    pub fn rolled_back(&self, is_allowed: impl Fn(&Version) -> bool, now: Timestamp) -> Option<Self> {
        let place = self.previous.iter().position(is_allowed)?;
        let mut next = self.decided(now);
        next.canary = None;
        next.previous.drain(..place);
        next.active = Some(next.previous.remove(0));
        Some(next)
    }

    /// A share of new work gets this version; another trial ends.
    #[must_use]
    pub fn with_canary(&self, version: Version, terms: CanaryTerms, now: Timestamp) -> Self {
        let canary = Canary { version, terms, runs: 0, failures: 0, started_at: now };
        Self { canary: Some(canary), ..self.decided(now) }
    }

    /// Nothing new gets the canary any more.
    #[must_use]
    pub fn without_canary(&self, now: Timestamp) -> Self {
        Self { canary: None, ..self.decided(now) }
    }

    /// Is new work sent to this version?
    pub fn leads_to(&self, version: &Version) -> bool {
        self.active.as_ref() == Some(version) || self.canary.as_ref().is_some_and(|canary| canary.version == *version)
    }
}

/// The versions of one skill that may be given to new work, the one to take first.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    versions: Vec<SkillVersion>,
    /// How many of them are taken without being asked for by a requirement.
    routed: usize,
}

impl Choices {
    /// Puts the versions of one skill into order for work of this lineage (none: as if there were no trial).
    ///
    /// First the canary if the lineage falls on it, then the active version, then the ones before it, then what is older
    /// than the active one. What is newer, and the canary, are given only to who requires them. Versions that are not
    /// [`SkillState::Active`] are left out. Among equals the newest comes first, pre-releases last.
    pub fn of(mut versions: Vec<SkillVersion>, route: Option<&Route>, lineage: Option<Uuid>) -> Self {
        versions.retain(|version| version.state == SkillState::Active);
        versions.sort_by(|a, b| rank(&b.skill.version).cmp(&rank(&a.skill.version)));
        let Some(route) = route else {
            let routed = versions.len();
            return Self { versions, routed };
        };
        versions.sort_by_key(|version| place(route, &version.skill.version, lineage));
        let is_routed = |version: &SkillVersion| place(route, &version.skill.version, lineage) < NOT_ROUTED;
        let routed = versions.iter().filter(|version| is_routed(version)).count();
        Self { versions, routed }
    }

    /// What is taken without a requirement, best first.
    pub fn routed(&self) -> &[SkillVersion] {
        self.versions.get(..self.routed).unwrap_or_default()
    }

    /// The version to take.
    pub fn first(&self, wanted: Option<&VersionReq>) -> Option<&SkillVersion> {
        match wanted {
            None => self.routed().first(),
            Some(wanted) => self.versions.iter().find(|version| wanted.matches(&version.skill.version)),
        }
    }

    /// As [`Choices::first`], by value.
    pub fn into_first(self, wanted: Option<&VersionReq>) -> Option<SkillVersion> {
        self.first(wanted).cloned()
    }
}

/// Versions from here on are taken only when they are required.
const NOT_ROUTED: usize = usize::MAX - 1;

fn place(route: &Route, version: &Version, lineage: Option<Uuid>) -> usize {
    if let Some(canary) = route.canary.as_ref().filter(|canary| canary.version == *version)
        && route.active.as_ref() != Some(version)
    {
        return if lineage.is_some_and(|lineage| canary.takes(&route.name, lineage)) { 0 } else { usize::MAX };
    }
    if route.active.as_ref() == Some(version) {
        return 1;
    }
    if let Some(place) = route.previous.iter().position(|old| old == version) {
        return 2 + place;
    }
    match &route.active {
        Some(active) if rank(version) < rank(active) => NOT_ROUTED - 1,
        _ => NOT_ROUTED,
    }
}

/// Orders versions by age: a pre-release comes before every release.
pub fn rank(version: &Version) -> (bool, &Version) {
    (version.pre.is_empty(), version)
}
