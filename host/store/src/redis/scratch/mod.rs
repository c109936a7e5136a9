//! Ephemeral memory in Redis: `ephemeral_memory:<agent>`, with two keys beside it for when and how much.
//!
//! Each write is one script, so the limits hold whoever writes at the same time, and what is over counts no more. Whether a
//! run still holds its task is asked of the truth first: a run that loses its task in just that moment may still write one
//! value, which is no worse than having written it a moment before. Opened by the binary; called by the ports of a run.

use super::link::Redis;
use super::named;
use crate::rows::PortResult;
use ::redis::{Pipeline, Script};
use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::ids::AgentId;
use chimera_core::ports::{Holder, PortError, PortErrorKind, Scratch, ScratchWritten, Truth};
use chimera_core::records::ScratchItem;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// Ephemeral memory in Redis; see [`Scratch`]. It goes by the server's clock. What Redis loses is forgotten.
#[derive(Clone)]
pub struct RedisScratch {
    redis: Redis,
    truth: Arc<dyn Truth>,
    scripts: Arc<Scripts>,
}

struct Scripts {
    get: Script,
    put: Script,
    delete: Script,
}

impl fmt::Debug for RedisScratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisScratch").field(&self.redis).finish()
    }
}

impl RedisScratch {
    /// The memory on that server; `truth` says who holds a task.
    pub fn new(redis: Redis, truth: Arc<dyn Truth>) -> Self {
        let scripts = Scripts {
            get: Script::new(concat!(include_str!("common.lua"), include_str!("get.lua"))),
            put: Script::new(concat!(include_str!("common.lua"), include_str!("put.lua"))),
            delete: Script::new(concat!(include_str!("common.lua"), include_str!("delete.lua"))),
        };
        Self { redis, truth, scripts: Arc::new(scripts) }
    }

    fn keys(&self, agent: AgentId) -> [String; 3] {
        let values = named(self.redis.prefix(), "ephemeral_memory", &agent.to_string());
        let (due, bytes) = (format!("{values}#due"), format!("{values}#bytes"));
        [values, due, bytes]
    }

    async fn is_held_by(&self, holder: Holder) -> PortResult<bool> {
        let task = self.truth.task(holder.task).await?;
        Ok(task.is_some_and(|task| task.is_held_by(holder.lease, holder.attempt)))
    }
}

#[async_trait]
impl Scratch for RedisScratch {
    async fn get(&self, agent: AgentId, key: &str, _: Timestamp) -> Result<Option<Value>, PortError> {
        let mut calls = Pipeline::with_capacity(1);
        calls.cmd("EVALSHA").arg(self.scripts.get.get_hash()).arg(3).arg(&self.keys(agent)).arg(key);
        let (value,): (Option<Vec<u8>>,) = self.redis.calls(&self.scripts.get, &calls).await?;
        let read = |value: Vec<u8>| {
            serde_json::from_slice(&value).map_err(|error| {
                let what = format!("a value of agent {agent} is not JSON: {error}");
                self.redis.place().port_error_of(PortErrorKind::Corrupt, &what)
            })
        };
        value.map(read).transpose()
    }

    async fn put(&self, holder: Holder, item: ScratchItem, now: Timestamp) -> Result<ScratchWritten, PortError> {
        let lasts = item.expires_at.since(now).min(ScratchItem::KEPT);
        if !self.is_held_by(holder).await? {
            return Ok(ScratchWritten::Fenced);
        }
        let mut calls = Pipeline::with_capacity(1);
        let call = calls.cmd("EVALSHA").arg(self.scripts.put.get_hash()).arg(3).arg(&self.keys(item.agent));
        call.arg(&item.key)
            .arg(item.value.to_string())
            .arg(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX).max(1));
        call.arg(ScratchItem::MAX_KEYS).arg(ScratchItem::MAX_BYTES);
        let (kept,): (bool,) = self.redis.calls(&self.scripts.put, &calls).await?;
        Ok(if kept { ScratchWritten::Done } else { ScratchWritten::Full })
    }

    async fn delete(
        &self,
        holder: Holder,
        agent: AgentId,
        key: &str,
        _: Timestamp,
    ) -> Result<ScratchWritten, PortError> {
        if !self.is_held_by(holder).await? {
            return Ok(ScratchWritten::Fenced);
        }
        let mut calls = Pipeline::with_capacity(1);
        calls.cmd("EVALSHA").arg(self.scripts.delete.get_hash()).arg(3).arg(&self.keys(agent)).arg(key);
        let (_,): (u64,) = self.redis.calls(&self.scripts.delete, &calls).await?;
        Ok(ScratchWritten::Done)
    }
}
