//! Skills in Python and JavaScript: from `skill new` to a task of a campaign, with the real builders.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end with a panic")]

use anyhow::{Context, Result, ensure};
use chimera_tests::campaign::{list, text};
use chimera_tests::{Server, binary, bundled, guest_target, root, said};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A skill that asks the host for everything that skill.toml declares, and for something that it does not.
const ASKING: [(&str, &str); 2] =
    [("skill.py", include_str!("languages/asking.py")), ("skill.js", include_str!("languages/asking.js"))];
const ASKING_TOML: &str = include_str!("languages/asking.toml");
/// What makes a skill of contract 0.2 of it: a budget for its callee, forgetting, details of a failure, limits.
const SINCE_0_2: [(&str, &str); 4] = [
    ("contract = \"0.1\"", "contract = \"0.2\""),
    ("memory = [\"recall\", \"remember\"]", "memory = [\"recall\", \"remember\", \"forget\"]"),
    (
        "  { call = \"skills.call\", args = { name = \"chimera/summarize\", input = { texts = [\"x\"] } }, answer = {",
        "  { call = \"memory.forget\", args = { id = \"memory-1\" } },\n  \
         { call = \"scratch.get\", args = { key = \"away\" }, failure = { kind = \"transient\", code = \"away\", \
         message = \"Later.\", details = { since = 3 } } },\n  \
         { call = \"skills.call\", args = { name = \"chimera/summarize\", input = { texts = [\"x\"] }, \
         budget = { fuel = 5_000 } }, answer = { fuel = 70,",
    ),
    ("called = {", "details = { since = 3 }, memory_mb = 64, took = 70, called = {"),
];

/// The manifest for both versions of the contract.
fn asking_toml(contract: &str) -> Result<String> {
    if contract == "0.1" {
        return Ok(ASKING_TOML.to_owned());
    }
    let (both, _) = ASKING_TOML.split_once("# What follows").context("what only 0.1 has")?;
    SINCE_0_2.iter().try_fold(both.to_owned(), |toml, (old, new)| {
        ensure!(toml.contains(old), "{old}");
        Ok(toml.replace(old, new))
    })
}

/// One at a time: a build and a compile take both cores of a small machine for seconds, and have limits of their own.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Where the builders are set up: `cargo xtask test` says where; they are kept beside the guests otherwise.
fn tools() -> PathBuf {
    std::env::var_os("CHIMERA_TOOLS_DIR").map_or_else(|| guest_target().join("tools"), PathBuf::from)
}

/// The program in a skill's folder, with a target folder of the skill's own.
fn chimera(folder: &Path, data: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .current_dir(folder)
        .env("CHIMERA_DATA_DIR", data)
        .env("CHIMERA_TOOLS_DIR", tools())
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null());
    command
}

fn run(folder: &Path, data: &Path, args: &[&str]) -> Output {
    chimera(folder, data).args(args).output().unwrap()
}

fn succeed(folder: &Path, data: &Path, args: &[&str]) -> Result<String> {
    let done = run(folder, data, args);
    ensure!(done.status.success(), "{args:?}: {}", said(&done));
    Ok(said(&done))
}

/// Runs one step as a campaign and gives its task at its end.
async fn task(server: &Server, skill: &str, input: Value) -> Result<Value> {
    let body =
        json!({ "title": skill, "goal": "One step.", "steps": [{ "id": "only", "skill": skill, "input": input }] });
    let made = server.post("/api/v1/campaigns", &body).await?;
    let id = made["id"].as_str().or(made["campaign"]["id"].as_str()).context("no id")?.to_owned();
    server
        .until(&format!("/api/v1/tasks?campaign={id}"), skill, |tasks| {
            let task = list(tasks).into_iter().next()?;
            let is_over =
                matches!(text(&task["state"]).as_str(), "approved" | "failed" | "rejected" | "awaiting_approval");
            is_over.then_some(task)
        })
        .await
}

/// A third party's way from nothing to a task, in one language.
async fn from_template_to_task(language: &str, unit_tests: &[&str]) -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    let name = format!("acme/hello-{language}");
    succeed(home.path(), &data, &["skill", "new", &name, "--lang", language])?;
    let folder = home.path().join(format!("hello-{language}"));

    let units = Command::new(unit_tests[0]).args(&unit_tests[1..]).current_dir(&folder).output()?;
    ensure!(units.status.success(), "{}", said(&units));

    succeed(&folder, &data, &["skill", "build"])?;
    let again = succeed(&folder, &data, &["skill", "build"])?;
    ensure!(!again.contains("Building"), "nothing changed, and it was built again: {again}");
    let tested = succeed(&folder, &data, &["skill", "test"])?;
    ensure!(tested.contains("2 passed, 0 failed"), "{tested}");

    let server = Server::start(&data).await?;
    succeed(&folder, &data, &["skill", "install", "."])?;
    let installed = server.get(&format!("/api/v1/skills/{name}")).await?;
    ensure!(installed["versions"][0]["manifest"]["skill"]["contract"] == "0.2", "{installed:#}");
    let done = task(&server, &name, json!({ "text": "The cat saw the dog and the bird." })).await?;
    ensure!(done["state"] == "approved", "{done:#}");
    ensure!(done["outcome"]["output"]["top"] == json!(["the", "and", "bird"]), "{done:#}");
    asks_the_host(&folder, &data, "0.1")?;
    asks_the_host(&folder, &data, "0.2")?;

    // What a program may read of a failure arrives.
    std::fs::write(folder.join("skill.toml"), asking_toml("0.2")?)?;
    succeed(&folder, &data, &["skill", "install", "."])?;
    let failed = task(&server, "acme/asking", json!({ "text": "details" })).await?;
    ensure!(failed["failure"]["details"] == json!({ "field": "/text" }), "{failed:#}");
    Ok(())
}

