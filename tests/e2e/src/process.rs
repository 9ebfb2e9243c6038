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

    /// Starts one that does not say when it is ready.
    pub fn start_silent(command: Command) -> Result<Self> {
        Ok(Self::spawn(command)?.0)
    }

    /// Starts it; its lines on standard output come as news.
    fn spawn(mut command: Command) -> Result<(Self, mpsc::Receiver<String>)> {
        let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}: is it installed?"))?;
        let (lines, news) = mpsc::channel();
        let said = Arc::default();
        if let Some(output) = child.stdout.take() {
            keep_lines(output, Arc::clone(&said), Some(lines));
        }
        if let Some(errors) = child.stderr.take() {
            keep_lines(errors, Arc::clone(&said), None);
        }
        Ok((Self { name, child, said }, news))
    }

    /// What it has printed so far, on both outputs.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Waits until it has ended by itself, and how.
    pub fn ended(mut self, limit: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
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

/// Reads to the end in a thread, so that the program never waits for us.
fn keep_lines(
    from: impl Read + Send + 'static,
    said: Arc<Mutex<Vec<String>>>,
    to: Option<mpsc::Sender<String>>,
) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            said.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
            if let Some(to) = &to {
                // Nobody waits for lines any more once the program is ready.
                let _ = to.send(line);
            }
        }
    });
}
