//! Every attack of `docs/SECURITY.md` that a relay can suffer, against the program, while a well-behaved pair goes on.
//!
//! After each attack the program still runs, has logged no panic, has its descriptors and its memory back, and the
//! pair has lost nothing. `cargo test` runs a small form; `cargo xtask hostile` the full one, which also prints how
//! the pair's latency changed.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

#[path = "siege/attacks.rs"]
mod attacks;
#[path = "siege/pair.rs"]
mod pair;
mod support;

use pair::Pair;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::process::Process;
use support::{Peer, within};

/// The memory that the process may hold after an attack beyond what it held before it.
///
/// The relay's own books are empty then; what remains is what the allocator keeps between small pieces in use.
const SLACK: usize = 24 << 20;

/// The same after 256 MiB of messages that waited for slow readers: the allocator gives little of it back to the system,
/// and uses it again.
const KEPT: usize = 320 << 20;

/// Limit of the pair's median round trip under attacking instructions, as a multiple of its quiet one.
///
/// The other attacks are floods: they take the processor from the relay, and what is left for the pair depends on the machine. Instructions
/// run on threads of their own within their share of time, so they may not be felt.
#[cfg(feature = "livecode")]
const UNDER_BOMBS: f64 = 2.0;

/// Returns whether it is left out of `cargo test`.
fn is_full() -> bool {
    std::env::var_os("TUNNEL_RELAY_SIEGE").is_some_and(|form| form == "full")
}

/// The relay under attack.
struct Siege {
    process: Process,
    is_full: bool,
}

impl Siege {
    async fn start() -> Self {
        let is_full = is_full();
        // Long enough for all who come at once, and no longer: waiting for it takes most of the test's time.
        let timeout = if is_full { "15s" } else { "4s" };
        let timeouts = ["--handshake-timeout", "--hello-timeout", "--write-timeout", "--close-timeout"];
        let mut arguments = timeouts.iter().flat_map(|name| [name, timeout]).collect::<Vec<_>>();
        // All attackers and their victims have one address.
        arguments.extend([
            "--max-connections-per-address=1_000_000",
            "--accept-rate-per-address=0",
            "--accept-rate=0",
            "--max-registrations-per-address=1_000_000",
            "--max-waiting-per-address=1_000_000",
            "--livecode-credential=a secret of the siege",
        ]);
        #[cfg(feature = "livecode")]
        arguments.push("--livecode-programs=on");
        let process = Process::serve(None, &[&arguments[..], &["--log", "warn"]].concat()).await;
        Self { process, is_full }
    }

    fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// Returns the number for the form that runs, of those of the small and the full one.
    fn many(&self, small: usize, full: usize) -> usize {
        if self.is_full { full } else { small }
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.process.child.id().unwrap())
    }

    /// Memory of its own, in bytes.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(self.file("status")).expect("the relay runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(self.file("fd")).expect("the relay runs").count()
    }

    /// Local ports of sockets that are neither accepted by the process nor what it listens on.
    fn dialled(&self) -> Vec<u16> {
        let descriptors = std::fs::read_dir(self.file("fd")).expect("the relay runs");
        let own: HashSet<_> = descriptors
            .filter_map(|file| {
                std::fs::read_link(file.ok()?.path()).ok()?.into_os_string().into_string().ok()
            })
            .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let tables = ["net/tcp", "net/tcp6", "net/udp", "net/udp6"].map(|name| self.file(name));
        let tables = tables.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect::<String>();
        let ports = tables.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (local, inode) = (words.nth(1)?, words.nth(7)?);
            let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
            own.contains(inode).then_some(port)
        });
        let (accepted, dialled): (Vec<_>, _) = ports.partition(|port| *port == self.address().port());
        assert!(!accepted.is_empty(), "the relay listens, and the pair is there");
        dialled
    }

    /// Waits until an attack has left nothing behind.
    async fn recovered(&self, what: &str, descriptors: usize, memory: usize) {
        let slack = if self.is_full && what == "slow_readers" { KEPT } else { SLACK };
        let back = async {
            // Another process's: no event tells.
            while self.descriptors() > descriptors || self.memory() > memory + slack {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), back).await;
        assert!(
            in_time.is_ok(),
            "{what}: {} descriptors and {} bytes instead of {descriptors} and {memory}",
            self.descriptors(),
            self.memory(),
        );
        let log = self.process.log();
        assert!(!log.contains("panicked"), "{what}: {log}");
        assert_eq!(self.dialled(), [0_u16; 0], "{what}: ports of sockets that it did not accept");
    }
}

/// Lets every other thread go first: attackers are elsewhere, and take no processor away from relay and victims.
fn give_way() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let id = thread.file_name().unwrap();
    let status = Command::new("renice").args(["-n", "19", "-p"]).arg(id).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "renice is there: it is a part of util-linux");
}

#[test]
fn a_pair_loses_nothing_under_any_attack_and_the_relay_recovers_from_all() {
    let is_full = is_full();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().on_thread_start(move || {
        if is_full {
            give_way();
        }
    });
    runtime.build().unwrap().block_on(besiege());
}

async fn besiege() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let siege = Siege::start().await;
    let mut pair = Pair::start(siege.address());
    // Both are running, and keep the rank that they were started with.
    if siege.is_full {
        give_way();
    }
    // The memory of a relay that has seen some peers.
    attacks::herd(&siege).await;
    tokio::time::timeout(Duration::from_secs(10), pair.quiet()).await.unwrap();
    println!(
        "{:34} {:>8} {:>16} {:>16} {:>7} {:>9}",
        "attack", "seconds", "quiet p50/p99 µs", "then µs", "p50 ×", "MiB more"
    );
    let mut slowed;
    macro_rules! attack {
        ($($attack:ident)*) => {$(
            let quiet = pair.quiet().await;
            let (descriptors, memory, start) = (siege.descriptors(), siege.memory(), Instant::now());
            attacks::$attack(&siege).await;
            let (took, during) = (start.elapsed(), pair.figures());
            slowed = during.p50 / quiet.p50;
            siege.recovered(stringify!($attack), descriptors, memory).await;
            println!(
                "{:34} {:8.1} {quiet:>16} {during:>16} {:7.2} {:9.1}",
                stringify!($attack), took.as_secs_f64(), slowed,
                siege.memory().saturating_sub(memory) as f64 / f64::from(1 << 20),
            );
        )*};
    }
    attack! {
        slowloris half_open_handshakes connection_flood herd ping_flood tiny_frames empty_fragments
        oversize_frames broken_frames bad_texts confused_subprotocols named_addresses forged_registrations
        slow_readers half_sent_messages
    }
    // They need the credential, which an address that has guessed it is refused for a while.
    #[cfg(feature = "livecode")]
    {
        attack! { livecode_bombs }
        assert!(
            !siege.is_full || slowed <= UNDER_BOMBS,
            "the pair's median was {slowed:.2} times its quiet one"
        );
    }
    attack! { credential_guesses noise }
    let exchanged = pair.end();
    assert!(exchanged > 100, "the pair exchanged {exchanged} messages");
    let last = within("a link after all that", Peer::link_to(siege.address())).await;
    drop(last);
}
