//! Reads of one row by its id, joined: whatever is asked for at the same time is asked of the server together.
//!
//! A command to the server costs both sides more than the row that it is about. Each kind of noun has a few lookers; one that
//! is free takes everything that has come meanwhile, so that a read by itself waits for nobody and many cost little more than
//! one. Rows are handed on as text, and become nouns where they were asked for. Started with the store; called by the
//! reads.

use super::pool::Pool;
use crate::error::{closed, postgres_error};
use crate::rows::PortResult;
use chimera_core::ports::PortError;
use sqlx::query_as;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

/// Rows in one statement.
const MOST_ROWS: usize = 500;
/// Reads that may wait before callers wait to hand theirs in.
const WAITING: usize = 4096;
/// Statements of one kind that are on their way at once.
const LOOKERS: usize = 2;

/// A row that is wanted.
struct Wanted {
    id: Uuid,
    reply: oneshot::Sender<PortResult<Option<String>>>,
}

/// Reads of one kind.
#[derive(Clone)]
pub(super) struct Lookup {
    wanted: mpsc::Sender<Wanted>,
}

impl Lookup {
    /// Starts lookers; `sql` gives id and body of every row whose id is in its one parameter. They end with the last clone.
    pub(super) fn start(readers: &Pool, sql: &'static str) -> Self {
        let (wanted, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..LOOKERS {
            tokio::spawn(look(readers.clone(), waiting.clone(), sql));
        }
        Self { wanted }
    }

    /// The body of one row.
    pub(super) async fn body(&self, id: Uuid) -> PortResult<Option<String>> {
        let (reply, answer) = oneshot::channel();
        self.wanted.send(Wanted { id, reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

async fn look(readers: Pool, waiting: Arc<Mutex<mpsc::Receiver<Wanted>>>, sql: &'static str) {
    loop {
        let mut wanted = Vec::new();
        // Held only until something has come: the next looker takes what comes while this one asks.
        if waiting.lock().await.recv_many(&mut wanted, MOST_ROWS).await == 0 {
            return;
        }
        // Those who stopped waiting want nothing any more.
        wanted.retain(|wanted| !wanted.reply.is_closed());
        let ids: Vec<Uuid> = wanted.iter().map(|wanted| wanted.id).collect();
        let found: Result<Vec<(Uuid, String)>, PortError> =
            query_as(sql).bind(ids).fetch_all(&readers).await.map_err(postgres_error);
        match found {
            Ok(rows) => {
                let mut rows: HashMap<Uuid, String> = rows.into_iter().collect();
                // Several may have asked for the same row: all but the last are given a copy.
                let mut asked: HashMap<Uuid, usize> = HashMap::with_capacity(wanted.len());
                for wanted in &wanted {
                    *asked.entry(wanted.id).or_default() += 1;
                }
                for Wanted { id, reply } in wanted {
                    let left = asked.entry(id).or_default();
                    *left = left.saturating_sub(1);
                    let body = if *left == 0 { rows.remove(&id) } else { rows.get(&id).cloned() };
                    let _ = reply.send(Ok(body));
                }
            }
            Err(error) => {
                for Wanted { reply, .. } in wanted {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}
