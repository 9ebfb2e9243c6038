//! Runs stories of [`tunnel_simulation::chaos`], one for each seed.
//!
//! `tunnel-simulation --seeds N [--first SEED]` runs N seeds on all cores and reports seeds per second;
//! `tunnel-simulation --seed SEED` runs that one and prints what happened. With `--cluster 1` the stories are those of
//! [`tunnel_simulation::cluster::story`], with `--livecode 1` those of [`tunnel_simulation::livecode`].

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tunnel_simulation::cluster::story;
use tunnel_simulation::{chaos, livecode};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut first, mut threads) = (1_000, 0, None);
    let mut tell: Tell = tell;
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.replace('_', "").parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--first", Some(value)) => first = value,
            ("--threads", Some(value)) => threads = Some(value as usize),
            ("--seed", Some(value)) => (seeds, first) = (1, value),
            ("--cluster", Some(1)) => tell = tell_cluster,
            ("--livecode", Some(1)) => tell = tell_livecode,
            _ => {
                eprintln!(
                    "usage: tunnel-simulation [--cluster 1 | --livecode 1] [--seeds N] [--first SEED] [--threads N] | --seed SEED"
                );
                return ExitCode::FAILURE;
            }
        }
    }
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if run_all(first, seeds, threads, tell) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays the story of a seed; what it came to, or what did not hold.
type Tell = fn(u64, bool) -> Result<[u64; 6], String>;

/// Runs the seeds; whether all held.
fn run_all(first: u64, seeds: u64, threads: usize, tell: Tell) -> bool {
    let start = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let totals: [AtomicU64; 6] = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = first + number;
                    // A panic in a machine is a failure of its seed, like any other.
                    match std::panic::catch_unwind(|| tell(seed, seeds == 1)) {
                        Ok(Ok(counts)) => {
                            for (total, count) in totals.iter().zip(counts) {
                                total.fetch_add(count, Ordering::Relaxed);
                            }
                        }
                        Ok(Err(failure)) => {
                            failed.store(true, Ordering::Relaxed);
                            eprintln!("seed {seed} failed: {failure}");
                        }
                        Err(_) => {
                            failed.store(true, Ordering::Relaxed);
                            eprintln!("seed {seed} panicked");
                        }
                    }
                    if (number + 1).is_multiple_of(10_000) {
                        eprintln!("{} of {seeds} seeds, {:.0} a second", number + 1, rate(number + 1, start));
                    }
                }
            });
        }
    });
    let [opened, resumed, messages, bytes, faults, deeds] = totals.map(AtomicU64::into_inner);
    let done = next.into_inner().min(seeds);
    println!(
        "{done} seeds from {first}, {:.0} a second: {opened} connections, {resumed} resumptions, {messages} messages, \
         {bytes} bytes, {faults} faults, {deeds} deeds of an evil relay: {}",
        rate(done, start),
        if failed.load(Ordering::Relaxed) { "FAILED" } else { "all held" }
    );
    !failed.into_inner()
}

/// A story of one relay.
fn tell(seed: u64, trace: bool) -> Result<[u64; 6], String> {
    let report = chaos::tell(seed, trace).map_err(|failure| failure.what)?;
    Ok([report.opened, report.resumed, report.messages, report.bytes, report.faults, report.deeds])
}

/// A story of several relays: nothing lies but the bus, and bytes are not counted.
fn tell_cluster(seed: u64, trace: bool) -> Result<[u64; 6], String> {
    let report = story::tell(seed, trace).map_err(|failure| failure.what)?;
    Ok([report.opened, report.resumed, report.messages, 0, report.faults, 0])
}

/// A story of a scripted engine: commands are counted as connections, answers as messages, and links that were closed as faults.
fn tell_livecode(seed: u64, trace: bool) -> Result<[u64; 6], String> {
    let report = livecode::tell(seed, trace)?;
    Ok([report.commands, 0, report.answered, 0, report.overfilled + report.closed, 0])
}

fn rate(count: u64, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}
