//! A link that sends bombs, while another one works: the other one's calls stay as quick as they were, or nearly so.

use crate::support::{Rig, program_with};
use std::time::Duration;
use tunnel_livecode_engine::{Limits, Next, Settings};
use tunnel_protocol::router::LinkId;

const CALL_TIME: Duration = Duration::from_millis(20);

/// Calls of the good link whose waits are measured, and the time between two.
const CALLS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

const ECHO: &str = r#"{"instruction":"echo","parameters":["x"]}"#;
const BOMB: &str = r#"{"instruction":"bomb"}"#;

/// Something that happens every so often, and when it does next.
struct Bombs {
    link: LinkId,
    every: Duration,
    next: tunnel_protocol::Instant,
}

/// Takes a step. The clock, which stands still in a rig while a call runs, goes on by the processor time that the call took.
fn step(rig: &mut Rig, bombs: Option<&mut Bombs>) {
    let mut wake = None;
    if let Some(bombs) = bombs {
        if bombs.next <= rig.now {
            bombs.next = rig.now + bombs.every;
            // A page that sends more than is answered has the rest wait in its own WebSocket.
            if !rig.router.is_busy(bombs.link) {
                rig.router.handle_text(bombs.link, BOMB, rig.now);
            }
        }
        wake = Some(bombs.next);
    }
    let before = rig.engine.stats().spent;
    let next = rig.step();
    rig.now += rig.engine.stats().spent - before;
    if let Next::At(at) = next {
        let at = wake.map_or(at, |wake| at.min(wake));
        rig.now = rig.now.max(at);
    } else if let (Next::Idle, Some(wake)) = (next, wake) {
        rig.now = rig.now.max(wake);
    }
}

/// The median of the times from a call's text to its answer.
fn median(rig: &mut Rig, good: LinkId, mut bombs: Option<Bombs>) -> Duration {
    let mut waits = Vec::new();
    for _ in 0..CALLS {
        let sent = rig.now;
        rig.router.handle_text(good, ECHO, rig.now);
        while rig.router.is_busy(good) {
            step(rig, bombs.as_mut());
        }
        waits.push(rig.now.saturating_since(sent));
        assert_eq!(rig.texts(good).last().map(String::as_str), Some("server: x"));
        let end = rig.now + PAUSE;
        while let Some(bombs) = bombs.as_mut().filter(|_| rig.now < end) {
            step(rig, Some(bombs));
            rig.texts(bombs.link);
        }
        rig.now = rig.now.max(end);
    }
    waits.sort();
    waits[CALLS / 2]
}

#[test]
fn a_links_bombs_leave_anothers_median_within_three_times_the_quiet_one_and_a_hard_limit() {
    let limits = Limits::default().with_call_time(CALL_TIME);
    let Some(program) = program_with(limits) else { return };
    for a_second in [5, 50] {
        let mut rig = Rig::with(&program, Settings::default());
        let (good, evil) = (rig.open(), rig.open());
        rig.add(good, "echo", "function (text) { return text }");
        rig.add(evil, "bomb", "function () { for (;;); }");
        rig.pass(Duration::from_secs(30));
        let quiet = median(&mut rig, good, None);
        rig.pass(Duration::from_secs(30));
        let bombs = Bombs { link: evil, every: Duration::from_secs(1) / a_second, next: rig.now };
        let beside = median(&mut rig, good, Some(bombs));
        let stopped = rig.engine.stats().interrupted;
        assert!(stopped >= 3, "{stopped} bombs ran");
        let most = 3 * quiet + limits.hard;
        assert!(beside <= most, "{a_second} bombs a second: {beside:?}, quiet {quiet:?}, at most {most:?}");
    }
}
