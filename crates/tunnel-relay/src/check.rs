//! `tunnel-relay check URL`: goes to a relay as a page does, step by step, and says what to change where it fails. `main` runs it.

mod dial;
mod page;
mod url;

use dial::{Dialled, Transcript};
use page::Page;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tunnel_protocol::frame::Welcome;
use tunnel_relay::log::say;
use url::RelayUrl;

/// Longest time of one step.
const PATIENCE: Duration = Duration::from_secs(15);

/// The command's arguments.
pub(crate) struct Check {
    pub(crate) url: String,
    /// A file with an access token.
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the authority that signed the relay's certificate.
    pub(crate) authority: Option<PathBuf>,
    /// The origin of the page that would connect.
    pub(crate) origin: Option<String>,
}

/// The reason why a relay can't be used, and what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Misuse(String),
    #[error("{what}: {why}\n      what to do: {remedy}")]
    Step { what: &'static str, why: String, remedy: String },
}

impl Failure {
    fn new(what: &'static str, why: impl std::fmt::Display, remedy: impl Into<String>) -> Self {
        Self::Step { what, why: why.to_string(), remedy: remedy.into() }
    }
}

/// A step that may hang.
async fn within<T>(
    what: &'static str,
    remedy: &str,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(what, format!("nothing happened for {} s", PATIENCE.as_secs()), remedy)),
    }
}

/// Goes through all steps; what went well is said on stdout as it happens.
pub(crate) async fn run(check: Check) -> Result<(), Failure> {
    let url: RelayUrl = check.url.parse().map_err(Failure::Misuse)?;
    let token = match &check.token_file {
        Some(path) => read(path)?.trim().to_owned(),
        None => String::new(),
    };
    let authority = check.authority.as_deref().map(read).transpose()?;
    let mut transcript = Transcript::new(url.clone(), check.origin, authority)?;
    // The first connection tells each step; those of the page go the same way.
    let Dialled { greeted, .. } = transcript.dial(&[]).await?;
    debug_assert!(!greeted, "nothing was said early");
    transcript.quiet();
    let remedy = "look at the relay's log at the level debug";
    let mut page = Page::new(transcript, token)?;
    let report = within("tunnel", remedy, page.echo()).await?;
    passed("subprotocol", "tunnel.v1");
    let early = if report.greeted_early {
        "taken: a first connection takes a round trip less"
    } else {
        "not taken: a proxy removes what is in Sec-WebSocket-Protocol; it works without, a round trip slower"
    };
    passed("frames in the handshake", early);
    tell_welcome(&url, &report.welcome);
    passed("registration", "the relay knows this URL by the name that pages use");
    let micros = report.round_trips.iter().min().copied().unwrap_or_default().as_micros();
    let messages = report.round_trips.len();
    passed(
        "echo",
        &format!(
            "{messages} messages to this program and back, the fastest in {:.1} ms",
            micros as f64 / 1e3
        ),
    );
    Ok(())
}

fn tell_welcome(url: &RelayUrl, welcome: &Welcome) {
    let mut seen = format!("this machine is {}", welcome.address);
    let is_local = |address: &str| {
        address.parse::<std::net::IpAddr>().is_ok_and(|address| match address.to_canonical() {
            std::net::IpAddr::V4(address) => address.is_loopback() || address.is_private(),
            std::net::IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
        })
    };
    if url.is_public() && is_local(&welcome.address) {
        seen.push_str(
            "\n      what to do: if a proxy stands before the relay, name it in trusted-proxies and have it forward addresses; \
             all its peers count as one address until then",
        );
    }
    passed("address seen", &seen);
    let mut more = format!("frames of up to {} bytes", welcome.max_frame);
    if !welcome.node.is_empty() {
        let _never_fails = write!(more, ", node {:?}", welcome.node);
    }
    passed("relay", &more);
}

/// Says that a step went well.
fn passed(what: &str, how: &str) {
    use std::io::Write as _;
    // The reader may have read enough.
    let _ignored = writeln!(io::stdout(), "ok    {what}: {how}");
}

/// Says why the relay can't be used.
pub(crate) fn failed(failure: &Failure) {
    say(&format!("fail  {failure}"));
}

fn read(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Misuse(format!("{}: {error}", path.display())))
}
