//! The command `tunnel`: TCP ports, terminals and files, end-to-end encrypted through a small relay.

mod arguments;
mod connect;
mod failure;
mod id;
mod listen;
mod ping;
mod report;
mod settings;
mod signals;
mod target;
mod transfer;

use arguments::{Arguments, Command};
use clap::{CommandFactory as _, Parser as _};
use failure::Failure;
use report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = Report::new(arguments.json, arguments.quiet);
    // One thread: all sockets share an endpoint, whose task seals and opens what they send. To wake that task on another thread takes
    // longer than what the connections do meanwhile.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report.fail(&Failure::Local(format!("no threads can be started: {error}"))),
    };
    let code = match runtime.block_on(signals::until_asked_to_end(run(arguments.command, report.clone()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report.fail(&failure),
    };
    runtime.block_on(tunnel_wasm::leave());
    // Standard input may be read by a thread that nothing can end.
    runtime.shutdown_background();
    code
}

async fn run(command: Command, report: Report) -> Result<(), Failure> {
    match command {
        Command::Listen(arguments) => listen::run(arguments, report).await,
        Command::Connect(arguments) => connect::run(arguments, report).await,
        Command::Id(arguments) => id::run(&arguments, &report),
        Command::Ping(arguments) => ping::run(arguments, report).await,
        Command::Send(arguments) => transfer::send(arguments, report).await,
        Command::Receive(arguments) => transfer::receive(arguments, report).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "tunnel", &mut std::io::stdout());
            Ok(())
        }
    }
}
