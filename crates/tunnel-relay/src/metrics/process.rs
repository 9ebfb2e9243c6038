//! Figures that the system has about this process, for the page of metrics.

use super::page::Page;
use std::fs;
use std::io;

/// Linux counts processor time in hundredths of a second for programs, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what can be found out: nothing where there is no `/proc`.
///
/// Reads files that take no time but for a process with very many descriptors on an old kernel.
pub(super) fn write(page: &mut Page) {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        write_status(page, &status);
    }
    if let Ok(stat) = fs::read_to_string("/proc/self/stat")
        && let Some(seconds) = cpu_seconds(&stat)
    {
        page.counter(
            "process_cpu_seconds_total",
            "Processor time used, user and system, in seconds.",
            seconds,
        );
    }
    if let Ok(open) = open_descriptors() {
        page.gauge("process_open_fds", "File descriptors in use.", open);
    }
    if let Ok(limits) = fs::read_to_string("/proc/self/limits")
        && let Some(limit) = descriptor_limit(&limits)
    {
        page.gauge("process_max_fds", "File descriptors that the process may have.", limit);
    }
}

fn write_status(page: &mut Page, status: &str) {
    for (field, name, help, unit) in [
        ("VmRSS:", "process_resident_memory_bytes", "Memory in use, in bytes.", 1_024),
        ("VmSize:", "process_virtual_memory_bytes", "Address space in use, in bytes.", 1_024),
        ("Threads:", "process_threads", "Threads.", 1),
    ] {
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let value = value.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok());
        if let Some(value) = value {
            page.gauge(name, help, value * unit);
        }
    }
}

/// User and system time in the text of `/proc/self/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, which may hold spaces: fields count from its end.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// The soft limit in the text of `/proc/self/limits`.
fn descriptor_limit(limits: &str) -> Option<u64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn open_descriptors() -> io::Result<u64> {
    const FOLDER: &str = "/proc/self/fd";
    // Newer kernels give the number as the folder's size; older ones have to be asked for the names.
    match fs::metadata(FOLDER)?.len() {
        // The descriptor that reads the folder is counted, too.
        0 => Ok((fs::read_dir(FOLDER)?.count() as u64).saturating_sub(1)),
        open => Ok(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 12345 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn the_soft_limit_of_descriptors_is_found() {
        let limits =
            "Limit   Soft Limit   Hard Limit   Units\nMax open files            1024        524288   files\n";
        assert_eq!(descriptor_limit(limits), Some(1_024));
        assert_eq!(descriptor_limit("Max open files            unlimited   unlimited   files"), None);
    }
}
