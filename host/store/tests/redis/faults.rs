//! Servers that are killed, hang, refuse, or are something else. Each test starts its own.

use crate::notices;
use chimera_core::change::OutboxTopic;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::ids::*;
use chimera_core::ports::listen::Heard;
use chimera_core::ports::{Notice, PortError, PortErrorKind, Queue, Queued};
use chimera_store::{
    FallbackQueue, FallbackQueues, FallbackTerms, MemoryQueue, QueueRole, Redis, RedisNotices, RedisOptions,
    RedisQueue, StoreError, StoreErrorKind, SwitchReason,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SHARD: &str = "main";
const PASSWORD: &str = "hunter2";
/// More than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn task() -> TaskId {
    TaskId::new(&SystemIds)
}

/// A server of the test's own, which ends with it.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        // Between asking for a free port and using it somebody else may take it.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            if let Some(child) = Self::spawn(port, &folder) {
                return Self { child, port, folder };
            }
        }
        panic!("redis-server does not start");
    }

    #[allow(clippy::zombie_processes, reason = "whoever gets it waits for it")]
    fn spawn(port: u16, folder: &TempDir) -> Option<Child> {
        let mut child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", PASSWORD])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is not installed: `cargo xtask test` says how to install it");
        let started = Instant::now();
        while started.elapsed() < LONG {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(child);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port)
    }

    fn lazy(&self) -> Redis {
        Redis::lazy(RedisOptions::new(self.url())).unwrap()
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    fn hang(&self) {
        self.signal("-STOP");
    }

    fn go_on(&self) {
        self.signal("-CONT");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Empty, on the same port.
    fn come_back(&mut self) {
        let started = Instant::now();
        loop {
            if let Some(child) = Self::spawn(self.port, &self.folder) {
                self.child = child;
                return;
            }
            assert!(started.elapsed() < LONG, "redis-server does not start again");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn push(queue: &dyn Queue, task: TaskId) -> Result<(), PortError> {
    queue.push(SHARD, &[(task, 5)], SystemClock.now()).await
}

async fn claim(queue: &dyn Queue) -> Vec<TaskId> {
    let now = SystemClock.now();
    let claimed = queue.claim(SHARD, 100, now, now.plus(Duration::from_secs(60))).await.unwrap();
    claimed.into_iter().map(|queued| queued.task).collect()
}

/// Until it is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < LONG, "{what}: not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_and_is_back_empty_is_used_again() {
    let mut server = Server::start();
    let queue = RedisQueue::new(Redis::open(RedisOptions::new(server.url())).await.unwrap());
    let (a, b) = (task(), task());
    push(&queue, a).await.unwrap();
    server.kill();
    let error = push(&queue, b).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unavailable, "{error}");
    assert!(error.message.contains(&format!("127.0.0.1:{}", server.port)), "{error}");
    server.come_back();
    eventually("used again", async || push(&queue, b).await.is_ok()).await;
    push(&queue, a).await.unwrap();
    assert_eq!(claim(&queue).await, [b, a], "group and scripts are there again");
}

/// Nothing was asked while it was down, so nothing has noticed: the first operation must not fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_two_operations_is_not_noticed() {
    let mut server = Server::start();
    let queue = RedisQueue::new(Redis::open(RedisOptions::new(server.url())).await.unwrap());
    push(&queue, task()).await.unwrap();
    server.kill();
    server.come_back();
    let only = task();
    push(&queue, only).await.unwrap();
    assert_eq!(claim(&queue).await, [only]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_not_waited_for() {
    let server = Server::start();
    let queue = RedisQueue::new(Redis::open(RedisOptions::new(server.url())).await.unwrap());
    push(&queue, task()).await.unwrap();
    server.hang();
    let started = Instant::now();
    let error = push(&queue, task()).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unavailable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // However many ask: they share the attempts to connect, one a second at most.
    let started = Instant::now();
    for _ in 0..3 {
        let asked = (0..100).map(|_| push(&queue, task()));
        assert!(futures::future::join_all(asked).await.into_iter().all(|answer| answer.is_err()));
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    server.go_on();
    eventually("used again", async || push(&queue, task()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_what_to_do_and_no_secret() {
    let server = Server::start();
    let at_port = |rest: &str| rest.replace("PORT", &server.port.to_string());
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    for (url, kind, says) in [
        (at_port("redis://:hunter3@127.0.0.1:PORT/0"), StoreErrorKind::Unreadable, "user, password"),
        (at_port("redis://eve:hunter2@127.0.0.1:PORT/0"), StoreErrorKind::Unreadable, "user, password"),
        (at_port("redis://127.0.0.1:PORT/0"), StoreErrorKind::Unreadable, "user, password"),
        (at_port("redis://:hunter2@127.0.0.1:PORT/99"), StoreErrorKind::Unreadable, "number of the database"),
        (at_port("rediss://:hunter2@127.0.0.1:PORT/0"), StoreErrorKind::Unavailable, "check that it runs"),
        (format!("redis://:hunter2@127.0.0.1:{closed}/0"), StoreErrorKind::Unavailable, "check that it runs"),
        (
            format!("redis://:hunter2@127.0.0.1:{}/0", something_else(b"HTTP/1.1 400 Bad Request\r\n\r\n").0),
            StoreErrorKind::Unavailable,
            "something else",
        ),
        (
            format!("redis://:hunter2@127.0.0.1:{}/0", something_else(b"-ERR unknown command 'AUTH' 'hunter2'\r\n").0),
            StoreErrorKind::Unreadable,
            "refuses",
        ),
        (
            format!("redis://:hunter2@127.0.0.1:{}/0", something_else(b"").0),
            StoreErrorKind::Unavailable,
            "check that it runs",
        ),
    ] {
        let started = Instant::now();
        let error: StoreError = Redis::open(RedisOptions::new(&url)).await.expect_err(&url);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let told = format!("{error} {error:?}");
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(told.contains(says) && !told.contains("hunter"), "{url}: {told}");
        // What was not opened can still be waited for, and says the same.
        let redis = Redis::lazy(RedisOptions::new(&url)).unwrap();
        let error = redis.ping().await.expect_err(&url);
        assert_eq!(error.kind, PortErrorKind::Unavailable, "{url}: {error}");
        assert!(!error.message.contains("hunter"), "{error}");
    }
}

/// Answers everything with these bytes and hangs up, or never answers if there are none. The port, and how many came.
fn something_else(answer: &'static [u8]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    // Ends with the process.
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            if answer.is_empty() {
                silent.push(stream);
                continue;
            }
            let mut stream = stream;
            let _ = stream.read(&mut [0; 1024]);
            let _ = std::io::Write::write_all(&mut stream, answer);
        }
    });
    (port, came)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_up_is_not_asked_in_a_busy_loop() {
    let (port, came) = something_else(b"nonsense\r\n");
    let queue = RedisQueue::new(Redis::lazy(RedisOptions::new(format!("redis://127.0.0.1:{port}"))).unwrap());
    let started = Instant::now();
    let mut asked = 0;
    while started.elapsed() < Duration::from_secs(2) {
        assert!(push(&queue, task()).await.is_err());
        asked += 1;
        if asked % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let came = came.load(Ordering::SeqCst);
    assert!(asked > 1_000 && came < 30, "{asked} asked, {came} came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_becomes_right_is_enough() {
    let server = Server::start();
    let queue = RedisQueue::new(server.lazy());
    let set = |password: &str, with: &str| {
        let url = format!("redis://:{with}@127.0.0.1:{}/0", server.port);
        let mut db = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).exec(&mut db).unwrap();
    };
    set("other", PASSWORD);
    assert_eq!(push(&queue, task()).await.unwrap_err().kind, PortErrorKind::Unavailable);
    set(PASSWORD, "other");
    eventually("let in", async || push(&queue, task()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_are_heard_again_after_a_restart() {
    let mut server = Server::start();
    let [a, b]: [RedisNotices; 2] = notices::two(async || server.lazy()).await;
    let mut at_b = b.listen();
    server.kill();
    a.publish(Notice::Outbox(OutboxTopic::Plan));
    server.come_back();
    assert_eq!(notices::next(&mut at_b).await, Heard::Missed);
    let judge = Notice::Outbox(OutboxTopic::Judge);
    eventually("heard again", async || {
        a.publish(judge.clone());
        tokio::time::timeout(Duration::from_millis(100), at_b.next()).await == Ok(Heard::Notice(judge.clone()))
    })
    .await;
}

/// Moves on at once and comes back soon.
fn terms() -> FallbackTerms {
    FallbackTerms {
        probe_pause: Duration::from_millis(50),
        longest_pause: Duration::from_millis(500),
        ..Default::default()
    }
}

fn fallback(primary: Arc<dyn Queue>, backup: Option<Arc<dyn Queue>>) -> FallbackQueue {
    let queues = FallbackQueues { primary, backup, last: Arc::new(MemoryQueue::new()) };
    FallbackQueue::start(queues, terms(), Arc::new(SystemClock))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_the_next_queue_stands_in_and_says_so() {
    let (mut server, mut second) = (Server::start(), Server::start());
    let backup: Arc<dyn Queue> = Arc::new(RedisQueue::new(second.lazy()));
    let queue = fallback(Arc::new(RedisQueue::new(server.lazy())), Some(backup));
    let mut switches = queue.watch();
    let mut switched = async || tokio::time::timeout(LONG, switches.recv()).await.expect("a switch").unwrap();
    let (a, b, c) = (task(), task(), task());
    push(&queue, a).await.unwrap();

    server.kill();
    push(&queue, b).await.unwrap();
    let switch = switched().await;
    assert_eq!((switch.from, switch.to), (QueueRole::Primary, QueueRole::Backup));
    assert!(matches!(&switch.why, SwitchReason::Failed(what) if what.contains("Redis") && !what.contains(PASSWORD)));
    let claimed = queue.claim(SHARD, 1, SystemClock.now(), SystemClock.now().plus(LONG)).await.unwrap().remove(0);
    assert_eq!(claimed.task, b);

    second.kill();
    push(&queue, c).await.unwrap();
    assert_eq!(switched().await.to, QueueRole::Last);
    queue.ack(SHARD, &claimed.receipt).await.unwrap();
    assert_eq!(claim(&queue).await, [c]);
    assert_eq!(queue.stats().in_use, QueueRole::Last);

    second.come_back();
    let switch = switched().await;
    assert_eq!((switch.from, switch.to, switch.why), (QueueRole::Last, QueueRole::Backup, SwitchReason::Back(3)));
    server.come_back();
    assert_eq!(switched().await.to, QueueRole::Primary);
    push(&queue, a).await.unwrap();
    assert_eq!(claim(&queue).await, [a]);
    let stats = queue.stats();
    assert_eq!((stats.in_use, stats.switches), (QueueRole::Primary, 4));
    assert!(
        stats
            .queues
            .iter()
            .all(|figures| figures.operations > 0 && figures.buckets.iter().sum::<u64>() == figures.operations)
    );
    assert!(stats.queues[0].errors >= 1 && stats.queues[1].errors >= 1 && stats.queues[2].errors == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_starts_without_redis_and_finds_it_later() {
    let mut server = Server::start();
    server.kill();
    let queue = fallback(Arc::new(RedisQueue::new(server.lazy())), None);
    let mut switches = queue.watch();
    queue.release_claims().await.unwrap();
    let only = task();
    push(&queue, only).await.unwrap();
    assert_eq!(claim(&queue).await, [only]);
    assert_eq!(queue.stats().in_use, QueueRole::Last);
    server.come_back();
    while switches.recv().await.unwrap().to != QueueRole::Primary {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_faults_and_foreign_receipts_switch_nothing() {
    let server = Server::start();
    let queue = fallback(Arc::new(RedisQueue::new(server.lazy())), None);
    for receipt in ["", "p", "p1.1", "x", "l", "é", "b5.1-1.1.00000000-0000-0000-0000-000000000000"] {
        assert_eq!(queue.ack(SHARD, receipt).await.unwrap_err().kind, PortErrorKind::Permanent, "{receipt}");
    }
    assert_eq!((queue.stats().in_use, queue.stats().switches), (QueueRole::Primary, 0));
}

/// A queue in memory that answers late, or never.
struct Late {
    queue: MemoryQueue,
    by: Mutex<Duration>,
}

impl Late {
    async fn wait(&self) {
        let by = *self.by.lock().unwrap();
        tokio::time::sleep(by).await;
    }
}

#[async_trait::async_trait]
impl Queue for Late {
    async fn push(&self, planner: &str, tasks: &[(TaskId, u8)], now: Timestamp) -> Result<(), PortError> {
        self.wait().await;
        self.queue.push(planner, tasks, now).await
    }

    async fn claim(
        &self,
        planner: &str,
        limit: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Queued>, PortError> {
        self.wait().await;
        self.queue.claim(planner, limit, now, until).await
    }

    async fn ack(&self, planner: &str, receipt: &str) -> Result<(), PortError> {
        self.wait().await;
        self.queue.ack(planner, receipt).await
    }

    async fn release_claims(&self) -> Result<(), PortError> {
        self.wait().await;
        self.queue.release_claims().await
    }

    async fn len(&self, planner: &str) -> Result<u64, PortError> {
        self.wait().await;
        self.queue.len(planner).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_late_is_left_and_one_that_never_answers_at_once() {
    let late = Arc::new(Late { queue: MemoryQueue::new(), by: Mutex::new(Duration::from_millis(150)) });
    let queue = fallback(late.clone(), None);
    let mut switches = queue.watch();
    for _ in 0..3 {
        assert_eq!(queue.stats().in_use, QueueRole::Primary);
        push(&queue, task()).await.unwrap();
    }
    assert_eq!(switches.recv().await.unwrap().why, SwitchReason::Slow(3));
    *late.by.lock().unwrap() = Duration::ZERO;
    assert_eq!(switches.recv().await.unwrap().to, QueueRole::Primary);
    *late.by.lock().unwrap() = Duration::from_secs(3600);
    let started = Instant::now();
    push(&queue, task()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let switch = switches.recv().await.unwrap();
    assert!(matches!(&switch.why, SwitchReason::Failed(what) if what.contains("does not answer")), "{switch:?}");
    assert_eq!(queue.stats().queues[0].slow, 4);
}

/// What the truth knows of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Running(u32),
    Done(u32),
}

/// A truth as small as can be: attempts are counted, and only the newest one's report is taken.
#[derive(Default)]
struct SmallTruth {
    tasks: Mutex<BTreeMap<TaskId, (u32, State)>>,
    accepted: AtomicUsize,
}

impl SmallTruth {
    fn queued(&self) -> Vec<(TaskId, u8)> {
        let tasks = self.tasks.lock().unwrap();
        tasks.iter().filter(|(_, (_, state))| *state == State::Queued).map(|(id, _)| (*id, 5)).collect()
    }

    fn lease(&self, id: TaskId) -> Option<u32> {
        let mut tasks = self.tasks.lock().unwrap();
        let (attempts, state) = tasks.get_mut(&id)?;
        if *state != State::Queued {
            return None;
        }
        *attempts += 1;
        *state = State::Running(*attempts);
        Some(*attempts)
    }

    fn report(&self, id: TaskId, attempt: u32) {
        let mut tasks = self.tasks.lock().unwrap();
        if let Some((_, state)) = tasks.get_mut(&id)
            && *state == State::Running(attempt)
        {
            *state = State::Done(attempt);
            self.accepted.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn are_done(&self) -> bool {
        self.tasks.lock().unwrap().values().all(|(_, state)| matches!(state, State::Done(_)))
    }
}

/// Workers, a relay and whoever watches for switches, while the server is killed, comes back empty, hangs and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_redis_each_task_is_done_once() {
    let mut server = Server::start();
    let queue = fallback(Arc::new(RedisQueue::new(server.lazy())), None);
    let truth = Arc::new(SmallTruth::default());
    let stop = tokio_util::sync::CancellationToken::new();
    let redriven = Arc::new(AtomicUsize::new(0));

    let mut running = Vec::new();
    for _ in 0..3 {
        let (queue, truth, stop) = (queue.clone(), truth.clone(), stop.clone());
        running.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                let now = SystemClock.now();
                let claimed = queue.claim(SHARD, 8, now, now.plus(Duration::from_secs(1))).await.unwrap_or_default();
                if claimed.is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                for queued in claimed {
                    let attempt = truth.lease(queued.task);
                    let _ = queue.ack(SHARD, &queued.receipt).await;
                    if let Some(attempt) = attempt {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        truth.report(queued.task, attempt);
                    }
                }
            }
        }));
    }
    {
        // No sweep of its own: nothing but the switches fills the queue again.
        let (queue, truth, stop, redriven) = (queue.clone(), truth.clone(), stop.clone(), redriven.clone());
        let mut switches = queue.watch();
        running.push(tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = switches.recv() => {}
                }
                let waiting = truth.queued();
                while queue.push(SHARD, &waiting, SystemClock.now()).await.is_err() {}
                redriven.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }

    let mut made = BTreeSet::new();
    let mut work_while = async |goes_on: &mut dyn FnMut(u32) -> bool| {
        let started = Instant::now();
        for round in 0.. {
            if !goes_on(round) {
                return;
            }
            assert!(started.elapsed() < LONG, "{:?}", queue.stats());
            for _ in 0..5 {
                let id = task();
                made.insert(id);
                truth.tasks.lock().unwrap().insert(id, (0, State::Queued));
                push(&queue, id).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let uses = |role| queue.stats().in_use == role;
    work_while(&mut |round| round < 10).await;
    server.kill();
    work_while(&mut |round| round < 10 || !uses(QueueRole::Last)).await;
    server.come_back();
    work_while(&mut |round| round < 10 || !uses(QueueRole::Primary)).await;
    server.hang();
    work_while(&mut |round| round < 10 || !uses(QueueRole::Last)).await;
    server.go_on();
    work_while(&mut |round| round < 10 || !uses(QueueRole::Primary)).await;
    // A hint may be lost with a server that comes back; the swarm fills the queue now and then for that.
    let filled = Instant::now();
    while !truth.are_done() {
        assert!(filled.elapsed() < LONG, "tasks were lost: {:?}", truth.queued().len());
        tokio::time::sleep(Duration::from_millis(50)).await;
        if filled.elapsed() > Duration::from_secs(5) {
            let _ = queue.push(SHARD, &truth.queued(), SystemClock.now()).await;
        }
    }
    stop.cancel();
    for task in running {
        task.await.unwrap();
    }
    assert_eq!(truth.accepted.load(Ordering::SeqCst), made.len(), "each was accepted once");
    assert!(queue.stats().switches >= 4 && redriven.load(Ordering::SeqCst) >= 2, "{:?}", queue.stats());
    assert!(SystemClock.now() > Timestamp::EPOCH);
}
