//! Relays with one address space and the NATS servers between them, as processes.

use super::nats::{Nats, free_ports};
use super::page::Page;
use super::process::{Process, prepare};
use super::stall::Stall;
use super::talk::Conversation;
use super::{get, within};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

const SECRET: &str = "a secret that only the relays of this test know";

/// Relays and NATS servers. Dropping it kills them all.
pub(crate) struct Cluster {
    pub(crate) nats: [Nats; 2],
    pub(crate) relays: Vec<Relay>,
}

/// A relay, which can be killed and started again at the same addresses.
pub(crate) struct Relay {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    place: Place,
    arguments: Vec<String>,
    networks: Option<Networks>,
}

/// The networks that a relay is in, as proxies: needs no root.
pub(crate) struct Networks {
    pub(crate) pages: Stall,
    /// To both NATS servers.
    bus: [Stall; 2],
    /// From other relays.
    pub(crate) links: Stall,
}

impl Networks {
    /// Between a relay that will listen at these addresses, pages and others.
    async fn around(listen: SocketAddr, links: SocketAddr, nats: &[Nats; 2]) -> Self {
        let [one, two] = [0, 1].map(|number: usize| Stall::before(nats[number].address));
        let (pages, one, two, links) = tokio::join!(Stall::before(listen), one, two, Stall::before(links));
        Self { pages, bus: [one, two], links }
    }

    pub(crate) fn break_bus(&self) {
        self.bus.iter().for_each(Stall::break_off);
    }

    pub(crate) fn mend_bus(&self) {
        self.bus.iter().for_each(Stall::mend);
    }
}

/// The part of a network that a process is in: this machine, or a network namespace with addresses of its own.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: Option<String>,
    /// The addresses for pages and metrics, for the bus, and for links between relays or routes between NATS servers.
    pub(crate) pages: IpAddr,
    pub(crate) bus: IpAddr,
    pub(crate) links: IpAddr,
}

impl Place {
    pub(crate) fn here() -> Self {
        let here = IpAddr::from([127, 0, 0, 1]);
        Self { namespace: None, pages: here, bus: here, links: here }
    }

    /// A command that runs a program here.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        }
    }
}

impl Cluster {
    /// Three relays that know each other, and two NATS servers.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let [a, b, c, d, e] = [(); 5].map(|()| Place::here());
        Self::start_at([a, b, c], [d, e], settings).await
    }

    /// The same, each relay in [networks](Relay::networks) that can break.
    pub(crate) async fn start_in_networks(settings: &[&str]) -> Self {
        let [a, b, c, d, e] = [(); 5].map(|()| Place::here());
        Self::launch([a, b, c], [d, e], settings, true).await
    }

    /// The same, with the relays and the NATS servers in these places.
    pub(crate) async fn start_at(relays: [Place; 3], nats: [Place; 2], settings: &[&str]) -> Self {
        Self::launch(relays, nats, settings, false).await
    }

    async fn launch(relays: [Place; 3], nats: [Place; 2], settings: &[&str], has_networks: bool) -> Self {
        let nats = Nats::pair_at(nats).await;
        let [a, b, c] = relays;
        let start = |number, place| Relay::start(number, place, &nats, settings, has_networks);
        let (a, b, c) = tokio::join!(start(0, a), start(1, b), start(2, c));
        let cluster = Self { nats, relays: vec![a, b, c] };
        cluster.settled().await;
        cluster
    }

    /// Waits until each relay hears all others.
    pub(crate) async fn settled(&self) {
        let others = self.relays.len() - 1;
        for relay in &self.relays {
            relay.has("tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == others as f64).await;
        }
    }

    /// Waits until each relay reaches the bus, or has noticed that it does not.
    pub(crate) async fn bus_is(&self, reached: bool) {
        for relay in &self.relays {
            relay.has("tunnel_relay_cluster_connected", |connected| (connected > 0.0) == reached).await;
        }
    }

    /// A page whose dials come to the relays in this order, again and again.
    pub(crate) fn page(&self, relays: &[usize], seed: u8) -> Page {
        Page::among(relays.iter().map(|number| self.relays[*number].address).collect(), seed)
    }

    /// A server's page at the first relay and a client's at the second one, which talk under the key of `secret`. Who loses its relay dials
    /// the third one.
    pub(crate) fn talk(&self, secret: u8) -> Conversation {
        let (server, client) = (self.page(&[0, 2, 1], secret), self.page(&[1, 2, 0], secret ^ 0x80));
        Conversation::start(server, client, secret)
    }

    /// Waits until the first relay has taken in so many channels of other relays' clients.
    pub(crate) async fn spliced(&self, channels: u32) {
        let name = "tunnel_relay_cluster_spliced_total{role=\"owner\"}";
        self.relays[0].has(name, |spliced| spliced >= f64::from(channels)).await;
    }
}

impl Relay {
    async fn start(
        number: usize,
        place: Place,
        nats: &[Nats; 2],
        settings: &[&str],
        has_networks: bool,
    ) -> Self {
        let [listen, metrics, cluster] = free_ports();
        let (listen, metrics, cluster) = (
            SocketAddr::new(place.pages, listen),
            SocketAddr::new(place.pages, metrics),
            SocketAddr::new(place.links, cluster),
        );
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--listen={listen}"),
            format!("--metrics-listen={metrics}"),
            format!("--cluster-listen={cluster}"),
            format!("--node=relay-{number}"),
        ];
        let networks = if has_networks { Some(Networks::around(listen, cluster, nats).await) } else { None };
        let bus = match &networks {
            None => nats.each_ref().map(|nats| nats.address),
            Some(networks) => {
                arguments.push(format!("--cluster-address={}", networks.links.address));
                networks.bus.each_ref().map(|stall| stall.address)
            }
        };
        if place.namespace.is_some() {
            arguments.push("--cluster-plain=on".to_owned());
        }
        arguments.extend(bus.iter().map(|address| format!("--cluster=nats://{address}")));
        arguments.extend(settings.iter().map(|&setting| setting.to_owned()));
        let process = launch(&place, &arguments).await;
        let address = networks.as_ref().map_or(process.address, |networks| networks.pages.address);
        Self { process, address, place, arguments, networks }
    }

    /// The networks that it is in, if they can break.
    pub(crate) const fn networks(&self) -> &Networks {
        self.networks.as_ref().expect("the cluster was started in networks")
    }

    /// Kills it, without a word to anybody.
    pub(crate) async fn kill(&mut self) {
        self.process.child.kill().await.unwrap();
    }

    /// Starts it again, at the same addresses.
    pub(crate) async fn start_again(&mut self) {
        self.process = launch(&self.place, &self.arguments).await;
    }

    /// Tells it to end, waits until it has, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.process.signal("-TERM");
        let status = within("the end of the relay", self.process.child.wait()).await.unwrap();
        assert!(status.success(), "{status}:\n{}", self.process.log());
        self.start_again().await;
    }

    /// Waits until a metric, with its labels, is as it should be.
    pub(crate) async fn has(&self, metric: &str, condition: impl Fn(f64) -> bool) {
        let wait = async {
            while !self.metric(metric).await.is_some_and(&condition) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(metric, wait).await;
    }

    /// The value of a metric with its labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let page = get(self.process.metrics().await, "/metrics").await;
        let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.parse().ok()
    }
}

async fn launch(place: &Place, arguments: &[String]) -> Process {
    let mut command = place.command(Path::new(env!("CARGO_BIN_EXE_tunnel-relay")));
    prepare(command.args(arguments).env("TUNNEL_RELAY_CLUSTER_SECRET", SECRET));
    Process::spawn(&mut command).await
}
