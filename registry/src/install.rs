//! Installation: admission in order, then one change of the truth.
//!
//! Nothing is kept of a component that is refused, and a version that is there is never replaced. A version that
//! wants more than the one before it is kept but waits for consent, while the old one goes on. Called by the API and
//! the CLI.

use crate::Registry;
use crate::inspect::{Inspection, inspect};
use crate::refusal::{Refusal, Rule};
use crate::route::Activation;
use crate::scan::scan;
use crate::selftest::{SelfTestResult, run_selftests};
use crate::toll::too_heavy;
use crate::widening::{all_wishes, widening};
use chimera_core::approval::{Answer, Approval, ApprovalKind, ApprovalState, HumanDecision};
use chimera_core::audit::{Actor, ReviewStatus};
use chimera_core::change::{Change, Committed, Context, Guard, Write};
use chimera_core::failpoint;
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ids::ApprovalId;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{PortError, PortErrorKind};
use chimera_core::route::BadTerms;
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_sandbox::Prepared;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest time that one inspection is waited for.
const INSPECTION_TIME: Duration = Duration::from_secs(30);

/// A version that is installed now.
#[derive(Debug, Clone, PartialEq)]
pub struct Installed {
    /// The version.
    pub version: SkillVersion,
    /// Not refused, but somebody should know: `rule: evidence`.
    pub warnings: Vec<String>,
    /// Whether it was there before.
    pub outcome: InstallOutcome,
}

/// Whether an installation changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallOutcome {
    /// It was admitted and may be run.
    New,
    /// It was admitted; this open approval decides whether it may be run.
    AwaitingConsent(ApprovalId),
    /// The same bytes were installed before; nothing changed.
    AlreadyThere,
}

/// A component that was not installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// It broke a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The terms of its trial make no sense.
    #[error(transparent)]
    Terms(#[from] BadTerms),
    /// The host could not do it; the component may be fine.
    #[error("the skill could not be installed: {0}")]
    Host(PortError),
}

impl From<PortError> for InstallError {
    fn from(error: PortError) -> Self {
        Self::Host(error)
    }
}

/// A consent that could not be given or refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// No such open question about a version.
    #[error("approval {0} is not an open question about a skill's version")]
    NotOpen(ApprovalId),
    /// There is nothing to run again here.
    #[error("a version is consented to or refused; \"retry\" means nothing here")]
    NoRetry,
    /// Somebody decided about the skill's route at the same moment; nothing was written.
    #[error("the route of {0} changed at the same moment; answer again")]
    RouteMoved(SkillRef),
    /// The host could not do it.
    #[error("the consent could not be kept: {0}")]
    Host(#[from] PortError),
}

/// What a consent's approval carries.
#[derive(Deserialize)]
struct ConsentPayload {
    skill: SkillRef,
    /// What was asked for at installation.
    #[serde(default)]
    activation: Activation,
}

struct Admitted {
    inspection: Inspection,
    manifest: Arc<Manifest>,
}

impl Registry {
    /// Admits a component and makes it a version: see [`Rule::ALL`] for the order of the checks.
    ///
    /// # Errors
    /// [`InstallError::Refused`] with rule, evidence and fix; [`InstallError::Host`] if the store failed.
    pub async fn install(&self, wasm: Vec<u8>, actor: Actor) -> Result<Installed, InstallError> {
        self.install_as(wasm, Activation::IfNewest, actor).await
    }

    /// As [`Registry::install`], saying what new work shall get; a version that waits for consent does so until then.
    ///
    /// # Errors
    /// As [`Registry::install`].
    pub async fn install_as(
        &self,
        wasm: Vec<u8>,
        activation: Activation,
        actor: Actor,
    ) -> Result<Installed, InstallError> {
        if let Activation::Canary(terms) = &activation {
            terms.check()?;
        }
        // Before the lock: what takes long to look at, to compile or to try keeps nobody else waiting.
        let inspection = inspect_apart(&wasm).await?;
        let versions = self.truth.skills(Some(&inspection.manifest.skill.name)).await?;
        if let Some(same) = find_same(&versions, &inspection)? {
            return self.already_there(same.clone(), wasm).await;
        }
        let admitted = self.admit(&wasm, inspection).await?;
        let _one_at_a_time = self.installing.lock().await;
        // Somebody else may have installed it meanwhile.
        let versions = self.truth.skills(Some(&admitted.manifest.skill.name)).await?;
        if let Some(same) = find_same(&versions, &admitted.inspection)? {
            return self.already_there(same.clone(), wasm).await;
        }
        let mut warnings = admitted.inspection.warnings.clone();
        warnings.extend(self.look_closer(&wasm, &admitted, &versions).await?);
        let wider = wider_than(&versions, &admitted.manifest);
        let (version, approval) = self.keep(&wasm, &admitted, &versions, wider, activation, actor).await?;
        // Admission compiled it: whoever asks what is in memory is told its name.
        self.note_loaded(&version.skill);
        self.index.put(&version).await?;
        let outcome = approval.map_or(InstallOutcome::New, InstallOutcome::AwaitingConsent);
        Ok(Installed { version, warnings, outcome })
    }

