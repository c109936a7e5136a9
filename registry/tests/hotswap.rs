//! Versions are swapped under thousands of runs: each run ends on the version that it was given, nothing fails, and old code
//! is freed.
//!
//! What the durable pipeline does for a task besides (queue, lease, journal, report, verdict) is left out, so that the
//! registry and the sandbox are what is loaded.

#![allow(clippy::unwrap_used)]

mod support;

use chimera_core::audit::Actor;
use chimera_core::clock::SystemClock;
use chimera_core::failure::Failure;
use chimera_core::ids::{IdSource, SystemIds};
use chimera_core::manifest::Limits;
use chimera_core::ports::{Budget, HostPorts, Truth as _};
use chimera_core::route::CanaryTerms;
use chimera_core::skill::SkillName;
use chimera_index::LexicalIndex;
use chimera_registry::{Activation, FolderBlobs, Registry, RouteError};
use chimera_sandbox::{RunEnd, RunRequest, Sandbox, SandboxConfig};
use chimera_store::{SqliteOptions, SqliteStore};
use semver::Version;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::{dummy, echo, with_manifest};

struct House {
    registry: Registry,
    sandbox: Sandbox,
    store: SqliteStore,
    runs: [AtomicU32; 4],
    _folder: tempfile::TempDir,
}

async fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("data"))).await.unwrap();
    let blobs = FolderBlobs::open(folder.path().join("blobs")).unwrap();
    let cache_dir = Some(folder.path().join("cache"));
    let sandbox = Sandbox::new(SandboxConfig { max_concurrent: 64, cache_dir, ..SandboxConfig::default() }).unwrap();
    let registry = Registry::new(
        Arc::new(store.clone()),
        Arc::new(blobs),
        sandbox.clone(),
        Arc::new(LexicalIndex::new()),
        Arc::new(SystemClock),
        Arc::new(SystemIds),
    );
    House { registry, sandbox, store, runs: Default::default(), _folder: folder }
}

fn operator() -> Actor {
    Actor::Operator("ada".to_owned())
}

fn name() -> SkillName {
    "test/made".parse().unwrap()
}

fn v(major: u64) -> Version {
    Version::new(major, 0, 0)
}

fn of_version(major: u64) -> Vec<u8> {
    with_manifest(&echo(), json!({ "skill": { "version": v(major) } }))
}

impl House {
    /// Takes the version that a new task gets, and runs that.
    async fn run_new(&self) {
        let version = self.registry.resolve(&name(), None, Some(SystemIds.next_uuid())).await.unwrap().unwrap();
        self.run_version(&version.skill).await.unwrap();
    }

