//! `tunnel ping`: the way to a peer, measured.

use crate::arguments::Ping;
use crate::connect::Way;
use crate::failure::Failure;
use crate::report::Report;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use std::time::{Duration, Instant};
use tunnel_wasm::{Error, Message, Socket};

/// Each message comes back. `tunnel listen` speaks it beside streams, without connecting to its target.
pub(crate) const SUBPROTOCOL: &str = "tunnel.ping.v1";

/// Bytes of a ping: its number.
const LEN: usize = 8;

pub(crate) async fn run(arguments: Ping, report: Report) -> Result<(), Failure> {
    let way = Way::to(arguments.target, arguments.identity.as_deref(), &arguments.patience)?;
    let started = Instant::now();
    let mut socket = way.connect(SUBPROTOCOL, "").await?;
    let opened = started.elapsed();
    let remote = socket.remote().clone();
    let address = remote.address.as_deref().map_or_else(String::new, |address| format!(", at {address}"));
    report.event(
        "open",
        &format!(
            "{}: open after {:.1} ms, through {}{address}; encrypted end to end, its key is proven",
            way.target,
            milliseconds(opened),
            way.settings.relay
        ),
        json!({ "target": way.target.to_string(), "relay": way.settings.relay, "ms": milliseconds(opened), "address": remote.address }),
    );
    if socket.protocol() != SUBPROTOCOL {
        socket.close(tunnel_wasm::CloseCode::NORMAL, "");
        report.event(
            "no-echo",
            "the peer's port does not answer pings: only the opening was measured",
            json!({}),
        );
        report.result(
            &format!("open {:.1} ms", milliseconds(opened)),
            &json!({ "event": "done", "open_ms": milliseconds(opened), "round_trips_ms": [] }),
        );
        return Ok(());
    }
    let mut times = Vec::new();
    for number in 0..arguments.count {
        if number > 0 {
            tokio::time::sleep(arguments.interval).await;
        }
        let ping = Bytes::copy_from_slice(&u64::from(number).to_be_bytes());
        let sent = Instant::now();
        socket.send(Message::Binary(ping.clone())).await?;
        match socket.next().await {
            Some(Ok(Message::Binary(pong))) if pong == ping => {}
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(_)) => {
                return Err(Failure::Remote(
                    "the peer answered with something else than the ping".to_owned(),
                ));
            }
            None => return Err(Failure::Remote("the peer ended the socket".to_owned())),
        }
        let time = milliseconds(sent.elapsed());
        times.push(time);
        report.event("pong", &format!("{number}: {time:.2} ms"), json!({ "number": number, "ms": time }));
    }
    socket.close(tunnel_wasm::CloseCode::NORMAL, "");
    let (least, most) = times
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), time| (least.min(*time), most.max(*time)));
    let mean = times.iter().sum::<f64>() / f64::from(arguments.count);
    report.result(
        &format!("round trip min/avg/max {least:.2}/{mean:.2}/{most:.2} ms"),
        &json!({ "event": "done", "open_ms": milliseconds(opened), "round_trips_ms": times }),
    );
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Sends pings back, as long as they are pings.
pub(crate) async fn answer(mut socket: Socket) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.len() > LEN {
            socket.close(tunnel_wasm::CloseCode(4400), "a ping has 8 bytes");
            return Ok(());
        }
        socket.send(message).await?;
    }
    Ok(())
}
