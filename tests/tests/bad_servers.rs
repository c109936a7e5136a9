//! Servers that cannot be used: one clear message that names what to do, exit code 1, no secret, and within seconds.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Context as _, Result, ensure};
use chimera_tests::fleet::{Database, Fleet};
use chimera_tests::redis::Redis;
use chimera_tests::silence::Silence;
use chimera_tests::{Server, assert_clear, chimera, chimera_with, guest, make_private, said};
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const SECRET: &str = "not-to-be-shown";

/// `serve` with this store and whatever else: how it ended.
fn serve(variables: &[(&str, &str)], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    make_private(folder.path()).unwrap();
    let started = Instant::now();
    let output = chimera_with(folder.path(), &["serve", "--listen", "127.0.0.1:0"], variables);
    assert_clear(&output, 1, words);
    assert!(!said(&output).contains(SECRET), "{}", said(&output));
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?} to say so", started.elapsed());
    // The doctor finds the same.
    let doctor = chimera_with(folder.path(), &["doctor"], variables);
    assert_eq!(doctor.status.code(), Some(1), "{}", said(&doctor));
    assert!(!said(&doctor).contains(SECRET), "{}", said(&doctor));
}

/// The address of the server that all tests share, in parts: user, and host with port and database.
fn shared() -> Result<(String, String)> {
    let url = std::env::var("CHIMERA_TEST_POSTGRES")?;
    let (before, place) = url.strip_prefix("postgres://").context("its scheme")?.split_once('@').context("a user")?;
    let (user, _) = before.split_once(':').unwrap_or((before, ""));
    Ok((user.to_owned(), place.to_owned()))
}

#[test]
fn a_postgresql_that_nobody_answers_for_is_told() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let store = format!("postgres://chimera:{SECRET}@{nobody}/chimera");
    serve(&[("CHIMERA_STORE", &store)], &[&nobody, "cannot be used now", "check that it runs"]);
    let silent = format!("127.0.0.1:{}", Silence::listen()?.port());
    let store = format!("postgres://chimera:{SECRET}@{silent}/chimera");
    serve(&[("CHIMERA_STORE", &store)], &[&silent, "does not answer within", "check that it runs"]);
    let store = format!("postgres://chimera:{SECRET}@no-such-host.invalid/chimera");
    serve(&[("CHIMERA_STORE", &store)], &["no-such-host.invalid", "cannot be used now"]);
    Ok(())
}

#[test]
fn a_postgresql_that_refuses_is_told() -> Result<()> {
    let (user, place) = shared()?;
    let store = format!("postgres://{user}:{SECRET}@{place}");
    serve(&[("CHIMERA_STORE", &store)], &["refuses", "check user, password and database"]);
    // Something that is no PostgreSQL at all.
    let redis = Redis::start()?;
    let store = redis.url().replace("redis://", &format!("postgres://chimera:{SECRET}@"));
    serve(&[("CHIMERA_STORE", &store)], &["cannot be used now"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_program_are_told() -> Result<()> {
    for (change, words) in [
        ("UPDATE _sqlx_migrations SET version = 9000 WHERE version = 1", ["schema 9000", "upgrade the program"]),
        ("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1", ["does not hold", "restore"]),
        ("DROP TABLE _sqlx_migrations", ["does not hold", "empty database"]),
    ] {
        let mut fleet = Fleet::create_on(Database::create().await?)?;
        fleet.start("all", "api,planner,worker,judge").await?;
        fleet.process("all").terminate().await?;
        let mut db = fleet.database.connect().await?;
        sqlx::raw_sql(change).execute(&mut db).await?;
        let store = fleet.database.url();
        tokio::task::spawn_blocking(move || serve(&[("CHIMERA_STORE", &store)], &words)).await?;
        let kept = fleet.database.number("SELECT count(*) FROM agents").await?;
        ensure!(kept > 0, "nothing may be lost");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_newer_program_is_told_and_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(folder.path()).await?;
    server.terminate().await?;
    let file = folder.path().join("chimera.db");
    let mut db = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?;
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9000, 'of the future', true, x'00', 0)",
    )
    .execute(&mut db)
    .await?;
    db.close().await?;
    let serve = chimera(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_clear(&serve, 1, &["chimera.db", "schema 9000", "upgrade the program"]);
    Ok(())
}

/// Redis is not needed to start; so a wrong password is told in the log, and what it was for goes another way.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refuses_is_told_and_used_once_it_does_not() -> Result<()> {
    let redis = Redis::start()?;
    redis.set_password("", "another-one")?;
    let mut fleet = Fleet::create().await?;
    fleet.set("CHIMERA_REDIS", &redis.url().replace("redis://", &format!("redis://:{SECRET}@")));
    fleet.start("all", "api,planner,worker,judge").await?;
    let all = fleet.process("all");
    all.install(&guest("misbehave")).await?;
    all.give("hostile/misbehave", &json!({ "mode": "behave" }), 20).await?;
    ensure!(fleet.settle().await? == 20, "the tasks are done without it");
    let all = fleet.process("all");
    let used = all.processor_time_in_five_seconds().await?;
    ensure!(used < Duration::from_millis(1_500), "it tries without a pause: {used:?} of 5 s");
    let log = all.log();
    ensure!(log.contains("Redis at 127.0.0.1") && log.contains("password are wrong") && !log.contains(SECRET), "{log}");
    redis.set_password("another-one", SECRET)?;
    fleet.switched("last", "primary").await?;
    fleet.give("all", "hostile/misbehave", &json!({ "mode": "behave" }), 20).await?;
    ensure!(fleet.settle().await? == 40, "the tasks are done with it");
    fleet.check("all").await
}
