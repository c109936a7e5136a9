//! What a guest says while it runs: log lines, progress, stdout and stderr, all bounded.
//!
//! Lines over the limit are dropped and counted; nothing here is journalled, and nothing blocks a guest. Fed by the
//! `progress` interface and by WASI's output streams, read into the [`crate::RunReport`].

use bytes::Bytes;
use chimera_core::ports::{LogLevel, ProgressPort};
use chimera_core::text::{floor_char_boundary, printable};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Longest line in bytes.
const MAX_LINE: usize = 4 << 10;
/// Most lines of a run.
const MAX_LINES: usize = 1000;
/// Most bytes of all lines of a run.
const MAX_BYTES: usize = 256 << 10;
/// Most progress reports of a run.
const MAX_REPORTS: u32 = 1000;
/// Longest message of a progress report in bytes.
const MAX_MESSAGE: usize = 256;
/// What one write to stdout or stderr may carry.
const WRITE_PERMIT: usize = 64 << 10;

/// A line that a guest logged or printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important.
    pub level: LogLevel,
    /// At most 4 KiB, printable.
    pub message: String,
}

/// Collects what one run says. Clones are the same collection.
#[derive(Clone)]
pub(crate) struct LogSink(Arc<Mutex<Inner>>);

struct Inner {
    port: Arc<dyn ProgressPort>,
    audience: Audience,
    lines: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
    reports: u32,
    /// The unfinished lines of stdout and stderr.
    partial: [Vec<u8>; 2],
}

/// Whether people watching are told as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// They are.
    Live,
    /// They heard it when it happened the first time: the run is being replayed.
    Replay,
}

/// The two output streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    /// Logged as `info`.
    Stdout = 0,
    /// Logged as `warn`.
    Stderr = 1,
}

impl LogSink {
    pub(crate) fn new(port: Arc<dyn ProgressPort>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            port,
            audience: Audience::Live,
            lines: Vec::new(),
            bytes: 0,
            dropped: 0,
            reports: 0,
            partial: [Vec::new(), Vec::new()],
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_audience(&self, audience: Audience) {
        self.inner().audience = audience;
    }

    /// Keeps a line and tells people.
    pub(crate) fn log(&self, level: LogLevel, message: &str) {
        self.inner().log(level, message);
    }

    /// Tells people how far along the run is.
    pub(crate) fn report(&self, fraction: f64, message: &str) {
        let mut inner = self.inner();
        if inner.reports >= MAX_REPORTS || fraction.is_nan() {
            inner.dropped += 1;
            return;
        }
        inner.reports += 1;
        if inner.audience == Audience::Live {
            let message = printable(&message[..floor_char_boundary(message, MAX_MESSAGE)]);
            inner.port.report(fraction.clamp(0.0, 1.0), &message);
        }
    }

    /// What was said, and how many lines were dropped. Unfinished lines count as lines.
    pub(crate) fn take(&self) -> (Vec<LogLine>, u64) {
        let mut inner = self.inner();
        for stream in [Stream::Stdout, Stream::Stderr] {
            inner.end_line(stream);
        }
        (std::mem::take(&mut inner.lines), inner.dropped)
    }
}

impl Inner {
    fn log(&mut self, level: LogLevel, message: &str) {
        let message = printable(&message[..floor_char_boundary(message, MAX_LINE)]);
        if self.lines.len() >= MAX_LINES || self.bytes + message.len() > MAX_BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes += message.len();
        if self.audience == Audience::Live {
            self.port.log(level, &message);
        }
        self.lines.push(LogLine { level, message });
    }

    fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend_line(stream, &bytes[..end]);
            // An empty line is a line too, unless it only ends a dropped one.
            if self.partial[stream as usize].is_empty() {
                self.partial[stream as usize].push(b' ');
            }
            self.end_line(stream);
            bytes = &bytes[end + 1..];
        }
        self.extend_line(stream, bytes);
    }

    fn extend_line(&mut self, stream: Stream, bytes: &[u8]) {
        let line = &mut self.partial[stream as usize];
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.partial[stream as usize]);
        if line.is_empty() {
            return;
        }
        let level = match stream {
            Stream::Stdout => LogLevel::Info,
            Stream::Stderr => LogLevel::Warn,
        };
        self.log(level, String::from_utf8_lossy(&line).trim_end());
    }
}

/// A guest's stdout or stderr.
#[derive(Clone)]
pub(crate) struct Output {
    sink: LogSink,
    stream: Stream,
}

impl Output {
    pub(crate) fn new(sink: &LogSink, stream: Stream) -> Self {
        Self { sink: sink.clone(), stream }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.1 and 0.3 ask for this form; neither is linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Looking through it takes time in which nothing else gets the thread.
        if bytes.len() > WRITE_PERMIT {
            return Err(StreamError::trap("more was written at once than `check-write` permits"));
        }
        self.sink.inner().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_core::ports::Deny;

    fn sink() -> LogSink {
        LogSink::new(Arc::new(Deny))
    }

    #[test]
    fn lines_are_bounded_and_what_is_over_is_counted() {
        let sink = sink();
        for _ in 0..1500 {
            sink.log(LogLevel::Info, "x");
        }
        let (lines, dropped) = sink.take();
        assert_eq!((lines.len(), dropped), (MAX_LINES, 500));
    }

    #[test]
    fn bytes_are_bounded_over_all_lines() {
        let sink = sink();
        for _ in 0..100 {
            sink.log(LogLevel::Info, &"ü".repeat(MAX_LINE));
        }
        let (lines, dropped) = sink.take();
        assert!(lines.iter().map(|line| line.message.len()).sum::<usize>() <= MAX_BYTES);
        assert_eq!(lines.len() as u64 + dropped, 100);
    }

    #[test]
    fn no_more_is_written_at_once_than_was_permitted() {
        let sink = sink();
        let mut output = Output::new(&sink, Stream::Stdout);
        let permitted = output.check_write().unwrap();
        output.write(Bytes::from(vec![b'a'; permitted])).unwrap();
        let refused = output.write(Bytes::from(vec![b'\n'; permitted + 1])).unwrap_err();
        assert!(matches!(refused, StreamError::Trap(_)), "{refused:?}");
        assert_eq!(sink.take().0.len(), 1, "nothing of it was looked at");
    }

    #[test]
    fn printed_bytes_become_lines() {
        let sink = sink();
        {
            let mut inner = sink.inner();
            inner.write(Stream::Stdout, b"one\ntw");
            inner.write(Stream::Stderr, b"oh\x1b[31m no");
            inner.write(Stream::Stdout, b"o\n");
            inner.write(Stream::Stdout, &vec![b'a'; 1 << 20]);
        }
        let (lines, dropped) = sink.take();
        let said: Vec<_> = lines.iter().map(|line| (line.level, line.message.as_str())).collect();
        assert_eq!(said[0], (LogLevel::Info, "one"));
        assert_eq!(said[1], (LogLevel::Info, "two"));
        assert_eq!(said[2].1.len(), MAX_LINE);
        assert_eq!(said[3], (LogLevel::Warn, "oh\u{FFFD}[31m no"));
        assert_eq!(dropped, 0);
    }
}
