//! The demo page, used as people use it.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tunnel_e2e::{Look, Stage, Tab, Width, on_stage};

const ENTER: &str = "\u{e007}";

/// Opens the page, names its person and hosts a room; returns the link to it too.
async fn host<'a>(stage: &'a Stage, person: &str) -> Result<(Tab<'a>, String)> {
    let host = stage.tab_at("host", &stage.relay()?.page("/")).await?;
    host.dress(Width::Desktop, Look::Light).await?;
    host.until("the start page shows", "document.body.dataset.view === 'landing'").await?;
    host.fill("#name-input", person).await?;
    host.screenshot("demo start desktop light").await?;
    let link = press_host(&host).await?;
    Ok((host, link))
}

async fn press_host(host: &Tab<'_>) -> Result<String> {
    host.click("#host-button").await?;
    let link = host
        .until(
            "the host gets a link",
            "document.body.dataset.view === 'room' && document.querySelector('#share-link').href.includes('#') \
             && document.querySelector('#share-link').href",
        )
        .await
        .context("hosting a room")?;
    Ok(link.as_str().unwrap_or_default().to_owned())
}

/// Opens the link of a room in another tab.
async fn guest<'a>(stage: &'a Stage, link: &str) -> Result<Tab<'a>> {
    let guest = stage.tab_at("guest", link).await?;
    guest.until("the guest is in", "document.querySelector('#status').dataset.phase === 'open'").await?;
    Ok(guest)
}

/// Waits until the chat of this tab shows `text` as what `author` said.
async fn hears(tab: &Tab<'_>, text: &str) -> Result<()> {
    let expression = format!(
        "[...document.querySelectorAll('#chat-log .said:not(.pending) p')].some(p => p.textContent === {})",
        json!(text)
    );
    tab.until(&format!("{text:?} shows"), &expression).await.map(drop)
}

/// Waits until the one file of that name has arrived and its digest was found right, saves it and returns the content.
async fn received(stage: &Stage, tab: &Tab<'_>, name: &str) -> Result<Vec<u8>> {
    let script = "
        const item = () => [...document.querySelectorAll('#files li')].find(li => li.textContent.includes(given))
        while (item()?.dataset.state !== 'done' || !item().querySelector('a[download]')) {
          if (item()?.dataset.state === 'failed') throw new Error(item().textContent)
          await new Promise(resolve => setTimeout(resolve, 50))
        }
        if (item().querySelector('.bad, .warn')) throw new Error(item().textContent)
        if (!item().textContent.includes('SHA-256')) throw new Error(item().textContent)";
    tab.run_within(Duration::from_secs(60), json!(name), script).await?;
    tab.click(&format!("#files a[download='{name}']")).await?;
    stage.downloaded(name).await
}

#[test]
fn two_people_meet_by_a_link_chat_and_send_files_both_ways() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        assert_eq!(
            host.run("return document.querySelectorAll('#qr svg').length").await?,
            json!(1),
            "a QR code"
        );
        let guest = guest(stage, &link).await?;
        let two = "document.querySelectorAll('#peers li').length === 2";
        host.until("the host sees two people", two).await?;
        guest.until("the guest sees two people", two).await?;
        for tab in [&host, &guest] {
            tab.until("it is encrypted", "document.querySelector('#encryption').dataset.encrypted === 'yes'")
                .await?;
        }

        guest.type_into("#chat-input", &format!("Hello from the other tab{ENTER}")).await?;
        hears(&host, "Hello from the other tab").await?;
        host.type_into("#chat-input", "Good to see you, tab").await?;
        host.click("#chat-send").await?;
        hears(&guest, "Good to see you, tab").await?;
        hears(&host, "Good to see you, tab").await?;

        // The guest picks a file, the host drops one on the page.
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("holiday.bin");
        let content = (0..5_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect::<Vec<_>>();
        std::fs::write(&path, &content)?;
        guest.type_into("#file-input", &path.to_string_lossy()).await?;
        assert!(received(stage, &host, "holiday.bin").await? == content, "the file is the same");
        let dropped = "
            const transfer = new DataTransfer()
            transfer.items.add(new File(['dropped on the page'], 'note.txt', { type: 'text/plain' }))
            for (const type of ['dragenter', 'dragover', 'drop']) {
              document.body.dispatchEvent(
                new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }))
            }";
        host.run(dropped).await?;
        assert_eq!(received(stage, &guest, "note.txt").await?, b"dropped on the page");

        for (tab, who) in [(&host, "host"), (&guest, "guest")] {
            for (width, look, how) in [
                (Width::Desktop, Look::Light, "desktop light"),
                (Width::Desktop, Look::Dark, "desktop dark"),
                (Width::Phone, Look::Light, "phone light"),
                (Width::Phone, Look::Dark, "phone dark"),
            ] {
                tab.dress(width, look).await?;
                tab.screenshot(&format!("demo {who} {how}")).await?;
                let overflow =
                    "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
                assert_eq!(
                    tab.run(overflow).await?,
                    json!(0),
                    "{who}, {how}: nothing sticks out at the side"
                );
            }
        }
        for tab in [&host, &guest] {
            let complaints: Vec<_> =
                tab.console().await?.into_iter().filter(|line| line.starts_with("SEVERE")).collect();
            assert!(complaints.is_empty(), "{complaints:?}");
        }
        Ok(())
    });
}

#[test]
fn guests_are_told_that_the_host_has_gone_and_the_host_that_a_guest_has() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        let stays = guest(stage, &link).await?;
        let leaves = guest(stage, &link).await?;
        host.until("three people", "document.querySelectorAll('#peers li').length === 3").await?;
        leaves.close().await?;
        host.until("two are left", "document.querySelectorAll('#peers li').length === 2").await?;
        host.close().await?;
        stays
            .until("the guest sees the end", "document.querySelector('#status').dataset.phase === 'closed'")
            .await?;
        let notice = stays
            .until("there is a notice", "document.querySelector('#closed:not([hidden])')?.innerText")
            .await?;
        assert!(notice.as_str().is_some_and(|text| text.contains("host")), "{notice}");
        Ok(())
    });
}

#[test]
fn a_host_that_reloads_opens_the_room_of_the_same_link_again() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        guest(stage, &link).await?.close().await?;

        host.reload().await?;
        host.until("the start page shows", "document.body.dataset.view === 'landing'").await?;

        assert_eq!(press_host(&host).await?, link);
        guest(stage, &link).await?;
        Ok(())
    });
}

#[test]
fn a_link_to_a_room_that_is_gone_says_so() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        host.close().await?;
        let late = stage.tab_at("late", &link).await?;
        let closed = "document.querySelector('#status').dataset.phase === 'closed'";
        late.run_within(
            Duration::from_secs(60),
            Value::Null,
            &format!("while (!({closed})) await new Promise(resolve => setTimeout(resolve, 50))"),
        )
        .await?;
        let notice = late.text_of("return document.querySelector('#closed').innerText").await?;
        assert!(notice.contains("Nobody is hosting this room"), "{notice}");
        Ok(())
    });
}
