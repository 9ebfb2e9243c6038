//! Measures what forwarding costs the relay and others, run by `cargo xtask bench relay`. Linux only.
//!
//! The contestants come as JSON on standard input, the figures go as JSON to standard output. Each contestant is a
//! process of its own, and its CPU time and memory are that process's. They take turns, round by round.

#![allow(clippy::unwrap_used, reason = "a measurement that can't go on had better stop")]
#![allow(unreachable_pub, reason = "a program has no API")]

mod cluster;
mod floor;
mod idle;
mod iroh;
mod measure;
mod server;
mod wire;

use serde_json::{Map, Value, json};
use server::Server;
use wire::Wire;

/// Descriptors that a process needs beside its connections.
const SPARE_DESCRIPTORS: u64 = 200;

struct Contestant {
    name: String,
    wire: Wire,
    command: Vec<String>,
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("splice") => return floor::splice(),
        Some("greet") => return floor::greet(),
        _ => {}
    }
    let plan: Value = serde_json::from_reader(std::io::stdin()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let contestants: Vec<_> = plan["contestants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| Contestant {
            name: text(&value["name"]),
            wire: Wire::named(&text(&value["wire"])),
            command: value["command"].as_array().unwrap().iter().map(text).collect(),
        })
        .collect();
    let cases: Vec<(usize, usize)> = serde_json::from_value(plan["cases"].clone()).unwrap();
    // The parts that are to be measured; all if none is named.
    let parts: Option<Vec<String>> = serde_json::from_value(plan["parts"].clone()).unwrap();
    let wanted = |part: &str| parts.as_ref().is_none_or(|parts| parts.iter().any(|wanted| wanted == part));
    let rounds = plan["rounds"].as_u64().unwrap();
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap();

    let results: Vec<Value> = (0..rounds)
        .map(|round| {
            if rounds > 1 {
                eprintln!("round {} of {rounds}", round + 1);
            }
            let mut result = Map::new();
            for contestant in &contestants {
                result.insert(contestant.name.clone(), json!({}));
            }
            // Case by case, so that the figures that are divided by each other are taken close together.
            for &(size, batch) in cases.iter().filter(|_| wanted("forward")) {
                for contestant in &contestants {
                    let server = Server::start(&contestant.command, &[]);
                    result[&contestant.name][format!("{size}x{batch}")] =
                        measure::forward(&server, contestant.wire, 1, size, batch);
                }
            }
            for contestant in &contestants {
                if wanted("connections") {
                    let server = Server::start(&contestant.command, &[]);
                    result[&contestant.name]["connections"] = measure::connections(&server, contestant.wire);
                }
                if contestant.wire == Wire::Tunnel {
                    if wanted("connections") {
                        let server = Server::start(&[text(&plan["load"]), "greet".to_owned()], &[]);
                        result[&contestant.name]["connections"]["setUpFloorMicros"] =
                            json!(measure::set_up(&server, contestant.wire).0);
                    }
                    if wanted("fairness") {
                        let server = Server::start(&contestant.command, &[]);
                        result[&contestant.name]["fairness"] = measure::fairness(&server);
                    }
                    for threads in ["1", "2"].into_iter().filter(|_| wanted("cores")) {
                        let server = Server::start(&contestant.command, &[("TOKIO_WORKER_THREADS", threads)]);
                        result[&contestant.name][format!("threads{threads}")] =
                            measure::parallel(&server, contestant.wire);
                    }
                }
            }
            Value::Object(result)
        })
        .collect();
    let held: Vec<Value> = contestants
        .iter()
        .filter(|contestant| contestant.wire == Wire::Tunnel && wanted("hold"))
        .map(|contestant| {
            eprintln!("many links at once");
            let links = descriptors.saturating_sub(SPARE_DESCRIPTORS).min(plan["links"].as_u64().unwrap());
            let clients = plan["clients"].as_u64().unwrap() as usize;
            let server = Server::start(&contestant.command, &[]);
            measure::hold(&server, links as usize, clients)
        })
        .collect();
    // It takes minutes: only for whoever asks for it by name.
    let idle = parts.as_ref().is_some_and(|parts| parts.iter().any(|part| part == "idle"));
    let idle = idle.then(|| {
        eprintln!("idle links");
        let tunnels: Vec<_> =
            contestants.iter().filter(|contestant| contestant.wire == Wire::Tunnel).collect();
        let servers: Vec<_> =
            tunnels.iter().map(|contestant| Server::start(&contestant.command, &[])).collect();
        let names = tunnels.iter().map(|contestant| contestant.name.clone());
        names.zip(idle::measure(&servers)).collect::<Map<_, _>>()
    });
    let commands: Option<[Vec<String>; 2]> = serde_json::from_value(plan["cluster"].clone()).unwrap();
    let clusters = commands.filter(|_| wanted("cluster")).map(|[relay, nats]| {
        (0..rounds)
            .map(|round| {
                eprintln!("two relays with one address space, {} of {rounds}", round + 1);
                cluster::measure(&relay, &nats)
            })
            .collect::<Vec<_>>()
    });
    println!("{}", json!({ "rounds": results, "held": held, "idle": idle, "clusters": clusters }));
}
