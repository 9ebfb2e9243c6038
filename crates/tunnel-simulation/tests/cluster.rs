//! Stories of several relays made up from seeds: see [`tunnel_simulation::cluster::story`] for what must hold.

use tunnel_simulation::cluster::story;

/// The same stories on every run; `cargo xtask simulate --cluster` goes further.
const SEEDS: u64 = 2_000;

#[test]
fn whatever_happens_to_relays_and_their_bus_sessions_go_on_and_one_relay_has_each_server() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let reports = std::thread::scope(|scope| {
        let run =
            |thread| move || (thread..SEEDS).step_by(threads as usize).map(story::run).collect::<Vec<_>>();
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(run(thread))).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no machine panics")).collect::<Vec<_>>()
    });
    let failures: Vec<_> = reports.iter().filter_map(|report| report.as_ref().err()).collect();
    assert!(failures.is_empty(), "{} seeds failed; the first: {:#?}", failures.len(), failures[0]);
    let sum = |count: fn(&story::Report) -> u64| reports.iter().flatten().map(count).sum::<u64>();
    let (resumed, spliced, fenced) = (sum(|r| r.resumed), sum(|r| r.spliced), sum(|r| r.fenced));
    assert!(
        resumed > SEEDS && spliced > SEEDS && fenced > SEEDS / 10,
        "the stories are worth telling: {resumed} resumptions, {spliced} channels over two relays, {fenced} fences"
    );
}

#[test]
fn stories_of_relays_that_failed_once_hold_now() {
    // A client's server had not heard its first record when the server's page lost its link.
    assert!(story::run(40_003_290).is_ok());
    // A page had gone on to another relay when the claim of its last one came, 1.4 s late and from a clock that was ahead.
    assert!(story::run(40_264_228).is_ok());
    // A relay that was suspended took in a registration and the end of its link at once, and claimed it.
    assert!(story::run(40_320_675).is_ok());
    // A BEAT and a CLAIM of a relay that had been killed two minutes before were replayed.
    assert!(story::run(40_364_126).is_ok());
    // BEATs and CLAIMs of a relay on the other side of a split were replayed to one that had just started.
    assert!(story::run(40_439_753).is_ok());
}

#[test]
fn a_seed_tells_the_same_story_of_relays_every_time() {
    for seed in 0..10 {
        assert_eq!(story::run(seed).ok(), story::run(seed).ok(), "seed {seed}");
    }
}
