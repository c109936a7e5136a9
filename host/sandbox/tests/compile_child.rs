//! Compiling in a child process: this program is its own child, so it has no test harness around it.
//!
//! Started under another name (a symbolic link) the child is confined like one that compiles, and then misbehaves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, codes};
use chimera_core::manifest::Limits;
use chimera_core::ports::HostPorts;
use chimera_sandbox::{
    CompileStage, Compiler, Confinement, Sandbox, SandboxConfig, check_confinement, compile_child_main, confined_child,
};
use common::{echo, output, request};
use serde_json::json;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().map(PathBuf::from).unwrap_or_default();
    if arguments.next().as_deref() == Some("compile-component") {
        return match name.file_name().and_then(|name| name.to_str()) {
            Some("spins") => confined_child(|| {
                loop {
                    std::hint::spin_loop()
                }
            }),
            Some("sleeps") => confined_child(|| {
                loop {
                    std::thread::sleep(Duration::from_secs(3600))
                }
            }),
            Some("allocates") => confined_child(|| {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 16 << 20]);
                }
            }),
            Some("chatters") => confined_child(|| {
                loop {
                    eprintln!("{}", "x".repeat(1000))
                }
            }),
            Some("sleeps-over-the-large") => confined_child(|| {
                let mut wasm = Vec::new();
                std::io::stdin().read_to_end(&mut wasm).map_err(|e| e.to_string())?;
                while wasm.len() > 2 << 20 {
                    std::thread::sleep(Duration::from_secs(3600));
                }
                Err("a small one".to_owned())
            }),
            Some("calls-out") => confined_child(|| {
                let listening = std::net::TcpListener::bind("127.0.0.1:0");
                Err(format!("it was let: {listening:?}"))
            }),
            Some("lies") => confined_child(|| Ok(b"no machine code".to_vec())),
            Some("works-in-threads") => confined_child(|| {
                let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| vec![1_u8; 8 << 20].len())).collect();
                threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 8 << 20));
                Err("eight threads".to_owned())
            }),
            Some("is-nice") => confined_child(|| Err(format!("{:?}", rustix::process::getpriority_process(None)))),
            _ => compile_child_main(),
        };
    }
    // Asked by test runners for the list of tests; there is none.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        a_child_compiles().await;
        // What the program opens once is open by now.
        let before = Held::now();
        a_child_is_bounded().await;
        children_that_misbehave_are_stopped().await;
        an_abandoned_child_dies().await;
        a_child_can_reach_nothing().await;
        the_small_do_not_wait_for_the_large().await;
        Held::settles_at(&before).await;
    });
    println!("compile_child: ok");
    ExitCode::SUCCESS
}

fn sandbox(change: impl FnOnce(&mut SandboxConfig)) -> Sandbox {
    let compiler = Compiler::Child(std::env::current_exe().unwrap());
    let mut config = SandboxConfig { compiler, max_concurrent: 4, ..SandboxConfig::default() };
    change(&mut config);
    Sandbox::new(config).unwrap()
}

async fn refusal(sandbox: Sandbox) -> Failure {
    let wasm = echo();
    sandbox.prepare(&Digest::of(&wasm), &wasm).await.unwrap_err()
}

async fn a_child_compiles() {
    let (sandbox, wasm) = (sandbox(|config| config.confinement = Confinement::Required), echo());
    let prepared = sandbox.prepare(&Digest::of(&wasm), &wasm).await.unwrap();
    let report = sandbox.run(&prepared, request(json!("hello"), Limits::default()), HostPorts::deny_all()).await;
    assert_eq!(output(&report), &json!("hello"));
}

async fn a_child_is_bounded() {
    let starved = sandbox(|config| config.compile_memory_bytes = 20 << 20);
    assert_eq!(refusal(starved).await.code, codes::COMPILE);
    let hurried = sandbox(|config| config.compile_time = Duration::from_nanos(1));
    assert_eq!(refusal(hurried).await.code, codes::COMPILE);
    let missing = sandbox(|config| config.compiler = Compiler::Child("/nonexistent".into()));
    assert_eq!(refusal(missing).await.code, codes::HOST);
    let silent = sandbox(|config| config.max_compiled_bytes = 10);
    assert_eq!(refusal(silent).await.code, codes::COMPILE);
}

