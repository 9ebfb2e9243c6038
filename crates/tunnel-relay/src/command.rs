//! The command line.

use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;
use tunnel_relay::Config;
use tunnel_relay::config::{Setting, Sources};

/// What the command line asks for.
pub(crate) enum Request {
    /// Run the relay.
    Serve(Sources),
    /// Say what is wrong with the configuration.
    CheckConfig(Sources),
    /// Print the configuration.
    PrintConfig(Sources),
}

/// Reads the command line; ends the process if it asks for help or makes no sense.
pub(crate) fn read() -> Request {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some((_, arguments)) if arguments.get_flag("print-config") => {
            Request::PrintConfig(sources(arguments))
        }
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
}

fn with_settings(command: Command) -> Command {
    let command = command
        .after_help("Each setting is also read from the environment (--close-timeout as TUNNEL_RELAY_CLOSE_TIMEOUT) and from the file\n(close-timeout = \"2s\"). Flags win over the environment, which wins over the file.")
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .env("TUNNEL_RELAY_CONFIG")
                .help("A TOML file with settings"),
        )
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
