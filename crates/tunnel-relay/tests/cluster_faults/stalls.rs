//! Networks that break between some of the processes, as proxies that stall: the faults of `partitions.rs` on any machine, for any user, and with
//! pages and relays that notice sooner.

use super::support::cluster::Cluster;
use super::{MESSAGES, QUICK, end, pairs};

/// Relays notice soon that another one is silent, or that they are cut off.
fn quick() -> Vec<&'static str> {
    [QUICK, &["--cluster-lost-after=2s"]].concat()
}

#[tokio::test]
async fn an_owner_whose_networks_all_break_costs_a_reconnect_and_no_message() {
    let cluster = Cluster::start_in_networks(&quick()).await;
    let mut pairs = pairs(&cluster, 2).await;
    let networks = cluster.relays[0].networks();
    networks.pages.break_off();
    networks.links.break_off();
    networks.break_bus();
    for pair in &mut pairs {
        pair.allow(MESSAGES - 10);
        pair.reach(MESSAGES - 10).await;
    }
    // It wakes up to a registration that is newer than its own.
    networks.pages.mend();
    networks.links.mend();
    networks.mend_bus();
    cluster.settled().await;
    cluster.relays[0].has("tunnel_relay_registrations", |held| held == 0.0).await;
    for talk in end(pairs).await {
        assert!(!talk.resumed.is_empty(), "{talk:?}");
    }
}

#[tokio::test]
async fn pairs_do_not_notice_that_the_owner_is_cut_off_from_the_bus_and_its_servers_are_found_again_after_it()
{
    let cluster = Cluster::start_in_networks(&quick()).await;
    let mut pairs = pairs(&cluster, 2).await;
    let owner = &cluster.relays[0];
    owner.networks().break_bus();
    owner.has("tunnel_relay_cluster_connected", |connected| connected == 0.0).await;
    let heard = "tunnel_relay_cluster_nodes{state=\"lost\"}";
    cluster.relays[1].has(heard, |lost| lost == 1.0).await;
    for pair in &mut pairs {
        pair.allow(MESSAGES - 10);
        pair.reach(MESSAGES - 10).await;
    }
    // Nobody is told that a server of the owner's is not there: its client waits until it is.
    let mut newcomers = cluster.talk(100);
    newcomers.allow(10);
    owner.networks().mend_bus();
    newcomers.reach(10).await;
    newcomers.end(10).await;
    cluster.settled().await;
    for talk in end(pairs).await {
        assert_eq!(talk.interrupted, 0, "what is open needs no bus: {talk:?}");
    }
}

#[tokio::test]
async fn pairs_go_on_when_the_relays_reach_each_other_again() {
    let cluster = Cluster::start_in_networks(&quick()).await;
    let mut pairs = pairs(&cluster, 2).await;
    for relay in &cluster.relays {
        relay.networks().links.break_off();
    }
    // The node link from the entry to the owner is given up.
    let links = "tunnel_relay_cluster_node_links";
    cluster.relays[1].has(links, |open| open == 0.0).await;
    for relay in &cluster.relays {
        relay.networks().links.mend();
    }
    for pair in &mut pairs {
        pair.allow(MESSAGES - 10);
        pair.reach(MESSAGES - 10).await;
    }
    for [server, client] in end(pairs).await.as_chunks().0 {
        assert!(!client.resumed.is_empty(), "{server:?} {client:?}");
    }
}
