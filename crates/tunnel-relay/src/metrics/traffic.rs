//! Counters that `shared_router` changes while it holds its lock anyway: plain additions, no atomics.

use super::page::{Kind, Page};
use std::collections::BTreeMap;
use std::time::Duration;
use tunnel_protocol::CloseCode;
use tunnel_protocol::router::Event;

/// Upper bounds of the histogram's buckets, in microseconds; 5 s is a quarter of the time after which a peer that takes
/// nothing is dropped.
const BOUNDS: [u64; 15] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// Counted for every batch of messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(super) messages_in: u64,
    pub(super) bytes_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_out: u64,
    pub(super) opened: u64,
    /// Proofs of registration that were checked.
    pub(super) proofs: u64,
    /// Channels that the router refused or ended.
    refused: Codes,
    /// Links that the router ended.
    ended: Codes,
    pub(super) waits: Histogram,
}

/// Number of times that each close code was given.
#[derive(Clone, Debug, Default)]
struct Codes(BTreeMap<&'static str, u64>);

/// Durations, by buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// The last one is for all above the last bound.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Traffic {
    /// A link was opened.
    pub(crate) const fn opened(&mut self) {
        self.opened += 1;
    }

    /// A proof of registration was checked.
    pub(crate) const fn proven(&mut self) {
        self.proofs += 1;
    }

    /// A peer's message came in.
    pub(crate) const fn received(&mut self, bytes: usize) {
        self.messages_in += 1;
        self.bytes_in += bytes as u64;
    }

    /// A message goes out to a peer.
    pub(crate) const fn sent(&mut self, bytes: usize) {
        self.messages_out += 1;
        self.bytes_out += bytes as u64;
    }

    /// The longest wait of what has gone out in one batch.
    pub(crate) fn waited(&mut self, wait: Duration) {
        self.waits.observe(wait);
    }

    /// Something happened at the router.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Refused { code, .. } => self.refused.count(*code),
            Event::Close { code, .. } => self.ended.count(*code),
            _ => {}
        }
    }

    pub(super) fn write_codes(&self, page: &mut Page) {
        page.labelled(
            "tunnel_relay_channels_refused_total",
            Kind::Counter,
            "Channels that the relay did not open, or ended, by the code that the peer was given.",
            "code",
            self.refused.all(&[
                CloseCode::TRY_AGAIN_LATER,
                CloseCode::OVERFLOW,
                CloseCode::SERVER_NOT_FOUND,
                CloseCode::DRAINING,
            ]),
        );
        page.labelled(
            "tunnel_relay_links_ended_total",
            Kind::Counter,
            "Links that the relay ended, by the code that the peer was given.",
            "code",
            self.ended.all(&[
                CloseCode::PROTOCOL_ERROR,
                CloseCode::POLICY,
                CloseCode::TIMEOUT,
                CloseCode::DRAINING,
                CloseCode::ID_TAKEN_OVER,
                CloseCode::BAD_CREDENTIAL,
            ]),
        );
    }
}

impl Codes {
    fn count(&mut self, code: CloseCode) {
        // Codes without a name may be a peer's own: they must not make metrics.
        *self.0.entry(code.name().unwrap_or("other")).or_default() += 1;
    }

    /// All that were given, and these in any case: whoever looks at a rate needs the zero before the first one.
    fn all(&self, usual: &[CloseCode]) -> BTreeMap<&'static str, u64> {
        let mut all: BTreeMap<_, _> = usual.iter().map(|code| (code.name().unwrap_or("other"), 0)).collect();
        all.extend(&self.0);
        all
    }
}

impl Histogram {
    pub(crate) fn observe(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[BOUNDS.partition_point(|bound| *bound < micros)] += 1;
        self.sum += time;
    }

    pub(super) fn write(&self, page: &mut Page, name: &str, help: &str) {
        page.family(name, Kind::Histogram, help);
        let mut sum = 0;
        for (bound, count) in BOUNDS.iter().zip(self.counts) {
            sum += count;
            let bound = (*bound as f64 / 1e6).to_string();
            page.sample(&format!("{name}_bucket"), &[("le", &bound)], sum);
        }
        sum += self.counts[BOUNDS.len()];
        page.sample(&format!("{name}_bucket"), &[("le", "+Inf")], sum);
        page.sample(&format!("{name}_sum"), &[], self.sum.as_secs_f64());
        page.sample(&format!("{name}_count"), &[], sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for micros in [0, 50, 51, 6_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut page = Page::default();
        histogram.write(&mut page, "wait", "Waits.");
        let page = page.finish();
        for line in [
            "# TYPE wait histogram",
            "wait_bucket{le=\"0.00005\"} 2",
            "wait_bucket{le=\"0.0001\"} 3",
            "wait_bucket{le=\"5\"} 3",
            "wait_bucket{le=\"+Inf\"} 4",
            "wait_sum 6.000101",
            "wait_count 4",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn codes_that_peers_make_up_share_one_metric() {
        let mut codes = Codes::default();
        for code in [4_000, 4_001, 3_706] {
            codes.count(CloseCode(code));
        }
        let all = codes.all(&[CloseCode::DRAINING]);
        assert_eq!(all, [("draining", 0), ("other", 2), ("overflow", 1)].into());
    }
}
