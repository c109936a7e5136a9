//! What a batch writes, table by table, each in one statement however many rows it has.
//!
//! Of a row that several changes of the batch write the last one counts. Rows are sent in the order of their keys, so that
//! two batches never wait for each other in a circle, and tables that are referred to come first. What comes seldom is
//! [written singly](super::single) after that. The one function that writes a noun derives its columns from it, so body and
//! columns cannot disagree. Called by the batch, inside its transaction.

use super::fault::{Fault, Written};
use super::known::Known;
use super::single;
use super::text::{given, kept};
use crate::rows::{PortResult, body, corrupt, int, name, permanent, readable_again};
use chimera_core::approval::Approval;
use chimera_core::campaign::Campaign;
use chimera_core::change::{Change, Outbox, Write};
use chimera_core::clock::Timestamp;
use chimera_core::effect::Effect;
use chimera_core::ids::{ApprovalId, CampaignId, EffectId, OutboxId, SpecId, StepId, TaskId};
use chimera_core::journal::{AnswerText, JournalEntry};
use chimera_core::plan::Step;
use chimera_core::route::RunMark;
use chimera_core::task::{Task, TaskSpec};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, query, query_as};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use uuid::Uuid;

/// The rows of a batch.
#[derive(Default)]
pub(super) struct Rows<'c> {
    campaigns: BTreeMap<CampaignId, &'c Campaign>,
    specs: BTreeMap<SpecId, &'c TaskSpec>,
    steps: BTreeMap<StepId, &'c Step>,
    tasks: BTreeMap<TaskId, &'c Task>,
    journal: BTreeMap<(TaskId, u32, u32), &'c JournalEntry>,
    effects: BTreeMap<EffectId, &'c Effect>,
    approvals: BTreeMap<ApprovalId, &'c Approval>,
    /// None when it is deleted.
    outbox: BTreeMap<OutboxId, Option<&'c Outbox>>,
    /// Runs and bad runs, by skill and version.
    runs: BTreeMap<(&'c str, String), (i64, i64)>,
    /// In the order of the changes.
    single: Vec<&'c Write>,
}

impl<'c> Rows<'c> {
    /// Adds what a change writes.
    ///
    /// # Errors
    /// Permanent when it cannot be written at all; what was added already must not be written then.
    pub(super) fn add(&mut self, change: &'c Change) -> PortResult<()> {
        for write in &change.writes {
            match write {
                Write::PutCampaign(campaign) => _ = self.campaigns.insert(campaign.id, campaign),
                Write::PutSpec(spec) => _ = self.specs.insert(spec.id, spec),
                Write::PutStep(step) => _ = self.steps.insert(step.id, step),
                Write::PutTask(task) => _ = self.tasks.insert(task.id, task),
                Write::PutEffect(effect) => _ = self.effects.insert(effect.id, effect),
                Write::PutApproval(approval) => _ = self.approvals.insert(approval.id, approval),
                Write::PutOutbox(row) => _ = self.outbox.insert(row.id, Some(row)),
                Write::DeleteOutbox(id) => _ = self.outbox.insert(*id, None),
                Write::AppendJournal { task, epoch, entries } => self.add_journal(*task, *epoch, entries)?,
                Write::CountRun(skill, mark) => {
                    let counted = self.runs.entry((skill.name.as_str(), skill.version.to_string())).or_default();
                    *counted = (counted.0 + 1, counted.1 + i64::from(*mark == RunMark::Bad));
                }
                other => self.single.push(other),
            }
        }
        Ok(())
    }

