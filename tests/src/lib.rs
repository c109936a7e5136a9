//! What the end-to-end tests share: the binary under test as a child process, its API, and files that come with a test.
//!
//! Everything here drives the real program over its real interfaces; nothing reaches into its insides. Called by the
//! tests beside it only.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test may end with a panic")]

pub mod campaign;
pub mod disk;
pub mod fleet;
pub mod invariants;
pub mod network;
pub mod postgres;
pub mod privilege;
pub mod redis;
pub mod silence;
pub mod wall_clock;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longest wait for anything that is expected to happen; generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Longest wait for the admission of a component: it may have to be compiled behind others.
const LONGEST_ADMISSION: Duration = Duration::from_secs(300);

/// Is this the full size of the long suites (`cargo xtask test --full`)?
pub fn is_full() -> bool {
    std::env::var("CHIMERA_TEST_SIZE").is_ok_and(|size| size == "full")
}

/// Is this the server as it is shipped, with the machine to itself (`cargo xtask test --only timed`)? Then times are held
/// against their bounds.
pub fn is_timed() -> bool {
    std::env::var("CHIMERA_TEST_TIMED").is_ok_and(|value| value == "1")
}

fn from_environment(name: &str, beside_target: &str) -> PathBuf {
    let path = std::env::var_os(name).map_or_else(
        || {
            // Test programs lie in target/<profile>/deps.
            let exe = std::env::current_exe().unwrap();
            exe.parent().unwrap().parent().unwrap().join(beside_target)
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run the tests through `cargo xtask test`, or set {name}", path.display());
    path
}

/// The program under test.
pub fn binary() -> PathBuf {
    from_environment("CHIMERA_BIN", "chimera")
}

/// Cargo's target folder of the guests, so that a test that builds a skill builds no dependency twice.
pub fn guest_target() -> PathBuf {
    from_environment("CHIMERA_GUEST_TARGET", "../guests")
}

/// The built bundled skills in Rust: those that the demo runs.
pub fn skills() -> Vec<PathBuf> {
    let mut built = components("chimera-");
    built.retain(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let skill = name.trim_start_matches("chimera-").rsplit_once('-').unwrap().0.to_owned();
        root().join("skills").join(skill).join("Cargo.toml").is_file()
    });
    built
}

/// The built bundled skill of that name, whatever its language.
pub fn bundled(name: &str) -> PathBuf {
    components(&format!("chimera-{name}-")).pop().unwrap_or_else(|| panic!("chimera/{name} was not built"))
}

/// The built skill of `tests/guests` with that name, whichever namespace it is in.
pub fn guest(name: &str) -> PathBuf {
    let built = ["hostile", "test"].iter().find_map(|namespace| components(&format!("{namespace}-{name}-")).pop());
    built.unwrap_or_else(|| panic!("no guest called {name} was built"))
}

fn components(prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(guest_target().join("chimera"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "wasm"))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found
}

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Runs the program with these arguments and waits for it.
pub fn chimera(data: &Path, args: &[&str]) -> Output {
    chimera_with(data, args, &[])
}

/// As [`chimera`], with further variables.
pub fn chimera_with(data: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary())
        .args(args)
        .env("CHIMERA_DATA_DIR", data)
        .env("CARGO_TARGET_DIR", guest_target())
        .env_remove("CHIMERA_FAILPOINT")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Takes everybody else's access to a folder away: the program refuses a data folder that others can write into, and
/// with some machines' umask every new folder is one.
///
/// # Errors
/// When the mode cannot be set.
pub fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// What a run printed, both streams.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One clear message: an error with this exit code, short, without a panic or a debug dump, and with these words in it.
pub fn assert_clear(output: &Output, code: i32, words: &[&str]) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    assert!(text.lines().filter(|line| !line.trim().is_empty()).count() <= 8, "not one clear message:\n{text}");
    for word in words {
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "`{word}` is not in:\n{text}");
    }
}

