//! The command `tunnel-relay`.

mod check;
mod command;

use command::Request;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;
use tracing::{debug, error, info, warn};
use tunnel_relay::access::{Claims, KnownToken, TokenSecret};
use tunnel_relay::config::{self, Loaded, Sources};
use tunnel_relay::log::{Log, say};
use tunnel_relay::{Config, Relay, ReloadError};

/// The static binary's: see Cargo.toml.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For a command line or a configuration that can't be understood.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    let request = match command::read() {
        Request::Check(check) => return check_relay(check),
        request => request,
    };
    let loaded = match &request {
        Request::Check(_) => return ExitCode::SUCCESS,
        Request::NewToken(grant) => {
            return print(KnownToken::draw(grant.clone()).map(|(t, k)| format!("{t}\n{k}\n")));
        }
        Request::NewTokenSecret => return print(TokenSecret::draw().map(|secret| secret.reveal() + "\n")),
        Request::Serve(sources)
        | Request::CheckConfig(sources)
        | Request::PrintConfig(sources)
        | Request::SignToken(_, _, sources) => config::load(sources),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            for line in problems.to_string().lines() {
                say(&format!("error: {line}"));
            }
            return ExitCode::from(MISUSE);
        }
    };
    match request {
        Request::Serve(sources) => serve(sources, loaded),
        Request::CheckConfig(_) => check(&loaded),
        Request::PrintConfig(_) => print(Ok::<_, io::Error>(config::print(&loaded.config))),
        Request::SignToken(grant, lifetime, _) => match &loaded.config.token_secret {
            Some(secret) => {
                let claims = Claims { grant, until: SystemTime::now() + lifetime };
                print(Ok::<_, io::Error>(secret.sign(&claims) + "\n"))
            }
            None => {
                say("error: token-secret is not set: see `tunnel-relay token secret`");
                ExitCode::from(MISUSE)
            }
        },
        Request::NewToken(_) | Request::NewTokenSecret | Request::Check(_) => ExitCode::SUCCESS,
    }
}

/// Goes to a relay as a page does.
fn check_relay(check: check::Check) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(check::run(check)),
        Err(error) => return print(Err::<String, _>(error)),
    };
    match result {
        Ok(()) => print(Ok::<_, io::Error>("this relay works\n".to_owned())),
        Err(failure) => {
            check::failed(&failure);
            match failure {
                check::Failure::Misuse(_) => ExitCode::from(MISUSE),
                check::Failure::Step { .. } => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints what was asked for.
fn print(text: Result<String, impl std::fmt::Display>) -> ExitCode {
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            say(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: not all could be written to stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says what is wrong with a configuration that can be read.
fn check(loaded: &Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}"));
    }
    match Relay::check(&loaded.config) {
        Ok(warnings) => warnings.iter().for_each(|warning| say(&format!("warning: {warning}"))),
        Err(error) => {
            say(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    }
    if let Some(closed) = &loaded.closed {
        say(&format!("error: {closed}"));
        return ExitCode::from(MISUSE);
    }
    let access = loaded.config.describe_access();
    print(Ok::<_, io::Error>(format!("the relay may be used by {access}\nthe configuration is good\n")))
}

fn serve(sources: Sources, loaded: Loaded) -> ExitCode {
    let log = match Log::start(&loaded.config.log, loaded.config.log_format) {
        Ok(log) => log,
        Err(error) => {
            say(&format!("error: {error}"));
            return ExitCode::from(MISUSE);
        }
    };
    for warning in &loaded.warnings {
        warn!(%warning, "configuration");
    }
    if let Some(closed) = &loaded.closed {
        log.fatal(closed);
        return ExitCode::from(MISUSE);
    }
    raise_descriptor_limit();
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .and_then(|rt| rt.block_on(run(sources, loaded.config)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.fatal(&error);
            ExitCode::FAILURE
        }
    }
}

/// Each connection takes a file descriptor, and systems start with as few as 1,024.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "file descriptors"),
        Err(error) => warn!(%error, "the limit of file descriptors can't be raised"),
    }
}

async fn run(sources: Sources, config: Config) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let relay = Relay::start(config).await?;
    let mut stdout = io::stdout();
    // The process that started the relay may have closed its end: the relay runs all the same.
    let _ignored = writeln!(stdout, "listening on {}", relay.url()).and_then(|()| stdout.flush());
    let signal = loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = relay.cut_off() => {
                relay.shut_down().await;
                return Err(io::Error::other("it was cut off from other relays, and has sent its peers to them: start it again"));
            }
        };
        match signal {
            RELOAD => reload(&relay, &sources),
            NOTHING => info!(
                "a signal for users means nothing here: there are no log files to open anew, and SIGHUP reads the settings"
            ),
            signal => break signal,
        }
    };
    info!(signal, "told to end");
    tokio::select! {
        () = relay.shut_down() => {}
        signal = signals.end() => info!(signal, "told to end at once"),
    }
    Ok(())
}

/// Reads the configuration again. If it is wrong, that of before stays.
fn reload(relay: &Relay, sources: &Sources) {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems.to_string().lines() {
                error!(%problem, "the configuration is wrong, that of before stays");
            }
            return;
        }
    };
    for warning in &loaded.warnings {
        warn!(%warning, "configuration");
    }
    if let Some(closed) = &loaded.closed {
        error!(%closed, "the configuration keeps everybody out");
    }
    match relay.reload(loaded.config) {
        Ok(waiting) if waiting.is_empty() => info!("configuration read again"),
        Ok(waiting) => {
            warn!(settings = waiting.join(", "), "configuration read again; some settings wait for a restart")
        }
        Err(error @ ReloadError::Opens(_)) => {
            error!(%error, "the configuration would open the relay, that of before stays")
        }
        Err(error) => error!(%error, "configuration read again, but the certificate of before stays"),
    }
}

/// The signal that has the configuration read again.
const RELOAD: &str = "SIGHUP";

/// Other programs open their log files anew at SIGUSR1. The relay has none; without a handler the signal would end it.
const NOTHING: &str = "SIGUSR1";

/// Ctrl-C and, where there are such, SIGTERM, SIGHUP and SIGUSR1.
struct Signals {
    #[cfg(unix)]
    user: [tokio::signal::unix::Signal; 2],
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// The next signal that ends the relay.
    async fn end(&mut self) -> &'static str {
        loop {
            match self.next().await {
                RELOAD | NOTHING => {}
                signal => return signal,
            }
        }
    }

    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        let [first, second] = &mut self.user;
        tokio::select! {
            _ = first.recv() => NOTHING,
            _ = second.recv() => NOTHING,
            _ = self.hang_up.recv() => RELOAD,
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
