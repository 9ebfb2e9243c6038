//! Set-up, build, demo and test of tunnel-wasm, one command each.

mod autobahn;
mod bench;
mod build;
mod cluster;
mod config;
mod crates;
mod create;
mod demo;
mod dist;
mod example;
mod frameworks;
mod hostile;
mod lint;
mod livecode;
mod nats;
mod process;
mod relay;
mod report;
mod setup;
mod site;
mod size;
mod soak;
mod test;
mod workspace;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::build::Form;
use crate::config::BrowserChoice;
use crate::setup::Needs;
use crate::workspace::Workspace;

/// Set-up, build, demo and test of tunnel-wasm, one command each.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs what is missing: wasm target, wasm-opt, esbuild, and for the tests wasm-pack, a NATS server and a browser
    Setup {
        /// Browsers to install, separated by commas, or all; the default is in wasm-pack.toml
        #[arg(long, value_delimiter = ',')]
        browsers: Vec<BrowserChoice>,
    },
    /// Builds the npm package in pkg/
    Build {
        /// The debug form, in pkg-debug/: functions have their names, and the console has events and the places of panics
        #[arg(long)]
        debug: bool,
    },
    /// Builds all, serves the demo page and prints its address
    Demo {
        /// Address and port to serve on; port 0 picks a free one
        #[arg(long, default_value = "127.0.0.1:8087")]
        listen: SocketAddr,
        /// For all devices in the local network, too: serves on this machine's address there, and prints it as a QR code
        #[arg(long)]
        lan: bool,
    },
    /// Starts three relays with one address space and two NATS servers, and shows who has which server
    Cluster(cluster::Arguments),
    /// Packs the npm packages, and builds and opens a project of each template of `npm create tunnel-wasm`
    Create,
    /// Builds the page in Rust of examples/yew
    Example,
    /// Runs everything that has to be green: format, lints, native, browser and multi-tab tests
    Test {
        /// Browsers to test in, separated by commas, or all; the default is in wasm-pack.toml
        #[arg(long, value_delimiter = ',')]
        browsers: Vec<BrowserChoice>,
        /// The debug form of the package instead, in Chromium; it takes a build of its own
        #[arg(long, conflicts_with = "browsers")]
        debug: bool,
    },
    /// Measures two tabs through our relay beside two tabs with native WebSockets through a plain forwarder
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(subcommand)]
        what: Option<Bench>,
        #[command(flatten)]
        tabs: bench::Arguments,
    },
    /// Runs Autobahn's fuzzing client against the relay's WebSocket stack, where there is a Python 2.7
    Autobahn {
        /// The cases, separated by commas
        #[arg(long, value_delimiter = ',', default_value = "*")]
        cases: Vec<String>,
    },
    /// Attacks the relay, and then a server in a tab, in every way that is known, at full strength, while others go on
    Hostile,
    /// Installs Next.js, has it build a page with the package, and opens that in a tab
    Frameworks,
    /// Checks format and lints, and licences and sources of dependencies where cargo-deny is installed
    Lint,
    /// Builds the livecoding engine that the relay has inside, a WebAssembly module; it takes a C compiler that knows wasm32
    Livecode,
    /// Runs random stories of the whole system on a simulated network, one for each seed
    Simulate {
        /// Number of seeds to run
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Run this seed only, and print what happens
        #[arg(long, conflicts_with_all = ["seeds", "first"])]
        seed: Option<u64>,
        /// Stories of several relays with one address space
        #[arg(long)]
        cluster: bool,
        /// Stories of injected instructions, with an engine that is a script
        #[arg(long, conflicts_with = "cluster")]
        livecode: bool,
    },
    /// Sends both ways between two tabs while the relay is killed and the network cuts, stalls and tears
    Soak {
        /// Number of times that the relay is killed, or every second time told to end, and started again
        #[arg(long, default_value_t = 50)]
        kills: u64,
        /// Amount that is sent each way, in MiB
        #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
        megabytes: u64,
        /// Repeats the kills, the network's moods and the messages of a run; any number
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Makes what is given to people in dist/: archives and their SHA-256 sums
    Dist {
        /// The parts, separated by commas; all by default
        #[arg(long, value_delimiter = ',')]
        parts: Vec<dist::Part>,
        /// Build everything twice, and compare the bytes
        #[arg(long)]
        verify: bool,
        /// Only pack the debug builds of relay and command, twice with the same bytes, install and run each package, and throw them away
        #[arg(long, conflicts_with_all = ["parts", "verify"])]
        r#try: bool,
    },
    /// Makes the site, with the documents as pages, in site/: static files for any host
    Site,
    /// Builds the package and prints the sizes of what a page loads; fails over the budget
    Size,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Measures the relay beside a TCP splice, Node.js forwarders and NATS: CPU time, memory, latency, fairness
    Relay(bench::relay::Arguments),
    /// Measures how long each page of the site takes until somebody has done the first thing there
    Pages {
        /// Number of times that each page is opened, in turns
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Measures a TCP connection through the command `tunnel` beside socat, OpenSSH and a Node.js forwarder
    Native(bench::native::Arguments),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Setup { browsers } => {
            let browsers = BrowserChoice::browsers(&browsers, &workspace.config.test.browsers);
            setup::setup(&workspace, &Needs::for_tests(&browsers))
        }
        Command::Build { debug } => {
            setup::setup(&workspace, &Needs::for_build())?;
            build::build(&workspace, if debug { Form::Debug } else { Form::Release })
        }
        Command::Simulate { seeds, first, seed, cluster, livecode } => {
            let mut arguments = match seed {
                Some(seed) => vec!["--seed".to_owned(), seed.to_string()],
                None => {
                    vec!["--seeds".to_owned(), seeds.to_string(), "--first".to_owned(), first.to_string()]
                }
            };
            for (is_wanted, name) in [(cluster, "--cluster"), (livecode, "--livecode")] {
                if is_wanted {
                    arguments.extend([name.to_owned(), "1".to_owned()]);
                }
            }
            let simulation = ["run", "--release", "--quiet", "--package", "tunnel-simulation", "--"];
            process::run(workspace.cargo().args(simulation).args(arguments))
        }
        Command::Demo { listen, lan } => demo::demo(&workspace, listen, lan),
        Command::Cluster(arguments) => cluster::cluster(&workspace, &arguments),
        Command::Create => create::create(&workspace),
        Command::Example => {
            setup::setup(&workspace, &Needs::for_build())?;
            example::build(&workspace)
        }
        Command::Test { debug: true, .. } => test::test_debug_form(&workspace),
        Command::Test { browsers, .. } => {
            let browsers = BrowserChoice::browsers(&browsers, &workspace.config.test.browsers);
            test::test(&workspace, &browsers)
        }
        Command::Bench { what: Some(Bench::Relay(arguments)), .. } => {
            bench::relay::bench(&workspace, &arguments)
        }
        Command::Bench { what: Some(Bench::Pages { rounds }), .. } => bench::pages(&workspace, rounds),
        Command::Bench { what: Some(Bench::Native(arguments)), .. } => {
            bench::native::bench(&workspace, &arguments)
        }
        Command::Bench { what: None, tabs } => bench::bench(&workspace, &tabs),
        Command::Soak { kills, megabytes, seed } => soak::soak(&workspace, kills, megabytes, seed),
        Command::Autobahn { cases } => autobahn::autobahn(&workspace, &cases),
        Command::Hostile => hostile::hostile(&workspace),
        Command::Frameworks => frameworks::frameworks(&workspace),
        Command::Lint => lint::lint(&workspace),
        Command::Livecode => {
            let module = livecode::build(&workspace)?;
            println!(
                "  {} bytes: {}",
                size::grouped(std::fs::metadata(&module)?.len().try_into()?),
                module.display()
            );
            Ok(())
        }
        Command::Dist { r#try: true, .. } => dist::try_packers(&workspace),
        Command::Dist { parts, verify, .. } => dist::dist(&workspace, &parts, verify),
        Command::Site => site::site(&workspace),
        Command::Size => {
            setup::setup(&workspace, &Needs::for_build())?;
            build::build(&workspace, Form::Release)?;
            size::check(&workspace)
        }
    }
}
