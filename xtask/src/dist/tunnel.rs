//! The command `tunnel` as it is given away.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::deb::Debian;
use super::program::Program;
use crate::process::{output, run, shown};
use crate::relay::Relay;
use crate::workspace::Workspace;

pub(super) const PROGRAM: Program = Program {
    package: "tunnel-cli",
    binary: "tunnel",
    title: "The command tunnel",
    about: "TCP ports, terminals and files, end-to-end encrypted through a small relay: the command tunnel",
    readme: "# tunnel-cli\n\n\
        `npx tunnel-cli connect ID/22` reaches a port of a peer through a relay of tunnel-wasm; `npx tunnel-cli --help` says what\n\
        else there is. Installed, the command is `tunnel`.\n",
    has_livecoding: false,
    features: &[],
    files: &["docs/native.md"],
    completions: &[("bash", "tunnel.bash"), ("zsh", "_tunnel"), ("fish", "tunnel.fish")],
    debian: Debian {
        files: &[
            ("native.md", "usr/share/doc/tunnel-cli"),
            ("tunnel.bash", "usr/share/bash-completion/completions"),
            ("_tunnel", "usr/share/zsh/vendor-completions"),
            ("tunnel.fish", "usr/share/fish/vendor_completions.d"),
        ],
        description: "TCP ports, terminals and files through a small relay\n \
            All is encrypted from end to end, and goes on when the relay was restarted.\n \
            `tunnel --help` tells how.",
        service: None,
    },
    has_image: false,
    try_it,
};

/// Ends when dropped, if it has not before.
struct Listening(Child);

impl Drop for Listening {
    fn drop(&mut self) {
        // It has ended by itself where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fails unless a port is reached through a relay, with a key from a file, and a signal ends the listener as it should.
fn try_it(workspace: &Workspace, command: &dyn Fn() -> Command) -> Result<()> {
    let relay = Relay::start(workspace, "debug", "warn")?;
    let identities = workspace.target()?.join("dist-tries/identities");
    super::empty(&identities)?;
    let of_user = || {
        let mut command = command();
        command.env("TUNNEL_RELAY", &relay.url).env("TUNNEL_IDENTITIES", &identities);
        command
    };
    let id = output(of_user().args(["id", "tried"]))?;
    let mut listen = of_user();
    // The discard port: a ping does not reach it.
    listen.args(["--quiet", "listen", "7", "--to", "127.0.0.1:9", "--allow-anyone", "--identity", "tried"]);
    listen.stdin(Stdio::null()).stdout(Stdio::piped());
    let started = listen.spawn().with_context(|| format!("cannot start `{}`", shown(&listen)))?;
    let mut listening = Listening(started);
    let mut target = String::new();
    let printed = listening.0.stdout.take().context("it has no output")?;
    BufReader::new(printed).read_line(&mut target).context("cannot read what it prints")?;
    ensure!(target.trim() == format!("{}/7", id.trim()), "it printed {target:?}, and its ID is {id:?}");
    output(of_user().args(["--quiet", "ping", target.trim(), "--count", "2", "--interval", "0"]))?;
    run(Command::new("kill").args(["-TERM", &listening.0.id().to_string()]))?;
    let status = listening.0.wait().context("cannot wait for it")?;
    ensure!(status.code() == Some(143), "it ended with {status} after SIGTERM, and not with 143");
    Ok(())
}