    /// Runs the self-tests of a component without installing it.
    ///
    /// # Errors
    /// [`InstallError::Refused`] if it breaks a rule before any self-test can run; [`InstallError::Host`] if the host
    /// could not try it.
    pub async fn selftest(&self, wasm: &[u8]) -> Result<Vec<SelfTestResult>, InstallError> {
        let inspection = inspect_apart(wasm).await?;
        let prepared = self.compile(wasm, &inspection).await?;
        Ok(run_selftests(&self.sandbox, &prepared, &Arc::new(inspection.manifest)).await)
    }

    /// Makes a component ready to be run without installing it.
    ///
    /// # Errors
    /// [`InstallError::Refused`] if it breaks a rule of inspection or does not compile; [`InstallError::Host`] if the host
    /// could not try it.
    pub async fn prepare_apart(&self, wasm: &[u8]) -> Result<(Arc<Prepared>, Arc<Manifest>), InstallError> {
        let inspection = inspect_apart(wasm).await?;
        let prepared = self.compile(wasm, &inspection).await?;
        Ok((prepared, Arc::new(inspection.manifest)))
    }

    /// Carries out a human's answer to a question of kind [`ApprovalKind::Consent`]: approved, the version may be run;
    /// rejected, it is suspended.
    ///
    /// # Errors
    /// [`ConsentError`] if it is no such question, or was answered meanwhile.
    pub async fn consent(
        &self,
        approval: ApprovalId,
        answer: &Answer,
        actor: Actor,
    ) -> Result<SkillVersion, ConsentError> {
        let not_open = || ConsentError::NotOpen(approval);
        let asked = self.truth.approval(approval).await?.ok_or_else(not_open)?;
        if asked.kind != ApprovalKind::Consent || asked.state != ApprovalState::Open {
            return Err(not_open());
        }
        let ConsentPayload { skill, activation } =
            serde_json::from_value(asked.payload.clone()).map_err(|_| not_open())?;
        let (state, review) = match answer.decision {
            HumanDecision::Approve => (SkillState::Active, ReviewStatus::Approved),
            HumanDecision::Reject => (SkillState::Suspended, ReviewStatus::Rejected),
            HumanDecision::Retry => return Err(ConsentError::NoRetry),
        };
        let cx = self.context(actor);
        let mut change = Change::new();
        change.guard(Guard::ApprovalOpen(approval));
        change.write(Write::PutApproval(asked.decided(answer, &cx)));
        change.write(Write::SetSkillState(skill.clone(), state));
        let route = match state {
            SkillState::Active => self.route_admitted(&skill, activation, &mut change).await?,
            _ => json!(null),
        };
        let detail =
            json!({ "skill": skill, "approval": approval, "state": state, "note": answer.note, "route": route });
        change.audit(cx.event("skill.consent_decided").review(review).detail(detail));
        failpoint::hit("registry.before_consent");
        match self.truth.commit(change).await? {
            Committed::Applied => {}
            Committed::Stale(Guard::RouteRev(..)) => return Err(ConsentError::RouteMoved(skill)),
            Committed::Stale(_) => return Err(not_open()),
        }
        failpoint::hit("registry.after_consent");
        self.refresh(&skill).await?.ok_or_else(not_open)
    }

    /// Tells the index what the truth says of a version now; returns that.
    ///
    /// # Errors
    /// [`PortError`] if the truth cannot be read or the index cannot be written.
    pub async fn refresh(&self, skill: &SkillRef) -> Result<Option<SkillVersion>, PortError> {
        let version = self.find(skill).await?;
        match &version {
            Some(version) => self.index.put(version).await?,
            None => self.index.remove(skill).await?,
        }
        Ok(version)
    }

