//! NATS servers, as processes.

use super::cluster::Place;
use super::within;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncBufReadExt as _;
use tokio::process::Child;

/// Names the program to use; `cargo xtask test` sets it.
const VARIABLE: &str = "TUNNEL_NATS_SERVER";

/// The program: the one that the environment names, else the one that `cargo xtask setup` has installed in this checkout.
fn program() -> PathBuf {
    let chosen = std::env::var_os(VARIABLE).filter(|chosen| !chosen.is_empty()).map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/nats/bin/nats-server");
    let program = chosen.unwrap_or(installed);
    assert!(
        program.is_file(),
        "there is no {}: `cargo xtask setup` installs it, or {VARIABLE} names a nats-server",
        program.display()
    );
    program
}

/// A NATS server. Dropping it kills it.
pub(crate) struct Nats {
    child: Child,
    pub(crate) address: SocketAddr,
    place: Place,
    arguments: Vec<String>,
}

impl Nats {
    /// A server by itself.
    pub(crate) async fn start() -> Self {
        let [port] = free_ports();
        Self::launch(Place::here(), port, Vec::new()).await
    }

    /// A server with these arguments more.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let [port] = free_ports();
        Self::launch(Place::here(), port, arguments.iter().map(|&argument| argument.to_owned()).collect())
            .await
    }

    /// Two servers that pass on what either is told.
    pub(crate) async fn pair() -> [Self; 2] {
        Self::pair_at([Place::here(), Place::here()]).await
    }

    /// The same, in these places.
    pub(crate) async fn pair_at(places: [Place; 2]) -> [Self; 2] {
        let [one, one_route, two, two_route] = free_ports();
        let [one_place, two_place] = places;
        let routes = [(&one_place, one_route), (&two_place, two_route)];
        let routes = routes.map(|(place, port)| format!("nats://{}", SocketAddr::new(place.links, port)));
        let arguments = |own: usize| {
            let (own, other) = (&routes[own], &routes[1 - own]);
            ["--cluster_name", "test", "--cluster", own, "--routes", other].map(str::to_owned).to_vec()
        };
        let one = Self::launch(one_place, one, arguments(0));
        let two = Self::launch(two_place, two, arguments(1));
        let (one, two) = tokio::join!(one, two);
        [one, two]
    }

    /// `nats://HOST:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Kills it, without a word to anybody.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, at the same address.
    pub(crate) async fn start_again(&mut self) {
        *self = Self::launch(self.place.clone(), self.address.port(), self.arguments.clone()).await;
    }

    /// Tells it to end, waits until it has, and starts it again.
    #[cfg(unix)]
    pub(crate) async fn restart(&mut self) {
        self.signal("-TERM");
        within("the end of the NATS server", self.child.wait()).await.unwrap();
        self.start_again().await;
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    async fn launch(place: Place, port: u16, arguments: Vec<String>) -> Self {
        let mut command = place.command(&program());
        command
            .args(["--addr", &place.bus.to_string(), "--port", &port.to_string()])
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut log = tokio::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = async {
            let mut said = String::new();
            while let Some(line) = log.next_line().await.unwrap() {
                said.push_str(&line);
                said.push('\n');
                if line.contains("Server is ready") {
                    return;
                }
            }
            panic!("the NATS server ended:\n{said}");
        };
        within("a NATS server that is ready", ready).await;
        // It goes on logging.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { child, address: SocketAddr::new(place.bus, port), place, arguments }
    }
}

/// Ports on which nobody listens. They are taken all at once, so that they differ.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
