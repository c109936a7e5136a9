//! The reading half of [`Truth`].
//!
//! What needs several rows to fit together is read in one transaction that sees one moment. Called by everything that looks
//! at the truth.

use super::PostgresStore;
use super::bulk::{JournalRow, journal_noun};
use super::pool::Pool;
use super::text::{given, kept};
use super::transport::{self, OutboxClaim};
use crate::chain;
use crate::error::{closed, postgres_error};
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
use sqlx::{Connection as _, FromRow, Postgres, QueryBuilder, query_as, query_scalar};
use uuid::Uuid;

/// Most rows of a list.
const MAX_LISTED: u32 = 1000;

/// The row of a noun: its id, and its body.
type NounRow = (Uuid, String);

/// Every noun that a query finds.
fn nouns<T: DeserializeOwned>(table: &'static str, rows: Vec<NounRow>) -> PortResult<Vec<T>> {
    rows.iter().map(|(id, body)| noun(table, &id.to_string(), body)).collect()
}

/// Every noun that can be read. For lists that the whole house needs: one damaged row must not keep it from starting, and is
/// told of in the log.
fn readable<T: DeserializeOwned>(table: &'static str, rows: Vec<BodyRow>) -> Vec<T> {
    let read = rows
        .iter()
        .filter_map(|(id, body)| noun(table, id, body).inspect_err(|error| tracing::error!(%error, "left out")).ok());
    read.collect()
}

impl PostgresStore {
    async fn by_id<T: DeserializeOwned>(
        &self,
        table: &'static str,
        sql: &'static str,
        id: Uuid,
    ) -> PortResult<Option<T>> {
        let row: Option<NounRow> =
            query_as(sql).bind(id).fetch_optional(self.reader()).await.map_err(postgres_error)?;
        row.map(|(id, body)| noun(table, &id.to_string(), &body)).transpose()
    }

    async fn all<T: DeserializeOwned>(&self, table: &'static str, sql: &'static str) -> PortResult<Vec<T>> {
        nouns(table, query_as(sql).fetch_all(self.reader()).await.map_err(postgres_error)?)
    }

    async fn found<T: DeserializeOwned>(
        &self,
        table: &'static str,
        mut sql: QueryBuilder<Postgres>,
    ) -> PortResult<Vec<T>> {
        nouns(table, sql.build_query_as().fetch_all(self.reader()).await.map_err(postgres_error)?)
    }

    async fn read_skills(&self, name: Option<&SkillName>) -> PortResult<Vec<SkillVersion>> {
        let rows = query_as(
            "SELECT name || '@' || version, body FROM skill_versions WHERE name = $1 OR $1 IS NULL
             ORDER BY name, installed_at, version",
        );
        let rows = rows.bind(name.map(SkillName::as_str)).fetch_all(self.reader()).await.map_err(postgres_error)?;
        Ok(readable("skill_versions", rows))
    }

    async fn read_routes(&self, name: Option<&SkillName>) -> PortResult<Vec<Route>> {
        let rows: Vec<(String, String, Option<i64>, Option<i64>)> = query_as(
            "SELECT name, body, canary_runs, canary_failures FROM skill_routes WHERE name = $1 OR $1 IS NULL
             ORDER BY name",
        )
        .bind(name.map(SkillName::as_str))
        .fetch_all(self.reader())
        .await
        .map_err(postgres_error)?;
        let mut routes = Vec::with_capacity(rows.len());
        for (name, body, runs, failures) in rows {
            let Some(mut route) = readable::<Route>("skill_routes", vec![(name, body)]).pop() else { continue };
            if let Some(canary) = &mut route.canary {
                let count = |count: Option<i64>| u32::try_from(count.unwrap_or(0)).unwrap_or(u32::MAX);
                (canary.runs, canary.failures) = (count(runs), count(failures));
            }
            routes.push(route);
        }
        Ok(routes)
    }

    async fn tasks_due(&self, sql: &'static str, now: Timestamp, limit: u32) -> PortResult<Vec<Task>> {
        let due = query_as(sql).bind(now.as_millis()).bind(i64::from(limit));
        nouns("tasks", due.fetch_all(self.reader()).await.map_err(postgres_error)?)
    }
}

#[async_trait]
impl Truth for PostgresStore {
    async fn commit(&self, change: Change) -> Result<Committed, PortError> {
        self.commit_change(change).await
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
        self.by_id("campaigns", "SELECT id, body FROM campaigns WHERE id = $1", id.as_uuid()).await
    }

