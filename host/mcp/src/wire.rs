//! The bytes that come from a server, before anything parses them.
//!
//! A [`Watched`] reader passes them on and breaks the connection when a line is too long or when too much of what comes
//! is no message at all; it never buffers. The reason is left in a [`Fault`], so that the calls that fail with the
//! connection can say why. Called by the client.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Longest line, so longest message: an answer may come as text and as structured content, escaped.
pub(crate) const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;
/// Lines that are no message and are passed over before the connection is broken: some servers greet.
const MAX_NOISE_LINES: u32 = 64;

/// Why a connection was broken by this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it sent a message of more than {} MiB", MAX_LINE_BYTES >> 20)]
    LineTooLong,
    #[error("it wrote more than {MAX_NOISE_LINES} lines to its standard output that are not MCP messages")]
    Noise,
}

/// A reader that counts and breaks.
pub(crate) struct Watched<R> {
    inner: R,
    line: usize,
    noise: u32,
    fault: Arc<OnceLock<Fault>>,
}

impl<R> Watched<R> {
    pub(crate) fn new(inner: R, fault: Arc<OnceLock<Fault>>) -> Self {
        Self { inner, line: 0, noise: 0, fault }
    }

    fn watch(&mut self, mut chunk: &[u8]) -> Result<(), Fault> {
        while let Some(first) = chunk.first() {
            if self.line == 0 && !matches!(first, b'{' | b'[' | b'\n' | b'\r' | b' ') {
                self.noise += 1;
                if self.noise > MAX_NOISE_LINES {
                    return Err(Fault::Noise);
                }
            }
            match chunk.iter().position(|byte| *byte == b'\n') {
                Some(end) if self.line + end <= MAX_LINE_BYTES => {
                    self.line = 0;
                    chunk = &chunk[end + 1..];
                }
                None if self.line + chunk.len() <= MAX_LINE_BYTES => {
                    self.line += chunk.len();
                    return Ok(());
                }
                _ => return Err(Fault::LineTooLong),
            }
        }
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        match this.watch(&buf.filled()[before..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(fault) => {
                let _ = this.fault.set(fault);
                Poll::Ready(Err(std::io::Error::other(fault)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use proptest::prelude::*;

    fn watched() -> Watched<()> {
        Watched::new((), Arc::default())
    }

    #[test]
    fn a_long_line_and_much_noise_break_the_connection() {
        let mut long = watched();
        long.watch(b"{\n").unwrap();
        long.watch(&vec![b' '; MAX_LINE_BYTES]).unwrap();
        assert_eq!(long.watch(b"x"), Err(Fault::LineTooLong));
        let mut noisy = watched();
        for _ in 0..MAX_NOISE_LINES {
            noisy.watch(b"hello\n{}\n").unwrap();
        }
        assert_eq!(noisy.watch(b"hello\n"), Err(Fault::Noise));
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_the_bytes_are_cut(
            lines in prop::collection::vec("[{h ]{0,8}", 0..200),
            cuts in prop::collection::vec(1_usize..40, 1..50),
        ) {
            let bytes = lines.join("\n").into_bytes();
            let whole = watched().watch(&bytes);
            let mut pieces = watched();
            let mut rest = bytes.as_slice();
            let mut verdict = Ok(());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || verdict.is_err() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                verdict = pieces.watch(now);
                rest = later;
            }
            prop_assert_eq!(whole, verdict);
        }
    }
}