/// A running `chimera serve`, killed when dropped.
pub struct Server {
    child: Child,
    /// Its data folder.
    pub data: PathBuf,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    token: String,
    client: reqwest::Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server on a data folder and waits until it is ready.
    ///
    /// # Errors
    /// When it exits or is not ready in time; its output is in `<data>/server.log`.
    pub async fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, &[]).await
    }

    /// Starts a server with environment variables.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(data: &Path, environment: &[(&str, &str)]) -> Result<Self> {
        let mut server = Self::spawn(data, environment)?;
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Starts a server without waiting: it may be killed by a failpoint before it is ever ready.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(data: &Path, environment: &[(&str, &str)]) -> Result<Self> {
        Self::spawn_by(&[], data, environment)
    }

    /// As [`Server::spawn`], by another program that is told what to become: one that puts it into a network of its own.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_by(launcher: &[&str], data: &Path, environment: &[(&str, &str)]) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        make_private(data)?;
        let _ = std::fs::remove_file(data.join("server.json"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("server.log"))?;
        let mut command = match launcher {
            [] => Command::new(binary()),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary());
                command
            }
        };
        let child = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("CHIMERA_DATA_DIR", data)
            .env_remove("CHIMERA_FAILPOINT")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { child, data: data.to_path_buf(), url: String::new(), token: String::new(), client })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// When it exits first or takes too long.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log_tail());
            }
            if self.read_address().is_some()
                && self.client.get(format!("{}/readyz", self.url)).send().await.is_ok_and(|r| r.status().is_success())
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the server was not ready in time:\n{}", self.log_tail())
    }

    fn read_address(&mut self) -> Option<()> {
        let file = std::fs::read(self.data.join("server.json")).ok()?;
        let file: Value = serde_json::from_slice(&file).ok()?;
        self.url = file["url"].as_str()?.trim_end_matches('/').to_owned();
        self.token = std::fs::read_to_string(self.data.join("operator.token")).ok()?.trim().to_owned();
        Some(())
    }

    /// The end of what it printed.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and waits until it has ended in order.
    ///
    /// # Errors
    /// When it does not end in time or not in order.
    pub async fn terminate(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid())?).context("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}:\n{}", self.log_tail());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the server does not end on SIGTERM:\n{}", self.log_tail())
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Processor time that it has used so far, that of its ended children included.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name in brackets may hold anything; the state after it is the third field, the times are the 14th to 17th.
        let after = stat.rsplit_once(") ").context("no name in brackets")?.1;
        let ticks: Vec<u64> =
            after.split(' ').skip(11).take(4).map(str::parse).collect::<Result<_, std::num::ParseIntError>>()?;
        let a_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / a_second as f64))
    }

    /// Processor time that it uses in the next five seconds: what waits and tries again now and then needs little, what
    /// tries without a pause all of it.
    ///
    /// # Errors
    /// When it ends meanwhile.
    pub async fn processor_time_in_five_seconds(&self) -> Result<Duration> {
        let before = self.processor_time()?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(self.processor_time()?.saturating_sub(before))
    }

    /// Gives standalone tasks, many at a time; their ids.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn give(&self, skill: &str, input: &Value, count: usize) -> Result<Vec<String>> {
        const AT_ONCE: usize = 64;
        let ids: Vec<String> = (0..count).map(|_| Uuid::now_v7().to_string()).collect();
        for some in ids.chunks(AT_ONCE) {
            let giving = some.iter().map(|id| async move {
                let body = json!({ "task_id": id, "spec": { "skill": skill, "input": input } });
                self.post("/assign_task", &body).await
            });
            futures::future::try_join_all(giving).await?;
        }
        Ok(ids)
    }

    /// Gives standalone tasks until so many were taken: who is not answered, or told that it cannot be done now, asks again,
    /// as a client would. How many were answered.
    ///
    /// # Errors
    /// When none is taken for [`PATIENCE`].
    pub async fn give_through(&self, skill: &str, input: &Value, count: usize) -> Result<usize> {
        let (mut given, mut moved) = (0, Instant::now());
        while given < count {
            let some = 20.min(count - given);
            match self.give(skill, input, some).await {
                Ok(_) => (given, moved) = (given + some, Instant::now()),
                Err(error) => {
                    ensure!(moved.elapsed() < PATIENCE, "only {given} of {count} tasks could be given: {error:#}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        Ok(given)
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("server.log")).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// A request to the API as the operator: status and JSON.
    ///
    /// # Errors
    /// When there is no answer or it is not JSON.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let mut request = self.client.request(method.parse()?, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        let value =
            if text.is_empty() { Value::Null } else { serde_json::from_str(&text).with_context(|| text.clone())? };
        Ok((status, value))
    }

    /// `GET`, which must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, value) = self.request("GET", path, None).await?;
        ensure!((200..300).contains(&status), "GET {path}: {status} {value}");
        Ok(value)
    }

    /// `POST`, which must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let (status, value) = self.request("POST", path, Some(body)).await?;
        ensure!((200..300).contains(&status), "POST {path}: {status} {value}");
        Ok(value)
    }

    /// Installs a component.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn install(&self, component: &Path) -> Result<Value> {
        let (status, value) = self.offer(std::fs::read(component)?).await?;
        ensure!((200..300).contains(&status), "install {}: {status} {value}", component.display());
        Ok(value)
    }

    /// Installs a component with a query such as `?activate=false`: status and JSON.
    ///
    /// # Errors
    /// When there is no answer or it is not JSON.
    pub async fn install_with(&self, component: &Path, query: &str) -> Result<(u16, Value)> {
        self.offer_with(std::fs::read(component)?, query).await
    }

    /// Offers a component for installation, as long as looking at it takes: status and JSON.
    ///
    /// # Errors
    /// When there is no answer or it is not JSON.
    pub async fn offer(&self, component: Vec<u8>) -> Result<(u16, Value)> {
        self.offer_with(component, "").await
    }

    async fn offer_with(&self, component: Vec<u8>, query: &str) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}/api/v1/skills{query}", self.url)).bearer_auth(&self.token);
        let response = request
            .header("content-type", "application/wasm")
            .timeout(LONGEST_ADMISSION)
            .body(component)
            .send()
            .await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// Installs every bundled skill and grants `chimera/publish-post` the server `social`.
    ///
    /// # Errors
    /// When something is refused.
    pub async fn install_bundled(&self) -> Result<()> {
        for component in skills() {
            self.install(&component).await?;
        }
        self.post(
            "/api/v1/grants",
            &serde_json::json!({ "skill": "chimera/publish-post", "slot": "social", "server": "social" }),
        )
        .await?;
        Ok(())
    }

    /// Asks again and again until `check` gives something.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`]; `what` says what was waited for.
    pub async fn until<T>(&self, path: &str, what: &str, mut check: impl FnMut(&Value) -> Option<T>) -> Result<T> {
        let started = Instant::now();
        let mut last = Value::Null;
        while started.elapsed() < PATIENCE {
            last = self.get(path).await?;
            if let Some(found) = check(&last) {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("waited in vain for {what}; last: {last:#}\nserver:\n{}", self.log_tail())
    }
}

/// Makes a data folder with the bundled skills installed and granted, compiled code included, inside `folder`. The
/// first call of a process for a kind of server builds it, the others copy.
///
/// # Errors
/// When the server cannot be started or refuses something.
pub async fn install_template(folder: &Path, social: campaign::Social) -> Result<PathBuf> {
    type Template = tokio::sync::OnceCell<tempfile::TempDir>;
    static TEMPLATES: [Template; 2] = [Template::const_new(), Template::const_new()];
    let template = TEMPLATES[social as usize]
        .get_or_try_init(|| async {
            let template = tempfile::tempdir()?;
            configure(template.path(), social)?;
            let mut server = Server::start(template.path()).await?;
            server.install_bundled().await?;
            server.terminate().await?;
            Ok::<_, anyhow::Error>(template)
        })
        .await?;
    let data = folder.join("data");
    copy_folder(template.path(), &data)?;
    configure(&data, social)?;
    Ok(data)
}

/// A `social` that ignores keys is configured like any other server of an operator's.
fn configure(data: &Path, social: campaign::Social) -> Result<()> {
    if social == campaign::Social::Forgetful {
        let state = data.join("social.json");
        let config = format!(
            "[mcp.servers.social]\ncommand = {:?}\nargs = [\"mcp\", \"serve\", \"social\", \"--state\", {state:?}, \"--no-idempotency\"]\n",
            binary()
        );
        std::fs::write(data.join("chimera.toml"), config)?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
