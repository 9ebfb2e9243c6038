//! CPU time of processes, as Linux counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time of a process and of all that it has started and that are still there.
pub(super) fn of_family(process: u32) -> Result<Duration> {
    /// The unit of `/proc`, which does not depend on the kernel's own clock.
    const TICKS_A_SECOND: u64 = 100;
    let mut family = vec![process];
    let mut ticks = 0;
    let all = processes()?;
    while let Some(id) = family.pop() {
        family.extend(all.iter().filter(|(_, parent, _)| *parent == id).map(|(child, ..)| *child));
        ticks += all.iter().find(|(other, ..)| *other == id).map_or(0, |(_, _, ticks)| *ticks);
    }
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND))
}

/// All processes: their numbers, their parents', and the time that they have had.
fn processes() -> Result<Vec<(u32, u32, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let path = entry?.path();
        // One that has just ended is none any more.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        found.extend(parse(&stat));
    }
    Ok(found)
}

/// Number, parent's number and ticks in a line of `/proc/N/stat` (proc(5)).
fn parse(stat: &str) -> Option<(u32, u32, u64)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let id = head.split(' ').next()?.parse().ok()?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((id, fields.get(1)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processes_time_is_read_whatever_its_name_is() {
        let stat = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 0 0 0 30 12 5 5 20 0 1 0 99";
        assert_eq!(parse(stat), Some((42, 7, 42)));
        assert_eq!(parse("42 (cut"), None);
    }
}