    fn add_journal(&mut self, task: TaskId, epoch: u32, entries: &'c [JournalEntry]) -> PortResult<()> {
        for entry in entries {
            match self.journal.entry((task, epoch, entry.ordinal)) {
                Entry::Occupied(found) if *found.get() != entry => {
                    return Err(another_entry(task, epoch, entry.ordinal));
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => _ = place.insert(entry),
            }
        }
        Ok(())
    }

    /// Writes all of them.
    pub(super) async fn write(&self, db: &mut PgConnection, known: &Known) -> Written<()> {
        self.write_campaigns(db).await?;
        self.write_specs(db).await?;
        self.write_steps(db).await?;
        let (old, new): (Vec<&Task>, Vec<&Task>) = self.tasks.values().partition(|task| known.has_stored(task.id));
        TaskRows::of(&new)?.run(db, INSERT_TASKS).await?;
        TaskRows::of(&old)?.run(db, UPDATE_TASKS).await?;
        self.write_journal(db).await?;
        self.write_effects(db).await?;
        self.write_approvals(db).await?;
        self.write_outbox(db).await?;
        for write in &self.single {
            single::write(db, write).await?;
        }
        single::trim(db, &self.single).await?;
        // After the routes: a count on one that this batch begins to try counts.
        for ((skill, version), (runs, failures)) in &self.runs {
            single::count_runs(db, skill, version, *runs, *failures).await?;
        }
        Ok(())
    }

    async fn write_campaigns(&self, db: &mut PgConnection) -> Written<()> {
        let rows: Vec<&Campaign> = self.campaigns.values().copied().collect();
        let statement = query(
            "INSERT INTO campaigns (id, state, planner_id, rev, created_at, updated_at, body)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, planner_id = excluded.planner_id,
                 rev = excluded.rev, created_at = excluded.created_at, updated_at = excluded.updated_at,
                 body = excluded.body",
        )
        .bind(all(&rows, |it| it.id.as_uuid()))
        .bind(all(&rows, |it| it.state.as_str()))
        .bind(all(&rows, |it| kept(&it.planner_id)))
        .bind(each(&rows, |it| int(it.rev))?)
        .bind(all(&rows, |it| it.created_at.as_millis()))
        .bind(all(&rows, |it| it.updated_at.as_millis()))
        .bind(each(&rows, body)?);
        run(db, rows.len(), statement).await
    }

    async fn write_specs(&self, db: &mut PgConnection) -> Written<()> {
        let rows: Vec<&TaskSpec> = self.specs.values().copied().collect();
        let statement = query(
            "INSERT INTO task_specs (id, skill_name, skill_version, skill_digest, body)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
             ON CONFLICT (id) DO UPDATE SET skill_name = excluded.skill_name, skill_version = excluded.skill_version,
                 skill_digest = excluded.skill_digest, body = excluded.body",
        )
        .bind(all(&rows, |it| it.id.as_uuid()))
        .bind(all(&rows, |it| it.skill.name.as_str()))
        .bind(all(&rows, |it| it.skill.version.to_string()))
        .bind(all(&rows, |it| it.skill.digest.to_string()))
        .bind(each(&rows, body)?);
        run(db, rows.len(), statement).await
    }

    async fn write_steps(&self, db: &mut PgConnection) -> Written<()> {
        let rows: Vec<&Step> = self.steps.values().copied().collect();
        let statement = query(
            "INSERT INTO plan_steps (id, campaign_id, lineage_id, state, task_id, position, body)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::bigint[], $7::text[])
             ON CONFLICT (id) DO UPDATE SET campaign_id = excluded.campaign_id, lineage_id = excluded.lineage_id,
                 state = excluded.state, task_id = excluded.task_id, position = excluded.position, body = excluded.body",
        )
        .bind(all(&rows, |it| it.id.as_uuid()))
        .bind(all(&rows, |it| it.campaign.as_uuid()))
        .bind(all(&rows, |it| it.lineage.as_uuid()))
        .bind(each(&rows, |it| name(&it.state))?)
        .bind(all(&rows, |it| it.task.map(|task| task.as_uuid())))
        .bind(all(&rows, |it| i64::from(it.position)))
        .bind(each(&rows, body)?);
        run(db, rows.len(), statement).await
    }

    /// The same entry again is no error (a caller that never heard of its commit); another one at its place is.
    async fn write_journal(&self, db: &mut PgConnection) -> Written<()> {
        if self.journal.is_empty() {
            return Ok(());
        }
        let rows: Vec<(&(TaskId, u32, u32), &&JournalEntry)> = self.journal.iter().collect();
        let tasks = all(&rows, |((task, ..), _)| task.as_uuid());
        let epochs = all(&rows, |((_, epoch, _), _)| i64::from(*epoch));
        let ordinals = all(&rows, |((.., ordinal), _)| i64::from(*ordinal));
        for (_, entry) in &rows {
            readable_again(entry.answer.as_str())?;
        }
        let added = query(
            "INSERT INTO journal (task_id, epoch, ordinal, call, request, answer)
             SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
             ON CONFLICT (task_id, epoch, ordinal) DO NOTHING",
        )
        .bind(&tasks)
        .bind(&epochs)
        .bind(&ordinals)
        .bind(all(&rows, |(_, entry)| kept(&entry.call)))
        .bind(all(&rows, |(_, entry)| entry.request.to_string()))
        .bind(all(&rows, |(_, entry)| entry.answer.as_str()))
        .execute(&mut *db)
        .await?;
        if added.rows_affected() == rows.len() as u64 {
            return Ok(());
        }
        let found: Vec<JournalRow> = query_as(
            "SELECT j.task_id, j.epoch, j.ordinal, j.call, j.request, j.answer FROM journal j
             JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS asked (task_id, epoch, ordinal)
                 USING (task_id, epoch, ordinal)",
        )
        .bind(tasks)
        .bind(epochs)
        .bind(ordinals)
        .fetch_all(db)
        .await?;
        for row in found {
            let (task, epoch, entry) = journal_noun(row)?;
            if self.journal.get(&(task, epoch, entry.ordinal)) != Some(&&entry) {
                return Err(another_entry(task, epoch, entry.ordinal).into());
            }
        }
        Ok(())
    }

    /// The key of an effect never changes; two effects of one key are refused by the table.
    async fn write_effects(&self, db: &mut PgConnection) -> Written<()> {
        let rows: Vec<&Effect> = self.effects.values().copied().collect();
        let statement = query(
            "INSERT INTO effects (id, lineage, ordinal, tool, arguments_hash, task_id, attempt, state, created_at,
                 updated_at, body)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::uuid[], $7::bigint[],
                 $8::text[], $9::bigint[], $10::bigint[], $11::text[])
             ON CONFLICT (id) DO UPDATE SET lineage = excluded.lineage, ordinal = excluded.ordinal,
                 tool = excluded.tool, arguments_hash = excluded.arguments_hash, task_id = excluded.task_id,
                 attempt = excluded.attempt, state = excluded.state, created_at = excluded.created_at,
                 updated_at = excluded.updated_at, body = excluded.body",
        )
        .bind(all(&rows, |it| it.id.as_uuid()))
        .bind(all(&rows, |it| it.key.lineage.as_uuid()))
        .bind(all(&rows, |it| i64::from(it.key.ordinal)))
        .bind(all(&rows, |it| kept(&it.key.tool)))
        .bind(all(&rows, |it| it.key.arguments_hash.to_string()))
        .bind(all(&rows, |it| it.task.as_uuid()))
        .bind(all(&rows, |it| i64::from(it.attempt)))
        .bind(each(&rows, |it| name(&it.state))?)
        .bind(all(&rows, |it| it.created_at.as_millis()))
        .bind(all(&rows, |it| it.updated_at.as_millis()))
        .bind(each(&rows, body)?);
        run(db, rows.len(), statement).await
    }

    async fn write_approvals(&self, db: &mut PgConnection) -> Written<()> {
        let rows: Vec<&Approval> = self.approvals.values().copied().collect();
        let statement = query(
            "INSERT INTO approvals (id, campaign_id, task_id, kind, state, deadline, created_at, body)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                 $8::text[])
             ON CONFLICT (id) DO UPDATE SET campaign_id = excluded.campaign_id, task_id = excluded.task_id,
                 kind = excluded.kind, state = excluded.state, deadline = excluded.deadline,
                 created_at = excluded.created_at, body = excluded.body",
        )
        .bind(all(&rows, |it| it.id.as_uuid()))
        .bind(all(&rows, |it| it.campaign.map(|id| id.as_uuid())))
        .bind(all(&rows, |it| it.task.map(|id| id.as_uuid())))
        .bind(each(&rows, |it| name(&it.kind))?)
        .bind(each(&rows, |it| name(&it.state))?)
        .bind(all(&rows, |it| it.deadline.as_millis()))
        .bind(all(&rows, |it| it.created_at.as_millis()))
        .bind(each(&rows, body)?);
        run(db, rows.len(), statement).await
    }

    /// A row that is put again is a new wish: whoever claimed the old one no longer holds it.
    async fn write_outbox(&self, db: &mut PgConnection) -> Written<()> {
        let gone: Vec<Uuid> = self.outbox.iter().filter(|(_, row)| row.is_none()).map(|(id, _)| id.as_uuid()).collect();
        let count = gone.len();
        run(db, count, query("DELETE FROM outbox WHERE id = ANY($1)").bind(gone)).await?;
        let rows: Vec<&Outbox> = self.outbox.values().filter_map(|row| *row).collect();
        let statement = query(
            "INSERT INTO outbox (id, topic, priority, available_at, created_at, body)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::text[])
             ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, priority = excluded.priority,
                 available_at = excluded.available_at, created_at = excluded.created_at, claimed_until = NULL,
                 body = excluded.body",
        )
        .bind(all(&rows, |it| it.id.as_uuid()))
        .bind(all(&rows, |it| it.topic.as_str()))
        .bind(all(&rows, |it| i16::from(it.priority)))
        .bind(all(&rows, |it| it.available_at.as_millis()))
        .bind(all(&rows, |it| it.created_at.as_millis()))
        .bind(each(&rows, body)?);
        run(db, rows.len(), statement).await
    }
}

