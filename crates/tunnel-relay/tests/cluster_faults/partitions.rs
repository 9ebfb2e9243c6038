//! Relays and NATS servers in network namespaces: machines that vanish, and networks that break between some of them. Needs root.

use super::long::{advance, end, pairs, pass};
use super::support::cluster::{Cluster, Place};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Pairs that talk.
const PAIRS: u8 = 20;

/// Messages that all pairs have exchanged when the fault is over.
const AFTER: u32 = 250;

/// A network between the machines, by the third byte of its addresses.
#[derive(Clone, Copy, Debug)]
enum Net {
    /// Pages, which are on this machine, and relays.
    Pages = 1,
    /// Relays and NATS servers.
    Bus = 2,
    /// Relays among each other.
    Links = 3,
    /// NATS servers among each other.
    Routes = 4,
}

/// A machine: the last byte of its addresses.
#[derive(Clone, Copy, Debug)]
struct Machine(u8);

const RELAYS: [Machine; 3] = [Machine(11), Machine(12), Machine(13)];
const NATS: [Machine; 2] = [Machine(21), Machine(22)];

/// The namespaces and the bridges between them, which are gone when this is dropped.
struct Networks {
    /// Begins all names, so that two runs do not get into each other's way.
    prefix: String,
}

impl Networks {
    /// Four networks for three relays and two NATS servers.
    fn new() -> Self {
        // The kernel removes a namespace when the last process in it has ended, so names must not repeat.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 10;
        let networks = Self { prefix: format!("t{}{number}", std::process::id() % 100_000) };
        for net in [Net::Pages, Net::Bus, Net::Links, Net::Routes] {
            ip(&["link", "add", &networks.bridge(net), "type", "bridge"]);
            ip(&["link", "set", &networks.bridge(net), "up"]);
        }
        let own = format!("{}/24", address(Net::Pages, Machine(1)));
        ip(&["address", "add", &own, "dev", &networks.bridge(Net::Pages)]);
        for machine in RELAYS {
            networks.add(machine, &[Net::Pages, Net::Bus, Net::Links]);
        }
        for machine in NATS {
            networks.add(machine, &[Net::Bus, Net::Routes]);
        }
        networks
    }

    fn add(&self, machine: Machine, nets: &[Net]) {
        let namespace = self.namespace(machine);
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        for &net in nets {
            let (outer, inner) = (self.cable(net, machine), format!("eth{}", net as u8));
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &namespace]);
            ip(&["link", "set", &outer, "master", &self.bridge(net), "up"]);
            let address = format!("{}/24", address(net, machine));
            ip(&["-n", &namespace, "address", "add", &address, "dev", &inner]);
            ip(&["-n", &namespace, "link", "set", &inner, "up"]);
        }
    }

    /// Pulls a machine's cable to a network: what is sent is lost, and nobody is told.
    fn pull(&self, net: Net, machine: Machine) {
        ip(&["link", "set", &self.cable(net, machine), "down"]);
    }

    fn plug(&self, net: Net, machine: Machine) {
        ip(&["link", "set", &self.cable(net, machine), "up"]);
    }

    fn bridge(&self, net: Net) -> String {
        format!("{}b{}", self.prefix, net as u8)
    }

    fn cable(&self, net: Net, machine: Machine) -> String {
        format!("{}n{}m{}", self.prefix, net as u8, machine.0)
    }

    fn namespace(&self, machine: Machine) -> String {
        format!("{}m{}", self.prefix, machine.0)
    }

    async fn cluster(&self) -> Cluster {
        let place = |machine, pages, links| Place {
            namespace: Some(self.namespace(machine)),
            pages: address(pages, machine),
            bus: address(Net::Bus, machine),
            links: address(links, machine),
        };
        let relays = RELAYS.map(|machine| place(machine, Net::Pages, Net::Links));
        let nats = NATS.map(|machine| place(machine, Net::Bus, Net::Routes));
        Cluster::start_at(relays, nats, &[]).await
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        // Parts that are gone already, or were never made, are no fault here.
        let ip = |arguments: &[&str]| drop(Command::new("ip").args(arguments).output());
        for machine in RELAYS.into_iter().chain(NATS) {
            for net in [Net::Pages, Net::Bus, Net::Links, Net::Routes] {
                ip(&["link", "delete", &self.cable(net, machine)]);
            }
            ip(&["netns", "delete", &self.namespace(machine)]);
        }
        for net in [Net::Pages, Net::Bus, Net::Links, Net::Routes] {
            ip(&["link", "delete", &self.bridge(net)]);
        }
    }
}

fn address(net: Net, machine: Machine) -> IpAddr {
    Ipv4Addr::new(10, 213, net as u8, machine.0).into()
}

/// Runs `ip`, which is there on Linux, and which only root may do this with.
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip, of iproute2, is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {} (are you root?): {said}", arguments.join(" "));
}

#[tokio::test]
#[ignore = "takes a minute, and root: cargo xtask cluster --prove"]
async fn an_owners_machine_vanishes() {
    let networks = Networks::new();
    let mut cluster = networks.cluster().await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    for net in [Net::Pages, Net::Bus, Net::Links] {
        networks.pull(net, RELAYS[0]);
    }
    advance(&mut pairs, AFTER).await;
    // Not before: nobody is to be told by a reset.
    cluster.relays[0].kill().await;
    end("owner's machine vanished", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute, and root: cargo xtask cluster --prove"]
async fn an_entrys_machine_vanishes() {
    let networks = Networks::new();
    let mut cluster = networks.cluster().await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    for net in [Net::Pages, Net::Bus, Net::Links] {
        networks.pull(net, RELAYS[1]);
    }
    advance(&mut pairs, AFTER).await;
    cluster.relays[1].kill().await;
    end("entry's machine vanished", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute, and root: cargo xtask cluster --prove"]
async fn the_owner_is_cut_off_from_the_bus_for_30_seconds() {
    let networks = Networks::new();
    let cluster = networks.cluster().await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    networks.pull(Net::Bus, RELAYS[0]);
    pass(10).await;
    advance(&mut pairs, AFTER).await;
    pass(20).await;
    networks.plug(Net::Bus, RELAYS[0]);
    let began = tokio::time::Instant::now();
    cluster.talk(100).end(10).await;
    println!("a server was found {:.2} s after its relay was back on the bus", began.elapsed().as_secs_f64());
    cluster.settled().await;
    let talks = end("owner cut off from the bus for 30 s", pairs).await;
    assert!(talks.iter().all(|talk| talk.interrupted == 0), "what is open needs no bus");
}

#[tokio::test]
#[ignore = "takes a minute, and root: cargo xtask cluster --prove"]
async fn relays_are_cut_off_from_each_other_for_30_seconds() {
    let networks = Networks::new();
    let cluster = networks.cluster().await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    networks.pull(Net::Links, RELAYS[0]);
    pass(30).await;
    networks.plug(Net::Links, RELAYS[0]);
    advance(&mut pairs, AFTER).await;
    cluster.settled().await;
    end("relays cut off from each other for 30 s", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute, and root: cargo xtask cluster --prove"]
async fn nats_servers_are_cut_off_from_each_other_for_30_seconds() {
    let networks = Networks::new();
    let cluster = networks.cluster().await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    networks.pull(Net::Routes, NATS[0]);
    pass(30).await;
    advance(&mut pairs, AFTER).await;
    networks.plug(Net::Routes, NATS[0]);
    cluster.settled().await;
    let talks = end("NATS servers cut off from each other for 30 s", pairs).await;
    assert!(talks.iter().all(|talk| talk.interrupted == 0), "what is open needs no bus");
}
