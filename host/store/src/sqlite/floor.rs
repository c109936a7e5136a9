//! The floor under the store: the rows that finished tasks left, written again by SQL alone.
//!
//! For benchmarks. The same tables with the same indexes, the same connection and the same wait for the disk, but no guard,
//! no noun, no chain and nobody to be answered: what is left over that is the platform's. A task's row is written as often
//! as the platform wrote it. It writes to a folder of its own and changes no store. Called by `chimera bench`.

use super::connection::{self, Place};
use crate::error::StoreError;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use std::path::Path;
use std::time::{Duration, Instant};

/// Tasks in one transaction.
const GROUP: usize = 500;
/// Tasks in one transaction while a table is filled.
const FILLED_AT_ONCE: u32 = 20_000;
/// What is copied of a task besides its own row: table, and which rows are its.
const TABLES: [(&str, &str); 3] = [
    ("task_specs", "id = (SELECT spec_id FROM tasks WHERE id = ?1)"),
    ("journal", "task_id = ?1"),
    ("audit_logs", "task_id = ?1"),
];

/// Rows of finished tasks.
#[derive(Debug)]
pub struct SqliteFloor {
    /// What the database is made with.
    schema: Vec<String>,
    tasks: Vec<TaskRows>,
    /// How often each task's row is written after the first time.
    rewrites: u64,
    columns: Vec<String>,
}

#[derive(Debug)]
struct TaskRows {
    task: Vec<Value>,
    /// Of each of [`TABLES`].
    others: [Vec<Vec<Value>>; TABLES.len()],
}

