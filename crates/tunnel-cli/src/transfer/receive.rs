//! `tunnel receive`.

use super::{Ask, Begin, End, Got, Offer, SUBPROTOCOL, bar, confused, ended, hex, next, parse, text};
use crate::arguments::Receive;
use crate::connect::{Way, watch};
use crate::failure::Failure;
use crate::report::Report;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tunnel_wasm::{CloseCode, Message};

pub(crate) async fn run(arguments: Receive, report: Report) -> Result<(), Failure> {
    let way = Way::to(arguments.link.target, None, &arguments.patience)?;
    let mut socket = way.connect(SUBPROTOCOL, "").await?;
    watch(&socket, report.clone());
    socket.send(text(&Ask { secret: arguments.link.secret })).await?;
    let Offer { name, size } = next(&mut socket).await?;
    let path = place(arguments.output.as_deref(), &name).await?;
    if !arguments.force && fs::try_exists(&path).await.unwrap_or(false) {
        return Err(Failure::Local(format!(
            "{}: this file is there already: --force replaces it",
            path.display()
        )));
    }
    let part = with_suffix(&path, ".part");
    let kept = |error: io::Error| {
        Failure::Local(format!(
            "{}: {error}; what has arrived is kept: run the same command to go on",
            part.display()
        ))
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .await
        .map_err(kept)?;
    let mut hash = Sha256::new();
    let mut done = hash_part(&mut file, &mut hash, size).await.map_err(kept)?;
    if done > 0 {
        report.event(
            "resuming",
            &format!("{}: going on behind {done} bytes", part.display()),
            json!({ "from": done }),
        );
    }
    socket.send(text(&Begin { from: done })).await?;
    let bar = bar(report.draws(), size, done);
    let end = loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                done += bytes.len() as u64;
                if done > size {
                    return Err(confused());
                }
                hash.update(&bytes);
                file.write_all(&bytes).await.map_err(kept)?;
                bar.inc(bytes.len() as u64);
            }
            Some(Ok(Message::Text(text))) if done == size => break parse::<End>(&text)?,
            Some(Ok(_)) => return Err(confused()),
            Some(Err(error)) => {
                // The part stays for the next attempt.
                file.flush().await.map_err(kept)?;
                return Err(error.into());
            }
            None => return Err(ended(&socket).await),
        }
    };
    bar.finish();
    file.flush().await.map_err(kept)?;
    file.sync_all().await.map_err(kept)?;
    drop(file);
    let got = end.sha256 == hex(&hash.finalize());
    if got {
        fs::rename(&part, &path)
            .await
            .map_err(|error| Failure::Local(format!("{}: {error}", path.display())))?;
    } else {
        fs::remove_file(&part)
            .await
            .map_err(|error| Failure::Local(format!("{}: {error}", part.display())))?;
    }
    // Not flushed: the sender closes as soon as it has it.
    socket.feed(text(&Got { got })).await?;
    socket.close(CloseCode::NORMAL, "");
    socket.closed().await;
    if !got {
        let why = "the hash is wrong: the file changed between two attempts, and what had arrived is removed. Run the same command again";
        return Err(Failure::Remote(why.to_owned()));
    }
    report.result(
        &path.display().to_string(),
        &json!({ "event": "received", "file": path, "size": size, "sha256": end.sha256 }),
    );
    Ok(())
}

/// The file's place: the sender's name is believed only if it is a mere name.
async fn place(output: Option<&Path>, name: &str) -> Result<PathBuf, Failure> {
    let is_folder = match output {
        None => true,
        Some(path) => fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir()),
    };
    if !is_folder {
        return Ok(output.map(Path::to_owned).unwrap_or_default());
    }
    let is_mere = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control);
    if !is_mere {
        return Err(Failure::Remote(format!(
            "the sender's name for the file, {name:?}, is no mere name: give one with --output"
        )));
    }
    Ok(output.unwrap_or_else(|| Path::new("")).join(name))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Hashes what an earlier attempt has left; returns its length. More than the file has is dropped.
async fn hash_part(file: &mut File, hash: &mut Sha256, size: u64) -> io::Result<u64> {
    if file.metadata().await?.len() > size {
        file.set_len(0).await?;
    }
    file.rewind().await?;
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    loop {
        let len = file.read(&mut buffer).await?;
        if len == 0 {
            return Ok(done);
        }
        hash.update(&buffer[..len]);
        done += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_senders_name_never_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let within = Some(folder.path());
        assert_eq!(place(within, "a b.txt").await.unwrap(), folder.path().join("a b.txt"));
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".bashrc", "C:x", "a\nb"] {
            assert!(place(within, name).await.is_err(), "{name:?}");
            let own = folder.path().join("mine");
            assert_eq!(place(Some(&own), name).await.unwrap(), own, "a name of one's own is taken instead");
        }
    }
}
