//! Connections that are taken and given back, with a bound of time on every answer.
//!
//! A server that cannot be reached any more says nothing, for as long as the network lets it, and the driver waits as long
//! as that: a quarter of an hour for what was sent, and for ever if nothing was. So nothing is waited for longer here, and a
//! connection that has failed somebody is closed: what it says next would be the answer to an earlier question, and one that
//! was opened while the database could only be read stays so. It knows no SQL. Made and asked by the store.

use super::{CONNECT, connection};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr};
use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// What a server answers that takes no writes: "read_only_sql_transaction" (PostgreSQL's manual, appendix A).
const READ_ONLY: &str = "25006";

/// What its connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads, and writes that are waited for.
    Reading,
    /// What need not be on disk.
    Transport,
}

/// Connections of one kind. Cheap to clone; the clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pool: PgPool,
    answers_within: Duration,
}

impl Pool {
    /// At most so many connections, none of which is made before it is wanted.
    pub(super) fn new(connect: PgConnectOptions, connections: u32, what_for: Use, answers_within: Duration) -> Self {
        // Asked first whether it is still there: a server that was restarted costs nobody anything.
        let pool = PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(CONNECT.min(answers_within))
            .test_before_acquire(true)
            .after_connect(move |db, _| {
                Box::pin(async move {
                    match what_for {
                        Use::Reading => connection::prepare(db).await,
                        Use::Transport => connection::prepare_loose(db).await,
                    }
                })
            })
            .connect_lazy_with(connect);
        Self { pool, answers_within }
    }

    /// A connection for several questions, which are to be asked [within](Self::within) the bound.
    pub(super) async fn acquire(&self) -> sqlx::Result<Borrowed> {
        let db = self.pool.acquire().await?;
        Ok(Borrowed { db, answers_within: self.answers_within, is_spent: false })
    }

    /// Waits for an answer, or for several together, no longer than one may take.
    pub(super) async fn within<T>(&self, asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        within(self.answers_within, asked).await
    }

    /// Waits for what is under way and closes them all.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Waits for an answer no longer than this.
pub(super) async fn within<T>(span: Duration, asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(span, asked).await.unwrap_or_else(|_| Err(silence(span)))
}

/// Said instead of an answer that does not come.
pub(super) fn silence(span: Duration) -> sqlx::Error {
    let what = format!("it has not answered for {span:?}; whether it did what it was told is not known");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, what))
}

/// Nothing more is to be asked on a connection that has said this.
fn is_spent(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == READ_ONLY),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

/// A connection that goes back when this is dropped, if it still answers then.
pub(super) struct Borrowed {
    db: PoolConnection<Postgres>,
    answers_within: Duration,
    is_spent: bool,
}

impl Borrowed {
    /// Sees that it is closed instead if it is no good any more.
    fn after<T>(mut self, answer: sqlx::Result<T>) -> sqlx::Result<T> {
        if answer.as_ref().is_err_and(is_spent) {
            self.is_spent = true;
            self.db.close_on_drop();
        }
        answer
    }
}

impl Deref for Borrowed {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.db
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.db
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // The driver asks it whether it is still there, and would keep its place in the pool while no answer comes.
        if !self.is_spent
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(self.answers_within, self.db.return_to_pool()));
        }
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        // Gathered first: whoever reads rows slowly shall not be taken for a server that is silent.
        let gathered = async move {
            let mut db = self.acquire().await?;
            let read = async {
                let (mut found, mut answers) = (Vec::new(), (&mut *db).fetch_many(query));
                while let Some(answer) = self.within(answers.try_next()).await? {
                    found.push(answer);
                }
                Ok(found)
            };
            let read = read.await;
            db.after(read)
        };
        let rows = futures::stream::once(gathered).map_ok(|found| futures::stream::iter(found.into_iter().map(Ok)));
        rows.try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut db = self.acquire().await?;
            let found = self.within((&mut *db).fetch_optional(query)).await;
            db.after(found)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        Box::pin(async move {
            let mut db = self.acquire().await?;
            let prepared = self.within((&mut *db).prepare_with(sql, parameters)).await;
            db.after(prepared)
        })
    }
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'p: 'e,
    {
        Box::pin(async move {
            let mut db = self.acquire().await?;
            let described = self.within((&mut *db).describe(sql)).await;
            db.after(described)
        })
    }
}
