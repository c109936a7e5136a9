//! Writes large files so that others who wait for the disk hardly notice.
//!
//! What is only written lies in memory until the kernel carries it to the disk some time later, all of it at once; whoever
//! wants a few bytes on disk in that moment (the truth does, many times a second) waits behind it. So large files are written in
//! pieces, each of which is on disk before the next. Called by the code cache and by the registry's store of components.

use std::fs::File;
use std::io::{self, Write as _};

/// What is carried to the disk at once. Smaller pieces would lie in memory as smaller pages, and code would be loaded more slowly
/// from there: by half, with 512 KiB.
const PIECE: usize = 2 << 20;

/// Writes bytes in pieces; they are on disk when it returns. The file's name is the caller's to make durable.
///
/// # Errors
/// What the system says.
pub fn write_in_pieces(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        file.write_all(piece)?;
        file.sync_data()?;
    }
    Ok(())
}
