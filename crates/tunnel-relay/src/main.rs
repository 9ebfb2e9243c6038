//! The command `tunnel-relay`.

use clap::{Parser, Subcommand, ValueEnum};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;
use tunnel_relay::{Config, Limits, Mount, Relay, Secret};

/// Forwards sealed records between web browsers, and reads none of them.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until Ctrl-C or SIGTERM.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8087")]
    listen: SocketAddr,
    /// Serve the files of a folder, under / or under the path before the equals sign; may be repeated.
    #[arg(long, value_name = "[/PATH=]FOLDER")]
    www: Vec<Mount>,
    /// Speak the livecode dialect with peers that offer no subprotocol; its privileged commands need this secret.
    #[arg(long, value_name = "SECRET", env = "TUNNEL_RELAY_LIVECODE_CREDENTIAL", hide_env_values = true)]
    livecode_credential: Option<Secret>,
    /// For how many seconds links may go on after the relay was told to end.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().drain_timeout.as_secs())]
    drain_timeout: u64,
    /// How log lines on stderr look.
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter by module.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

fn main() -> ExitCode {
    let Command::Serve(serve) = Arguments::parse().command;
    if let Err(error) = start_log(&serve) {
        eprintln!("error: --log {:?} is no filter: {error}", serve.log);
        return ExitCode::from(2);
    }
    raise_descriptor_limit();
    let config = Config {
        listen: serve.listen,
        www: serve.www,
        livecode_credential: serve.livecode_credential,
        limits: Limits { drain_timeout: Duration::from_secs(serve.drain_timeout), ..Limits::default() },
        ..Config::default()
    };
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .and_then(|rt| rt.block_on(run(config)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "the relay can't run");
            ExitCode::FAILURE
        }
    }
}

fn start_log(serve: &Serve) -> Result<(), tracing_subscriber::filter::ParseError> {
    let log =
        tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(&serve.log)?).with_writer(io::stderr);
    match serve.log_format {
        LogFormat::Human => {
            log.with_target(false).with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init()
        }
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    // A panic ends one connection's task; it belongs into the log like everything else.
    std::panic::set_hook(Box::new(|panic| error!(%panic, "a task panicked")));
    Ok(())
}

/// Each connection takes a file descriptor, and systems start with as few as 1,024.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "file descriptors"),
        Err(error) => warn!(%error, "the limit of file descriptors can't be raised"),
    }
}

async fn run(config: Config) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let relay = Relay::start(config).await?;
    let mut stdout = io::stdout();
    // Whoever started the relay may have closed its end: the relay runs all the same.
    let _ignored = writeln!(stdout, "listening on {}", relay.url()).and_then(|()| stdout.flush());
    let signal = signals.next().await;
    info!(signal, "told to end");
    tokio::select! {
        () = relay.shut_down() => {}
        signal = signals.next() => info!(signal, "told to end at once"),
    }
    Ok(())
}

/// Ctrl-C and, where there is one, SIGTERM.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await, // it can't be heard: only the system can end the relay
        }
    }
}