/// A plain insert: a task that somebody else has made meanwhile is refused by the table, and the change is tried again.
const INSERT_TASKS: &str = "INSERT INTO tasks (id, spec_id, created_at, campaign_id, step_id, planner_id, worker_id, status,
        confidence, updated_at, lineage_id, priority, attempt, epoch, lease_id, lease_until, run_after, rev, body)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
        $9::double precision[], $10::bigint[], $11::uuid[], $12::smallint[], $13::bigint[], $14::bigint[], $15::uuid[],
        $16::bigint[], $17::bigint[], $18::bigint[], $19::text[])";
/// Its spec, birth, campaign and step stay what they were.
const UPDATE_TASKS: &str =
    "UPDATE tasks AS t SET planner_id = n.planner_id, worker_id = n.worker_id, status = n.status,
        confidence = n.confidence, updated_at = n.updated_at, lineage_id = n.lineage_id, priority = n.priority,
        attempt = n.attempt, epoch = n.epoch, lease_id = n.lease_id, lease_until = n.lease_until,
        run_after = n.run_after, rev = n.rev, body = n.body
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
        $9::double precision[], $10::bigint[], $11::uuid[], $12::smallint[], $13::bigint[], $14::bigint[], $15::uuid[],
        $16::bigint[], $17::bigint[], $18::bigint[], $19::text[])
        AS n (id, spec_id, created_at, campaign_id, step_id, planner_id, worker_id, status, confidence, updated_at,
            lineage_id, priority, attempt, epoch, lease_id, lease_until, run_after, rev, body)
    WHERE t.id = n.id";

