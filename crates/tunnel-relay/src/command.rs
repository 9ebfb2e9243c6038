//! The command line.

use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;
use std::time::Duration;
use tunnel_protocol::router::Grant;
use tunnel_relay::config::{self, Setting, Sources};
use tunnel_relay::{Config, access};

/// What the command line asks for.
pub(crate) enum Request {
    /// Run the relay.
    Serve(Sources),
    /// Say what is wrong with the configuration.
    CheckConfig(Sources),
    /// Print the configuration.
    PrintConfig(Sources),
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
        .subcommand(token_command())
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
        .value_parser(clap::value_parser!(PathBuf))
        .env("TUNNEL_RELAY_CONFIG")
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
