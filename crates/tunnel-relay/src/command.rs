//! The command line: what `main` is asked to do.

use crate::check::Check;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;
use std::time::Duration;
use tunnel_protocol::router::Grant;
use tunnel_relay::config::{self, Setting, Sources};
use tunnel_relay::{Config, access};

/// A request on the command line.
pub(crate) enum Request {
    /// Run the relay.
    Serve(Sources),
    /// Say what is wrong with the configuration.
    CheckConfig(Sources),
    /// Print the configuration.
    PrintConfig(Sources),
    /// Go to a relay as a page does.
    Check(Check),
    /// Make a random access token that allows this.
    NewToken(Grant),
    /// Make a secret for signed access tokens.
    NewTokenSecret,
    /// Make a signed access token that allows this for so long; the secret is in the configuration.
    SignToken(Grant, Duration, Sources),
}

/// Reads the command line; ends the process if it asks for help or makes no sense.
pub(crate) fn read() -> Request {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("serve" | "check-config", arguments)) if arguments.get_flag("print-config") => {
            Request::PrintConfig(sources(arguments))
        }
        Some(("token", arguments)) => token(arguments),
        Some(("check", arguments)) => Request::Check(check(arguments)),
        Some(("check-config", arguments)) => Request::CheckConfig(sources(arguments)),
        Some((_, arguments)) => Request::Serve(sources(arguments)),
        None => unreachable!("clap asks for a subcommand"),
    }
}

fn command() -> Command {
    Command::new("tunnel-relay")
        .about("Forwards sealed records between web browsers, and reads none of them")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(Command::new("serve").about("Run the relay until Ctrl-C or SIGTERM")))
        .subcommand(with_settings(
            Command::new("check-config").about("Say what is wrong with a configuration, and run nothing"),
        ))
        .subcommand(check_command())
        .subcommand(token_command())
}

/// Tries a relay.
fn check_command() -> Command {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help(help)
    };
    Command::new("check")
        .about("Go to a relay as a page does, tell each step, and what to change where it fails")
        .after_help("It registers a server, connects to it through the relay and has messages echoed. Exit codes: 0 if all went well, 1 if not,\n2 for arguments that make no sense.")
        .arg(Arg::new("url").required(true).value_name("URL").help("What pages connect to, such as wss://relay.example"))
        .arg(file("token-file", "A file with the access token to show"))
        .arg(file("ca", "A PEM file with the authority that the relay's certificate is checked against, for a private one"))
        .arg(Arg::new("origin").long("origin").value_name("ORIGIN").help("The origin of the page that would connect, such as https://example.org"))
}

fn check(arguments: &ArgMatches) -> Check {
    let text = |name: &str| arguments.get_one::<String>(name).cloned();
    let file = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
    Check {
        url: text("url").unwrap_or_default(),
        token_file: file("token-file"),
        authority: file("ca"),
        origin: text("origin"),
    }
}

/// Makes access tokens.
fn token_command() -> Command {
    let allows = Arg::new("allows").num_args(..).value_name("WORD").help(
        "What it allows: host, connect, server=ID (only this one), ports=FIRST-LAST (to connect to); none of them: everything",
    );
    let lifetime = Arg::new("for")
        .long("for")
        .value_name("TIME")
        .required(true)
        .help("How long it is good, such as 12h or 30d");
    Command::new("token")
        .about("Make access tokens")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("new")
                .about("Draw a random token; the second line is for the setting access-tokens, the first for whoever may use it")
                .arg(allows.clone()),
        )
        .subcommand(Command::new("secret").about("Draw a secret for signed tokens, for the setting token-secret"))
        .subcommand(
            Command::new("sign")
                .about("Sign a token with the secret in TUNNEL_RELAY_TOKEN_SECRET or in the file")
                .arg(config_argument())
                .arg(lifetime)
                .arg(allows),
        )
}

fn token(arguments: &ArgMatches) -> Request {
    let allows = |arguments: &ArgMatches| {
        let words: Vec<_> = arguments.get_many::<String>("allows").into_iter().flatten().cloned().collect();
        access::parse_grant(&words.join(" ")).unwrap_or_else(|error| misuse(&error.to_string()))
    };
    match arguments.subcommand() {
        Some(("sign", arguments)) => {
            let lifetime = arguments.get_one::<String>("for").map_or("", String::as_str);
            let lifetime =
                config::parse_time(lifetime).unwrap_or_else(|error| misuse(&format!("--for: {error}")));
            let mut sources = Sources::from_environment();
            sources.file = arguments.get_one::<PathBuf>("config").cloned();
            Request::SignToken(allows(arguments), lifetime, sources)
        }
        Some(("new", arguments)) => Request::NewToken(allows(arguments)),
        _ => Request::NewTokenSecret,
    }
}

fn misuse(error: &str) -> ! {
    command().error(clap::error::ErrorKind::ValueValidation, error).exit()
}

fn config_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("TUNNEL_RELAY_CONFIG")
        .value_parser(|text: &str| {
            if text.is_empty() {
                Err("TUNNEL_RELAY_CONFIG or --config is empty: leave it out, or name a file")
            } else {
                Ok(PathBuf::from(text))
            }
        })
        .help("A TOML file with settings")
}

fn with_settings(command: Command) -> Command {
    let command = command
        .after_help("Each setting is also read from the environment (--close-timeout as TUNNEL_RELAY_CLOSE_TIMEOUT) and from the file\n(close-timeout = \"2s\"). Flags win over the environment, which wins over the file.")
        .arg(config_argument())
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the configuration as a file, and run nothing"),
        );
    Config::settings().iter().fold(command, |command, setting| command.arg(argument(setting)))
}

fn argument(setting: &Setting) -> Arg {
    let what = setting.what.replace('`', "");
    let mut letters = what.chars();
    let what: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let default = setting.default.replace('`', "");
    let help = if default == "–" { what } else { format!("{what} [default: {default}]") };
    Arg::new(setting.field)
        .long(setting.name())
        .value_name(setting.form)
        .help(help)
        .help_heading(setting.group)
        // Each flag has a value; -1 is a wrong one and no flag.
        .allow_hyphen_values(true)
        .action(if setting.many { ArgAction::Append } else { ArgAction::Set })
}

fn sources(arguments: &ArgMatches) -> Sources {
    let mut sources = Sources::from_environment();
    sources.file = arguments.get_one::<PathBuf>("config").cloned();
    for setting in Config::settings() {
        if let Some(values) = arguments.get_many::<String>(setting.field) {
            sources.flags.insert(setting.name(), values.cloned().collect());
        }
    }
    sources
}
