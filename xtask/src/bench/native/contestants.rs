//! Those that forward a TCP connection, each on ports of this machine.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::relay::UNLIMITED;
use super::super::{Background, cpu};
use super::{NODE, SSH, TUNNEL};
use crate::process::{output, run};
use crate::relay::Relay;
use crate::workspace::Workspace;

/// Longest time for a program to say its address, or to take connections.
const READY: Duration = Duration::from_secs(20);

/// One way to the far end.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    /// The address that leads to the far end; `None` for the far end itself.
    pub(super) entrance: Option<SocketAddr>,
    processes: Vec<Background>,
    relay: Option<Relay>,
}

impl Contestant {
    /// CPU time of all of its processes.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let relay = self.relay.as_ref().map(Relay::id);
        self.processes.iter().map(Background::id).chain(relay).map(cpu::of_family).sum()
    }
}

/// Starts those that are installed.
pub(super) fn all(workspace: &Workspace, folder: &Path, far: SocketAddr) -> Result<Vec<Contestant>> {
    let direct = Contestant { name: "direct", entrance: None, processes: Vec::new(), relay: None };
    let mut all = vec![direct, tunnel(workspace, folder, far)?, node(workspace, far)?];
    if workspace.locate("socat").is_some() {
        all.push(socat(workspace, far)?);
    } else {
        println!("socat is not on PATH: measured without it (Debian: socat)");
    }
    if Path::new(SSHD).is_file() {
        all.push(ssh(workspace, folder, far)?);
    } else {
        println!("there is no {SSHD}: measured without OpenSSH (Debian: openssh-server)");
    }
    Ok(all)
}

/// The versions of those that are no part of this project.
pub(super) fn versions(workspace: &Workspace) -> String {
    // ssh says it on standard error.
    let ssh = output(workspace.command("sh").args(["-c", "ssh -V 2>&1"])).unwrap_or_default();
    let socat = output(workspace.command("socat").arg("-V")).unwrap_or_default();
    let socat = socat.lines().find_map(|line| line.strip_prefix("socat version ")).unwrap_or("?").to_owned();
    let socat = socat.split(' ').next().unwrap_or_default();
    format!("{}, socat {socat}", ssh.split(',').next().unwrap_or_default().trim())
}

/// A port that is free at this moment.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?)
}

/// Waits until somebody takes connections there.
fn until_open(address: SocketAddr, name: &str) -> Result<()> {
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed() > READY {
            bail!("{name} does not take connections at {address} within {READY:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Starts a program, and waits for the first line that it prints.
fn start(command: Command) -> Result<(Background, String)> {
    let (process, lines) = Background::start(command)?;
    let line = lines.recv_timeout(READY).context("a contestant says nothing: see its output above")?;
    Ok((process, line))
}

/// The relay, `tunnel listen`, and `tunnel connect`.
fn tunnel(workspace: &Workspace, folder: &Path, far: SocketAddr) -> Result<Contestant> {
    let mut relay = Command::new(workspace.binary("release", "tunnel-relay")?);
    relay.args(UNLIMITED);
    let relay = Relay::launch(relay)?;
    let binary = workspace.binary("release", "tunnel")?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.arg("--quiet").args(arguments).env("TUNNEL_RELAY", &relay.url).env("HOME", folder);
        command
    };
    let (listening, target) = start(command(&["listen", "7", "--to", &far.to_string(), "--allow-anyone"]))?;
    let (connecting, entrance) = start(command(&["connect", &target, "--listen", "127.0.0.1:0"]))?;
    let entrance = entrance.parse().with_context(|| format!("unexpected: {entrance}"))?;
    Ok(Contestant {
        name: TUNNEL,
        entrance: Some(entrance),
        processes: vec![listening, connecting],
        relay: Some(relay),
    })
}

/// Two processes of Node.js, with a plain WebSocket between them for each connection.
fn node(workspace: &Workspace, far: SocketAddr) -> Result<Contestant> {
    let command = |role: &str, to: &str| {
        let mut command = workspace.command("node");
        command.args(["tests/bench/tcp-forwarder.mjs", role, to]);
        command
    };
    let (exit, url) = start(command("exit", &far.to_string()))?;
    let (entry, entrance) = start(command("entry", &url))?;
    let entrance = entrance.parse().with_context(|| format!("unexpected: {entrance}"))?;
    Ok(Contestant { name: NODE, entrance: Some(entrance), processes: vec![exit, entry], relay: None })
}

/// One process, and one more for each connection; nothing is encrypted.
fn socat(workspace: &Workspace, far: SocketAddr) -> Result<Contestant> {
    let entrance = free()?;
    let mut command = workspace.command("socat");
    let from = format!("TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr,nodelay", entrance.port());
    // Its own block is 8 KiB.
    command.args(["-b", "65536", &from, &format!("TCP:{far},nodelay")]);
    let (process, _) = Background::start(command)?;
    until_open(entrance, "socat")?;
    Ok(Contestant { name: "socat", entrance: Some(entrance), processes: vec![process], relay: None })
}

const SSHD: &str = "/usr/sbin/sshd";

/// sshd with keys of its own, and `ssh -L`.
fn ssh(workspace: &Workspace, folder: &Path, far: SocketAddr) -> Result<Contestant> {
    let path = |name: &str| folder.join(name);
    for name in ["host", "client"] {
        let keygen = ["-q", "-t", "ed25519", "-N", "", "-f"];
        run(workspace.command("ssh-keygen").args(keygen).arg(path(name)))?;
    }
    let server = free()?;
    let settings = format!(
        "ListenAddress {server}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n",
        path("host").display(),
        path("client.pub").display()
    );
    fs::write(path("sshd_config"), settings).context("cannot write its settings")?;
    let login = output(workspace.command("id").arg("-un"))?.trim().to_owned();
    if login == "root" {
        // sshd wants it when it is started by root, and packages leave it to whoever starts sshd.
        fs::create_dir_all("/run/sshd").context("cannot make sshd's folder")?;
    }
    let mut sshd = Command::new(SSHD);
    sshd.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
    let (sshd, _) = Background::start(sshd)?;
    until_open(server, "sshd")?;
    let entrance = free()?;
    let mut ssh = workspace.command("ssh");
    ssh.args(["-F", "/dev/null", "-N", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
        .args([
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "IdentitiesOnly=yes",
            "-i",
        ])
        .arg(path("client"))
        .args([
            "-L",
            &format!("{entrance}:{far}"),
            "-p",
            &server.port().to_string(),
            "-l",
            &login,
            "127.0.0.1",
        ]);
    let (ssh, _) = Background::start(ssh)?;
    until_open(entrance, "ssh")?;
    Ok(Contestant { name: SSH, entrance: Some(entrance), processes: vec![sshd, ssh], relay: None })
}