async fn children_that_misbehave_are_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let child = |name: &str| {
        let link = folder.path().join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
        }
        Compiler::Child(link)
    };
    let as_child = |name: &str, seconds: u64| {
        let compiler = child(name);
        sandbox(|config| {
            config.compiler = compiler;
            config.compile_time = Duration::from_secs(seconds);
        })
    };
    for (name, seconds, says) in [
        ("sleeps", 1, "took more than 1s"),
        // Of one second either may end first: the one of the wall, or the one on the processor.
        ("spins", 1, "took more than 1s"),
        ("spins", 4, "took more than 2s of processor time"),
        ("chatters", 5, "limit"),
        ("lies", 20, "cannot be loaded"),
    ] {
        let start = Instant::now();
        let failure = refusal(as_child(name, seconds)).await;
        assert_eq!(failure.code, codes::COMPILE, "{name}: {failure:?}");
        assert!(start.elapsed() < Duration::from_secs(seconds + 15), "{name}");
        if name != "chatters" {
            assert!(failure.message.contains(says), "{name}: {failure:?}");
        }
    }
    let compiler = child("allocates");
    let failure = refusal(sandbox(|config| {
        config.compiler = compiler;
        config.compile_memory_bytes = 256 << 20;
    }))
    .await;
    assert!(failure.message.contains("limit on memory"), "{failure:?}");
    #[cfg(target_os = "linux")]
    {
        let failure = refusal(as_child("calls-out", 20)).await;
        assert_eq!(failure.code, codes::COMPILE, "{failure:?}");
        assert!(failure.message.contains("a system call that compiling never makes"), "{failure:?}");
    }
    let failure = refusal(as_child("works-in-threads", 20)).await;
    assert!(failure.message.contains("eight threads"), "threads are allowed: {failure:?}");
    // Asking for it is not on the list.
    let compiler = child("is-nice");
    let failure = refusal(sandbox(|config| {
        config.compiler = compiler;
        config.confinement = Confinement::LimitsOnly;
    }))
    .await;
    assert!(failure.message.contains("Ok(5)"), "guests come first: {failure:?}");
}

async fn an_abandoned_child_dies() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("sleeps");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
    // A whole runtime goes away under a compiling child.
    let ended = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let sandbox = sandbox(|config| config.compiler = Compiler::Child(link));
            let wasm = echo();
            let _ = tokio::time::timeout(Duration::from_millis(300), sandbox.prepare(&Digest::of(&wasm), &wasm)).await;
        });
        runtime.shutdown_background();
    });
    ended.await.unwrap();
}

/// A component with a custom section that makes it this much larger.
fn padded(bytes: usize) -> Vec<u8> {
    let mut wasm = echo();
    let mut content = vec![3, b'p', b'a', b'd'];
    content.resize(bytes, 7);
    wasm.push(0);
    let mut length = content.len();
    while length >= 0x80 {
        wasm.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    wasm.push(length as u8);
    wasm.extend(content);
    wasm
}

async fn the_small_do_not_wait_for_the_large() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("sleeps-over-the-large");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &link).unwrap();
    let sandbox = sandbox(|config| {
        config.compiler = Compiler::Child(link);
        config.compile_time = Duration::from_secs(6);
    });
    let large = padded(3 << 20);
    let digest = Digest::of(&large);
    let waiting = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { sandbox.prepare(&digest, &large).await }
    });
    let is_compiling =
        || sandbox.compiling().iter().any(|it| it.digest == digest && it.stage == CompileStage::Compiling);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_compiling() {
        assert!(Instant::now() < deadline, "{:?}", sandbox.compiling());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let failure = refusal(sandbox.clone()).await;
    assert!(failure.message.contains("a small one"), "{failure:?}");
    assert!(is_compiling(), "the large one is still on its way: {:?}", sandbox.compiling());
    assert!(waiting.await.unwrap().unwrap_err().message.contains("took more than"));
    assert!(sandbox.compiling().is_empty());
}

#[cfg(target_os = "linux")]
async fn a_child_can_reach_nothing() {
    check_confinement(&std::env::current_exe().unwrap()).await.unwrap();
    let missing = check_confinement(Path::new("/nonexistent")).await.unwrap_err();
    assert!(missing.contains("cannot be started"), "{missing}");
    let no_compiler = check_confinement(Path::new("/bin/echo")).await.unwrap_err();
    assert!(no_compiler.contains("could open a socket"), "{no_compiler}");
}

#[cfg(not(target_os = "linux"))]
async fn a_child_can_reach_nothing() {}

/// What this process has open and whom it has started.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: Vec<String>,
    children: Vec<String>,
}

impl Held {
    fn now() -> Self {
        let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        // The one that lists them is gone when it is looked at.
        let descriptors =
            open.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned)).collect();
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        // Zombies are children too.
        let children = tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        Self { descriptors, children }
    }

    /// Nothing is left of all the children: neither process, nor zombie, nor pipe.
    async fn settles_at(before: &Self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Self::now().children != before.children || Self::now().descriptors.len() > before.descriptors.len() {
            assert!(Instant::now() < deadline, "before: {before:?}, now: {:?}", Self::now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
