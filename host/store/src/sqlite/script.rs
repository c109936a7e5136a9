//! The statements of one job, sent to the database as few commands.
//!
//! The driver runs each connection on a thread of its own, so every command costs two changes of thread, and beside guests
//! that compute each change waits for its turn. A job of a dozen statements that are sent one by one pays for a dozen; a
//! script pays once. It leans on the driver's running all statements of one text in a row with one list of arguments, which
//! is the reason why only plain `?` may stand in them; nothing else in this crate leans on that. It decides nothing about
//! what is written. Filled by the guards, the writes and the transport, run by the writer.

use super::rows::{PortResult, permanent};
use crate::error::port_error;
use futures::TryStreamExt as _;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Either, Encode, Executor as _, Sqlite, SqliteConnection, Type};

/// Statements in one command. The driver keeps each text it has seen prepared, so texts should repeat: whatever is longer
/// is cut into pieces of this length.
const MOST_STATEMENTS: usize = 16;

/// What opens, keeps or undoes a job, said together with the next command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// The first job of a transaction.
    Begin,
    /// The job before is kept.
    Keep,
    /// The job before is undone.
    Undo,
}

impl Control {
    /// Its text, and the number of its statements.
    const fn sql(self) -> (&'static str, usize) {
        match self {
            Self::Begin => ("BEGIN IMMEDIATE;", 1),
            Self::Keep => ("RELEASE job;", 1),
            Self::Undo => ("ROLLBACK TO job;RELEASE job;", 2),
        }
    }
}

/// What follows the control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// A job that can be undone by itself.
    Job,
    /// The end of the transaction: what is in the script, then the commit.
    Commit,
}

/// Statements in their order.
#[derive(Debug, Default)]
pub(super) struct Script {
    commands: Vec<Command>,
    statements: usize,
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct Command {
    sql: String,
    arguments: SqliteArguments,
    statements: usize,
}

/// What one statement did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// How many rows it touched.
    pub(super) touched: u64,
    /// The rows that it gave.
    pub(super) rows: Vec<SqliteRow>,
}

/// What became of a script.
#[derive(Debug)]
pub(super) struct Ran {
    /// What each statement did, as far as they came.
    pub(super) done: Vec<Done>,
    /// How the first one that failed did; those after it did not run.
    pub(super) end: PortResult<()>,
}

/// Gives a statement its arguments.
pub(super) struct Binder<'s> {
    script: &'s mut Script,
    number: usize,
}

impl Script {
    /// Adds a statement, whose arguments are to be bound in their order.
    pub(super) fn add(&mut self, sql: &'static str) -> Binder<'_> {
        debug_assert!(!sql.contains("?1"), "numbered arguments do not work here: {sql}");
        if self.commands.last().is_none_or(|command| command.statements == MOST_STATEMENTS) {
            self.commands.push(Command::default());
        }
        if let Some(command) = self.commands.last_mut() {
            command.sql.push_str(sql);
            command.sql.push(';');
            command.statements += 1;
        }
        self.statements += 1;
        let number = self.statements - 1;
        Binder { script: self, number }
    }

    /// Runs the control, the frame and the statements. The outer error is that of control or frame, which is the whole
    /// transaction's; the inner one that of a statement.
    pub(super) async fn run(mut self, db: &mut SqliteConnection, control: Control, frame: Frame) -> PortResult<Ran> {
        let (control, mut leading) = control.sql();
        let mut ran = Ran { done: Vec::with_capacity(self.statements), end: Ok(()) };
        if let Some(failed) = self.failed.take() {
            // Nothing of it may run, but what comes next finds a job to undo.
            self.commands.clear();
            ran.end = Err(permanent(failed));
        }
        if self.commands.is_empty() {
            self.commands.push(Command::default());
        }
        if frame == Frame::Commit
            && let Some(last) = self.commands.last_mut()
        {
            last.sql.push_str("COMMIT;");
        }
        let mut opening = control.to_owned();
        if frame == Frame::Job {
            opening.push_str("SAVEPOINT job;");
            leading += 1;
        }
        for command in self.commands {
            let sql = std::mem::take(&mut opening) + &command.sql;
            let lead = std::mem::take(&mut leading);
            let failed = send(db, sql, command.arguments, lead, &mut ran.done).await?;
            if frame == Frame::Commit {
                failed?;
            } else if let Err(error) = failed {
                ran.end = Err(error);
                break;
            }
        }
        Ok(ran)
    }
}

/// Sends one command whose first `lead` statements are the transaction's; the outer error is theirs.
async fn send(
    db: &mut SqliteConnection,
    sql: String,
    arguments: SqliteArguments,
    lead: usize,
    done: &mut Vec<Done>,
) -> PortResult<PortResult<()>> {
    let query = sqlx::query_with::<Sqlite, _>(AssertSqlSafe(sql), arguments);
    let mut results = (&mut *db).fetch_many(query);
    let mut led = 0;
    let mut rows = Vec::new();
    loop {
        match results.try_next().await {
            Ok(Some(Either::Right(row))) => rows.push(row),
            Ok(Some(Either::Left(_))) if led < lead => led += 1,
            Ok(Some(Either::Left(result))) => {
                done.push(Done { touched: result.rows_affected(), rows: std::mem::take(&mut rows) });
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) if led < lead => return Err(port_error(error)),
            Err(error) => return Ok(Err(port_error(error))),
        }
    }
}

impl Binder<'_> {
    /// The next argument.
    pub(super) fn bind<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(self, value: T) -> Self {
        if let Some(command) = self.script.commands.last_mut()
            && let Err(error) = command.arguments.add(value)
        {
            self.script.failed = Some(format!("a value cannot be stored: {error}"));
        }
        self
    }

    /// Which statement this is, for what it will have done.
    pub(super) fn number(&self) -> usize {
        self.number
    }
}