/// The same self-tests in every language: every call of the context, a failure of the host, an exception.
fn asks_the_host(folder: &Path, data: &Path, contract: &str) -> Result<()> {
    for (file, source) in ASKING {
        if folder.join(file).is_file() {
            std::fs::write(folder.join(file), source)?;
        }
    }
    // What one self-test expects is wrong: it alone fails, and says what it got, which is right.
    let asking = asking_toml(contract)?;
    let broken = asking.replace("id = \"memory-1\", recalled", "id = \"memory-2\", recalled");
    ensure!(broken != asking);
    std::fs::write(folder.join("skill.toml"), &broken)?;
    let failed = run(folder, data, &["skill", "test", "--json"]);
    ensure!(failed.status.code() == Some(1), "{}", said(&failed));
    let report: Value = serde_json::from_slice(&failed.stdout)?;
    let right = asking.matches("[[selftest]]").count() - 1;
    ensure!((&report["passed"], &report["failed"]) == (&json!(right), &json!(1)), "{report:#}");
    let problem = text(&report["results"][0]["problem"]["got"]);
    ensure!(problem.contains(r#""id":"memory-1""#) && problem.contains("rate-limited"), "{report:#}");

    // A throw is told in one line, and where it was in the log.
    let crashed = run(folder, data, &["skill", "run", ".", "--input", r#"{"text": "crash"}"#]);
    let told = said(&crashed);
    ensure!(crashed.status.code() == Some(1), "{told}");
    ensure!(told.contains("exception") && told.contains("the well is dry"), "{told}");
    ensure!(told.contains("error") && told.contains("run"), "no traceback: {told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_skill_goes_from_the_template_to_a_task() -> Result<()> {
    from_template_to_task("python", &["python3", "-B", "-m", "unittest"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_skill_goes_from_the_template_to_a_task() -> Result<()> {
    from_template_to_task("javascript", &["npm", "test"]).await
}

/// A judge goes from the template into a server.
async fn judge_from_template(language: &str, unit_tests: &[&str]) -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    let name = format!("acme/strict-{language}");
    succeed(home.path(), &data, &["skill", "new", &name, "--lang", language, "--world", "judge"])?;
    let folder = home.path().join(format!("strict-{language}"));
    let units = Command::new(unit_tests[0]).args(&unit_tests[1..]).current_dir(&folder).output()?;
    ensure!(units.status.success(), "{}", said(&units));

    let tested = succeed(&folder, &data, &["skill", "test"])?;
    ensure!(tested.contains("4 passed, 0 failed"), "{tested}");
    let run = run(&folder, &data, &["skill", "run", ".", "--input", "{}"]);
    ensure!(run.status.code() == Some(2) && said(&run).contains("is a judge"), "{}", said(&run));

    let server = Server::start(&data).await?;
    succeed(&folder, &data, &["skill", "install", "."])?;
    let installed = server.get(&format!("/api/v1/skills/{name}")).await?;
    let skill = &installed["versions"][0]["manifest"]["skill"];
    ensure!(skill["world"] == "judge" && skill["contract"] == "0.2", "{installed:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_judge_goes_from_the_template_into_a_server() -> Result<()> {
    judge_from_template("python", &["python3", "-B", "-m", "unittest"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_judge_goes_from_the_template_into_a_server() -> Result<()> {
    judge_from_template("javascript", &["npm", "test"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_skills_in_other_languages_run_as_steps() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let data = tempfile::tempdir()?;
    let server = Server::start(data.path()).await?;
    for name in ["keywords", "readability"] {
        succeed(data.path(), data.path(), &["skill", "install", bundled(name).to_str().unwrap()])?;
    }
    let prose = "The old stone bridge is closed. The council wants to rebuild the old stone bridge. ".repeat(8);
    let found = task(&server, "chimera/keywords", json!({ "texts": [prose], "max": 1 })).await?;
    ensure!(found["state"] == "approved", "{found:#}");
    ensure!(found["outcome"]["output"]["keywords"][0]["phrase"] == "old stone bridge", "{found:#}");
    let measured = task(&server, "chimera/readability", json!({ "text": prose })).await?;
    ensure!(measured["outcome"]["output"]["sentences"] == 16, "{measured:#}");
    Ok(())
}

fn project(home: &Path, language: &str) -> Result<PathBuf> {
    succeed(home, &home.join("data"), &["skill", "new", "acme/open", "--lang", language])?;
    Ok(home.join("open"))
}

/// The builders make it easy to import sockets; what they then make is refused, and the flag is named.
#[test]
fn a_python_skill_that_imports_sockets_is_refused() -> Result<()> {
    let _turn = ONE_AT_A_TIME.blocking_lock();
    let home = tempfile::tempdir()?;
    let folder = project(home.path(), "python")?;
    let shims = home.path().join("bin");
    std::fs::create_dir(&shims)?;
    let real = tools().join("componentize-py-0.25.1/bin/componentize-py");
    if !real.exists() {
        succeed(&folder, &home.path().join("data"), &["skill", "build"])?;
    }
    let shim = format!(
        "#!/bin/sh\nfor arg; do shift; [ \"$arg\" = --stub-wasi ] || set -- \"$@\" \"$arg\"; done\nexec {real:?} \"$@\"\n"
    );
    std::fs::write(shims.join("componentize-py"), shim)?;
    std::fs::set_permissions(shims.join("componentize-py"), std::fs::Permissions::from_mode(0o755))?;
    // Something must have changed, or what was built before is still right.
    std::fs::write(folder.join("more.py"), "")?;
    let path = format!("{}:{}", shims.display(), std::env::var("PATH")?);
    let refused = chimera(&folder, &home.path().join("data")).args(["skill", "build"]).env("PATH", path).output()?;
    let told = said(&refused);
    ensure!(refused.status.code() == Some(3), "{told}");
    ensure!(told.contains("wasi:sockets") && told.contains("--stub-wasi"), "{told}");
    Ok(())
}

/// Also: a project's own componentize-js is the one that builds it.
#[test]
fn a_javascript_skill_that_imports_http_is_refused() -> Result<()> {
    let _turn = ONE_AT_A_TIME.blocking_lock();
    let home = tempfile::tempdir()?;
    let data = home.path().join("data");
    let folder = project(home.path(), "javascript")?;
    let package = "node_modules/@bytecodealliance/componentize-js";
    let real = tools().join("componentize-js-0.23.0").join(package).join("src/cli.js");
    if !real.exists() {
        succeed(&folder, &data, &["skill", "build"])?;
    }
    let own = folder.join(package);
    std::fs::create_dir_all(own.join("src"))?;
    std::fs::write(own.join("package.json"), r#"{ "version": "0.0.1", "type": "module" }"#)?;
    let shim = format!(
        "const flag = process.argv.indexOf('--disable');\nprocess.argv.splice(flag, 3);\nawait import({:?});\n",
        format!("file://{}", real.display())
    );
    std::fs::write(own.join("src/cli.js"), shim)?;
    let refused = run(&folder, &data, &["skill", "build"]);
    let told = said(&refused);
    ensure!(refused.status.code() == Some(3) && told.contains("componentize-js 0.0.1"), "{told}");
    ensure!(told.contains("wasi:http") && told.contains("--disable http"), "{told}");
    Ok(())
}

#[test]
fn a_missing_tool_is_named_with_what_to_do() -> Result<()> {
    for (language, wanted) in [("python", "python3"), ("javascript", "node")] {
        let home = tempfile::tempdir()?;
        let folder = project(home.path(), language)?;
        let failed = chimera(&folder, &home.path().join("data"))
            .args(["skill", "build"])
            .env("PATH", "")
            .env("CHIMERA_TOOLS_DIR", home.path().join("tools"))
            .output()?;
        let told = said(&failed);
        ensure!(failed.status.code() == Some(1), "{told}");
        ensure!(told.contains(&format!("there is no {wanted} on the PATH")) && told.contains("apt install"), "{told}");
    }
    Ok(())
}

/// A set-up that fails leaves nothing that a later build would take for complete.
#[test]
fn a_set_up_that_fails_is_told_and_begun_again() -> Result<()> {
    let home = tempfile::tempdir()?;
    let folder = project(home.path(), "python")?;
    let place = home.path().join("tools");
    for _ in 0..2 {
        let failed = chimera(&folder, &home.path().join("data"))
            .args(["skill", "build"])
            .env("CHIMERA_TOOLS_DIR", &place)
            .env("PIP_NO_INDEX", "1")
            .output()?;
        let told = said(&failed);
        ensure!(failed.status.code() == Some(1), "{told}");
        ensure!(told.contains("Setting up") && told.contains("pip could not install"), "{told}");
    }
    ensure!(place.metadata()?.permissions().mode().trailing_zeros() >= 6, "others can look into the tools");
    Ok(())
}

/// The helper is the author's, and each bundled skill has a copy as a third party would.
#[test]
fn the_helpers_of_the_bundled_skills_are_those_of_the_templates() -> Result<()> {
    for (template, skill) in [("python/chimera_skill.py", "keywords"), ("javascript/chimera-skill.js", "readability")] {
        let template = root().join("skills-sdk/templates").join(template);
        let copy = root().join("skills").join(skill).join(template.file_name().unwrap());
        ensure!(std::fs::read(&template)? == std::fs::read(&copy)?, "{} is not its template", copy.display());
    }
    Ok(())
}
