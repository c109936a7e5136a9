//! Follows the truth: the index at the start, and what other processes install.
//!
//! It admits nothing and changes nothing in the truth. Called by the server at its start, and by the swarm where the truth
//! is shared.

use crate::Registry;
use chimera_core::ports::PortError;
use chimera_core::skill::{SkillName, SkillVersion};
use std::collections::BTreeSet;

/// How far a process gets ready for skills that others install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warm {
    /// It only finds them.
    IndexOnly,
    /// It will run them.
    Compiled,
}

impl Registry {
    /// Puts every installed version into the index; returns their number. To be called at start.
    ///
    /// # Errors
    /// [`PortError`] if the truth cannot be read or the index cannot be written.
    pub async fn rebuild_index(&self) -> Result<usize, PortError> {
        self.index_all(None).await.map(|versions| versions.len())
    }

    async fn index_all(&self, name: Option<&SkillName>) -> Result<Vec<SkillVersion>, PortError> {
        let versions = self.truth.skills(name).await?;
        for version in &versions {
            self.index.put(version).await?;
        }
        Ok(versions)
    }

    /// Takes over what another process changed of a skill, or of all if none is named: the index follows, and the code
    /// that new work gets is compiled before it is needed. What cannot be compiled now is tried again by its first task.
    ///
    /// # Errors
    /// [`PortError`] if the truth cannot be read.
    pub async fn follow(&self, name: Option<&SkillName>, warm: Warm) -> Result<(), PortError> {
        let names: BTreeSet<SkillName> =
            self.index_all(name).await?.into_iter().map(|version| version.skill.name).collect();
        if warm == Warm::IndexOnly {
            return Ok(());
        }
        for name in &names {
            let Some(version) = self.resolve(name, None, None).await? else { continue };
            if let Err(failure) = self.load(&version.skill).await {
                tracing::warn!(skill = %version.skill, %failure, "could not be made ready");
            }
        }
        Ok(())
    }
}
