//! The live page: the relay now, and its last ten minutes.

use crate::config;
use crate::shared::Shared;
use crate::tls::Tls;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The page, which asks for [`state`] by itself.
pub(super) const PAGE: &str = include_str!("live.html");

/// Content security policy of the page: its own script, and requests to the relay.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Distance between samples, and the number of them that makes ten minutes.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
const SAMPLES: usize = 120;

/// The last ten minutes.
#[derive(Debug)]
pub(super) struct History {
    samples: Mutex<VecDeque<Sample>>,
    /// The time of its begin. Later times are counted from it, since a clock that is put right would tear the plots.
    began: (SystemTime, Instant),
}

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
    fn take(shared: &Shared, at: u64) -> Self {
        let stats = shared.router.stats();
        Self {
            at,
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
    pub(super) fn new() -> Self {
        Self { samples: Mutex::default(), began: (SystemTime::now(), Instant::now()) }
    }

    /// The time, in seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        let (time, instant) = self.began;
        seconds(time + instant.elapsed())
    }

    /// Remembers this moment, and forgets the oldest one when there are enough.
    pub(super) fn sample(&self, shared: &Shared, now: u64) {
        let sample = Sample::take(shared, now);
        let mut samples = self.lock();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that the page shows at this moment. It looks at all links: not for a thread that others wait for.
pub(super) fn state(shared: &Shared, history: &History, now: u64) -> Value {
    let snapshot = shared.router.snapshot();
    let mut samples: Vec<_> = history.lock().iter().copied().collect();
    samples.push(Sample::take(shared, now));
    let refusals = shared.metrics.refused.all().filter(|(_, count)| *count > 0);
    let refusals: Vec<_> = refusals.map(|(reason, count)| json!([reason, count, setting(reason)])).collect();
    let certificate = shared.tls.as_ref().and_then(Tls::certificate).map(|certificate| {
        let problem = certificate.problem().map(|problem| problem.to_string());
        json!({ "names": certificate.names, "until": certificate.until(), "problem": problem })
    });
    let cluster = shared
        .metrics
        .cluster()
        .map(|cluster| json!({ "isConnected": cluster.is_on, "relays": &*cluster.roster }));
    let config = shared.config();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": config.node,
        "started": seconds(shared.metrics.started()),
        "notReady": shared.not_ready(),
        "tls": shared.tls.is_some(),
        "certificate": certificate,
        "cluster": cluster,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::files::Files;

    #[test]
    fn the_plots_have_the_last_ten_minutes_and_nothing_older() {
        let config = Config::ephemeral();
        let (router, files) = (config.router(), Files::new(&config.www).unwrap());
        let shared = Shared::new(config, router, files, None);
        let history = History::new();
        let times = |now| -> Vec<u64> {
            let state = state(&shared, &history, now);
            state["samples"].as_array().unwrap().iter().map(|sample| sample[0].as_u64().unwrap()).collect()
        };
        assert_eq!(times(1_000_000), [1_000_000], "what has just begun has no past");
        let (start, half_an_hour) = (1_000_000, 1_800);
        for second in (0..=half_an_hour).step_by(usize::try_from(INTERVAL.as_secs()).unwrap()) {
            history.sample(&shared, start + second);
        }
        let now = start + half_an_hour + 3;
        let times = times(now);
        assert_eq!(times.last(), Some(&now), "the present is in it");
        let first = now - times[0];
        assert!((595..=600).contains(&first), "it begins {first} s ago");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= INTERVAL.as_secs()), "{times:?}");
    }
}