    async fn already_there(&self, version: SkillVersion, wasm: Vec<u8>) -> Result<Installed, InstallError> {
        // The bytes may have been lost or damaged since: keeping them again mends that.
        self.blobs.put(&wasm).await?;
        self.index.put(&version).await?;
        let warnings = match version.state {
            SkillState::Active => Vec::new(),
            other => vec![format!("not-active: this version is {}", json!(other).as_str().unwrap_or("not active"))],
        };
        Ok(Installed { version, warnings, outcome: InstallOutcome::AlreadyThere })
    }

    async fn admit(&self, wasm: &[u8], inspection: Inspection) -> Result<Admitted, InstallError> {
        let prepared = self.compile(wasm, &inspection).await?;
        let manifest = Arc::new(inspection.manifest.clone());
        let results = run_selftests(&self.sandbox, &prepared, &manifest).await;
        let failed: Vec<&SelfTestResult> = results.iter().filter(|result| !result.is_passed()).collect();
        if let Some(first) = failed.first() {
            let told = first.problem.as_ref().map(ToString::to_string).unwrap_or_default();
            let evidence =
                format!("self-test \"{}\" ({} of {} failed): {told}", first.name, failed.len(), results.len());
            let fix = "run `chimera skill test`, mend the skill or the expectation, and build again";
            return Err(Refusal::new(Rule::SelfTestFailed, evidence, fix).into());
        }
        Ok(Admitted { inspection, manifest })
    }

    async fn compile(&self, wasm: &[u8], inspection: &Inspection) -> Result<Arc<Prepared>, InstallError> {
        self.sandbox.prepare(&inspection.survey.digest, wasm).await.map_err(|failure| match failure.kind {
            // The host's own trouble says nothing of the component.
            FailureKind::Transient => PortError::new(PortErrorKind::Unavailable, failure.message).into(),
            _ => Refusal::new(
                Rule::CompileFailed,
                format!("the component cannot be prepared: {failure}"),
                "build it against the served contract with current tools; a very large component may need to shrink",
            )
            .into(),
        })
    }

    async fn look_closer(
        &self,
        wasm: &[u8],
        admitted: &Admitted,
        versions: &[SkillVersion],
    ) -> Result<Vec<String>, PortError> {
        let everything = self.truth.skills(None).await?;
        let names = everything.iter().map(|version| &version.skill.name);
        let mut warnings: Vec<String> = scan(wasm, &admitted.manifest, names).iter().map(ToString::to_string).collect();
        if admitted.manifest.selftests.is_empty() {
            warnings.push("selftest-missing: it has no self-tests; add a `[[selftest]]` to skill.toml".to_owned());
        }
        let new = &admitted.manifest.skill.version;
        if let Some(newer) = versions.iter().map(|old| &old.skill.version).filter(|old| *old > new).max() {
            let told = format!("older-version: {newer} is installed already, so {new} is not chosen for new plans");
            warnings.push(format!("{told} unless you activate it"));
        }
        Ok(warnings)
    }

    async fn keep(
        &self,
        wasm: &[u8],
        admitted: &Admitted,
        versions: &[SkillVersion],
        wider: Vec<String>,
        activation: Activation,
        actor: Actor,
    ) -> Result<(SkillVersion, Option<ApprovalId>), InstallError> {
        let cx = self.context(actor);
        let digest = self.blobs.put(wasm).await?;
        let section = &admitted.manifest.skill;
        let skill = SkillRef { name: section.name.clone(), version: section.version.clone(), digest };
        let state = if wider.is_empty() { SkillState::Active } else { SkillState::AwaitingConsent };
        let size = wasm.len() as u64;
        let version = SkillVersion {
            skill: skill.clone(),
            manifest: admitted.manifest.clone(),
            state,
            size,
            installed_at: cx.now,
        };
        let mut change = Change::new();
        change.guard(Guard::SkillAbsent(skill.clone()));
        change.write(Write::PutSkill(version.clone()));
        let approval = (!wider.is_empty()).then(|| consent_question(&skill, versions, &wider, activation, &cx));
        let id = approval.as_ref().map(|approval| approval.id);
        change.audit.extend(approval.as_ref().map(|approval| {
            let detail = json!({ "skill": skill, "approval": approval.id, "wants": wider });
            cx.event("skill.consent_asked").review(ReviewStatus::Pending).detail(detail)
        }));
        change.writes.extend(approval.map(Write::PutApproval));
        let route = match state {
            SkillState::Active => self.route_admitted(&skill, activation, &mut change).await?,
            _ => json!(null),
        };
        let detail = json!({ "skill": skill, "state": state, "size": size, "route": route });
        change.audit.insert(0, cx.event("skill.installed").detail(detail));
        failpoint::hit("registry.before_install");
        let committed = self.truth.commit(change).await?;
        failpoint::hit("registry.after_install");
        match committed {
            Committed::Applied => Ok((version, id)),
            Committed::Stale(_) => Err(InstallError::Host(PortError::new(
                PortErrorKind::Unavailable,
                format!("{skill} was installed, or its route changed, by somebody else meanwhile; try again"),
            ))),
        }
    }
}

