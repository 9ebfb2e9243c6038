//! Pages of two relays with one address space.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tunnel_e2e::{Program, Relay, Tab, in_tests, on_stage};

use crate::demo::{hears, press_host};

/// Starts a NATS server; returns its URL, too.
fn nats() -> Result<(Program, String)> {
    let named = env::var_os("TUNNEL_NATS_SERVER").filter(|named| !named.is_empty());
    let program =
        named.map_or_else(|| in_tests("../.tools/nats/bin/nats-server"), |named| Ok(named.into()))?;
    ensure!(program.is_file(), "there is no {}: `cargo xtask setup` installs it", program.display());
    // It logs to standard error.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(program).args([
        "--addr",
        "127.0.0.1",
        "--port",
        "-1",
    ]);
    let (server, address) = Program::start(command, "Listening for client connections on ")?;
    Ok((server, format!("nats://{address}")))
}

/// Says something in the room at one tab, and waits until the other one shows it.
async fn says(speaker: &Tab<'_>, listener: &Tab<'_>, text: &str) -> Result<()> {
    speaker.run("document.querySelector('#chat-input').focus()").await?;
    speaker.press(&format!("{text}\u{e007}")).await?;
    hears(listener, text).await
}

#[test]
fn a_guest_at_another_relay_is_in_the_room_and_stays_in_it_when_either_relay_is_killed() {
    on_stage(async |stage| {
        let (_nats, bus) = nats()?;
        let folder = tempfile::tempdir()?;
        let settings = folder.path().join("relay.toml");
        fs::write(&settings, "cluster-secret = \"a secret that only these relays of the test know\"\n")?;
        let settings = settings.display().to_string();
        let relay = |node: &str| {
            Relay::start(&[
                "--config",
                &settings,
                "--cluster",
                &bus,
                "--cluster-listen",
                "127.0.0.1:0",
                "--node",
                node,
            ])
        };
        let (mut owner, mut entry) = (relay("owner")?, relay("entry")?);
        let host = stage.tab_at("host", &owner.page("/room/")).await?;
        host.until("the start page", "document.body.dataset.view === 'landing'").await?;
        let link = press_host(&host).await?;
        let elsewhere = link.replace(&owner.page("/"), &entry.page("/"));
        ensure!(link != elsewhere, "{link} is a page of the owner's");
        let guest = stage.tab_at("guest", &elsewhere).await?;
        let open = "document.querySelector('#status').dataset.phase === 'open' && document.querySelectorAll('#peers li').length === 2";
        guest.until("the guest is in", open).await?;
        says(&guest, &host, "through two relays").await?;
        says(&host, &guest, "and back").await?;

        for (relay, name) in [(&mut entry, "entry"), (&mut owner, "owner")] {
            relay.kill().with_context(|| name.to_owned())?;
            relay.restart()?;
            says(&guest, &host, &format!("over the loss of the {name}")).await?;
            says(&host, &guest, &format!("and back over that of the {name}")).await?;
        }
        Ok(())
    });
}
