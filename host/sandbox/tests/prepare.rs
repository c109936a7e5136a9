//! Components are compiled once, cached authentically, and refused with a reason.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use chimera_core::digest::Digest;
use chimera_core::failure::{FailureKind, codes};
use chimera_core::manifest::{Limits, World};
use chimera_core::ports::HostPorts;
use chimera_core::verdict::Decision;
use chimera_sandbox::{JudgedCase, Sandbox, SandboxConfig};
use common::{component, echo, failure, output, prepare, request, sandbox, skill};
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

fn cached(folder: &Path) -> Sandbox {
    let config = SandboxConfig { cache_dir: Some(folder.to_owned()), max_concurrent: 4, ..SandboxConfig::default() };
    Sandbox::new(config).unwrap()
}

#[tokio::test]
async fn a_component_is_prepared_once_however_many_ask() {
    let sandbox = sandbox();
    let wasm = echo();
    let digest = Digest::of(&wasm);
    assert!(sandbox.prepared(&digest).is_none());
    let (a, b) = tokio::join!(sandbox.prepare(&digest, &wasm), sandbox.prepare(&digest, &wasm));
    assert!(Arc::ptr_eq(&a.unwrap(), &b.unwrap()));
    assert!(sandbox.prepared(&digest).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_share_one_compilation_and_one_load() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = echo();
    let digest = Digest::of(&wasm);
    let entry = |folder: &Path| {
        let mut entries = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        entries.find(|file| file.path().extension().is_some_and(|extension| extension == "cwasm")).unwrap()
    };
    for round in ["compiled", "loaded"] {
        let sandbox = cached(folder.path());
        let asking = (0..50).map(|_| {
            let (sandbox, wasm) = (sandbox.clone(), wasm.clone());
            tokio::spawn(async move { sandbox.prepare(&digest, &wasm).await.unwrap() })
        });
        let prepared: Vec<_> =
            futures::future::join_all(asking).await.into_iter().map(|joined| joined.unwrap()).collect();
        assert!(prepared.iter().all(|one| Arc::ptr_eq(one, &prepared[0])), "{round} once");
        assert!(entry(folder.path()).metadata().unwrap().len() > 0);
    }
}

#[tokio::test]
async fn memory_keeps_the_most_recently_used() {
    let config = SandboxConfig { prepared_in_memory: 2, max_concurrent: 4, ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).unwrap();
    let skills = ["(i32.const 1) drop", "(i32.const 2) drop", "(i32.const 3) drop"]
        .map(|body| skill("", &format!("{body} unreachable")));
    let digests = skills.each_ref().map(|wasm| Digest::of(wasm));
    prepare(&sandbox, &skills[0]).await;
    prepare(&sandbox, &skills[1]).await;
    assert!(sandbox.prepared(&digests[0]).is_some());
    prepare(&sandbox, &skills[2]).await;
    assert!(sandbox.prepared(&digests[1]).is_none());
    assert!(sandbox.prepared(&digests[0]).is_some());
    assert!(sandbox.prepare_cached(&digests[1]).await.is_none(), "there is no cache on disk");
}

#[tokio::test]
async fn the_cache_outlives_the_process_and_is_not_trusted_when_touched() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = echo();
    let digest = Digest::of(&wasm);
    prepare(&cached(folder.path()), &wasm).await;
    let later = cached(folder.path());
    let prepared = later.prepare_cached(&digest).await.unwrap();
    let report = later.run(&prepared, request(json!(3), Limits::default()), HostPorts::deny_all()).await;
    assert_eq!(output(&report), &json!(3));

    let entry = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .unwrap();
    let mut bytes = std::fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    // Entries are read-only for their owner too.
    std::fs::remove_file(&entry).unwrap();
    std::fs::write(&entry, bytes).unwrap();
    let later = cached(folder.path());
    assert!(later.prepare_cached(&digest).await.is_none());
    prepare(&later, &wasm).await;
    assert!(cached(folder.path()).prepare_cached(&digest).await.is_some(), "compiled and kept again");
}