    async fn run_version(&self, skill: &chimera_core::skill::SkillRef) -> Result<(), Failure> {
        let loaded = self.registry.load(skill).await?;
        let input = json!({ "n": skill.version.major });
        let request = RunRequest {
            task_id: "t".to_owned(),
            campaign: None,
            input: input.clone(),
            limits: Limits::default(),
            manifest: loaded.version.manifest.clone(),
            deadline: Instant::now() + Duration::from_secs(30),
            skill_calls: Budget::MAX_CALLS,
        };
        let report = self.sandbox.run(&loaded.prepared, request, HostPorts::deny_all()).await;
        assert!(matches!(&report.end, RunEnd::Finished(outcome) if outcome.output == input), "{:?}", report.end);
        self.runs[usize::try_from(skill.version.major).unwrap()].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_loaded(&self, major: u64) -> bool {
        let is_it = |skill: &chimera_core::skill::SkillRef| skill.version == v(major);
        self.registry.loaded().iter().any(|code| code.skill.as_ref().is_some_and(is_it))
    }

    /// Waits until a version's code is gone, and says how long that took.
    async fn gone(&self, major: u64) -> Duration {
        let started = Instant::now();
        while self.is_loaded(major) {
            assert!(started.elapsed() < Duration::from_secs(30), "{major} stays in memory");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    }

    async fn more(&self, major: usize, runs: u32) {
        let (from, started) = (self.runs[major].load(Ordering::Relaxed), Instant::now());
        while self.runs[major].load(Ordering::Relaxed) < from + runs {
            assert!(started.elapsed() < Duration::from_secs(60), "version {major} is not run");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_swapped_under_load() {
    let house = Arc::new(house().await);
    house.registry.install(of_version(1), operator()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let mut workers: Vec<_> = (0..8)
        .map(|_| {
            let (house, stop) = (house.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    house.run_new().await;
                }
            })
        })
        .collect();
    workers.push({
        let (house, stop) = (house.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                house.registry.unload_unrouted().await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    });
    house.more(1, 100).await;
    house.registry.install(of_version(2), operator()).await.unwrap();
    house.more(2, 200).await;
    let gone = house.gone(1).await;
    // That it is gone within a second is held where the machine has nothing else to do: `--only timed`.
    assert!(gone < Duration::from_secs(10), "{gone:?}");
    house.registry.rollback(&name(), operator()).await.unwrap();
    house.more(1, 200).await;
    house.registry.activate(&name(), &v(2), operator()).await.unwrap();
    house.more(2, 200).await;
    let trial = Activation::Canary(CanaryTerms::of_share(20));
    house.registry.install_as(of_version(3), trial, operator()).await.unwrap();
    house.more(3, 50).await;
    house.more(2, 50).await;
    house.registry.promote_canary(&name(), operator()).await.unwrap();
    house.more(3, 200).await;
    let gone = house.gone(2).await;
    // That it is gone within a second is held where the machine has nothing else to do: `--only timed`.
    assert!(gone < Duration::from_secs(10), "{gone:?}");
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let runs: u32 = house.runs.iter().map(|runs| runs.load(Ordering::Relaxed)).sum();
    println!("{runs} runs, {:.0} a second", f64::from(runs) / started.elapsed().as_secs_f64());
    let actions: Vec<String> = house
        .store
        .audit(None, 0, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.draft.action.into_owned())
        .collect();
    assert_eq!(
        actions,
        [
            "skill.installed",
            "skill.installed",
            "skill.rolled_back",
            "skill.activated",
            "skill.installed",
            "skill.canary_promoted"
        ]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let house = house().await;
    let (registry, made) = (&house.registry, name());
    let terms = CanaryTerms::of_share(10);
    assert!(matches!(registry.rollback(&made, operator()).await, Err(RouteError::NotInstalled(_))));
    let held = registry.install_as(of_version(1), Activation::No, operator()).await.unwrap();
    assert_eq!(registry.route(&made).await.unwrap().active, None);
    assert!(registry.resolve(&made, None, None).await.unwrap().is_none(), "nobody activated it");
    let only = held.version.skill.clone();
    assert!(matches!(registry.start_canary(&made, &v(1), terms, operator()).await, Err(RouteError::NoActive(_))));
    registry.activate(&made, &v(1), operator()).await.unwrap();
    assert_eq!(registry.resolve(&made, None, None).await.unwrap().unwrap().skill, only);
    assert!(matches!(registry.rollback(&made, operator()).await, Err(RouteError::NoPrevious(_))));
    assert!(matches!(registry.activate(&made, &v(9), operator()).await, Err(RouteError::NotInstalled(_))));
    assert!(matches!(registry.start_canary(&made, &v(1), terms, operator()).await, Err(RouteError::ActiveAlready(_))));
    assert!(matches!(registry.stop_canary(&made, operator()).await, Err(RouteError::NoCanary(_))));
    let none = CanaryTerms { share: 0, ..terms };
    assert!(matches!(registry.start_canary(&made, &v(1), none, operator()).await, Err(RouteError::Terms(_))));

    // A version that wants more waits for consent, and keeps what was asked for until then.
    let wider = dummy("import chimera:skill/memory@0.1.0; export chimera:skill/runner@0.1.0;", &[]);
    let wishes = json!({ "skill": { "version": "2.0.0" }, "capabilities": { "memory": ["recall"] } });
    let waiting =
        registry.install_as(with_manifest(&wider, wishes), Activation::Canary(terms), operator()).await.unwrap();
    assert!(matches!(registry.activate(&made, &v(2), operator()).await, Err(RouteError::NotAllowed(..))));
    assert_eq!(registry.route(&made).await.unwrap().canary, None);
    let chimera_registry::InstallOutcome::AwaitingConsent(question) = waiting.outcome else { panic!("{waiting:?}") };
    let yes = serde_json::from_value(json!({ "decision": "approve" })).unwrap();
    registry.consent(question, &yes, operator()).await.unwrap();
    let route = registry.route(&made).await.unwrap();
    assert_eq!(route.active, Some(v(1)));
    assert_eq!(route.canary.map(|canary| canary.version), Some(v(2)));

    // What is unloaded by hand is loaded again when it is wanted.
    house.run_version(&only).await.unwrap();
    assert!(registry.unload(&made, &v(1), operator()).await.unwrap());
    assert!(!house.is_loaded(1));
    assert!(!registry.unload(&made, &v(1), operator()).await.unwrap());
    house.run_version(&only).await.unwrap();
}
