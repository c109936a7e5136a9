//! Values from the command line: `name=value`, `name=@file`, JSON or `@file`.
//!
//! It reads the files that the human named and no other; sizes are capped. Called by the commands that take inputs.

use super::error::{CliError, CliResult};
use super::feed;
use chimera_agents::planner::campaign_file::{FileFormat, FileInput};
use chimera_core::campaign::MAX_INPUT_BYTES;
use serde_json::{Map, Value};
use std::path::Path;

/// Reads a file of at most [`MAX_INPUT_BYTES`].
pub(crate) fn read_file(path: &Path) -> CliResult<Vec<u8>> {
    read_capped(path, MAX_INPUT_BYTES as u64)
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read_capped(path: &Path, max: u64) -> CliResult<Vec<u8>> {
    use std::io::Read as _;
    let unreadable = |error| CliError::unreadable(path, &error);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(CliError::usage(format!("{} is a folder", path.display()), "name a file"));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(CliError::usage(format!("{} is larger than {max} bytes", path.display()), "give less at once"));
    }
    Ok(bytes)
}

/// JSON, or `@FILE` with JSON in it.
pub(crate) fn json_or_file(text: &str, what: &str) -> CliResult<Value> {
    let (bytes, place) = match text.strip_prefix('@') {
        Some(path) => (read_file(Path::new(path))?, path.to_owned()),
        None => (text.as_bytes().to_vec(), format!("the {what}")),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        CliError::usage(
            format!("{place} is not JSON: {error}"),
            "write JSON, a text in double quotes; in a shell put it into single quotes",
        )
    })
}

/// Posts from a file, as the value that skills take.
pub(crate) fn posts(path: &Path) -> CliResult<Value> {
    let posts = feed::parse(&read_file(path)?).map_err(|error| {
        CliError::usage(
            format!("{}: {error}", path.display()),
            "posts are JSON lines ({\"text\": …} a line), RSS or Atom",
        )
    })?;
    serde_json::to_value(posts)
        .map_err(|error| CliError::failed(format!("the posts cannot be written as JSON: {error}"), ""))
}

/// One `name=value` of the command line.
pub(crate) fn pair(text: &str) -> CliResult<(String, Value)> {
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(CliError::usage(
            format!("`{text}` is not an input"),
            "write name=value, name=@file.json or posts=@file.jsonl",
        ));
    };
    let value = match value.strip_prefix('@') {
        Some(path) => file_value(Path::new(path))?,
        // What is JSON is taken as JSON; anything else is a text, so that nobody has to quote a word twice.
        None => serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())),
    };
    Ok((name.to_owned(), value))
}

fn file_value(path: &Path) -> CliResult<Value> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if feed::is_feed_name(path) {
        return posts(path);
    }
    match extension.as_str() {
        "json" => json_or_file(&format!("@{}", path.display()), "input"),
        _ => text(path),
    }
}

fn text(path: &Path) -> CliResult<Value> {
    String::from_utf8(read_file(path)?).map(Value::String).map_err(|_| {
        CliError::usage(
            format!("{} is not UTF-8 text", path.display()),
            "name a .json, .jsonl, .rss, .atom or text file",
        )
    })
}

/// Puts the files that a `campaign.yaml` names in their places; paths are relative to its folder.
pub(crate) fn load_files(
    inputs: &mut Map<String, Value>,
    files: impl IntoIterator<Item = (String, FileInput)>,
    folder: &Path,
) -> CliResult<()> {
    for (name, file) in files {
        let path = folder.join(&file.file);
        let value = match file.format {
            FileFormat::Posts => posts(&path)?,
            FileFormat::Text => text(&path)?,
            FileFormat::Json => json_or_file(&format!("@{}", path.display()), "input")?,
        };
        inputs.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::Exit;
    use serde_json::json;

    #[test]
    fn a_pair_is_json_where_it_can_be_and_text_elsewhere() {
        assert_eq!(pair("n=3").expect("a pair"), ("n".to_owned(), json!(3)));
        assert_eq!(pair("lang=en").expect("a pair"), ("lang".to_owned(), json!("en")));
        assert_eq!(pair("list=[1, 2]").expect("a pair").1, json!([1, 2]));
        assert_eq!(pair("a=b=c").expect("a pair").1, json!("b=c"));
        assert_eq!(pair("nothing").expect_err("no pair").exit, Exit::Usage);
        assert_eq!(pair("=x").expect_err("no pair").exit, Exit::Usage);
    }

    #[test]
    fn files_are_read_by_what_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let posts_file = write("posts.jsonl", "{\"text\": \"hello\"}\n");
        assert_eq!(pair(&format!("posts=@{posts_file}")).expect("a pair").1[0]["text"], json!("hello"));
        let json_file = write("a.json", "{\"b\": 1}");
        assert_eq!(pair(&format!("a=@{json_file}")).expect("a pair").1, json!({ "b": 1 }));
        let text_file = write("a.txt", "plain");
        assert_eq!(pair(&format!("a=@{text_file}")).expect("a pair").1, json!("plain"));
        let broken = write("broken.jsonl", "{\"text\": \"a\"}\n{");
        let error = pair(&format!("posts=@{broken}")).expect_err("a broken feed");
        assert!(error.what.contains("line 2"), "{error}");
        let absent = pair("a=@/nowhere/at/all").expect_err("no file");
        assert_eq!(absent.exit, Exit::Failed);
    }
}
