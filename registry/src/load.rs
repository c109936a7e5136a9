//! Hands out prepared versions to be run, and finds versions by name.
//!
//! A version's state is read from the truth at every load, so a suspension counts at once; only the compiled code is
//! kept, by the sandbox. It never runs anything. Called by the executor, the planner and the API.

use crate::Registry;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ports::{PortError, PortErrorKind};
use chimera_core::route::Choices;
use chimera_core::skill::{SkillName, SkillRef, SkillState, SkillVersion};
use chimera_sandbox::{Compiling, Prepared};
use semver::VersionReq;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// A version that is ready to be run.
#[derive(Clone)]
pub struct LoadedSkill {
    /// The version, as the truth has it now.
    pub version: SkillVersion,
    /// Its compiled code.
    pub prepared: Arc<Prepared>,
}

impl fmt::Debug for LoadedSkill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedSkill").field("skill", &self.version.skill).finish_non_exhaustive()
    }
}

impl Registry {
    /// A version, ready to be run: from memory, else compiled from the kept bytes.
    ///
    /// # Errors
    /// [`Failure`] of kind denied for a version that is suspended or waits for consent, permanent for one that is not
    /// installed or cannot be compiled, transient if the store cannot be read now.
    pub async fn load(&self, skill: &SkillRef) -> Result<Arc<LoadedSkill>, Failure> {
        let version = self.find(skill).await.map_err(host_failure)?.ok_or_else(|| not_installed(skill))?;
        check_state(&version)?;
        self.load_version(version).await
    }

    /// As [`Registry::load`], also of a version that may not be run: to look at what it did, where it reaches nothing.
    ///
    /// # Errors
    /// As [`Registry::load`], but for the version's state.
    pub async fn load_whatever_its_state(&self, skill: &SkillRef) -> Result<Arc<LoadedSkill>, Failure> {
        let version = self.find(skill).await.map_err(host_failure)?.ok_or_else(|| not_installed(skill))?;
        self.load_version(version).await
    }

    async fn load_version(&self, version: SkillVersion) -> Result<Arc<LoadedSkill>, Failure> {
        let skill = &version.skill;
        let prepared = match self.sandbox.prepare_cached(&skill.digest).await {
            Some(prepared) => prepared,
            None => self.prepare(skill).await?,
        };
        self.note_loaded(skill);
        Ok(Arc::new(LoadedSkill { version, prepared }))
    }

    /// The version of that name that new work of this lineage gets: where the skill's route leads, or what the requirement
    /// asks for ([`Choices`]).
    ///
    /// # Errors
    /// [`PortError`] if the truth cannot be read.
    pub async fn resolve(
        &self,
        name: &SkillName,
        wanted: Option<&VersionReq>,
        lineage: Option<Uuid>,
    ) -> Result<Option<SkillVersion>, PortError> {
        let versions = self.truth.skills(Some(name)).await?;
        let route = self.truth.routes(Some(name)).await?.pop();
        Ok(Choices::of(versions, route.as_ref(), lineage).into_first(wanted))
    }

    pub(crate) async fn find(&self, skill: &SkillRef) -> Result<Option<SkillVersion>, PortError> {
        let versions = self.truth.skills(Some(&skill.name)).await?;
        Ok(versions.into_iter().find(|version| version.skill == *skill))
    }

    /// What is being compiled now, and how far it is.
    pub fn compiling(&self) -> Vec<Compiling> {
        self.sandbox.compiling()
    }

    async fn prepare(&self, skill: &SkillRef) -> Result<Arc<Prepared>, Failure> {
        let bytes = self.blobs.get(&skill.digest).await.map_err(host_failure)?.ok_or_else(|| {
            let message = format!("the bytes of {skill} ({}) are gone; install the skill again", skill.digest);
            Failure::new(FailureKind::Permanent, codes::HOST, message)
        })?;
        self.sandbox.prepare(&skill.digest, &bytes).await
    }
}

fn check_state(version: &SkillVersion) -> Result<(), Failure> {
    let (code, problem) = match version.state {
        SkillState::Active | SkillState::Yanked => return Ok(()),
        SkillState::Suspended => (codes::SUSPENDED, "is suspended; an operator must lift that"),
        SkillState::AwaitingConsent => (codes::AWAITING_CONSENT, "waits for an operator's consent"),
    };
    Err(Failure::new(FailureKind::Denied, code, format!("{} {problem}", version.skill)))
}

fn not_installed(skill: &SkillRef) -> Failure {
    let message = format!("{skill} ({}) is not installed; install it with `chimera skill install`", skill.digest);
    Failure::new(FailureKind::Permanent, codes::NOT_INSTALLED, message)
}

fn host_failure(error: PortError) -> Failure {
    let kind = match error.kind {
        PortErrorKind::Unavailable | PortErrorKind::Closed => FailureKind::Transient,
        PortErrorKind::Corrupt | PortErrorKind::Permanent => FailureKind::Permanent,
    };
    Failure::new(kind, codes::HOST, error.message)
}
