//! A contestant's process: how it is started, and what it uses.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a program that prints `listening on ADDRESS`, with or without `ws://`, or that takes `{port}`.
    pub(crate) fn start(command: &[String], environment: &[(&str, &str)]) -> Self {
        let (program, arguments) = command.split_first().expect("a contestant has a program");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let takes_port = arguments.iter().any(|argument| argument.contains("{port}"));
        let arguments = arguments.iter().map(|argument| argument.replace("{port}", &port.to_string()));
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped());
        if takes_port {
            command.stderr(Stdio::null());
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let address = if takes_port {
            SocketAddr::from(([127, 0, 0, 1], port))
        } else {
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let address =
                line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{program}: {line}"));
            address.trim_start_matches("ws://").parse().unwrap()
        };
        let server = Self { child, address };
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Its number among the processes.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.filter_map(|task| {
            // A thread may end meanwhile.
            let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Memory of its own in use, in bytes: no files, nothing of the kernel.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
