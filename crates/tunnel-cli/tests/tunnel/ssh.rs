//! SSH through the command, as docs/native.md tells people to do it: OpenSSH's own client and server.

#![cfg(unix)]
use crate::support::{Running, TestRelay, User, target, text, within};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

const GUIDE: &str = include_str!("../../../../docs/native.md");

/// The command by which ssh reaches the peer. ssh puts the host that it was given, `ID/22`, for `%h`.
const PROXY: &str = "tunnel connect %h --identity me";

/// The server, where it is installed: not on everybody's PATH.
fn sshd() -> Option<PathBuf> {
    let found = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"].iter().map(PathBuf::from);
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        eprintln!("there is no sshd here (Debian: openssh-server): SSH through the command is not tried");
    }
    found
}

/// A key pair in files: the private one, and the line of the public one.
fn key(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let mut keygen = Program::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
    assert!(keygen.status().unwrap().success());
    let line = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (path, line)
}

/// An sshd with keys of its own on a port of this machine, behind a `tunnel listen` that lets one client in.
struct FarMachine {
    user: User,
    _host: User,
    /// `ID/22`.
    target: String,
    login: String,
    known_hosts: PathBuf,
    key: PathBuf,
    _listening: Running,
}

impl FarMachine {
    async fn start(relay: &TestRelay, sshd: PathBuf) -> Self {
        let (host, user) = (User::of(relay), User::of(relay));
        let folder = user.path();
        let (host_key, host_line) = key(folder, "host");
        let (key, line) = key(folder, "client");
        let authorized = folder.join("authorized");
        std::fs::write(&authorized, line).unwrap();
        let config = folder.join("sshd_config");
        let settings = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nStrictModes no\n",
            host_key.display(),
            authorized.display()
        );
        std::fs::write(&config, settings).unwrap();
        let login = Program::new("id").arg("-un").output().unwrap();
        let login = text(&login.stdout).trim().to_owned();
        if login == "root" {
            // sshd wants it when it is started by root, and packages leave it to whoever starts sshd.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        // One process for each connection, as from inetd: no port has to be found for sshd itself.
        let to = target(move |stream: TcpStream| {
            let (sshd, config) = (sshd.clone(), config.clone());
            async move {
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                let output = OwnedFd::from(stream.try_clone().unwrap());
                let mut server = Command::new(sshd);
                server.args(["-i", "-e", "-f"]).arg(config).stdin(OwnedFd::from(stream)).stdout(output);
                let _code = server.stderr(Stdio::inherit()).kill_on_drop(true).status().await.unwrap();
            }
        })
        .await;
        let id = user.id("me").await;
        let to = to.to_string();
        let listening = host.start(&["listen", "22", "--to", &to, "--identity", "box", "--allow", &id]).await;
        let target = listening.first_line.clone();
        let known_hosts = folder.join("known_hosts");
        std::fs::write(&known_hosts, format!("{target} {host_line}")).unwrap();
        Self { user, _host: host, target, login, known_hosts, key, _listening: listening }
    }

    /// `ssh`, with the host key known beforehand.
    fn ssh(&self, proxy: &str, remote: &str) -> Command {
        let tunnel = Path::new(env!("CARGO_BIN_EXE_tunnel")).parent().unwrap();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"])
            .args(["-o", &format!("UserKnownHostsFile={}", self.known_hosts.display())])
            .args(["-o", "StrictHostKeyChecking=yes", "-l", &self.login, "-i"])
            .arg(&self.key)
            .args(["-o", &format!("ProxyCommand={proxy}"), &self.target, remote])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", tunnel.display()))
            .env("HOME", self.user.path())
            .env("TUNNEL_RELAY", &self.user.relay)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        ssh
    }
}

#[tokio::test]
async fn ssh_through_the_command_runs_a_program_at_the_far_end() {
    assert!(GUIDE.contains(&format!("ssh -o ProxyCommand='{PROXY}' ID/22")), "the guide says what is tried");
    let Some(sshd) = sshd() else { return };
    let relay = TestRelay::start().await;
    let far = FarMachine::start(&relay, sshd).await;
    let mut ssh = far.ssh(PROXY, "sort; exit 7").spawn().unwrap();
    ssh.stdin.take().unwrap().write_all(b"c\na\nb\n").await.unwrap();
    let output = within("the program", ssh.wait_with_output()).await.unwrap();
    assert_eq!(text(&output.stdout), "a\nb\nc\n", "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "the exit code of the far end");

    // A peer whose ID was not allowed gets as far as the listener, and not to sshd.
    let ssh = far.ssh("tunnel connect %h --identity other", "true").output();
    let output = within("the refusal", ssh).await.unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("not among those that may connect"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_ssh_goes_on_when_the_relay_was_killed() {
    let Some(sshd) = sshd() else { return };
    let mut relay = TestRelay::start().await;
    let far = FarMachine::start(&relay, sshd).await;
    let mut ssh = far.ssh(PROXY, "cat").stderr(Stdio::inherit()).spawn().unwrap();
    let mut input = ssh.stdin.take().unwrap();
    let mut lines = BufReader::new(ssh.stdout.take().unwrap()).lines();
    for line in ["before", "after the first", "after the second"] {
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let echo = within("the echo", lines.next_line()).await.unwrap();
        assert_eq!(echo.as_deref(), Some(line));
        relay.restart().await;
    }
    drop(input);
    let mut rest = Vec::new();
    within("the end", lines.into_inner().read_to_end(&mut rest)).await.unwrap();
    assert_eq!(text(&rest), "");
    assert_eq!(within("ssh's end", ssh.wait()).await.unwrap().code(), Some(0));
}