#[tokio::test]
async fn whatever_lies_in_an_entrys_place_is_compiled_again_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = echo();
    let digest = Digest::of(&wasm);
    prepare(&cached(folder.path()), &wasm).await;
    let entry = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
        .unwrap();
    let good = std::fs::read(&entry).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, &good).unwrap();
    type Put<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
    let kinds: [Put<'_>; 6] = [
        ("cut", Box::new(|at| std::fs::write(at, &good[..good.len() / 2]).unwrap())),
        ("another format", Box::new(|at| std::fs::write(at, [&[0; 32][..], &good].concat()).unwrap())),
        ("a link to the same bytes", Box::new(|at| std::os::unix::fs::symlink(&elsewhere, at).unwrap())),
        ("a second name", Box::new(|at| std::fs::hard_link(&elsewhere, at).unwrap())),
        ("a folder", Box::new(|at| std::fs::create_dir(at).unwrap())),
        (
            "a pipe",
            Box::new(|at| {
                use rustix::fs::{CWD, FileType, Mode, mknodat};
                mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }),
        ),
    ];
    for (kind, put) in kinds {
        std::fs::remove_file(&entry).unwrap();
        put(&entry);
        let sandbox = cached(folder.path());
        let waited = tokio::time::timeout(Duration::from_secs(60), sandbox.prepare_cached(&digest)).await;
        assert!(waited.expect(kind).is_none(), "{kind} was loaded");
        let prepared = prepare(&sandbox, &wasm).await;
        let report = sandbox.run(&prepared, request(json!(1), Limits::default()), HostPorts::deny_all()).await;
        assert_eq!(output(&report), &json!(1), "{kind}");
        assert_eq!(std::fs::read(&entry).unwrap(), good, "{kind}: the same is kept again");
    }
    assert_eq!(std::fs::read(&elsewhere).unwrap(), good, "what was linked to is untouched");
}

async fn refusal(sandbox: &Sandbox, wasm: &[u8]) -> (String, String) {
    let failure = sandbox.prepare(&Digest::of(wasm), wasm).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Permanent);
    (failure.code, failure.message)
}

