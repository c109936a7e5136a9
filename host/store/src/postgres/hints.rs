//! What processes on one database tell each other: that there is something to look at.
//!
//! By NOTIFY (PostgreSQL's manual, section "NOTIFY"), which takes a lock that all commits share: so what a process has to
//! tell is gathered, said at most so often, and says only what to read again. A hint may be lost; everybody who listens
//! also looks from time to time. What arrives is a stranger's text and wakes somebody, no more. Nothing here reads the
//! truth. Started by [`PostgresStore::open`](super::PostgresStore::open).

use super::connection;
use super::pool::{Pool, within};
use crate::installed::Installed;
use crate::listen::Notices;
use chimera_core::change::OutboxTopic;
use chimera_core::ports::Notice;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::query;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The channel. It belongs to the database, so each hint names its schema.
const CHANNEL: &str = "chimera";
/// How soon a process speaks again.
const PAUSE: Duration = Duration::from_millis(10);
/// How soon it speaks again of events.
const EVENTS_PAUSE: Duration = Duration::from_millis(250);
/// Pauses before it is tried again to listen.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// One thing to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    Outbox(OutboxTopic),
    Queued,
    Audited,
}

/// Told by a trigger, with the skill's name.
const SKILL: &str = "skill:";

impl Hint {
    const ALL: [Self; 6] = [
        Self::Outbox(OutboxTopic::Dispatch),
        Self::Outbox(OutboxTopic::Judge),
        Self::Outbox(OutboxTopic::Plan),
        Self::Outbox(OutboxTopic::Replan),
        Self::Queued,
        Self::Audited,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Outbox(topic) => topic.as_str(),
            Self::Queued => "queued",
            Self::Audited => "audited",
        }
    }

    const fn notice(self) -> Notice {
        match self {
            Self::Outbox(topic) => Notice::Outbox(topic),
            Self::Queued => Notice::Queued,
            Self::Audited => Notice::Elsewhere,
        }
    }
}

/// What is to be told to the other processes.
#[derive(Debug)]
pub(super) struct Hints {
    /// Tells what this process says from what others say.
    process: String,
    untold: Mutex<BTreeSet<Hint>>,
    some: Notify,
}

impl Hints {
    pub(super) fn new() -> Self {
        Self { process: Uuid::now_v7().simple().to_string(), untold: Mutex::default(), some: Notify::new() }
    }

    /// Will be told soon.
    pub(super) fn add(&self, hint: Hint) {
        if self.lock().insert(hint) {
            self.some.notify_one();
        }
    }

    /// Tells until `stop`.
    pub(super) async fn tell(&self, pool: &Pool, stop: &CancellationToken) {
        let mut told_of_events: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.some.notified() => {}
            }
            let may_tell_of_events = told_of_events.is_none_or(|told| told.elapsed() >= EVENTS_PAUSE);
            let (now, later): (BTreeSet<Hint>, BTreeSet<Hint>) = std::mem::take(&mut *self.lock())
                .into_iter()
                .partition(|hint| *hint != Hint::Audited || may_tell_of_events);
            if now.contains(&Hint::Audited) {
                told_of_events = Some(Instant::now());
            }
            if !now.is_empty() {
                let what: Vec<&str> = now.iter().map(|hint| hint.name()).collect();
                let tell = query("SELECT pg_notify($1, $2 || ' ' || $3 || ' ' || current_schema())")
                    .bind(CHANNEL)
                    .bind(&self.process)
                    .bind(what.join(","));
                // Lost: who listens looks from time to time.
                if let Err(error) = tell.execute(pool).await {
                    tracing::debug!(%error, "the other processes could not be told");
                }
            }
            tokio::time::sleep(PAUSE).await;
            for hint in later {
                self.add(hint);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Hint>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What hears the other processes.
pub(super) struct Ear {
    pub(super) connect: PgConnectOptions,
    /// How long an answer may take, and how long silence is not asked about.
    pub(super) answers_within: Duration,
    pub(super) hints: Arc<Hints>,
    pub(super) installed: Arc<Installed>,
    pub(super) notices: Notices,
}

/// A connection on which they are heard.
pub(super) struct Listening {
    listener: PgListener,
    /// Whose hints count.
    schema: String,
}

impl Ear {
    /// Begins to listen: nothing that is told from now on is missed.
    pub(super) async fn attach(&self) -> sqlx::Result<Listening> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(super::CONNECT)
            .after_connect(|db, _| Box::pin(connection::prepare(db)))
            .connect_lazy_with(self.connect.clone());
        let attached = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            let schema = sqlx::query_scalar("SELECT coalesce(current_schema(), '')").fetch_one(&mut listener).await?;
            Ok(Listening { listener, schema })
        };
        within(super::CONNECT, attached).await
    }

