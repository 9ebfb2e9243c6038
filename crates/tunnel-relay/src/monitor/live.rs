//! The live page: the relay now, and its last ten minutes.

use crate::config;
use crate::shared::Shared;
use crate::tls::Tls;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The page, which asks for [`state`] by itself.
pub(super) const PAGE: &str = include_str!("live.html");

/// Content security policy of the page: its own script, and requests to the relay.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Distance between samples, and the number of them that makes ten minutes.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
const SAMPLES: usize = 120;

/// The last ten minutes.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<Sample>>);

/// The relay at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// In seconds since 1970.
    at: u64,
    links: usize,
    servers: usize,
    channels: usize,
    /// Forwarded since the start.
    bytes: u64,
    /// Refused since the start.
    refused: u64,
    queued: usize,
}

impl Sample {
    fn take(shared: &Shared) -> Self {
        let stats = shared.router.stats();
        Self {
            at: seconds(SystemTime::now()),
            links: stats.links,
            servers: stats.registrations,
            channels: stats.channel_ends / 2,
            bytes: stats.bytes,
            refused: shared.metrics.refused.all().map(|(_, count)| count).sum(),
            queued: stats.buffered,
        }
    }

    fn to_json(self) -> Value {
        json!([self.at, self.links, self.servers, self.channels, self.bytes, self.refused, self.queued])
    }
}

impl History {
    /// Remembers this moment.
    pub(super) fn sample(&self, shared: &Shared) {
        let sample = Sample::take(shared);
        let mut samples = self.lock();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that the page shows. It looks at all links: not for a thread that others wait for.
pub(super) fn state(shared: &Shared, history: &History) -> Value {
    let snapshot = shared.router.snapshot();
    let mut samples: Vec<_> = history.lock().iter().copied().collect();
    samples.push(Sample::take(shared));
    let refusals = shared.metrics.refused.all().filter(|(_, count)| *count > 0);
    let refusals: Vec<_> = refusals.map(|(reason, count)| json!([reason, count, setting(reason)])).collect();
    let certificate = shared.tls.as_ref().and_then(Tls::certificate).map(|certificate| {
        let problem = certificate.problem().map(|problem| problem.to_string());
        json!({ "names": certificate.names, "until": certificate.until(), "problem": problem })
    });
    let config = shared.config();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": config.node,
        "started": seconds(shared.metrics.started()),
        "notReady": shared.not_ready(),
        "tls": shared.tls.is_some(),
        "certificate": certificate,
        "samples": samples.into_iter().map(Sample::to_json).collect::<Vec<_>>(),
        "refusals": refusals,
        "longestQueue": snapshot.load.longest_queue,
        "queueLimit": config.total_buffer,
        "paused": snapshot.load.paused,
        "waiting": snapshot.stats.waiting,
        "logLinesLost": crate::log::lost(),
        // Without comments, and without secrets.
        "settings": config::print(&config).lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect::<Vec<_>>(),
    })
}

/// The setting that refuses for this reason.
fn setting(reason: &str) -> &'static str {
    match reason {
        "connections" => "max-connections",
        "address" => "max-connections-per-address",
        "rate" => "accept-rate",
        "address-rate" => "accept-rate-per-address",
        "buffers" => "total-buffer",
        "origin" => "allowed-origins",
        "host" => "hosts",
        "livecode-is-off" => "livecode-credential",
        "preparing" => "client-address, tls-certificate or handshake-timeout",
        _ => "",
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