/// Tasks, and their bodies.
struct TaskRows<'c> {
    tasks: &'c [&'c Task],
    bodies: Vec<String>,
}

impl<'c> TaskRows<'c> {
    fn of(tasks: &'c [&'c Task]) -> PortResult<Self> {
        for task in tasks {
            // JSON has no NaN: such a task would be written and never be read again.
            let confidences = [task.confidence(), task.verdict.as_ref().map(|verdict| verdict.confidence)];
            if confidences.into_iter().flatten().any(|confidence| !confidence.is_finite()) {
                return Err(permanent(format!("task {}: a confidence is not a finite number", task.id)));
            }
        }
        Ok(Self { tasks, bodies: each(tasks, body)? })
    }

    async fn run(self, db: &mut PgConnection, sql: &'static str) -> Written<()> {
        let rows = self.tasks;
        let statement = query(sql)
            .bind(all(rows, |it| it.id.as_uuid()))
            .bind(all(rows, |it| it.spec_id.as_uuid()))
            .bind(all(rows, |it| it.created_at.as_millis()))
            .bind(all(rows, |it| it.campaign.map(|id| id.as_uuid())))
            .bind(all(rows, |it| it.step.map(|id| id.as_uuid())))
            .bind(all(rows, |it| kept(&it.planner_id)))
            .bind(all(rows, |it| it.worker_id.map(|id| id.as_uuid())))
            .bind(all(rows, |it| it.state.as_str()))
            .bind(all(rows, |it| it.confidence()))
            .bind(all(rows, |it| it.updated_at.as_millis()))
            .bind(all(rows, |it| it.lineage.as_uuid()))
            .bind(all(rows, |it| i16::from(it.priority)))
            .bind(all(rows, |it| i64::from(it.attempt)))
            .bind(all(rows, |it| i64::from(it.epoch)))
            .bind(all(rows, |it| it.lease.as_ref().map(|lease| lease.id.as_uuid())))
            .bind(all(rows, |it| it.lease.as_ref().map(|lease| lease.until.as_millis())))
            .bind(all(rows, |it| it.run_after.map(Timestamp::as_millis)))
            .bind(each(rows, |it| int(it.rev))?)
            .bind(self.bodies);
        run(db, rows.len(), statement).await
    }
}

