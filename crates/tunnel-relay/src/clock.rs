//! The timer that `http` gives to hyper: it bounds the wait for a request.

use crate::config::Config;
use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The clock of one connection's HTTP server.
///
/// The server knows one time only, from the end of an answer to the end of the next request's head. There are two: a
/// connection may rest between requests, as proxies' do, for longer than a head may take once it has begun.
#[derive(Clone, Debug)]
pub(crate) struct RequestClock(Arc<State>);

#[derive(Debug)]
struct State {
    start: Instant,
    head: Duration,
    rest: Duration,
    /// The time at which something came first since the wait began, in milliseconds since `start` and one more; 0: nothing came.
    heard: AtomicU64,
    /// Number of times that the server has begun to wait.
    waits: AtomicU64,
}

/// A wait for a request.
struct Wait {
    clock: RequestClock,
    rests: bool,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl RequestClock {
    pub(crate) fn new(config: &Config) -> Self {
        let (head, rest) = (config.handshake_timeout, config.keep_alive_timeout);
        let (heard, waits) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(State { start: Instant::now(), head, rest, heard, waits }))
    }

    /// The peer has said something.
    pub(crate) fn heard(&self) {
        let now = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let _already = self.0.heard.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Timer for RequestClock {
    fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Sleep>> {
        let state = &self.0;
        // A connection begins with a request; between requests it may rest.
        let rests = state.waits.fetch_add(1, Ordering::Relaxed) > 0;
        state.heard.store(0, Ordering::Relaxed);
        let time = if rests { state.rest } else { state.head };
        Box::pin(Wait { clock: self.clone(), rests, sleep: Box::pin(tokio::time::sleep(time)) })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.clock.0.clone();
        let heard = state.heard.load(Ordering::Relaxed);
        if self.rests && heard > 0 {
            self.rests = false;
            let until = state.start + Duration::from_millis(heard - 1) + state.head;
            self.sleep.as_mut().reset(until.into());
        }
        self.sleep.as_mut().poll(cx)
    }
}
