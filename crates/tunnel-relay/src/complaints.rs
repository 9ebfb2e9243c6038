//! Warnings about what is misconfigured around the relay, each once a minute: strangers can cause them, and must not fill the log.

use http::header::HeaderValue;
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for which a warning is not repeated.
const INTERVAL: Duration = Duration::from_secs(60);

/// A kind of warning.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "there are no other relays"))]
pub(crate) enum Complaint {
    /// The system lets no connections in: mostly, there are no descriptors left.
    Accept,
    /// As many connections as there may be, in all or from an address.
    NoPlace,
    /// A request is for a host that the relay does not know.
    Host,
    /// A server dialled another URL than the one under which it reached the relay.
    Misaddressed,
    /// A page's origin is not allowed.
    Origin,
    /// A trusted proxy does not say whose request it passes on.
    NoForwardedAddress,
    /// A trusted proxy does not begin with a header of the PROXY protocol.
    NoProxyHeader,
    /// Somebody begins with a header of the PROXY protocol who is not expected to.
    ProxyHeader,
    /// TLS on a port without.
    Tls,
    /// No TLS on a port with.
    NoTls,
    /// A file can't be read.
    File,
    /// Metrics can't be shown.
    Metrics,
    /// No server of the bus between relays is reached.
    Bus,
    /// Another relay can't be dialled.
    NodeDial,
    /// A link between relays is refused, or ends because one of them is wrong.
    NodeLink,
}

impl Complaint {
    const COUNT: usize = Self::NodeLink as usize + 1;
}

/// The warnings that were logged, and when.
#[derive(Debug, Default)]
pub(crate) struct Complaints([Mutex<Said>; Complaint::COUNT]);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// Number of times that there was cause since.
    since: u64,
}

impl Complaints {
    /// If a warning is due now: how often there has been cause for it since the last one.
    pub(crate) fn due(&self, complaint: Complaint, now: Instant) -> Option<u64> {
        let mut said = self.0[complaint as usize].lock().unwrap_or_else(PoisonError::into_inner);
        said.since += 1;
        if said.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.since))
    }
}

/// Logs at `warn`, once a minute for each kind, or else at `debug`: the [`Complaints`], the kind, then as in `warn!`.
macro_rules! complain {
    ($complaints:expr, $kind:ident, $($event:tt)+) => {
        match $complaints.due($crate::complaints::Complaint::$kind, std::time::Instant::now()) {
            Some(times) => tracing::warn!(times, $($event)+),
            None => tracing::debug!($($event)+),
        }
    };
}

pub(crate) use complain;

/// Most bytes of a header that the log shows: its lines wait in memory.
const MAX_QUOTED: usize = 256;

/// A header that a peer wrote, for the log, cut if it is long.
///
/// To be logged by `Debug`, which escapes tabs, too; a header value's own does not.
pub(crate) fn quoted(value: Option<&HeaderValue>) -> Option<Cow<'_, str>> {
    let bytes = value?.as_bytes();
    let shown = &bytes[..bytes.len().min(MAX_QUOTED)];
    let text = String::from_utf8_lossy(shown);
    Some(if shown.len() < bytes.len() { Cow::Owned(text.into_owned() + "…") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_complaint_is_said_once_a_minute_with_how_often_there_was_cause() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.due(Complaint::Origin, start), Some(1));
        for second in 0..60 {
            assert_eq!(complaints.due(Complaint::Origin, start + Duration::from_secs(second)), None);
        }
        assert_eq!(complaints.due(Complaint::Tls, start), Some(1), "another one");
        assert_eq!(complaints.due(Complaint::Origin, start + INTERVAL), Some(61));
    }
}