/// A row of the journal: task, epoch, ordinal, call, request, answer.
pub(super) type JournalRow = (Uuid, i64, i64, String, String, String);

/// An entry from its columns.
pub(super) fn journal_noun(row: JournalRow) -> PortResult<(TaskId, u32, JournalEntry)> {
    let (task, epoch, ordinal, call, request, answer) = row;
    let named = format!("{task} {epoch} {ordinal}");
    let number = |number: i64| u32::try_from(number).map_err(|error| corrupt("journal", &named, error));
    let request = request.parse().map_err(|error| corrupt("journal", &named, error))?;
    let answer = AnswerText::parse(&answer).map_err(|error| corrupt("journal", &named, error))?;
    let call: Cow<'static, str> = given(call).into();
    Ok((TaskId::from_uuid(task), number(epoch)?, JournalEntry { ordinal: number(ordinal)?, call, request, answer }))
}

fn another_entry(task: TaskId, epoch: u32, ordinal: u32) -> chimera_core::ports::PortError {
    permanent(format!(
        "the journal of task {task}, epoch {epoch}, has another entry {ordinal} already: nothing was written"
    ))
}

/// One column of every row.
fn all<'c, R, T>(rows: &'c [R], column: impl Fn(&'c R) -> T) -> Vec<T> {
    rows.iter().map(column).collect()
}

/// One column of every row, where it can be written.
fn each<'c, R, T>(rows: &'c [R], column: impl Fn(&'c R) -> PortResult<T>) -> PortResult<Vec<T>> {
    rows.iter().map(column).collect()
}

/// Runs a statement unless it has no rows.
async fn run(db: &mut PgConnection, rows: usize, statement: Query<'_, Postgres, PgArguments>) -> Written<()> {
    if rows == 0 {
        return Ok(());
    }
    statement.execute(db).await.map(drop).map_err(Fault::from)
}
