//! `cargo xtask cluster`: three relays with one address space and two NATS servers on this machine, to be looked at and to be broken.

mod member;
mod table;

use std::fs;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::member::Member;
use crate::process::run;
use crate::setup::{self, Needs};
use crate::workspace::Workspace;
use crate::{build, demo, nats, relay, site};

/// The relays' names.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Time between two tables.
const PAUSE: Duration = Duration::from_secs(1);

/// The variable by which a relay is told the cluster's secret: arguments could be read by other users of the machine.
const SECRET: &str = "TUNNEL_RELAY_CLUSTER_SECRET";

/// Log level of the relays: messages for operators, and where servers of other relays are found.
const LOG: &str = "info,tunnel_relay::cluster=debug";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Address and port of the first relay; the others have the next two ports
    #[arg(long, default_value = "127.0.0.1:8087")]
    listen: SocketAddr,
    /// Files that the relays serve to browsers, in the form of the relay's setting `www`; the demo, which is built, if none is given
    #[arg(long)]
    www: Vec<String>,
    /// Break everything under traffic instead, in ways that take minutes, and print how long sessions were interrupted; needs Linux
    #[arg(long, conflicts_with_all = ["listen", "www"])]
    prove: bool,
}

/// Builds what is needed, starts all, and shows a table of who has what until it is told to end.
pub(crate) fn cluster(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.prove {
        return prove(workspace);
    }
    ensure!(arguments.listen.ip().is_loopback(), "this is for one machine: --listen takes its loopback only");
    let pages = addresses(arguments.listen)?;
    let www = www(workspace, arguments)?;
    let folder = workspace.target()?.join("cluster");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let told_to_end = told_to_end()?;
    let nats_program = nats::program(workspace).context("there is no nats-server")?;
    let (mut servers, urls) = start_nats(&nats_program, &folder)?;
    let relay_program = workspace.binary("debug", "tunnel-relay")?;
    let secret = demo::secret(workspace)?;
    let mut relays = Vec::new();
    for (name, page) in NAMES.into_iter().zip(pages) {
        let metrics = free()?;
        let (program, root) = (relay_program.clone(), workspace.root.clone());
        let (secret, urls, www) = (secret.clone(), urls.clone(), www.clone());
        let command = move || {
            let mut command = Command::new(&program);
            command.current_dir(&root).args(relay_arguments(name, page, metrics, &urls, &www));
            command.env(SECRET, &secret);
            command
        };
        relays.push(Member::start(name, &folder, command, Some((page, metrics)))?);
    }
    println!("\n{}", welcome(&pages, &folder));
    let result = watch(&mut relays, &mut servers, &told_to_end);
    println!("\nending");
    // The relays first: they say goodbye on the bus.
    relays.into_iter().chain(servers).for_each(Member::end);
    result
}

/// Kills, freezes and cuts off relays and NATS servers while numbered messages go both ways; the relay's tests do it.
fn prove(workspace: &Workspace) -> Result<()> {
    setup::nats_server(workspace)?;
    let program = nats::program(workspace).context("there is no nats-server")?;
    let mut command = workspace.cargo();
    command
        .args(["test", "--release", "-p", "tunnel-relay", "--features", relay::CLUSTER])
        .args(["--test", "cluster_faults", "--", "--ignored", "--nocapture", "--test-threads=1"])
        .env(nats::VARIABLE, program);
    if !setup::is_root(workspace) {
        println!(
            "without root there are no network namespaces: networks break as proxies that stall, in `cargo test -p tunnel-relay --features \
             {} --test cluster_faults stalls`",
            relay::CLUSTER
        );
        command.args(["--skip", "partitions::"]);
    }
    run(&mut command)
}

/// The address of each relay for pages; all have to be free.
fn addresses(first: SocketAddr) -> Result<[SocketAddr; 3]> {
    let mut addresses = [first; 3];
    for (number, address) in addresses.iter_mut().enumerate() {
        let port = first.port().checked_add(u16::try_from(number)?);
        address.set_port(port.context("the ports end at 65535: choose a lower one")?);
        let listener = TcpListener::bind(*address).with_context(|| {
            format!("cannot listen on {address}: choose three ports in a row that are free, by --listen ADDRESS:PORT")
        })?;
        *address = listener.local_addr().context("cannot tell the port")?;
    }
    Ok(addresses)
}

