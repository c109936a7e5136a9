//! Workers behind a network that is cut and joined again: nothing is refused and nothing is reset, it is just silent.

use super::{SKILL, check_given, give_through, start_some, tasks};
use anyhow::{Result, ensure};
use chimera_tests::fleet::{Database, Fleet};
use chimera_tests::is_full;
use chimera_tests::network::Namespace;
use chimera_tests::postgres::Postgres;
use chimera_tests::privilege::{Privilege, has};
use chimera_tests::redis::Redis;
use serde_json::json;
use std::time::{Duration, Instant};

/// Longer than a lease, which is 45 seconds.
const CUT: Duration = Duration::from_secs(50);

/// Servers, planner, judge and API on this side; a worker in each of two namespaces.
struct Apart {
    fleet: Fleet,
    places: [Namespace; 2],
    postgres: Postgres,
    redis: Redis,
}

impl Apart {
    async fn start() -> Result<Self> {
        let places = [Namespace::create()?, Namespace::create()?];
        let near = [places[0].near(), places[1].near()];
        let (postgres, redis) = (Postgres::start_at(&near)?, Redis::start_at(&near)?);
        let mut fleet = Fleet::create_on(Database::create_on(postgres.url()).await?)?;
        fleet.set("CHIMERA_REDIS", &redis.url());
        let fleet = start_some(fleet, &[("api", "api"), ("planner", "planner"), ("judge", "judge")]).await?;
        let mut apart = Self { fleet, places, postgres, redis };
        for place in 0..apart.places.len() {
            apart.start_worker(place).await?;
        }
        Ok(apart)
    }

    async fn start_worker(&mut self, place: usize) -> Result<()> {
        let at = &self.places[place];
        let store = self.fleet.database.url_by(&self.postgres.url_at(at.near()));
        let redis = self.redis.url_at(at.near());
        let environment = [("CHIMERA_STORE", store.as_str()), ("CHIMERA_REDIS", redis.as_str())];
        self.fleet.start_worker_in(at, &name(place), &environment).await
    }

    /// The worker of the one place does these alone, because the other's is killed.
    async fn works_alone(&mut self, place: usize, count: usize) -> Result<Duration> {
        self.fleet.process(&name(1 - place)).kill9();
        let started = Instant::now();
        self.fleet.give("api", SKILL, &json!({ "mode": "behave" }), count).await?;
        let settled = self.fleet.settle().await;
        ensure!(settled.is_ok(), "{} does not come back: {settled:?}", name(place));
        Ok(started.elapsed())
    }
}

fn name(place: usize) -> String {
    format!("worker-{place}")
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_the_network_cuts_off_come_back_and_lose_nothing() -> Result<()> {
    if !has(&[Privilege::Network, Privilege::System])? {
        return Ok(());
    }
    let mut apart = Apart::start().await?;
    let mut given = give_through(&mut apart.fleet, tasks() / 2).await?;
    // In the middle of its work.
    apart.places[0].cut()?;
    let cut = Instant::now();
    given += give_through(&mut apart.fleet, tasks() / 2).await?;
    // What it held is done by the other one.
    apart.fleet.settle().await?;
    tokio::time::sleep(CUT.saturating_sub(cut.elapsed())).await;
    apart.places[0].join()?;
    // Nothing waits for answers of the time before the cut.
    let took = apart.works_alone(0, 20).await?;
    println!("the worker that was cut off for {:?} did 20 tasks in {took:?}", cut.elapsed());
    given += 20;
    if is_full() {
        apart.start_worker(1).await?;
        given += give_through(&mut apart.fleet, tasks() / 2).await?;
        // Nobody is left who could work.
        apart.places.iter().try_for_each(Namespace::cut)?;
        tokio::time::sleep(CUT).await;
        apart.places.iter().try_for_each(Namespace::join)?;
        apart.fleet.settle().await?;
        let took = apart.works_alone(1, 20).await?;
        println!("the other one did 20 tasks in {took:?} after both were cut off");
        given += 20;
    }
    check_given(&mut apart.fleet, given).await
}
