//! `tunnel send`.

use super::{Ask, Begin, CHUNK, End, Got, Offer, PORT, SUBPROTOCOL, bar, confused, hex, next, text};
use crate::arguments::Send;
use crate::failure::Failure;
use crate::listen;
use crate::report::Report;
use crate::settings::Settings;
use crate::target::{Link, Target};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tunnel_wasm::{CloseCode, Incoming, Message, Server, Socket};

/// A file on offer.
struct Offered {
    path: PathBuf,
    name: String,
    size: u64,
    secret: String,
    report: Report,
}

pub(crate) async fn run(arguments: Send, report: Report) -> Result<(), Failure> {
    let settings = Settings::read()?;
    let path = arguments.file;
    let failed = |error: std::io::Error| Failure::Local(format!("{}: {error}", path.display()));
    let metadata = tokio::fs::metadata(&path).await.map_err(failed)?;
    if !metadata.is_file() {
        return Err(Failure::Local(format!("{}: this is no file: pack a folder first", path.display())));
    }
    // A file that can't be read is known before anybody is told of it.
    drop(File::open(&path).await.map_err(failed)?);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file").to_owned();
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|error| Failure::Local(error.to_string()))?;
    let secret = hex(&secret);

    let builder = || Server::builder(settings.relay.clone()).token(settings.token.clone());
    let server = listen::host(builder, arguments.patience.timeout, &report).await?;
    let mut clients = server.listen(PORT)?;
    let link = Link { target: Target { id: *server.id(), port: PORT }, secret: secret.clone() };
    report.event(
        "offering",
        "whoever has this link may fetch the file, while this runs: tunnel receive …",
        json!({}),
    );
    report.result(
        &link.to_string(),
        &json!({ "event": "offering", "link": link.to_string(), "name": name, "size": metadata.len() }),
    );
    listen::watch(&server, report.clone());

    let offered = Arc::new(Offered { path, name, size: metadata.len(), secret, report });
    let (done, mut is_done) = mpsc::channel(1);
    loop {
        tokio::select! {
            client = clients.next() => {
                let Some(client) = client else { return Err(server.closed().await.into()) };
                let (offered, done) = (offered.clone(), done.clone());
                tokio::spawn(async move {
                    match offered.serve(client).await {
                        Ok(()) => {
                            offered.report.event("sent", "sent: the other side has the file, and its hash is right", json!({}));
                            let _others_did = done.try_send(());
                        }
                        Err(why) => {
                            let why = why.to_string();
                            offered.report.event("failed", &format!("not sent: {why}"), json!({ "error": why }));
                        }
                    }
                });
            }
            Some(()) = is_done.recv(), if !arguments.keep => break,
        }
    }
    server.close().await;
    Ok(())
}

impl Offered {
    async fn serve(&self, client: Incoming) -> Result<(), Failure> {
        if !client.protocols().iter().any(|offered| offered == SUBPROTOCOL) {
            client.refuse("here is a file: fetch it with `tunnel receive`");
            return Err(confused());
        }
        let mut socket = client.accept(SUBPROTOCOL).await?;
        let result = self.send(&mut socket).await;
        if let Err(error) = &result {
            socket.close(CloseCode(4400), &error.to_string());
            socket.closed().await;
        }
        result
    }

    async fn send(&self, socket: &mut Socket) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::Local(format!("{}: {error}", self.path.display()));
        let Ask { secret } = next(socket).await?;
        // Hashes, so that the time of comparing tells nothing of the secret.
        if Sha256::digest(secret.as_bytes()) != Sha256::digest(self.secret.as_bytes()) {
            return Err(Failure::Remote("the link's secret is wrong: copy the whole link".to_owned()));
        }
        socket.send(text(&Offer { name: self.name.clone(), size: self.size })).await?;
        let Begin { from } = next(socket).await?;
        if from > self.size {
            return Err(confused());
        }
        let mut file = File::open(&self.path).await.map_err(failed)?;
        let mut hash = Sha256::new();
        let bar = bar(self.report.draws(), self.size, from);
        let mut done = 0;
        let mut buffer = vec![0; CHUNK];
        while done < self.size {
            // The part that the receiver has already is only hashed.
            let end = if done < from { from } else { self.size };
            let want = CHUNK.min(usize::try_from(end - done).unwrap_or(CHUNK));
            let len = file.read(&mut buffer[..want]).await.map_err(failed)?;
            if len == 0 {
                return Err(Failure::Local(format!(
                    "{}: the file became shorter meanwhile",
                    self.path.display()
                )));
            }
            hash.update(&buffer[..len]);
            if done >= from {
                socket.send(Message::Binary(Bytes::copy_from_slice(&buffer[..len]))).await?;
                bar.inc(len as u64);
            }
            done += len as u64;
        }
        socket.send(text(&End { sha256: hex(&hash.finalize()) })).await?;
        let Got { got } = next(socket).await?;
        bar.finish();
        if !got {
            return Err(Failure::Remote(
                "the other side found another hash: the file changed meanwhile".to_owned(),
            ));
        }
        Socket::close(socket, CloseCode::NORMAL, "");
        Ok(())
    }
}
