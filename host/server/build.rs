//! Puts every published version of the contract (`wit/chimera-skill-*/`) into the program, for `chimera skill build`.
//!
//! A version that is added to the folder is served to authors without a change here. It decides nothing else.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit").canonicalize()?;
    println!("cargo::rerun-if-changed={}", wit.display());
    let mut table = "&[".to_owned();
    for folder in sorted(&wit)? {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(version) = name.strip_prefix("chimera-skill-") else { continue };
        write!(table, "({version:?}, &[")?;
        for file in sorted(&folder)?.iter().filter(|path| path.extension().is_some_and(|kind| kind == "wit")) {
            println!("cargo::rerun-if-changed={}", file.display());
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            write!(table, "({name:?}, include_str!({:?})), ", file.display().to_string())?;
        }
        table.push_str("]), ");
    }
    table.push(']');
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or("cargo names no OUT_DIR")?;
    std::fs::write(out.join("contracts.rs"), table)?;
    Ok(())
}

fn sorted(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
