//! The reading half of [`Truth`], each read on a connection that cannot write.
//!
//! What needs several rows to fit together is read in one transaction, which in WAL mode is one moment. Called by
//! everything that looks at the truth.

use super::prepared::Prepared;
use super::rows::{nouns, optional, readable};
use super::transport::OutboxClaim;
use super::writer::{Answer, Work};
use super::writes::journal_noun;
use super::{SqliteStore, committed_of, unexpected_answer};
use crate::chain;
use crate::error::port_error;
use crate::rows::{BodyRow, PortResult, corrupt, noun};
use async_trait::async_trait;
use chimera_core::approval::Approval;
use chimera_core::audit::{AuditDraft, AuditEvent, Head};
use chimera_core::campaign::{Campaign, CampaignState, CampaignView};
use chimera_core::change::{Change, Committed, Outbox, OutboxTopic};
use chimera_core::clock::Timestamp;
use chimera_core::effect::Effect;
use chimera_core::grant::Grant;
use chimera_core::ids::{AgentId, ApprovalId, CampaignId, EffectId, GrantId, LineageId, SpecId, TaskId};
use chimera_core::journal::JournalEntry;
use chimera_core::ports::{ApprovalFilter, Notice, PortError, TaskFilter, Truth, WaitingTask, listen};
use chimera_core::records::{Agent, ApiToken, MemoryItem, ScratchItem, TrendTop};
use chimera_core::route::Route;
use chimera_core::skill::{SkillName, SkillVersion};
use chimera_core::task::{Task, TaskSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{FromRow, QueryBuilder, Sqlite, query_as};
use std::collections::HashMap;
use std::fmt::Display;

/// Most rows of a list.
const MAX_LISTED: u32 = 1000;

impl SqliteStore {
    /// Those that were not written just now are read with one statement, whose one value is a JSON list of ids.
    async fn by_ids<K: Copy + Display, T: DeserializeOwned>(
        &self,
        table: &'static str,
        sql: &'static str,
        ids: &[K],
        recent: impl Fn(K) -> Option<T>,
    ) -> PortResult<Vec<Option<T>>> {
        let mut found: Vec<Option<T>> = ids.iter().map(|id| recent(*id)).collect();
        let missing = ids.iter().zip(&found).filter(|(_, found)| found.is_none());
        let missing: Vec<String> = missing.map(|(id, _)| id.to_string()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let list = serde_json::to_string(&missing).map_err(|error| corrupt(table, "ids", error))?;
        let rows: Vec<BodyRow> = query_as(sql).bind(list).fetch_all(self.reader()).await.map_err(port_error)?;
        let bodies: HashMap<String, String> = rows.into_iter().collect();
        let wanted = found.iter_mut().filter(|found| found.is_none());
        for (place, id) in wanted.zip(missing) {
            // The same id twice is read twice.
            *place = bodies.get(&id).map(|body| noun(table, &id, body)).transpose()?;
        }
        Ok(found)
    }

    async fn by_id<T: DeserializeOwned>(
        &self,
        table: &'static str,
        sql: &'static str,
        id: impl ToString + Send,
    ) -> PortResult<Option<T>> {
        optional(table, self.reader(), query_as(sql).bind(id.to_string())).await
    }

    async fn all<T: DeserializeOwned>(&self, table: &'static str, sql: &'static str) -> PortResult<Vec<T>> {
        nouns(table, self.reader(), query_as(sql)).await
    }

    async fn tasks_due(&self, sql: &'static str, now: Timestamp, limit: u32) -> PortResult<Vec<Task>> {
        nouns("tasks", self.reader(), query_as(sql).bind(now.as_millis()).bind(limit)).await
    }
}

#[async_trait]
impl Truth for SqliteStore {
    async fn commit(&self, change: Change) -> Result<Committed, PortError> {
        self.ask(Work::Commit(Prepared::of(change)?)).await.and_then(committed_of)
    }

    async fn commit_all(&self, changes: Vec<Change>) -> Vec<Result<Committed, PortError>> {
        self.commit_changes(changes).await
    }

    fn subscribe(&self) -> listen::Receiver {
        self.listen()
    }

    fn tell(&self, notice: Notice) {
        self.send_notice(notice);
    }

    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, PortError> {
        self.by_id("campaigns", "SELECT id, body FROM campaigns WHERE id = ?", id).await
    }

    async fn campaign_view(&self, id: CampaignId) -> Result<Option<CampaignView>, PortError> {
        let mut moment = self.reader().begin().await.map_err(port_error)?;
        let campaign = query_as("SELECT id, body FROM campaigns WHERE id = ?").bind(id.to_string());
        let Some(campaign) = optional("campaigns", &mut *moment, campaign).await? else { return Ok(None) };
        let steps = query_as("SELECT id, body FROM plan_steps WHERE campaign_id = ? ORDER BY position, id");
        let steps = nouns("plan_steps", &mut *moment, steps.bind(id.to_string())).await?;
        let tasks = query_as("SELECT id, body FROM tasks WHERE campaign_id = ? ORDER BY created_at, id");
        let tasks = nouns("tasks", &mut *moment, tasks.bind(id.to_string())).await?;
        moment.rollback().await.map_err(port_error)?;
        Ok(Some(CampaignView { campaign, steps, tasks }))
    }

    async fn campaigns(&self, states: &[CampaignState]) -> Result<Vec<Campaign>, PortError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT id, body FROM campaigns WHERE true");
        push_in(&mut sql, "state", states.iter().map(|state| state.as_str()));
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(MAX_LISTED);
        nouns("campaigns", self.reader(), sql.build_query_as()).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, PortError> {
        if let Some(task) = self.shared.recent.task(id) {
            return Ok(Some(task));
        }
        self.by_id("tasks", "SELECT id, body FROM tasks WHERE id = ?", id).await
    }

    async fn tasks_by_ids(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, PortError> {
        let recent = |id| self.shared.recent.task(id);
        self.by_ids("tasks", "SELECT id, body FROM tasks WHERE id IN (SELECT value FROM json_each(?))", ids, recent)
            .await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, PortError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT id, body FROM tasks WHERE true");
        if let Some(campaign) = filter.campaign {
            sql.push(" AND campaign_id = ").push_bind(campaign.to_string());
        }
        push_in(&mut sql, "status", filter.states.iter().map(|state| state.as_str()));
        let limit = filter.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED);
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(limit);
        nouns("tasks", self.reader(), sql.build_query_as()).await
    }

    async fn queued(&self, after: Option<&WaitingTask>, limit: u32) -> Result<Vec<WaitingTask>, PortError> {
        let (since, last) =
            after.map_or((i64::MIN, String::new()), |after| (after.created_at.as_millis(), after.task.to_string()));
        let rows: Vec<(String, String, u8, i64)> = query_as(
            "SELECT id, planner_id, priority, created_at FROM tasks
             WHERE status = 'queued' AND (created_at, id) > (?, ?) ORDER BY created_at, id LIMIT ?",
        )
        .bind(since)
        .bind(last)
        .bind(limit.min(MAX_LISTED))
        .fetch_all(self.reader())
        .await
        .map_err(port_error)?;
        let waiting = |(id, planner_id, priority, created_at): (String, String, u8, i64)| {
            let task = id.parse().map_err(|error| corrupt("tasks", &id, error))?;
            Ok(WaitingTask { task, planner_id, priority, created_at: Timestamp::from_millis(created_at) })
        };
        rows.into_iter().map(waiting).collect()
    }

    async fn spec(&self, id: SpecId) -> Result<Option<TaskSpec>, PortError> {
        if let Some(spec) = self.shared.recent.spec(id) {
            return Ok(Some(spec));
        }
        self.by_id("task_specs", "SELECT id, body FROM task_specs WHERE id = ?", id).await
    }

    async fn specs_by_ids(&self, ids: &[SpecId]) -> Result<Vec<Option<TaskSpec>>, PortError> {
        let sql = "SELECT id, body FROM task_specs WHERE id IN (SELECT value FROM json_each(?))";
        self.by_ids("task_specs", sql, ids, |id| self.shared.recent.spec(id)).await
    }

    async fn expired_leases(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, PortError> {
        let sql =
            "SELECT id, body FROM tasks WHERE status = 'running' AND lease_until < ? ORDER BY lease_until LIMIT ?";
        self.tasks_due(sql, now, limit).await
    }

    async fn due_retries(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, PortError> {
        let sql =
            "SELECT id, body FROM tasks WHERE status = 'retry_wait' AND run_after <= ? ORDER BY run_after LIMIT ?";
        self.tasks_due(sql, now, limit).await
    }

    async fn approval(&self, id: ApprovalId) -> Result<Option<Approval>, PortError> {
        self.by_id("approvals", "SELECT id, body FROM approvals WHERE id = ?", id).await
    }

    async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>, PortError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT id, body FROM approvals WHERE true");
        if let Some(campaign) = filter.campaign {
            sql.push(" AND campaign_id = ").push_bind(campaign.to_string());
        }
        if let Some(state) = filter.state {
            sql.push(" AND state = ").push_bind(crate::rows::name(&state)?);
        }
        if let Some(moment) = filter.due_before {
            sql.push(" AND deadline < ").push_bind(moment.as_millis());
        }
        sql.push(" ORDER BY created_at, id LIMIT ").push_bind(MAX_LISTED);
        nouns("approvals", self.reader(), sql.build_query_as()).await
    }

    async fn grants(&self, skill: Option<&SkillName>) -> Result<Vec<Grant>, PortError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT id, body FROM grants WHERE true");
        if let Some(skill) = skill {
            sql.push(" AND skill = ").push_bind(skill.as_str());
        }
        sql.push(" ORDER BY granted_at, id");
        nouns("grants", self.reader(), sql.build_query_as()).await
    }

    async fn grant(&self, id: GrantId) -> Result<Option<Grant>, PortError> {
        self.by_id("grants", "SELECT id, body FROM grants WHERE id = ?", id).await
    }

    async fn effects(&self, lineage: LineageId) -> Result<Vec<Effect>, PortError> {
        let sql = "SELECT id, body FROM effects WHERE lineage = ? ORDER BY created_at, ordinal, id";
        nouns("effects", self.reader(), query_as(sql).bind(lineage.to_string())).await
    }

    async fn effect(&self, id: EffectId) -> Result<Option<Effect>, PortError> {
        self.by_id("effects", "SELECT id, body FROM effects WHERE id = ?", id).await
    }

    async fn journal(&self, task: TaskId, epoch: u32) -> Result<Vec<JournalEntry>, PortError> {
        let rows: Vec<(u32, String, String, String)> = query_as(
            "SELECT ordinal, call, request, answer FROM journal WHERE task_id = ? AND epoch = ? ORDER BY ordinal",
        )
        .bind(task.to_string())
        .bind(epoch)
        .fetch_all(self.reader())
        .await
        .map_err(port_error)?;
        rows.into_iter()
            .map(|(ordinal, call, request, answer)| journal_noun(task, epoch, ordinal, call, &request, &answer))
            .collect()
    }

    async fn claim_outbox(
        &self,
        topic: OutboxTopic,
        now: Timestamp,
        claimed_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Outbox>, PortError> {
        match self.ask(Work::ClaimOutbox(OutboxClaim { topic, now, claimed_until, limit })).await? {
            Answer::Outbox(claimed) => Ok(claimed),
            _ => Err(unexpected_answer()),
        }
    }

    async fn release_outbox_claims(&self) -> Result<(), PortError> {
        self.ask(Work::ReleaseOutboxClaims).await.map(drop)
    }

    async fn skills(&self, name: Option<&SkillName>) -> Result<Vec<SkillVersion>, PortError> {
        let Some(name) = name else {
            let all = "SELECT name || '@' || version, body FROM skill_versions ORDER BY name, installed_at, version";
            return readable("skill_versions", self.reader(), query_as(all)).await;
        };
        let one =
            "SELECT name || '@' || version, body FROM skill_versions WHERE name = ? ORDER BY installed_at, version";
        let read = readable("skill_versions", self.reader(), query_as(one).bind(name.as_str()));
        self.shared.installed.skills.get(name, read).await
    }

    async fn routes(&self, name: Option<&SkillName>) -> Result<Vec<Route>, PortError> {
        let Some(name) = name else {
            let all = "SELECT name, body FROM skill_routes ORDER BY name";
            return readable("skill_routes", self.reader(), query_as(all)).await;
        };
        let one = "SELECT name, body FROM skill_routes WHERE name = ?";
        let read = readable("skill_routes", self.reader(), query_as(one).bind(name.as_str()));
        self.shared.installed.routes.get(name, read).await
    }

    async fn agents(&self) -> Result<Vec<Agent>, PortError> {
        self.all("agents", "SELECT id, body FROM agents ORDER BY created_at, id").await
    }

    async fn tokens(&self) -> Result<Vec<ApiToken>, PortError> {
        self.all("api_tokens", "SELECT id, body FROM api_tokens ORDER BY created_at, id").await
    }

    async fn audit(&self, chain: Option<CampaignId>, after: u64, limit: u32) -> Result<Vec<AuditEvent>, PortError> {
        let Ok(after) = i64::try_from(after) else { return Ok(Vec::new()) };
        let rows: Vec<AuditRow> = query_as(
            "SELECT seq, task_id, action, agent_id, timestamp, review_status, detail, prev_hash, hash
             FROM audit_logs WHERE chain = ? AND seq > ? ORDER BY seq LIMIT ?",
        )
        .bind(chain::name_of(chain))
        .bind(after)
        .bind(limit)
        .fetch_all(self.reader())
        .await
        .map_err(port_error)?;
        rows.into_iter().map(|row| row.event(chain)).collect()
    }

    async fn audit_of(
        &self,
        chain: Option<CampaignId>,
        task: TaskId,
        limit: u32,
    ) -> Result<Vec<AuditEvent>, PortError> {
        // The index is named because chains are long and a task's events are few, which the planner cannot know.
        let rows: Vec<AuditRow> = query_as(
            "SELECT seq, task_id, action, agent_id, timestamp, review_status, detail, prev_hash, hash
             FROM audit_logs INDEXED BY audit_logs_of_task WHERE task_id = ? AND chain = ? ORDER BY seq LIMIT ?",
        )
        .bind(task.to_string())
        .bind(chain::name_of(chain))
        .bind(limit)
        .fetch_all(self.reader())
        .await
        .map_err(port_error)?;
        rows.into_iter().map(|row| row.event(chain)).collect()
    }

    async fn audit_chains(&self) -> Result<Vec<Option<CampaignId>>, PortError> {
        // Jumps from chain to chain along the primary key instead of reading every event. Not `seq = 1`: a chain whose
        // first event was removed must still be seen, and by its head one that lost all of them.
        let names: Vec<(String,)> = query_as(
            "WITH RECURSIVE chains (name) AS (
                 SELECT min(chain) FROM audit_logs
                 UNION ALL
                 SELECT (SELECT min(chain) FROM audit_logs WHERE chain > chains.name) FROM chains
                 WHERE chains.name IS NOT NULL)
             SELECT name FROM chains WHERE name IS NOT NULL
             UNION
             SELECT chain FROM audit_heads",
        )
        .fetch_all(self.reader())
        .await
        .map_err(port_error)?;
        names.iter().map(|(name,)| chain::named(name)).collect()
    }

    async fn audit_head(&self, chain: Option<CampaignId>) -> Result<Option<Head>, PortError> {
        let row = query_as("SELECT seq, hash FROM audit_heads WHERE chain = ?").bind(chain::name_of(chain));
        let row = row.fetch_optional(self.reader()).await.map_err(port_error)?;
        row.map(|row| chain::head_of(chain, row)).transpose()
    }

    async fn memory(&self, agent: Option<AgentId>) -> Result<Vec<MemoryItem>, PortError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT id, body FROM agent_memory WHERE true");
        if let Some(agent) = agent {
            sql.push(" AND agent_id = ").push_bind(agent.to_string());
        }
        sql.push(" ORDER BY created_at, id");
        readable("agent_memory", self.reader(), sql.build_query_as()).await
    }

    async fn scratch(&self, agent: AgentId, key: &str, now: Timestamp) -> Result<Option<ScratchItem>, PortError> {
        let row: Option<(i64, String)> = query_as(
            "SELECT expires_at, value FROM ephemeral_memory WHERE agent_id = ? AND key = ? AND expires_at > ?",
        )
        .bind(agent.to_string())
        .bind(key)
        .bind(now.as_millis())
        .fetch_optional(self.reader())
        .await
        .map_err(port_error)?;
        row.map(|(expires_at, value)| {
            let value = noun("ephemeral_memory", &format!("{agent} {key}"), &value)?;
            Ok(ScratchItem { agent, key: key.to_owned(), value, expires_at: Timestamp::from_millis(expires_at) })
        })
        .transpose()
    }

    async fn top_trends(&self, since: Timestamp, limit: u32) -> Result<Vec<TrendTop>, PortError> {
        let rows: Vec<(String, f64, i64)> = query_as(
            "SELECT topic, sum(weight) AS strength, count(*) FROM content_trends WHERE observed_at >= ?
             GROUP BY topic ORDER BY strength DESC, topic LIMIT ?",
        )
        .bind(since.as_millis())
        .bind(limit)
        .fetch_all(self.reader())
        .await
        .map_err(port_error)?;
        // JSON has no infinity: a sum that somebody else's rows drove there would be written and never be read again.
        let top = |(topic, weight, count): (String, f64, i64)| TrendTop {
            topic,
            weight: weight.clamp(0.0, f64::MAX),
            count: u64::try_from(count).unwrap_or(0),
        };
        Ok(rows.into_iter().map(top).collect())
    }
}

/// `AND column IN (…)`, or nothing if no value is given.
fn push_in(sql: &mut QueryBuilder<Sqlite>, column: &'static str, values: impl ExactSizeIterator<Item = &'static str>) {
    if values.len() == 0 {
        return;
    }
    sql.push(format_args!(" AND {column} IN ("));
    let mut list = sql.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    sql.push(")");
}

#[derive(FromRow)]
struct AuditRow {
    seq: i64,
    task_id: Option<String>,
    action: String,
    agent_id: String,
    timestamp: i64,
    review_status: String,
    detail: String,
    prev_hash: String,
    hash: String,
}

impl AuditRow {
    fn event(self, chain: Option<CampaignId>) -> PortResult<AuditEvent> {
        let row: BodyRow = (format!("{} {}", chain::name_of(chain), self.seq), self.detail);
        let broken = |cause: String| corrupt("audit_logs", &row.0, cause);
        let review = serde_json::from_value(Value::String(self.review_status)).map_err(|e| broken(e.to_string()))?;
        Ok(AuditEvent {
            seq: u64::try_from(self.seq).map_err(|e| broken(e.to_string()))?,
            prev_hash: self.prev_hash.parse().map_err(broken)?,
            hash: self.hash.parse().map_err(broken)?,
            draft: AuditDraft {
                campaign: chain,
                task: self
                    .task_id
                    .map(|id| id.parse())
                    .transpose()
                    .map_err(|e: chimera_core::ids::ParseIdError| broken(e.to_string()))?,
                action: self.action.into(),
                actor: self.agent_id.parse().map_err(broken)?,
                at: Timestamp::from_millis(self.timestamp),
                review,
                detail: noun("audit_logs", &row.0, &row.1)?,
            },
        })
    }
}
