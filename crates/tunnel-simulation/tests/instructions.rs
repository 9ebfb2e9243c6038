//! Stories of injected instructions and a scripted engine, made up from seeds: see [`tunnel_simulation::livecode`] for what must hold.

use tunnel_simulation::livecode::{self, Report};

/// The same stories on every run; `cargo xtask simulate --livecode` goes further.
const SEEDS: u64 = 400;

#[test]
fn whatever_the_engine_does_each_call_has_one_answer_at_most_and_nothing_stays_behind() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let reports = std::thread::scope(|scope| {
        let run = |thread| {
            move || {
                (thread..SEEDS)
                    .step_by(threads as usize)
                    .map(|seed| (seed, livecode::run(seed)))
                    .collect::<Vec<_>>()
            }
        };
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(run(thread))).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no machine panics")).collect::<Vec<_>>()
    });
    let failures: Vec<_> = reports.iter().filter(|(_, report)| report.is_err()).collect();
    assert!(failures.is_empty(), "{} seeds failed; the first: {:#?}", failures.len(), failures[0]);
    let sum =
        |count: fn(&Report) -> u64| -> u64 { reports.iter().flat_map(|(_, report)| report).map(count).sum() };
    let counts = [
        sum(|it| it.answered),
        sum(|it| it.in_vain),
        sum(|it| it.waited),
        sum(|it| it.refused),
        sum(|it| it.overfilled),
        sum(|it| it.closed),
        sum(|it| it.outdated),
    ];
    assert!(counts.iter().all(|count| *count > 50), "the stories are worth telling: {counts:?}");
}

#[test]
fn a_seed_tells_the_same_story_of_instructions_every_time() {
    for seed in 0..10 {
        assert_eq!(livecode::run(seed), livecode::run(seed), "seed {seed}");
    }
}
