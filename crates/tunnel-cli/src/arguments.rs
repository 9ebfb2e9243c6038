//! The command line.

use crate::target::{Forward, Link, Target};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tunnel_wasm::ServerId;

const AFTER_HELP: &str = "\
The relay's URL is read from TUNNEL_RELAY, the access token for it, if it wants one, from TUNNEL_TOKEN; or both from the file
tunnel/config.toml in the folder for configuration (~/.config on Linux, another with TUNNEL_CONFIG):

  relay = \"wss://relay.example\"
  token = \"...\"

Identities are files in tunnel/identities there, or in the folder TUNNEL_IDENTITIES. Proxies are taken from HTTPS_PROXY,
HTTP_PROXY, ALL_PROXY and NO_PROXY, certificate authorities of your own from SSL_CERT_FILE.

Exit codes: 0 done, 1 the other side, the relay or the network failed, 2 wrong usage or settings, 3 this machine failed (a
file, a port), 130 and 143 after SIGINT and SIGTERM.";

/// TCP ports, terminals and files, end-to-end encrypted through a small relay.
#[derive(Debug, Parser)]
#[command(name = "tunnel", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Write one JSON object a line for what happens, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Write nothing but errors and what was asked for
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let peers reach a TCP port, of this machine or one that it reaches; prints what they connect to
    Listen(Listen),
    /// Connect to a port of a peer, from a local port or with standard input and output
    Connect(Connect),
    /// Print the ID of an identity, which is made if there is none: for `--allow`
    Id(Id),
    /// Measure the way to a peer
    Ping(Ping),
    /// Offer a file to whoever has the link that this prints
    Send(Send),
    /// Fetch a file; goes on where an earlier attempt ended
    Receive(Receive),
    /// Print a script that completes this command in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The time to wait for a relay and a peer that are not there.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Seconds to keep trying while the relay, or the peer, is not there
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("who").required(true).args(["allow", "allow_anyone"])))]
pub(crate) struct Listen {
    /// The port under which peers connect, 1 to 65535
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// The host and port that connections are passed on to
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) to: Forward,
    /// Host under this identity, so that the ID stays the same; otherwise it is a new one each time
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// Let in the peer that holds this ID's key (see `tunnel id`); may be given several times
    #[arg(long, value_name = "CLIENT_ID")]
    pub(crate) allow: Vec<ServerId>,
    /// Let in everybody who knows the ID, which is no secret: the relay knows it, too
    #[arg(long)]
    pub(crate) allow_anyone: bool,
    /// Most connections at once
    #[arg(long, value_name = "NUMBER", default_value_t = 256)]
    pub(crate) max_connections: usize,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args, Debug)]
pub(crate) struct Connect {
    /// The peer's ID and port, as `tunnel listen` prints them
    #[arg(value_name = "ID/PORT")]
    pub(crate) target: Target,
    /// Take connections on this local address, one tunnel for each, instead of standard input and output
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Connect under this identity, for a peer that allows its ID
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args, Debug)]
pub(crate) struct Id {
    /// The identity
    #[arg(default_value = "default")]
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct Ping {
    /// The peer's ID and port
    #[arg(value_name = "ID/PORT")]
    pub(crate) target: Target,
    /// Number of round trips to measure
    #[arg(long, short, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Seconds between them
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,
    /// Connect under this identity, for a peer that allows its ID
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args, Debug)]
pub(crate) struct Send {
    /// The file
    pub(crate) file: PathBuf,
    /// Go on offering it when somebody has it
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Args, Debug)]
pub(crate) struct Receive {
    /// The link that `tunnel send` has printed
    pub(crate) link: Link,
    /// Folder or name for the file; without it, the current folder and the sender's name
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}
