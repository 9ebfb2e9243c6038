//! Programs that run beside a test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longest time for a program to say that it is ready.
///
/// A debug build on a busy machine with two cores takes a few seconds.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it and waits for the line that holds `ready`; returns also what follows that in the line.
    pub fn start(command: Command, ready: &str) -> Result<(Self, String)> {
        let (program, news) = Self::spawn(command)?;
        loop {
            let Ok(line) = news.recv_timeout(READY_WITHIN) else {
                bail!("{} did not print {ready:?}; it said:\n{}", program.name, program.said());
            };
            if let Some((_, rest)) = line.split_once(ready) {
                return Ok((program, rest.trim().to_owned()));
            }
        }
    }

    /// Starts one that chooses its port and may then not get it: again, as long as it says `taken`.
    pub(crate) fn start_on_some_port(
        command: impl Fn() -> Command,
        ready: &str,
        taken: &str,
    ) -> Result<(Self, String)> {
        const ATTEMPTS: usize = 10;
        for _ in 1..ATTEMPTS {
            match Self::start(command(), ready) {
                Err(error) if error.to_string().contains(taken) => {}
                result => return result,
            }
        }
        Self::start(command(), ready)
    }

    /// Starts one that does not say when it is ready.
    pub fn start_silent(command: Command) -> Result<Self> {
        Ok(Self::spawn(command)?.0)
    }

    /// Starts it; its lines on standard output come as news, until both its outputs have ended.
    fn spawn(mut command: Command) -> Result<(Self, mpsc::Receiver<String>)> {
        let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}: is it installed?"))?;
        let (lines, news) = mpsc::channel();
        let said = Arc::default();
        if let Some(output) = child.stdout.take() {
            keep_lines(output, Arc::clone(&said), lines.clone(), true);
        }
        if let Some(errors) = child.stderr.take() {
            keep_lines(errors, Arc::clone(&said), lines, false);
        }
        Ok((Self { name, child, said }, news))
    }

    /// Returns what it has printed so far, on both outputs.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Waits until it has ended by itself; returns how, and all that it has printed.
    pub fn ended(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let started = Instant::now();
        while started.elapsed() < limit {
            // The threads that read its outputs hold the lines, too, until those have ended.
            if let Some(status) = self.child.try_wait()?
                && Arc::strong_count(&self.said) == 1
            {
                return Ok((status, self.said()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("{} has not ended within {limit:?}; it said:\n{}", self.name, self.said());
    }

    /// Ends it at once: with SIGKILL, where there are signals.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("cannot kill {}", self.name))?;
        Ok(())
    }

    /// Asks it to end, with SIGTERM, and waits until it has.
    #[cfg(unix)]
    pub fn terminate(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        if !asked.with_context(|| format!("cannot ask {} to end", self.name))?.success() {
            bail!("{} has ended before it was asked to; it said:\n{}", self.name, self.said());
        }
        let status = self.child.wait().with_context(|| format!("{} does not end", self.name))?;
        if !status.success() {
            bail!("{} ended with {status}; it said:\n{}", self.name, self.said());
        }
        Ok(())
    }

    /// Its name, without the folder.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; the test that minds has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end in a thread, so that the program never waits for us. Lines that are news are sent, too.
fn keep_lines(
    from: impl Read + Send + 'static,
    said: Arc<Mutex<Vec<String>>>,
    to: mpsc::Sender<String>,
    is_news: bool,
) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            said.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
            if is_news {
                // Nobody waits for lines any more once the program is ready.
                let _ = to.send(line);
            }
        }
    });
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A program that gets its port when it is started so often.
    fn start(attempts: usize) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let script = format!(
            "echo x >> log; [ $(wc -l < log) -ge {attempts} ] || {{ echo 'port is taken' >&2; exit 1; }}; echo ready on $$; sleep 60"
        );
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(folder.path());
            command
        };
        Ok(Program::start_on_some_port(command, "ready on ", "port is taken")?.1)
    }

    #[test]
    fn a_program_that_does_not_get_its_port_is_started_again() {
        assert!(start(3).unwrap().parse::<u32>().is_ok());
    }

    #[test]
    fn a_program_that_never_gets_a_port_is_an_error_with_what_it_said() {
        let error = start(1_000).unwrap_err().to_string();
        assert!(error.starts_with("sh did not print") && error.ends_with("port is taken"), "{error}");
    }
}
