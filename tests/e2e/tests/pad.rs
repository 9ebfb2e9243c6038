//! The shared editor, used by two people.

use anyhow::Result;
use serde_json::json;
use tunnel_e2e::{Relay, Stage, Tab, on_stage};

/// The text of the editor, without the names at the cursors of others.
const TEXT: &str = "[...document.querySelectorAll('.cm-line')].map(line => {
  const copy = line.cloneNode(true)
  for (const cursor of copy.querySelectorAll('.cm-ySelectionCaret')) cursor.remove()
  return copy.textContent
}).join('\\n')";

/// Opens a pad; returns the host's tab and the link.
async fn host<'a>(stage: &'a Stage, relay: &Relay) -> Result<(Tab<'a>, String)> {
    let host = stage.tab_at("host", &relay.page("/pad/")).await?;
    host.until("the pad is open", "document.body.dataset.state === 'open'").await?;
    let link = host.text_of("return document.querySelector('#link').href").await?;
    Ok((host, link))
}

async fn guest<'a>(stage: &'a Stage, link: &str) -> Result<Tab<'a>> {
    let guest = stage.tab_at("guest", link).await?;
    is_in(&guest).await?;
    Ok(guest)
}

async fn is_in(tab: &Tab<'_>) -> Result<()> {
    let here = "document.body.dataset.state === 'open' && document.querySelectorAll('#files li').length >= 3";
    tab.until("the files are here", here).await.map(drop)
}

/// Opens a file and writes at its end.
async fn write(tab: &Tab<'_>, file: &str, text: &str) -> Result<()> {
    tab.click(&format!("[data-file='{file}']")).await?;
    // Ctrl and End, then the text on a line of its own.
    tab.type_into(".cm-content", &format!("\u{e009}\u{e010}\u{e009}\n{text}")).await
}

async fn reads(tab: &Tab<'_>, file: &str, text: &str) -> Result<()> {
    if tab.run("return document.querySelector('[data-file][aria-current]').dataset.file").await? != file {
        tab.click(&format!("[data-file='{file}']")).await?;
    }
    tab.until(&format!("{text:?} is in {file}"), &format!("{TEXT}.includes({})", json!(text))).await.map(drop)
}

#[test]
fn two_people_write_in_the_same_files_and_lose_nothing_over_reloads_and_a_relay_that_is_killed() {
    on_stage(async |stage| {
        let mut relay = Relay::start(&[])?;
        let (host, link) = host(stage, &relay).await?;
        let guest = guest(stage, &link).await?;
        write(&host, "app.js", "// the host").await?;
        reads(&guest, "app.js", "// the host").await?;
        write(&guest, "app.js", "// the guest").await?;
        reads(&host, "app.js", "// the guest").await?;

        relay.kill()?;
        guest.until("the guest hears of it", "document.body.dataset.state === 'reconnecting'").await?;
        write(&guest, "style.css", "/* the guest, without a relay */").await?;
        write(&host, "style.css", "/* the host, without a relay */").await?;
        relay.restart()?;
        reads(&host, "style.css", "/* the guest, without a relay */").await?;
        reads(&guest, "style.css", "/* the host, without a relay */").await?;

        host.reload().await?;
        write(&guest, "app.js", "// while the host is away").await?;
        is_in(&host).await?;
        reads(&host, "app.js", "// while the host is away").await?;
        reads(&host, "style.css", "/* the host, without a relay */").await?;
        assert_eq!(host.text_of("return document.querySelector('#link').href").await?, link, "the link");
        write(&host, "app.js", "// back again").await?;
        reads(&guest, "app.js", "// back again").await?;

        guest.reload().await?;
        is_in(&guest).await?;
        for text in ["// the host", "// the guest", "// while the host is away", "// back again"] {
            reads(&guest, "app.js", text).await?;
        }
        host.until("both are listed", "document.querySelectorAll('#people li').length === 2").await?;
        let (ours, theirs) =
            (host.run(&format!("return {TEXT}")).await?, guest.run(&format!("return {TEXT}")).await?);
        assert_eq!(ours, theirs, "app.js in both tabs");
        Ok(())
    });
}

#[test]
fn cursors_have_names_people_can_be_followed_and_the_preview_shows_the_files() {
    on_stage(async |stage| {
        let (host, link) = host(stage, stage.relay()?).await?;
        let guest = guest(stage, &link).await?;
        // All of it is replaced: a field that is emptied and left gets a new name.
        guest.type_into("#name", "\u{e009}a\u{e009}Grace\u{e007}").await?;
        write(&guest, "index.html", "<p>Written by the guest</p>").await?;
        host.click("[data-file='index.html']").await?;
        host.until("her cursor", "document.querySelector('.cm-ySelectionInfo')?.textContent === 'Grace'")
            .await?;
        host.until(
            "what she does",
            "document.querySelector('[data-person=Grace] small').textContent.includes('index.html')",
        )
        .await?;
        host.until_in_frame("#preview", "document.body?.textContent.includes('Written by the guest')")
            .await?;
        let reach = "try { return parent.document.title } catch (error) { return error.name }";
        assert_eq!(
            host.run_in_frame("#preview", reach).await?,
            "SecurityError",
            "the preview has an origin of its own"
        );

        guest.click("[data-file='style.css']").await?;
        host.click("[data-person=Grace] button").await?;
        let follows = "document.querySelector('[data-file][aria-current]').dataset.file === 'style.css'";
        host.until("the host's editor follows", follows).await?;
        Ok(())
    });
}

#[test]
fn files_are_made_renamed_deleted_and_taken_home_by_keyboard() {
    on_stage(async |stage| {
        let (host, link) = host(stage, stage.relay()?).await?;
        let guest = guest(stage, &link).await?;
        let focus = "document.querySelector(given).focus()";
        host.run_with(json!("#new-file"), focus).await?;
        host.press("\u{e007}").await?;
        host.until("it asks", "document.querySelector('#ask').open").await?;
        host.press("app.js\u{e007}").await?;
        host.until(
            "it says why not",
            "document.querySelector('#ask-problem').textContent.includes('There is a file')",
        )
        .await?;
        host.fill("#ask-name", "notes.md\u{e007}").await?;
        guest.until("the guest has it", "document.querySelector('[data-file=\"notes.md\"]')").await?;
        write(&guest, "notes.md", "# Notes").await?;
        reads(&host, "notes.md", "# Notes").await?;
        host.run_with(json!("#rename-file"), focus).await?;
        host.press("\u{e007}").await?;
        host.fill("#ask-name", "readme.md\u{e007}").await?;
        guest.until("its new name", "document.querySelector('[data-file=\"readme.md\"]')").await?;
        reads(&guest, "readme.md", "# Notes").await?;
        guest.run_with(json!("[data-file='style.css']"), focus).await?;
        guest.press("\u{e007}").await?;
        guest.run_with(json!("#delete-file"), focus).await?;
        guest.press("\u{e007}").await?;
        guest.until("it asks", "document.querySelector('#ask').open").await?;
        guest.click("#ask-yes").await?;
        host.until("it is gone", "!document.querySelector('[data-file=\"style.css\"]')").await?;
        host.click("#download").await?;
        let archive = stage.downloaded("pad.zip").await?;
        assert!(archive.starts_with(b"PK"), "a zip archive");
        for name in ["app.js", "index.html", "readme.md"] {
            assert!(archive.windows(name.len()).any(|part| part == name.as_bytes()), "{name} is in it");
        }
        Ok(())
    });
}
