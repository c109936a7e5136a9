//! A server that says nothing any more: nobody waits for it for ever, and what is asked anew is answered.
//!
//! Between the store and the real server stands a cable that can be made silent: its connections stay as they are, and
//! nothing comes through them, as when a network is cut.

use crate::Schema;
use crate::contract::fixtures::*;
use crate::own::hears;
use chimera_core::change::{Committed, OutboxTopic, Write};
use chimera_core::ids::CampaignId;
use chimera_core::ports::{Notice, PortError, PortErrorKind, Queue as _, Truth as _};
use chimera_core::skill::SkillState;
use chimera_store::{PostgresOptions, PostgresStore};
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long an answer may take here.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// A connection is waited for as long, and then an answer; the rest is the machine's.
const AT_MOST: Duration = Duration::from_secs(5);

/// A port that leads to the server.
struct Cable {
    port: SocketAddr,
    cuts: watch::Sender<u32>,
}

impl Cable {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, cuts) = (listener.local_addr().unwrap(), watch::Sender::new(0));
        let told = cuts.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut cut) = (server.clone(), told.subscribe());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        // Both ends are kept open.
                        _ = cut.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, cuts }
    }

    /// Nothing comes through any more on the connections that there are; others may be made.
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// Asks until there is an answer. Each time it is said soon that there is none.
async fn answered<T, F: Future<Output = Result<T, PortError>>>(what: &str, ask: impl Fn() -> F) -> T {
    for _ in 0..20 {
        let asked = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(60), ask()).await;
        match answer.unwrap_or_else(|_| panic!("{what}: it waits for ever")) {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error.kind, PortErrorKind::Unavailable, "{what}: {error}"),
        }
        assert!(asked.elapsed() < AT_MOST, "{what}: it waited for {:?}", asked.elapsed());
    }
    panic!("{what}: it does not come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_ever_for_a_server_that_is_silent() {
    let schema = Schema::create().await;
    let (before, after) = schema.url().split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let (server, database) = after.split_once('/').unwrap();
    let cable = Cable::to(server.to_owned()).await;
    let url = format!("{before}@{}/{database}", cable.port);
    let options = PostgresOptions { answers_within: ANSWERS_WITHIN, ..PostgresOptions::new(url) };
    let store = PostgresStore::open(options).await.unwrap();
    let (spec, task) = task();
    assert_eq!(store.commit(creation(&spec, &task)).await.unwrap(), Committed::Applied);
    let ids = [task.id];
    for round in 0..2 {
        // Every kind of connection is there before it goes silent.
        let _ = store.tasks_by_ids(&ids).await.unwrap();
        let _ = store.queue().claim("default", 1, at(0), at(1)).await.unwrap();
        cable.cut();
        let reads = answered("reading", || store.tasks_by_ids(&ids));
        let views = answered("looking at a campaign", || store.campaign_view(CampaignId::from_uuid(task.id.as_uuid())));
        let lookups = answered("looking up", || store.task(task.id));
        let commits = answered("writing", || store.commit(writes([Write::PutAgent(agent())])));
        let claims = answered("claiming", || store.claim_outbox(OutboxTopic::Judge, at(0), at(1), 1));
        let (reads, views, lookups, commits, claims) = tokio::join!(reads, views, lookups, commits, claims);
        assert_eq!((reads, views, lookups), (vec![Some(task.clone())], None, Some(task.clone())), "round {round}");
        assert_eq!((commits, claims.len()), (Committed::Applied, 0), "round {round}");
    }
    // What another process tells is heard again. That something was missed is told without a name.
    let other = schema.store().await;
    let skill = skill();
    let _ = other.commit(writes([Write::PutSkill(version(skill.clone()))])).await.unwrap();
    let mut listener = store.subscribe();
    let told = async {
        loop {
            let again = Write::SetSkillState(skill.clone(), SkillState::Active);
            let _ = other.commit(writes([again])).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = hears(&mut listener, Notice::Skills(Some(skill.name.clone()))) => {}
        () = told => {}
    }
    let closing = Instant::now();
    store.close().await;
    assert!(closing.elapsed() < Duration::from_secs(20), "closing took {:?}", closing.elapsed());
}
