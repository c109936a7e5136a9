//! Changes of several callers in one transaction.
//!
//! First everything that their guards ask about is read and locked, then each is decided in its order, then all that they
//! write is written table by table, and at last their events are linked. What fails because of one change is undone and
//! done again in halves, until that one is alone with its failure. It decides nothing about what is written. Called by the
//! writers.

use super::bulk::Rows;
use super::chain;
use super::fault::{Fault, Written};
use super::known::Known;
use crate::rows::PortResult;
use chimera_core::audit::AuditEvent;
use chimera_core::change::{Change, Committed, Durability};
use chimera_core::failpoint;
use sqlx::{PgConnection, raw_sql};

/// How often a transaction is tried that others came in the way of.
const TRIES: u32 = 8;

/// What became of the changes of a batch, in their order.
#[derive(Default)]
pub(super) struct Done {
    pub(super) answers: Vec<PortResult<Committed>>,
    /// Every event that was appended.
    pub(super) events: Vec<AuditEvent>,
}

/// Commits them.
///
/// # Errors
/// When the connection can no longer be used: then nobody knows whether the last transaction is there, and the connection must
/// be thrown away.
pub(super) async fn commit(db: &mut PgConnection, changes: &[&Change]) -> PortResult<Done> {
    let mut done = Done::default();
    // The parts that are still to be done, the next one last.
    let mut parts = vec![changes];
    while let Some(part) = parts.pop() {
        match commit_part(db, part).await {
            Ok(mut of_part) => {
                done.answers.append(&mut of_part.answers);
                done.events.append(&mut of_part.events);
            }
            Err(Fault::Connection(error)) => return Err(error),
            Err(fault) if part.len() == 1 => done.answers.push(Err(fault.into_error())),
            Err(_) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    Ok(done)
}

/// One transaction, tried again when others came in its way.
async fn commit_part(db: &mut PgConnection, changes: &[&Change]) -> Written<Done> {
    let mut tries = 1;
    loop {
        let fault = match transact(db, changes).await {
            Err(fault @ (Fault::Change(_) | Fault::Others(_))) => fault,
            settled => return settled,
        };
        if let Err(error) = raw_sql("ROLLBACK").execute(&mut *db).await {
            return Err(Fault::Connection(Fault::from(error).into_error()));
        }
        if tries == TRIES || matches!(fault, Fault::Change(_)) {
            return Err(fault);
        }
        tries += 1;
    }
}

async fn transact(db: &mut PgConnection, changes: &[&Change]) -> Written<Done> {
    let waits_for_disk = changes.iter().any(|change| change.durability == Durability::Now);
    let begin = if waits_for_disk { "BEGIN" } else { "BEGIN; SET LOCAL synchronous_commit = off" };
    raw_sql(begin).execute(&mut *db).await?;
    let mut known = Known::load(db, changes).await?;
    let mut rows = Rows::default();
    let mut drafts = Vec::new();
    let mut done = Done::default();
    for change in changes {
        if let Some(guard) = known.first_broken(&change.guards)? {
            done.answers.push(Ok(Committed::Stale(guard.clone())));
            continue;
        }
        rows.add(change)?;
        for write in &change.writes {
            known.written(write)?;
        }
        drafts.extend(&change.audit);
        done.answers.push(Ok(Committed::Applied));
    }
    rows.write(db, &known).await?;
    done.events = chain::append(db, &drafts).await?;
    failpoint::hit("store.before_commit");
    raw_sql("COMMIT").execute(&mut *db).await?;
    failpoint::hit("store.after_commit");
    Ok(done)
}