/// The validation of 32 MiB takes a while: not on the runtime's own threads, a few at a time, and not for ever.
async fn inspect_apart(wasm: &[u8]) -> Result<Inspection, InstallError> {
    static PLACES: Semaphore = Semaphore::const_new(2);
    let busy = || PortError::new(PortErrorKind::Unavailable, "other components are being inspected; try again");
    let place = match tokio::time::timeout(INSPECTION_TIME, PLACES.acquire()).await {
        Ok(Ok(place)) => place,
        Ok(Err(_)) | Err(_) => return Err(busy().into()),
    };
    let bytes = wasm.to_vec();
    let inspected = tokio::task::spawn_blocking(move || {
        // An inspection that nobody waits for any more still has its place.
        let _place = place;
        inspect(&bytes)
    });
    match tokio::time::timeout(INSPECTION_TIME, inspected).await {
        Ok(Ok(inspected)) => Ok(inspected?),
        Ok(Err(_)) => {
            let evidence = "the inspection of the component stopped";
            Err(Refusal::new(Rule::InvalidComponent, evidence, "build it with current tools and install it again")
                .into())
        }
        Err(_) => Err(too_heavy(&format!("its inspection took longer than {} s", INSPECTION_TIME.as_secs())).into()),
    }
}

/// The installed version of the same name and version, which must have the same bytes.
fn find_same<'v>(versions: &'v [SkillVersion], inspection: &Inspection) -> Result<Option<&'v SkillVersion>, Refusal> {
    let section = &inspection.manifest.skill;
    let Some(same) = versions.iter().find(|old| old.skill.version == section.version) else {
        return Ok(None);
    };
    if same.skill.digest == inspection.survey.digest {
        return Ok(Some(same));
    }
    Err(Refusal::new(
        Rule::VersionImmutable,
        format!(
            "{} is installed with the digest {}; these bytes have {}",
            same.skill, same.skill.digest, inspection.survey.digest
        ),
        "a version never changes: raise `version` in skill.toml and build again",
    ))
}

/// What has to be consented to. The first version of a skill asks nothing: its grants are asked for one by one. When there
/// are versions and none that may be run, everything is asked: a human may have refused it before.
fn wider_than(versions: &[SkillVersion], new: &Manifest) -> Vec<String> {
    match consented(versions) {
        Some(old) => widening(&old.manifest, new),
        None if versions.is_empty() => Vec::new(),
        None => all_wishes(new),
    }
}

/// The version whose wishes a human has agreed to: the newest active one, else the newest that was withdrawn while it was.
/// A suspended version gives no consent: it may never have been agreed to.
fn consented(versions: &[SkillVersion]) -> Option<&SkillVersion> {
    let newest = |is_wanted: &dyn Fn(SkillState) -> bool| {
        versions.iter().filter(|old| is_wanted(old.state)).max_by(|a, b| a.skill.version.cmp(&b.skill.version))
    };
    newest(&|state| state == SkillState::Active).or_else(|| newest(&|state| state == SkillState::Yanked))
}

fn consent_question(
    skill: &SkillRef,
    versions: &[SkillVersion],
    wider: &[String],
    activation: Activation,
    cx: &Context<'_>,
) -> Approval {
    let before = consented(versions).map(|old| old.skill.version.to_string());
    let wants = wider.join(", ");
    let reason = match &before {
        Some(before) => format!("{skill} wants what {before} did not: {wants}"),
        None => format!("{skill} wants {wants}; no version of it that is active now has been agreed to"),
    };
    Approval::open(
        ApprovalKind::Consent,
        format!("May {skill} be run?"),
        chimera_core::text::truncated(reason, 2000),
        json!({ "skill": skill, "before": before, "wants": wider, "activation": activation }),
        cx,
    )
}

/// A refusal as the failure of a task that wanted the skill.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(FailureKind::Permanent, refusal.rule.code(), refusal.to_string())
    }
}
