//! The table of `cargo xtask cluster`: the relays, and who has which server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::member::{Knowledge, Member};

/// Most servers that are listed.
const MAX_SERVERS: usize = 20;

/// Length of what is shown of a server's ID: enough to tell servers apart, and too little to reach one.
const SHORT: usize = 8;

/// The columns of relays: heading, metric, and its labels if it has some.
const COLUMNS: [(&str, &str, &str); 7] = [
    ("bus", "tunnel_relay_cluster_connected", ""),
    ("relays heard", "tunnel_relay_cluster_nodes", "state=\"alive\""),
    ("lost", "tunnel_relay_cluster_nodes", "state=\"lost\""),
    ("links", "tunnel_relay_links", ""),
    ("servers", "tunnel_relay_registrations", ""),
    ("spliced out", "tunnel_relay_cluster_spliced_total", "role=\"entry\""),
    ("spliced in", "tunnel_relay_cluster_spliced_total", "role=\"owner\""),
];

/// The table as it is now.
pub(super) fn text(relays: &[Member], servers: &[Member]) -> String {
    let mut rows = vec![["relay", "for pages", "process"].map(str::to_owned).to_vec()];
    rows[0].extend(COLUMNS.map(|(heading, ..)| heading.to_owned()));
    for relay in relays {
        let address = relay.addresses.map_or_else(String::new, |(page, _)| format!("http://{page}/"));
        let mut row = vec![relay.name.clone(), address, process(relay)];
        let metrics = relay.metrics();
        row.extend(COLUMNS.map(|(_, name, labels)| {
            let figure = metrics.as_deref().and_then(|metrics| figure(metrics, name, labels));
            figure.map_or_else(|| "–".to_owned(), |figure| figure.to_string())
        }));
        rows.push(row);
    }
    let mut text = aligned(&rows);
    for server in servers {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}: {}", server.name, process(server));
    }
    text.push('\n');
    let known: Vec<_> = relays.iter().map(|relay| (relay.name.as_str(), relay.knowledge())).collect();
    text + &whereabouts(&known)
}

fn process(member: &Member) -> String {
    member.process().map_or_else(|| "ended".to_owned(), |process| process.to_string())
}

/// The value of a metric in Prometheus's text form; those with several sets of labels are told apart by one of them.
fn figure(metrics: &str, name: &str, labels: &str) -> Option<f64> {
    metrics.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (has, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        (labels.is_empty() || has.contains(labels)).then(|| value.trim().parse().ok())?
    })
}

/// The servers, their owners, and the relays whose clients have asked for them.
fn whereabouts(relays: &[(&str, Knowledge)]) -> String {
    let mut servers: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for (name, knowledge) in relays {
        for server in &knowledge.servers {
            servers.entry(server).or_default().0.insert(name);
        }
        for server in knowledge.found.keys() {
            servers.entry(server).or_default().1.insert(name);
        }
    }
    // One that no relay has any more is of no interest.
    servers.retain(|_, (owners, _)| !owners.is_empty());
    if servers.is_empty() {
        return "no servers yet\n".to_owned();
    }
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let mut rows = vec![["server", "owner", "entry"].map(str::to_owned).to_vec()];
    for (server, (owners, entries)) in servers.iter().take(MAX_SERVERS) {
        let short: String = server.chars().take(SHORT).collect();
        let entries: BTreeSet<_> = entries.difference(owners).copied().collect();
        rows.push(vec![short + "…", list(owners), list(&entries)]);
    }
    let mut text = aligned(&rows);
    if let Some(more) = servers.len().checked_sub(MAX_SERVERS).filter(|more| *more > 0) {
        // Writing to a text does not fail.
        let _ = writeln!(text, "and {more} more");
    }
    text
}

/// Columns as wide as their widest cell.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name_and_a_label() {
        let metrics =
            "# HELP links\nlinks_total 9\nlinks 4\nnodes{state=\"alive\"} 2\nnodes{state=\"lost\"} 1\n";
        assert_eq!(figure(metrics, "links", ""), Some(4.0));
        assert_eq!(figure(metrics, "nodes", "state=\"lost\""), Some(1.0));
        assert_eq!(figure(metrics, "node", ""), None);
    }

    #[test]
    fn a_server_is_shown_with_its_owner_and_those_who_asked_for_it_and_not_with_its_whole_id() {
        let knowledge = |servers: &[&str], found: &[&str]| Knowledge {
            servers: servers.iter().map(|id| (*id).to_owned()).collect(),
            found: found.iter().map(|id| ((*id).to_owned(), "a".to_owned())).collect(),
        };
        let relays = [
            ("a", knowledge(&["abcdefghijkl"], &["abcdefghijkl"])),
            ("b", knowledge(&[], &["abcdefghijkl", "gone"])),
        ];
        assert_eq!(whereabouts(&relays), "server     owner  entry\nabcdefgh…  a      b\n");
        assert_eq!(whereabouts(&[]), "no servers yet\n");
    }
}