/// An address on which nobody listens.
fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    listener.local_addr().context("cannot tell the port")
}

/// Builds relay and pages.
fn www(workspace: &Workspace, arguments: &Arguments) -> Result<Vec<String>> {
    println!("what is needed");
    setup::setup(workspace, &Needs::for_build())?;
    setup::nats_server(workspace)?;
    let www = if arguments.www.is_empty() {
        println!("the package");
        build::build(workspace, build::Form::Release)?;
        println!("the documents");
        site::documents(workspace)?;
        let package = format!("/pkg={}", workspace.config.build.out_dir);
        vec!["www".to_owned(), package, format!("/docs={}", site::documents_folder())]
    } else {
        arguments.www.clone()
    };
    println!("the relay");
    relay::build_for_cluster(workspace)?;
    Ok(www)
}

/// Two NATS servers that pass on what either is told, and their URLs.
fn start_nats(program: &Path, folder: &Path) -> Result<(Vec<Member>, Vec<String>)> {
    let (clients, routes) = ([free()?, free()?], [free()?, free()?]);
    let mut servers = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        let (own, other) = (routes[number], routes[1 - number]);
        let program = program.to_owned();
        let command = move || {
            let mut command = Command::new(&program);
            command.args(["--addr", &client.ip().to_string(), "--port", &client.port().to_string()]);
            command.args(["--cluster_name", "tunnel", "--cluster", &format!("nats://{own}")]);
            command.args(["--routes", &format!("nats://{other}")]);
            command
        };
        servers.push(Member::start(&format!("nats-{}", number + 1), folder, command, None)?);
    }
    Ok((servers, clients.map(|address| format!("nats://{address}")).to_vec()))
}

fn relay_arguments(
    name: &str,
    page: SocketAddr,
    metrics: SocketAddr,
    nats: &[String],
    www: &[String],
) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["serve", "--log", LOG, "--log-format", "json", "--drain-timeout", "1s", "--node", name]
            .map(str::to_owned)
            .to_vec();
    let mut set = |setting: &str, value: &str| arguments.extend([format!("--{setting}"), value.to_owned()]);
    set("listen", &page.to_string());
    set("metrics-listen", &metrics.to_string());
    set("cluster-listen", "127.0.0.1:0");
    nats.iter().for_each(|url| set("cluster", url));
    www.iter().for_each(|folder| set("www", folder));
    arguments
}

/// Hears whenever somebody wants this program to end.
fn told_to_end() -> Result<Receiver<()>> {
    let (say, told) = mpsc::channel();
    // Nobody listens any more once it ends.
    ctrlc::set_handler(move || say.send(()).unwrap_or_default()).context("cannot be told to end")?;
    Ok(told)
}

fn welcome(pages: &[SocketAddr; 3], logs: &Path) -> String {
    let mut text = String::from("Three relays with one address space:\n");
    for page in pages {
        text.push_str(&format!("  http://{page}/\n"));
    }
    let [one, two, _] = pages;
    text.push_str(&format!(
        "A page that any of them serves reaches servers at all of them: host a room at http://{one}/room/, and in the link to it write\n\
         {two} for {one}. Kill any process (kill -9 PID): it starts again after {} s, and connections go on.\n\
         Logs: {}. Ctrl-C ends all.\n",
        member::REST.as_secs(),
        logs.display()
    ));
    text
}

/// Shows the table until somebody wants an end: again and again in the same place of a terminal, else whenever it has changed.
fn watch(relays: &mut [Member], servers: &mut [Member], told_to_end: &Receiver<()>) -> Result<()> {
    let is_terminal = stdout().is_terminal();
    let mut shown = String::new();
    loop {
        for member in relays.iter_mut().chain(servers.iter_mut()) {
            member.look_after()?;
        }
        let table = table::text(relays, servers);
        if is_terminal && !shown.is_empty() {
            // Up to where it began, and nothing from there on.
            print!("\x1b[{}A\x1b[J", shown.lines().count());
        }
        if is_terminal || table != shown {
            print!("{table}");
            stdout().flush().context("cannot print")?;
            shown = table;
        }
        if told_to_end.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relays_get_three_ports_in_a_row_that_are_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = addresses(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("three ports in a row") && error.contains("--listen"), "{error}");
        let error = addresses("127.0.0.1:65535".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("65535"), "{error}");
    }
}
