//! The listener with its limits: how many connections at once, how long one may be silent, and how long a stranger may
//! take for a request.
//!
//! Everybody on this machine can connect before proving anything, so connections must not use up the files that the
//! platform itself needs, and strangers must not keep the operator out: when all places are taken, the stranger who has
//! been there longest gives way. It reads and changes no byte of what is sent. Called by `serve`; `auth` tells it who has
//! proven themselves.

use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected, IntoMakeServiceWithConnectInfo};
use axum::http::Extensions;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use futures::task::AtomicWaker;
use std::collections::BTreeMap;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// How soon the next stranger gives way when the one before could not be got rid of.
const GIVE_WAY: Duration = Duration::from_millis(250);

/// What a listener's connections may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most connections at once. Well below the 1,024 files that a process usually may open.
    pub(crate) connections: usize,
    /// How long nothing may be sent or received before a connection is closed. Longer than a client keeps an unused
    /// connection (90 seconds), than a stream of events is silent (15 seconds), and than an admission takes.
    pub(crate) silence: Duration,
    /// How long a request's head may take, and its body after it, while nobody on the connection has proven who they
    /// are.
    pub(crate) head: Duration,
}

impl Limits {
    /// Those of a server.
    pub(crate) const SERVER: Self =
        Self { connections: 256, silence: Duration::from_secs(150), head: Duration::from_secs(10) };
}

/// A listener whose connections keep to its limits.
pub(crate) struct Bounded<L> {
    inner: L,
    limits: Limits,
    places: Arc<Semaphore>,
    open: Arc<Register>,
    count: u64,
}

/// The open connections, oldest first.
#[derive(Default)]
struct Register(Mutex<BTreeMap<u64, Line>>);

impl Register {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<u64, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Listener> Bounded<L> {
    /// `inner` within these limits.
    pub(crate) fn new(inner: L, limits: Limits) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self { inner, limits, places, open: Arc::default(), count: 0 }
    }

    /// A place for one connection more, for which the oldest stranger gives way if need be. Without a stranger it waits
    /// until a connection ends.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return Some(place);
            }
            let stranger = self.open.lines().values().find(|line| line.gives_way()).cloned();
            if let Some(line) = stranger {
                line.0.task.wake();
            }
            // The semaphore is never closed; if it were, connections would go uncounted rather than the server down.
            if let Ok(place) = tokio::time::timeout(GIVE_WAY, self.places.clone().acquire_owned()).await {
                return place.ok();
            }
        }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Patient<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // First the newcomer, then the place: nobody gives way to nobody.
        let (inner, address) = self.inner.accept().await;
        let place = self.place().await;
        let line = Line::new(self.limits.head);
        self.count += 1;
        self.open.lines().insert(self.count, line.clone());
        let silent_until = Instant::now() + self.limits.silence;
        let connection = Patient {
            inner,
            silence: self.limits.silence,
            silent_until,
            timer: Box::pin(tokio::time::sleep_until(silent_until)),
            line,
            number: self.count,
            open: self.open.clone(),
            _place: place,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// What is known of one connection.
#[derive(Clone)]
pub(crate) struct Line(Arc<State>);

struct State {
    head: Duration,
    course: Mutex<Course>,
    /// Wakes the task that serves the connection.
    task: AtomicWaker,
}

struct Course {
    standing: Standing,
    /// When the stranger's present request must be complete; none between requests.
    due: Option<Instant>,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Somebody who has proven nothing.
    Stranger,
    /// Somebody who has sent a request with good credentials.
    Proven,
    /// A stranger who gave way to somebody else.
    Gone,
}

impl Line {
    fn new(head: Duration) -> Self {
        let course = Course { standing: Standing::Stranger, due: Some(Instant::now() + head) };
        Self(Arc::new(State { head, course: Mutex::new(course), task: AtomicWaker::new() }))
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.0.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was read: a stranger's request has begun, unless it had before.
    fn heard(&self) {
        let mut course = self.course();
        if course.standing == Standing::Stranger && course.due.is_none() {
            course.due = Some(Instant::now() + self.0.head);
        }
    }

    /// A request's head has come in whole.
    fn has_asked(&self) {
        self.course().due = None;
    }

    /// A request on it had good credentials.
    fn is_proven(&self) {
        let mut course = self.course();
        if course.standing == Standing::Stranger {
            *course = Course { standing: Standing::Proven, due: None };
        }
    }

    /// A stranger's connection ends now; tells whether it was one.
    fn gives_way(&self) -> bool {
        let mut course = self.course();
        let is_stranger = course.standing == Standing::Stranger;
        if is_stranger {
            course.standing = Standing::Gone;
        }
        is_stranger
    }
}

impl<L: Listener> Connected<IncomingStream<'_, Bounded<L>>> for Line {
    fn connect_info(stream: IncomingStream<'_, Bounded<L>>) -> Self {
        stream.io().line.clone()
    }
}

/// The app as a service that tells each connection when a request has come in.
pub(crate) fn attended(app: Router) -> IntoMakeServiceWithConnectInfo<Router, Line> {
    app.layer(from_fn(attend)).into_make_service_with_connect_info::<Line>()
}

async fn attend(request: Request, next: Next) -> Response {
    if let Some(ConnectInfo(line)) = request.extensions().get::<ConnectInfo<Line>>() {
        line.has_asked();
    }
    next.run(request).await
}

/// The request with these extensions had good credentials: its connection will not give way any more.
pub(crate) fn vouch(extensions: &Extensions) {
    if let Some(ConnectInfo(line)) = extensions.get::<ConnectInfo<Line>>() {
        line.is_proven();
    }
}

/// A connection that ends when nothing went over it for a while, when a stranger takes too long, and when it gives way.
pub(crate) struct Patient<I> {
    inner: I,
    silence: Duration,
    silent_until: Instant,
    timer: Pin<Box<Sleep>>,
    line: Line,
    number: u64,
    open: Arc<Register>,
    /// Last: the place is free when everything else is gone.
    _place: Option<OwnedSemaphorePermit>,
}

impl<I> Drop for Patient<I> {
    fn drop(&mut self) {
        self.open.lines().remove(&self.number);
    }
}

impl<I: Unpin> Patient<I> {
    /// Does one thing with the connection, if that may go on.
    fn go_on<T>(
        &mut self,
        context: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        // Registered before looking, so that no wake is lost in between.
        self.line.0.task.register(context.waker());
        if self.line.course().standing == Standing::Gone {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let result = act(Pin::new(&mut self.inner), context);
        if result.is_ready() {
            self.silent_until = Instant::now() + self.silence;
            return result;
        }
        self.check(context).map(Err)
    }

    /// Fails when it has taken too long; else wakes the task when it will have.
    fn check(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let due = self.line.course().due;
        let until = due.map_or(self.silent_until, |due| due.min(self.silent_until));
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        self.timer.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = self.go_on(context, |inner, context| inner.poll_read(context, buffer));
        if result.is_ready() && buffer.filled().len() > before {
            self.line.heard();
        }
        result
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.go_on(context, |inner, context| inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.go_on(context, |inner, context| inner.poll_write_vectored(context, slices))
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
#[path = "listener_tests.rs"]
mod tests;