    async fn campaign_view(&self, id: CampaignId) -> Result<Option<CampaignView>, PortError> {
        let read = self.reader().within(rows_of_campaign(self.reader(), id.as_uuid())).await;
        let Some((campaign, steps, tasks)) = read.map_err(postgres_error)? else { return Ok(None) };
        Ok(Some(CampaignView {
            campaign: noun("campaigns", &id.to_string(), &campaign)?,
            steps: nouns("plan_steps", steps)?,
            tasks: nouns("tasks", tasks)?,
        }))
    }

    async fn campaigns(&self, states: &[CampaignState]) -> Result<Vec<Campaign>, PortError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT id, body FROM campaigns WHERE true");
        push_in(&mut sql, "state", states.iter().map(|state| state.as_str()));
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(MAX_LISTED));
        self.found("campaigns", sql).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, PortError> {
        let lookup = self.open_parts().ok_or_else(closed)?.lookups.tasks;
        let body = lookup.body(id.as_uuid()).await?;
        body.map(|body| noun("tasks", &id.to_string(), &body)).transpose()
    }

    async fn tasks_by_ids(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, PortError> {
        futures::future::try_join_all(ids.iter().map(|id| self.task(*id))).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, PortError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT id, body FROM tasks WHERE true");
        if let Some(campaign) = filter.campaign {
            sql.push(" AND campaign_id = ").push_bind(campaign.as_uuid());
        }
        push_in(&mut sql, "status", filter.states.iter().map(|state| state.as_str()));
        let limit = filter.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED);
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(limit));
        self.found("tasks", sql).await
    }

    async fn queued(&self, after: Option<&WaitingTask>, limit: u32) -> Result<Vec<WaitingTask>, PortError> {
        let (since, last) =
            after.map_or((i64::MIN, Uuid::nil()), |after| (after.created_at.as_millis(), after.task.as_uuid()));
        let rows: Vec<(Uuid, String, i16, i64)> = query_as(
            "SELECT id, planner_id, priority, created_at FROM tasks
             WHERE status = 'queued' AND (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3",
        )
        .bind(since)
        .bind(last)
        .bind(i64::from(limit.min(MAX_LISTED)))
        .fetch_all(self.reader())
        .await
        .map_err(postgres_error)?;
        let waiting = |(id, planner_id, priority, created_at): (Uuid, String, i16, i64)| WaitingTask {
            task: TaskId::from_uuid(id),
            planner_id: given(planner_id),
            priority: u8::try_from(priority).unwrap_or(0),
            created_at: Timestamp::from_millis(created_at),
        };
        Ok(rows.into_iter().map(waiting).collect())
    }

    async fn spec(&self, id: SpecId) -> Result<Option<TaskSpec>, PortError> {
        let lookup = self.open_parts().ok_or_else(closed)?.lookups.specs;
        let body = lookup.body(id.as_uuid()).await?;
        body.map(|body| noun("task_specs", &id.to_string(), &body)).transpose()
    }

    async fn specs_by_ids(&self, ids: &[SpecId]) -> Result<Vec<Option<TaskSpec>>, PortError> {
        futures::future::try_join_all(ids.iter().map(|id| self.spec(*id))).await
    }

    async fn expired_leases(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, PortError> {
        let sql =
            "SELECT id, body FROM tasks WHERE status = 'running' AND lease_until < $1 ORDER BY lease_until LIMIT $2";
        self.tasks_due(sql, now, limit).await
    }

    async fn due_retries(&self, now: Timestamp, limit: u32) -> Result<Vec<Task>, PortError> {
        let sql =
            "SELECT id, body FROM tasks WHERE status = 'retry_wait' AND run_after <= $1 ORDER BY run_after LIMIT $2";
        self.tasks_due(sql, now, limit).await
    }

    async fn approval(&self, id: ApprovalId) -> Result<Option<Approval>, PortError> {
        self.by_id("approvals", "SELECT id, body FROM approvals WHERE id = $1", id.as_uuid()).await
    }

    async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>, PortError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT id, body FROM approvals WHERE true");
        if let Some(campaign) = filter.campaign {
            sql.push(" AND campaign_id = ").push_bind(campaign.as_uuid());
        }
        if let Some(state) = filter.state {
            sql.push(" AND state = ").push_bind(crate::rows::name(&state)?);
        }
        if let Some(moment) = filter.due_before {
            sql.push(" AND deadline < ").push_bind(moment.as_millis());
        }
        sql.push(" ORDER BY created_at, id LIMIT ").push_bind(i64::from(MAX_LISTED));
        self.found("approvals", sql).await
    }

    async fn grants(&self, skill: Option<&SkillName>) -> Result<Vec<Grant>, PortError> {
        let mut sql = QueryBuilder::<Postgres>::new("SELECT id, body FROM grants WHERE true");
        if let Some(skill) = skill {
            sql.push(" AND skill = ").push_bind(skill.as_str());
        }
        sql.push(" ORDER BY granted_at, id");
        self.found("grants", sql).await
    }

    async fn grant(&self, id: GrantId) -> Result<Option<Grant>, PortError> {
        self.by_id("grants", "SELECT id, body FROM grants WHERE id = $1", id.as_uuid()).await
    }

    async fn effects(&self, lineage: LineageId) -> Result<Vec<Effect>, PortError> {
        let sql = "SELECT id, body FROM effects WHERE lineage = $1 ORDER BY created_at, ordinal, id";
        let rows = query_as(sql).bind(lineage.as_uuid()).fetch_all(self.reader()).await.map_err(postgres_error)?;
        nouns("effects", rows)
    }

    async fn effect(&self, id: EffectId) -> Result<Option<Effect>, PortError> {
        self.by_id("effects", "SELECT id, body FROM effects WHERE id = $1", id.as_uuid()).await
    }

    async fn journal(&self, task: TaskId, epoch: u32) -> Result<Vec<JournalEntry>, PortError> {
        let rows: Vec<JournalRow> = query_as(
            "SELECT task_id, epoch, ordinal, call, request, answer FROM journal
             WHERE task_id = $1 AND epoch = $2 ORDER BY ordinal",
        )
        .bind(task.as_uuid())
        .bind(i64::from(epoch))
        .fetch_all(self.reader())
        .await
        .map_err(postgres_error)?;
        rows.into_iter().map(|row| journal_noun(row).map(|(.., entry)| entry)).collect()
    }

    async fn claim_outbox(
        &self,
        topic: OutboxTopic,
        now: Timestamp,
        claimed_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Outbox>, PortError> {
        if let Err(error) = self.shared.history.turn(self.loose(), now).await {
            tracing::warn!(%error, "what is kept for a time only is thrown away later");
        }
        transport::claim_outbox(self.loose(), &OutboxClaim { topic, now, claimed_until, limit }).await
    }

    async fn release_outbox_claims(&self) -> Result<(), PortError> {
        transport::release_outbox_claims(self.loose()).await
    }

    async fn skills(&self, name: Option<&SkillName>) -> Result<Vec<SkillVersion>, PortError> {
        match name {
            Some(name) => self.shared.installed.skills.get(name, self.read_skills(Some(name))).await,
            None => self.read_skills(None).await,
        }
    }

    async fn routes(&self, name: Option<&SkillName>) -> Result<Vec<Route>, PortError> {
        match name {
            Some(name) => self.shared.installed.routes.get(name, self.read_routes(Some(name))).await,
            None => self.read_routes(None).await,
        }
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
             FROM audit_logs WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(chain::name_of(chain))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(postgres_error)?;
        rows.into_iter().map(|row| row.event(chain)).collect()
    }

    async fn audit_of(
        &self,
        chain: Option<CampaignId>,
        task: TaskId,
        limit: u32,
    ) -> Result<Vec<AuditEvent>, PortError> {
        let rows: Vec<AuditRow> = query_as(
            "SELECT seq, task_id, action, agent_id, timestamp, review_status, detail, prev_hash, hash
             FROM audit_logs WHERE task_id = $1 AND chain = $2 ORDER BY seq LIMIT $3",
        )
        .bind(task.as_uuid())
        .bind(chain::name_of(chain))
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(postgres_error)?;
        rows.into_iter().map(|row| row.event(chain)).collect()
    }

    async fn audit_chains(&self) -> Result<Vec<Option<CampaignId>>, PortError> {
        // Jumps from chain to chain along the primary key instead of reading every event. Not `seq = 1`: a chain whose
        // first event was removed must still be seen, and by its head one that lost all of them.
        let names: Vec<String> = query_scalar(
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
        .map_err(postgres_error)?;
        names.iter().map(|name| chain::named(name)).collect()
    }

    async fn audit_head(&self, chain: Option<CampaignId>) -> Result<Option<Head>, PortError> {
        let row = query_as("SELECT seq, hash FROM audit_heads WHERE chain = $1").bind(chain::name_of(chain));
        let row = row.fetch_optional(self.reader()).await.map_err(postgres_error)?;
        row.map(|row| chain::head_of(chain, row)).transpose()
    }

    async fn memory(&self, agent: Option<AgentId>) -> Result<Vec<MemoryItem>, PortError> {
        let rows = query_as(
            "SELECT id::text, body FROM agent_memory WHERE agent_id = $1 OR $1 IS NULL ORDER BY created_at, id",
        );
        let rows = rows.bind(agent.map(|agent| agent.as_uuid()));
        Ok(readable("agent_memory", rows.fetch_all(self.reader()).await.map_err(postgres_error)?))
    }

    async fn scratch(&self, agent: AgentId, key: &str, now: Timestamp) -> Result<Option<ScratchItem>, PortError> {
        let row: Option<(i64, String)> = query_as(
            "SELECT expires_at, value FROM ephemeral_memory WHERE agent_id = $1 AND key = $2 AND expires_at > $3",
        )
        .bind(agent.as_uuid())
        .bind(kept(key))
        .bind(now.as_millis())
        .fetch_optional(self.reader())
        .await
        .map_err(postgres_error)?;
        row.map(|(expires_at, value)| {
            let value = noun("ephemeral_memory", &format!("{agent} {key}"), &value)?;
            Ok(ScratchItem { agent, key: key.to_owned(), value, expires_at: Timestamp::from_millis(expires_at) })
        })
        .transpose()
    }

    async fn top_trends(&self, since: Timestamp, limit: u32) -> Result<Vec<TrendTop>, PortError> {
        let rows: Vec<(String, f64, i64)> = query_as(
            "SELECT topic, sum(weight) AS strength, count(*) FROM content_trends WHERE observed_at >= $1
             GROUP BY topic ORDER BY strength DESC, topic LIMIT $2",
        )
        .bind(since.as_millis())
        .bind(i64::from(limit))
        .fetch_all(self.reader())
        .await
        .map_err(postgres_error)?;
        // JSON has no infinity: a sum that somebody else's rows drove there would be written and never be read again.
        let top = |(topic, weight, count): (String, f64, i64)| TrendTop {
            topic: given(topic),
            weight: weight.clamp(0.0, f64::MAX),
            count: u64::try_from(count).unwrap_or(0),
        };
        Ok(rows.into_iter().map(top).collect())
    }
}

/// `AND column IN (…)`, or nothing if no value is given.
fn push_in(
    sql: &mut QueryBuilder<Postgres>,
    column: &'static str,
    values: impl ExactSizeIterator<Item = &'static str>,
) {
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

/// A campaign, its steps and its tasks.
type CampaignRows = (String, Vec<NounRow>, Vec<NounRow>);

/// As they are at one moment.
async fn rows_of_campaign(readers: &Pool, id: Uuid) -> sqlx::Result<Option<CampaignRows>> {
    let mut db = readers.acquire().await?;
    let mut moment = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let campaign: Option<NounRow> =
        query_as("SELECT id, body FROM campaigns WHERE id = $1").bind(id).fetch_optional(&mut *moment).await?;
    let Some((_, campaign)) = campaign else { return Ok(None) };
    let steps = query_as("SELECT id, body FROM plan_steps WHERE campaign_id = $1 ORDER BY position, id")
        .bind(id)
        .fetch_all(&mut *moment)
        .await?;
    let tasks = query_as("SELECT id, body FROM tasks WHERE campaign_id = $1 ORDER BY created_at, id")
        .bind(id)
        .fetch_all(&mut *moment)
        .await?;
    moment.rollback().await?;
    Ok(Some((campaign, steps, tasks)))
}

#[derive(FromRow)]
struct AuditRow {
    seq: i64,
    task_id: Option<Uuid>,
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
                task: self.task_id.map(TaskId::from_uuid),
                action: given(self.action).into(),
                actor: given(self.agent_id).parse().map_err(broken)?,
                at: Timestamp::from_millis(self.timestamp),
                review,
                detail: noun("audit_logs", &row.0, &row.1)?,
            },
        })
    }
}