    /// Listens until `stop`, and begins anew whenever the connection is lost.
    pub(super) async fn listen(self, mut listening: Listening, stop: CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.hear(&mut listening) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "the other processes can no longer be heard");
            }
            listening = tokio::select! {
                () = stop.cancelled() => return,
                again = self.attach_again() => again,
            };
            // What was told in between is unknown: everybody looks.
            Hint::ALL.into_iter().for_each(|hint| self.heard(hint.notice()));
            self.heard(Notice::Skills(None));
        }
    }

    async fn attach_again(&self) -> Listening {
        let mut pause = FIRST_RETRY;
        loop {
            tokio::time::sleep(pause).await;
            match self.attach().await {
                Ok(listening) => return listening,
                Err(error) => tracing::debug!(%error, "the other processes cannot be heard just now"),
            }
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    /// Until the connection is lost.
    async fn hear(&self, listening: &mut Listening) -> sqlx::Result<()> {
        loop {
            // Waiting for a message may be given up at any moment: none is lost by it.
            match tokio::time::timeout(self.answers_within, listening.listener.try_recv()).await {
                Ok(Ok(Some(told))) => {
                    self.notices_in(told.payload(), &listening.schema)
                        .into_iter()
                        .for_each(|notice| self.heard(notice));
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                // Nobody has said anything, or the server cannot be reached any more: that looks the same.
                Err(_) => {
                    within(self.answers_within, query("SELECT 1").execute(&mut listening.listener)).await?;
                }
            }
        }
    }

    /// What another process of the same schema says; what cannot be read says nothing.
    fn notices_in(&self, payload: &str, schema: &str) -> Vec<Notice> {
        let mut parts = payload.splitn(3, ' ');
        let (Some(process), Some(what), Some(of)) = (parts.next(), parts.next(), parts.next()) else {
            return Vec::new();
        };
        if of != schema || process == self.hints.process {
            return Vec::new();
        }
        let notice = |what: &str| match what.strip_prefix(SKILL) {
            Some(name) => name.parse().ok().map(|name| Notice::Skills(Some(name))),
            None => Hint::ALL.into_iter().find(|hint| hint.name() == what).map(Hint::notice),
        };
        what.split(',').filter_map(notice).collect()
    }

    fn heard(&self, notice: Notice) {
        if let Notice::Skills(_) = notice {
            self.installed.forget();
        }
        self.notices.send(notice);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    #[test]
    fn only_what_can_be_read_is_heard() {
        let notices = Notices::default();
        let connect = PgConnectOptions::new_without_pgpass();
        let ear = Ear {
            connect,
            answers_within: LAST_RETRY,
            hints: Arc::new(Hints::new()),
            installed: Arc::default(),
            notices,
        };
        let heard = |payload: &str| ear.notices_in(payload, "one two");
        assert_eq!(heard("p judge,queued one two"), [Notice::Outbox(OutboxTopic::Judge), Notice::Queued]);
        let name = "acme/scan".parse().unwrap();
        assert_eq!(heard("- skill:acme/scan one two"), [Notice::Skills(Some(name))]);
        for nothing in ["", "p", "p judge", "p judge other", "p audit one two", "- skill:../x one two"] {
            assert_eq!(heard(nothing), [], "{nothing:?}");
        }
        assert_eq!(heard(&format!("{} judge one two", ear.hints.process)), [], "its own");
    }
}
