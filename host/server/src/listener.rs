//! The listener with its limits: how many connections at once, and how long one may be silent.
//!
//! Everybody on this machine can connect before proving anything, so connections must not use up the files that the
//! platform itself needs. It reads and changes no byte of what is sent. Called by `serve`.

use axum::serve::Listener;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Most connections at once; further ones wait until one ends. Well below the 1,024 files that a process usually may open.
pub(crate) const MAX_CONNECTIONS: usize = 256;
/// How long nothing may be sent or received before a connection is closed. Longer than a client keeps an unused
/// connection (90 seconds), than a stream of events is silent (15 seconds), and than an admission takes.
pub(crate) const SILENCE: Duration = Duration::from_secs(150);

/// A listener that accepts at most so many connections at once and closes silent ones.
pub(crate) struct Bounded<L> {
    inner: L,
    places: Arc<Semaphore>,
    silence: Duration,
}

impl<L: Listener> Bounded<L> {
    /// `inner`, with at most `connections` at once, each closed after `silence` without a byte.
    pub(crate) fn new(inner: L, connections: usize, silence: Duration) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(connections)), silence }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Patient<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; if it were, connections would go uncounted rather than the server down.
        let place = self.places.clone().acquire_owned().await.ok();
        let (inner, address) = self.inner.accept().await;
        let silence = self.silence;
        (Patient { inner, silence, until: Box::pin(tokio::time::sleep(silence)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection that ends when nothing went over it for a while.
pub(crate) struct Patient<I> {
    inner: I,
    silence: Duration,
    until: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<I> Patient<I> {
    /// Passes a result on; one that came begins the silence anew.
    fn heard<T>(&mut self, result: Poll<T>) -> Poll<T> {
        if result.is_ready() {
            self.until.as_mut().reset(Instant::now() + self.silence);
        }
        result
    }

    /// Fails when it has been silent for too long; else wakes the task when that will be.
    fn check(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.until.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        match self.heard(result) {
            Poll::Pending => self.check(context).map(Err),
            ready => ready,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        match self.heard(result) {
            Poll::Pending => self.check(context).map(Err),
            ready => ready,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        match self.heard(result) {
            Poll::Pending => self.check(context).map(Err),
            ready => ready,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    async fn bounded(connections: usize, silence: Duration) -> (Bounded<TcpListener>, std::net::SocketAddr) {
        let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = inner.local_addr().expect("an address");
        (Bounded::new(inner, connections, silence), address)
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_and_one_that_talks_is_not() {
        let (mut listener, address) = bounded(2, Duration::from_millis(300)).await;
        let mut talker = TcpStream::connect(address).await.expect("connected");
        let (mut served, _) = listener.accept().await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            talker.write_all(b"x").await.expect("sent");
            assert_eq!(served.read_u8().await.expect("read"), b'x');
        }
        let error = served.read_u8().await.expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_more_than_the_places_waits_until_one_ends() {
        let (mut listener, address) = bounded(1, Duration::from_secs(60)).await;
        let _first = TcpStream::connect(address).await.expect("connected");
        let (served, _) = listener.accept().await;
        let _second = TcpStream::connect(address).await.expect("connected");
        let waiting = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(waiting.is_err(), "the only place is taken");
        drop(served);
        tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.expect("the place is free again");
    }
}