impl SqliteFloor {
    /// Reads the rows of the tasks that were finished last, at most so many, from a store's database file. The store may be
    /// open. `rewrites` is how often the platform wrote the row of each after the first time.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn read(database: &Path, most: u32, rewrites: u64) -> Result<Self, StoreError> {
        let read = || {
            let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            db.busy_timeout(Duration::from_secs(5))?;
            let made = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
                        ORDER BY CASE type WHEN 'table' THEN 0 ELSE 1 END";
            let schema = db.prepare(made)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            let shape = db.prepare("SELECT * FROM tasks LIMIT 0")?;
            let columns: Vec<String> = shape.column_names().iter().map(ToString::to_string).collect();
            let newest = format!("SELECT * FROM tasks WHERE status = 'approved' ORDER BY updated_at DESC LIMIT {most}");
            let rows = all(&db, &newest, &[])?;
            let id = columns.iter().position(|column| column == "id").unwrap_or_default();
            let mut tasks = Vec::with_capacity(rows.len());
            for task in rows {
                let of_task = [task[id].clone()];
                let mut others = [const { Vec::new() }; TABLES.len()];
                for (rows, (table, which)) in others.iter_mut().zip(TABLES) {
                    *rows = all(&db, &format!("SELECT * FROM {table} WHERE {which}"), &of_task)?;
                }
                tasks.push(TaskRows { task, others });
            }
            // As they were made.
            tasks.reverse();
            Ok(Self { schema, tasks, rewrites, columns })
        };
        read().map_err(|error| StoreError::from_sqlite(database.to_owned(), &error))
    }

    /// How many tasks' rows it has.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// How many rows are written, counted as often as they are.
    pub fn rows(&self) -> u64 {
        let of = |task: &TaskRows| 1 + self.rewrites + task.others.iter().map(|rows| rows.len() as u64).sum::<u64>();
        self.tasks.iter().map(of).sum()
    }

    /// Adds so many copies of the first task, finished long ago, to a store's database file, which no store may have open. It
    /// blocks.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be written.
    pub fn fill(&self, database: &Path, count: u32) -> Result<(), StoreError> {
        self.fill_with(database, count).map_err(|error| StoreError::from_sqlite(database.to_owned(), &error))
    }

    fn fill_with(&self, database: &Path, count: u32) -> rusqlite::Result<()> {
        let Some(TaskRows { task, others }) = self.tasks.first() else { return Ok(()) };
        let Some(spec) = others[0].first() else { return Ok(()) };
        let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.pragma_update(None, "synchronous", "OFF")?;
        let place = |name: &str| self.columns.iter().position(|column| column == name).unwrap_or_default();
        let (id, spec_id, lineage) = (place("id"), place("spec_id"), place("lineage_id"));
        let (mut task, mut spec) = (task.clone(), spec.clone());
        for first in (0..count).step_by(FILLED_AT_ONCE as usize) {
            db.execute_batch("BEGIN IMMEDIATE")?;
            let mut put_spec = db.prepare_cached(&insert("task_specs", spec.len()))?;
            let mut put_task = db.prepare_cached(&insert("tasks", task.len()))?;
            for number in first..count.min(first + FILLED_AT_ONCE) {
                // Older than any id that is drawn now, and in their order.
                let named = |kind: u8| Value::Text(format!("01000000-{kind:04x}-7000-8000-{number:012x}"));
                (spec[0], task[spec_id], task[id], task[lineage]) = (named(1), named(1), named(2), named(3));
                put_spec.execute(params_from_iter(&spec))?;
                put_task.execute(params_from_iter(&task))?;
            }
            drop((put_spec, put_task));
            db.execute_batch("COMMIT")?;
        }
        db.close().map_err(|(_, error)| error)
    }

    /// Writes them into a new database in an empty folder, 500 tasks a transaction, each on disk before the next begins; how
    /// long that took. It blocks.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<Duration, StoreError> {
        let path = folder.join(super::DATABASE_FILE);
        self.write_to(&path).map_err(|error| StoreError::from_sqlite(path, &error))
    }

    fn write_to(&self, path: &Path) -> rusqlite::Result<Duration> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        for statement in &self.schema {
            db.execute(statement, [])?;
        }
        db.close().map_err(|(_, error)| error)?;
        let place = Place { path: path.to_owned(), busy_timeout: Duration::from_secs(5) };
        let db = connection::open(&place)?;
        let insert_task = insert("tasks", self.columns.len());
        let mut sets: Vec<String> = self.columns.iter().zip(1..).map(|(name, at)| format!("{name} = ?{at}")).collect();
        // What the platform leaves alone once it is written.
        sets.retain(|set| {
            !["id ", "spec_id ", "created_at ", "campaign_id ", "step_id "].iter().any(|name| set.starts_with(name))
        });
        let id = self.columns.iter().position(|column| column == "id").unwrap_or_default() + 1;
        // Without the columns that are left alone the numbers of the others stay what they are.
        let update_task = format!("UPDATE tasks SET {} WHERE id = ?{id}", sets.join(", "));
        let started = Instant::now();
        for group in self.tasks.chunks(GROUP) {
            db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.write_group(&db, group, &insert_task, &update_task)?;
            db.prepare_cached("COMMIT")?.execute([])?;
        }
        Ok(started.elapsed())
    }

    fn write_group(
        &self,
        db: &Connection,
        group: &[TaskRows],
        insert_task: &str,
        update_task: &str,
    ) -> rusqlite::Result<()> {
        // Specifications first: tasks refer to them.
        let others = |table: usize| -> rusqlite::Result<()> {
            let mut rows = group.iter().flat_map(|task| &task.others[table]).peekable();
            let Some(first) = rows.peek() else { return Ok(()) };
            let mut put = db.prepare_cached(&insert(TABLES[table].0, first.len()))?;
            rows.try_for_each(|row| put.execute(params_from_iter(row)).map(drop))
        };
        others(0)?;
        let mut put = db.prepare_cached(insert_task)?;
        group.iter().try_for_each(|task| put.execute(params_from_iter(&task.task)).map(drop))?;
        let mut put = db.prepare_cached(update_task)?;
        for _ in 0..self.rewrites {
            group.iter().try_for_each(|task| put.execute(params_from_iter(&task.task)).map(drop))?;
        }
        (1..TABLES.len()).try_for_each(others)
    }
}

fn insert(table: &str, columns: usize) -> String {
    format!("INSERT INTO {table} VALUES (?{})", ", ?".repeat(columns - 1))
}

fn all(db: &Connection, sql: &str, given: &[Value]) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut statement = db.prepare_cached(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map(params_from_iter(given), |row| (0..columns).map(|at| row.get(at)).collect())?;
    rows.collect()
}
