//! The pages of the site over plain HTTP from another machine, as `cargo xtask demo --lan` serves them: contexts that are not secure.

use anyhow::Result;
use serde_json::json;
use tunnel_e2e::{Engine, Relay, Tab, on_stage};

/// Presses a button that copies, and waits until it says that it did.
async fn copies(tab: &Tab<'_>, button: &str) -> Result<()> {
    tab.click(button).await?;
    let said = format!("document.querySelector({}).textContent.includes('Copied')", json!(button));
    tab.until("it is copied", &said).await.map(drop)
}

#[test]
fn the_pages_work_without_a_secure_context() {
    if Engine::wanted().expect("an engine") != Engine::Chromium {
        // Only Chromium can be told that a name is this machine's.
        return;
    }
    on_stage(async |stage| {
        let relay = Relay::start(&["--hosts", "pages.test"])?;
        let page = |path: &str| format!("http://pages.test:{}{path}", relay.address().unwrap().port());
        let home = stage.tab_at("start page", &page("/")).await?;
        assert_eq!(home.run("return isSecureContext").await?, json!(false));
        home.until("the proof runs", "document.querySelector('#proof').dataset.state === 'open'").await?;
        copies(&home, "article.card header button").await?;

        let pad = stage.tab_at("pad", &page("/pad/")).await?;
        pad.until("the pad is open", "document.body.dataset.state === 'open'").await?;
        copies(&pad, "#copy").await?;
        let link = pad.text_of("return document.querySelector('#link').href").await?;
        let guest = stage.tab_at("guest of the pad", &link).await?;
        guest.until("the files are here", "document.querySelectorAll('#files li').length >= 3").await?;
        guest.type_into(".cm-content", "hello from the guest").await?;
        pad.until("the text is here", "document.body.innerText.includes('hello from the guest')").await?;

        let room = stage.tab_at("room", &page("/room/")).await?;
        room.click("#host-button").await?;
        room.until("the room is open", "document.querySelector('#status').dataset.phase === 'open'").await?;
        copies(&room, "#copy-button").await?;
        let link = room.text_of("return document.querySelector('#share-link').href").await?;
        let guest = stage.tab_at("guest of the room", &link).await?;
        guest.until("it is in", "document.querySelector('#status').dataset.phase === 'open'").await?;
        guest.type_into("#chat-input", "good evening\u{e007}").await?;
        room.until("it is heard", "document.querySelector('#chat-log').innerText.includes('good evening')")
            .await?;

        let board = stage.tab_at("board", &page("/play/")).await?;
        board.until("the board is open", "document.body.dataset.state === 'open'").await?;
        let link = board.text_of("return document.querySelector('#link').href").await?;
        let player = stage.tab_at("player", &link).await?;
        player.until("the player is in", "document.body.dataset.state === 'open'").await?;

        let terminal = stage.tab_at("terminal", &page("/terminal/")).await?;
        terminal.until("it is ready", "document.body.dataset.state === 'ready'").await?;
        let measure = stage.tab_at("measure", &page("/measure/")).await?;
        measure.until("it can run", "!document.querySelector('#run').disabled").await?;

        let serve = stage.tab_at("serve", &page("/serve/")).await?;
        serve
            .until("it takes files", "document.querySelector('#site').dataset.state === 'empty'")
            .await
            .map(drop)
    });
}
