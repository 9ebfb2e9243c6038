//! The log, on stderr. `main` starts it.
//!
//! Events are written by a thread of their own. When stderr takes nothing, or its reader is gone, lines are dropped and
//! counted: neither the relay nor a connection waits for its log.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::{Level, error};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Most lines that wait for stderr, of some hundred bytes each.
const WAITING: usize = 4_096;

/// Longest time that the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(1_500);

/// Lines that stderr did not take.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Counts the lines for which there was no room.
static FULL: OnceLock<ErrorCounter> = OnceLock::new();

/// The form of an event in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// A line for people.
    Human,
    /// A JSON object a line.
    Json,
}

/// The log of this process. Dropping it writes what waits, as far as stderr takes it at once.
#[derive(Debug)]
pub struct Log(Option<WorkerGuard>);

impl Log {
    /// Starts logging in the whole process: the events that the filter lets through, as the setting `log` has it.
    ///
    /// # Errors
    ///
    /// The filter is wrong; the text says how.
    pub fn start(wanted: &str, format: LogFormat) -> Result<Self, String> {
        let filter = filter(wanted)?;
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING)
            .thread_name("log")
            .finish(Stderr);
        FULL.get_or_init(|| writer.error_counter());
        subscribe(format, filter, writer);
        // A panic ends one connection's task; it belongs into the log like everything else.
        std::panic::set_hook(Box::new(|panic| error!(%panic, "a task panicked")));
        Ok(Self(Some(guard)))
    }

    /// Says why the relay can't run, whatever the filter lets through.
    pub fn fatal(self, why: &dyn std::fmt::Display) {
        if tracing::enabled!(Level::ERROR) {
            error!(error = %why, "the relay can't run");
        } else {
            say(&format!("error: the relay can't run: {why}"));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.0.take();
        // In a thread: should stderr be stuck, the guard says so on stdout, which may be stuck, too.
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            drop(guard);
            done.send(())
        });
        let _stuck = ended.recv_timeout(LAST_LINES);
    }
}

fn subscribe(format: LogFormat, filter: EnvFilter, writer: NonBlocking) {
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    match format {
        LogFormat::Human => log.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Reads a filter of events; the error says what is wrong with the text.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    // A word that is no level would be taken for the name of a module, and nothing else would be let through.
    for word in text.split(',').filter(|word| !word.contains(['=', '[', ']'])) {
        if word.is_empty() || word.parse::<LevelFilter>().is_err() {
            return Err(format!("{word:?} is no level"));
        }
    }
    EnvFilter::try_new(text).map_err(|error| format!("{text:?} is no filter: {error}"))
}

/// Number of lines that were lost since the process began.
pub(crate) fn lost() -> u64 {
    let full = FULL.get().map_or(0, |counter| counter.dropped_lines() as u64);
    full + FAILED.load(Ordering::Relaxed)
}

/// Writes a line to stderr, for whoever started the process and before there is a log; if it is not taken, so be it.
pub fn say(line: &str) {
    let _ignored = writeln!(io::stderr(), "{line}");
}

/// The process's stderr, which takes what it can; it never fails.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(line).is_err() {
            FAILED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // it has no buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for good in ["info", "WARN", "off", "info,tunnel_relay=debug", "tunnel_relay::connection=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "warning", "verbose", "info ", "info,", "tunnel_relay", "a=verbose", "no=such=filter"]
        {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