#[tokio::test]
async fn what_cannot_be_linked_is_named() {
    let sandbox = sandbox();
    let socket =
        skill(r#"(import "wasi:sockets/fake@0.2.6" "connect" (func $connect))"#, "(call $connect) unreachable");
    let (code, message) = refusal(&sandbox, &socket).await;
    assert_eq!(code, codes::LINK);
    assert!(message.contains("wasi:sockets/fake@0.2.6"), "{message}");
    let door = skill(r#"(import "acme:private/secret-door@1.0.0" "open" (func $open))"#, "(call $open) unreachable");
    let (code, message) = refusal(&sandbox, &door).await;
    assert_eq!(code, codes::LINK);
    assert!(message.contains("acme:private/secret-door@1.0.0"), "{message}");
    let stranger = component("stranger", "", r#"(func (export "acme:private/secret-door@1.0.0#open"))"#);
    let (code, message) = refusal(&sandbox, &stranger).await;
    assert_eq!(code, codes::LINK);
    assert!(message.contains("chimera:skill/runner"), "{message}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let config = SandboxConfig { max_component_bytes: 100_000, max_concurrent: 4, ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).unwrap();
    for (wasm, word) in [
        (Vec::new(), "not a WebAssembly component"),
        (b"\0asm".to_vec(), "not a WebAssembly component"),
        (wat::parse_str("(module)").unwrap(), "not a WebAssembly component"),
        (vec![0; 100_001], "at most 100000"),
        (echo()[..200].to_vec(), "not valid"),
        (wat::parse_str("(component (core module (memory 1 1 shared)))").unwrap(), "not valid"),
        (wat::parse_str("(component (core module (memory i64 1)))").unwrap(), "not valid"),
        (wat::parse_str("(component (core module (memory 1) (memory 1)))").unwrap(), "not valid"),
        (wat::parse_str("(component (core module (func $f (return_call $f))))").unwrap(), "not valid"),
        (wat::parse_str("(component (core module (table 1 externref)))").unwrap(), "not valid"),
    ] {
        let (code, message) = refusal(&sandbox, &wasm).await;
        assert_eq!(code, codes::COMPILE);
        assert!(message.contains(word), "{message}");
    }
    let wrong = sandbox.prepare(&Digest::of(b"something else"), &echo()).await.unwrap_err();
    assert_eq!(wrong.code, codes::COMPILE);
}

const EVALUATE: &str = r#"(func (export "chimera:skill/evaluator@0.1.0#evaluate")
    (param i32 i32 i32 i32 i32 i32 i32 i32 f64 i32 i32) (result i32)"#;

fn judge(confidence: &str) -> Vec<u8> {
    component(
        "judge",
        "",
        &format!(
            r#"{EVALUATE}
                (i32.store8 (i32.const 1024) (i32.const 0))
                (i32.store8 (i32.const 1032) (i32.const 3))
                (f64.store (i32.const 1040) (f64.const {confidence}))
                (i32.store (i32.const 1048) (i32.const 2048))
                (i32.store (i32.const 1052) (i32.const 4))
                (i32.const 1024))
            (data (i32.const 2048) "odd!")"#
        ),
    )
}

#[tokio::test]
async fn a_judge_gives_an_opinion_and_cannot_be_run() {
    let sandbox = sandbox();
    let wise = prepare(&sandbox, &judge("0.75")).await;
    assert_eq!(wise.world(), World::Judge);
    let case = || JudgedCase {
        goal: "to please".to_owned(),
        skill: "acme/x".to_owned(),
        input: json!({}),
        output: json!({}),
        confidence: 1.0,
        evidence: vec!["a".to_owned()],
    };
    let deadline = || Instant::now() + Duration::from_secs(20);
    let opinion = sandbox.evaluate(&wise, case(), Limits::default(), deadline()).await.unwrap();
    assert_eq!((opinion.decision, opinion.confidence, opinion.reason.as_str()), (Decision::Escalate, 0.75, "odd!"));
    let unsure = prepare(&sandbox, &judge("nan")).await;
    let refused = sandbox.evaluate(&unsure, case(), Limits::default(), deadline()).await.unwrap_err();
    assert_eq!(refused.code, codes::CONFIDENCE_INVALID);
    let report = sandbox.run(&wise, request(json!({}), Limits::default()), HostPorts::deny_all()).await;
    assert_eq!(failure(&report).code, codes::LINK);
    let skill = prepare(&sandbox, &echo()).await;
    assert_eq!(skill.world(), World::Skill);
    assert!(sandbox.evaluate(&skill, case(), Limits::default(), deadline()).await.is_err());
}

#[tokio::test]
async fn a_component_describes_itself_and_reaches_nothing_meanwhile() {
    let describing = |imports: &str, body: &str| {
        component(
            "described",
            imports,
            &format!(
                r#"{} unreachable)
                (func (export "chimera:skill/describe@0.1.0#describe") (result i32) {body}
                    (i32.store (i32.const 1024) (i32.const 2048))
                    (i32.store (i32.const 1028) (i32.const 12))
                    (i32.const 1024))
                (data (i32.const 2048) "{{\22input\22:{{}}}}")"#,
                common::RUN
            ),
        )
    };
    let sandbox = sandbox();
    let plain = prepare(&sandbox, &describing("", "")).await;
    assert!(plain.can_describe());
    assert_eq!(sandbox.describe(&plain).await.unwrap(), json!({"input": {}}));
    let asks = r#"(import "chimera:skill/secrets@0.1.0" "exists" (func $exists (param i32 i32) (result i32)))"#;
    let reaching = prepare(&sandbox, &describing(asks, "(drop (call $exists (i32.const 2048) (i32.const 3)))")).await;
    assert!(reaching.imports().iter().any(|name| name == "chimera:skill/secrets@0.1.0"));
    assert_eq!(sandbox.describe(&reaching).await.unwrap_err().kind, FailureKind::Security);
    let silent = prepare(&sandbox, &echo()).await;
    assert_eq!(sandbox.describe(&silent).await.unwrap_err().code, codes::LINK);
}

static RUNTIME: LazyLock<(tokio::runtime::Runtime, Sandbox, Vec<u8>)> =
    LazyLock::new(|| (tokio::runtime::Runtime::new().unwrap(), sandbox(), echo()));

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_any_kind_are_refused_or_prepared(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let (runtime, sandbox, _) = &*RUNTIME;
        prop_assert!(runtime.block_on(sandbox.prepare(&Digest::of(&bytes), &bytes)).is_err());
    }

    #[test]
    fn a_damaged_component_never_brings_the_host_down(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (runtime, sandbox, wasm) = &*RUNTIME;
        let mut wasm = wasm.clone();
        for (at, byte) in damage {
            let at = at.index(wasm.len());
            wasm[at] = byte;
        }
        let limits = Limits { time_ms: 1000, fuel: 10_000_000, ..Limits::default() };
        runtime.block_on(async {
            if let Ok(prepared) = sandbox.prepare(&Digest::of(&wasm), &wasm).await {
                let _ = sandbox.run(&prepared, request(json!({}), limits), HostPorts::deny_all()).await;
            }
        });
    }
}
