//! The demo page, used as people use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tunnel_e2e::{Look, Relay, Stage, Tab, Width, Wiretap, on_stage};

/// Finds what is wider than the screen, or beside it.
const STICKS_OUT: &str = "
    return [...document.querySelectorAll('body, body *')]
      .filter(each => each.checkVisibility() && !each.closest('.unseen, svg, .packets'))
      .map(each => [each.tagName, each.id, each.getBoundingClientRect()])
      .filter(([, , { left, right }]) => left < -0.5 || right > given + 0.5)
      .map(([tag, id, { left, right }]) => `${tag}#${id}: ${left} to ${right} of ${given}`)";

/// People in the list that cannot be seen when they are scrolled to.
const COVERED: &str = "
    return [...document.querySelectorAll('#peers li')].filter(each => each.checkVisibility()).filter(each => {
      each.scrollIntoView({ block: 'nearest' })
      const { left, top, width, height } = each.getBoundingClientRect()
      return !each.contains(document.elementFromPoint(left + width / 2, top + height / 2))
    }).map(each => each.innerText)";

/// The least contrast of the texts of some elements with what is behind them, as WCAG computes it.
const CONTRAST: &str = "
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true })
    const luminance = layers => {
      canvas.clearRect(0, 0, 1, 1)
      for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1) }
      const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data]
        .map(each => each / 255).map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
    const found = [...document.querySelectorAll(given)]
    if (!found.length) throw new Error(`there is no ${given}`)
    return Math.min(...found.map(element => {
      const line = []
      for (let each = element; each; each = each.parentElement) line.unshift(getComputedStyle(each))
      const opacity = line.reduce((product, style) => product * style.opacity, 1)
      const behind = line.map(style => style.backgroundColor)
      const text = `color-mix(in srgb, ${line.at(-1).color} ${opacity * 100}%, transparent)`
      const [lighter, darker] = [luminance(behind), luminance([...behind, text])].sort((a, b) => b - a)
      return (lighter + 0.05) / (darker + 0.05)
    }))";

const ENTER: &str = "\u{e007}";

/// Opens the page, names its person and hosts a room; returns the link to it too.
async fn host<'a>(stage: &'a Stage, person: &str) -> Result<(Tab<'a>, String)> {
    let host = stage.tab_at("host", &stage.relay()?.page("/room/")).await?;
    host.dress(Width::Desktop, Look::Light).await?;
    host.until("the start page shows", "document.body.dataset.view === 'landing'").await?;
    host.fill("#name-input", person).await?;
    host.screenshot("demo start desktop light").await?;
    let link = press_host(&host).await?;
    Ok((host, link))
}

pub(crate) async fn press_host(host: &Tab<'_>) -> Result<String> {
    host.click("#host-button").await?;
    room_link(host).await.context("hosting a room")
}

async fn room_link(host: &Tab<'_>) -> Result<String> {
    let link = host
        .until(
            "the host gets a link",
            "document.body.dataset.view === 'room' && document.querySelector('#share-link').href.includes('#') \
             && document.querySelector('#share-link').href",
        )
        .await?;
    Ok(link.as_str().unwrap_or_default().to_owned())
}

/// Opens the link of a room in another tab.
async fn guest<'a>(stage: &'a Stage, link: &str) -> Result<Tab<'a>> {
    let guest = stage.tab_at("guest", link).await?;
    guest.until("the guest is in", "document.querySelector('#status').dataset.phase === 'open'").await?;
    Ok(guest)
}

/// Waits until the chat of this tab shows `text` as what `author` said.
pub(crate) async fn hears(tab: &Tab<'_>, text: &str) -> Result<()> {
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
            for (width, points, look, how) in [
                (Width::Desktop, 1280, Look::Light, "desktop light"),
                (Width::Desktop, 1280, Look::Dark, "desktop dark"),
                (Width::Phone, 390, Look::Light, "phone light"),
                (Width::Phone, 390, Look::Dark, "phone dark"),
            ] {
                tab.dress(width, look).await?;
                tab.screenshot(&format!("demo {who} {how}")).await?;
                assert_eq!(tab.run_with(json!(points), STICKS_OUT).await?, json!([]), "{who}, {how}");
            }
            for width in [320, 360, 768, 1024, 1600] {
                tab.dress(Width::Points(width), Look::Light).await?;
                for part in ["chat", "files", "room"] {
                    tab.run_with(json!(part), "document.querySelector(`.tabs [data-tab=${given}]`).click()")
                        .await?;
                    tab.screenshot(&format!("demo {who} {width} {part}")).await?;
                    let sticks_out = tab.run_with(json!(width), STICKS_OUT).await?;
                    assert_eq!(sticks_out, json!([]), "{who}, {width} points, {part}");
                    assert_eq!(tab.run(COVERED).await?, json!([]), "{who}, {width} points, {part}");
                }
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
        stays.until("the guest waits", "document.querySelector('#status').dataset.phase === 'away'").await?;
        let banner = stays.text_of("return document.querySelector('#away').innerText").await?;
        assert!(banner.contains("The host is away"), "{banner}");
        Ok(())
    });
}

#[test]
fn a_host_that_reloads_has_the_room_of_the_same_link_open_again_by_itself() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        guest(stage, &link).await?.close().await?;

        host.reload().await?;
        assert_eq!(room_link(&host).await?, link);
        guest(stage, &link).await?;
        Ok(())
    });
}

/// Returns what a tab says about the end of its room.
async fn notice(tab: &Tab<'_>) -> Result<String> {
    let notice =
        tab.until("there is a notice", "document.querySelector('#closed:not([hidden])')?.innerText").await?;
    Ok(notice.as_str().unwrap_or_default().to_owned())
}

#[test]
fn somebody_who_joins_does_not_interrupt_what_the_host_types() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        host.type_into("#chat-input", "Half a ").await?;
        guest(stage, &link).await?;
        host.until("two people", "document.querySelectorAll('#peers li').length === 2").await?;
        let focused = host.run("return document.activeElement.id").await?;
        assert_eq!(focused, json!("chat-input"));
        Ok(())
    });
}

#[test]
fn a_host_that_is_reloaded_is_not_said_to_have_closed_the_room_and_one_that_closes_it_is() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        let stays = guest(stage, &link).await?;
        host.reload().await?;
        host.until("the guest is back", "document.querySelectorAll('#peers li').length === 2").await?;
        let back = "document.querySelector('#chat-log').textContent.includes('nothing lost')";
        stays.until("the guest is told", back).await?;
        assert_eq!(stays.run("return document.querySelector('#closed').hidden").await?, true);

        host.click("#leave-button").await?;
        host.click("#keep-room").await?;
        host.until("it asked, and nothing happened", "!document.querySelector('#ask-close').open").await?;
        assert_eq!(host.run("return document.querySelector('#status').dataset.phase").await?, json!("open"));
        host.click("#leave-button").await?;
        host.click("#close-room").await?;
        let closed = notice(&stays).await?;
        assert!(closed.contains("The host closed the room"), "{closed}");
        let own = notice(&host).await?;
        assert!(own.contains("You closed the room"), "{own}");
        let invites = "return document.querySelector('#invite').checkVisibility()";
        assert_eq!(host.run(invites).await?, json!(false), "a link and a QR code that lead nowhere are gone");
        Ok(())
    });
}

#[test]
fn a_second_host_tab_opens_a_room_of_its_own_without_waiting_for_the_first() {
    on_stage(async |stage| {
        let (_first, link) = host(stage, "Ada").await?;
        let (second, other) = host(stage, "Bob").await?;
        assert_ne!(link, other);
        // The library would wait for 3 s until the first tab lets the name of its room go.
        let asked = second.run("return (await navigator.locks.query()).pending.length").await?;
        assert_eq!(asked, json!(0));
        let names = "return (await navigator.locks.query()).held.map(each => each.name)";
        let held = second.run(names).await?;
        let held = held.as_array().context("names of locks")?;
        assert_eq!(held.iter().filter(|name| **name == "room").count(), 1, "{held:?}");
        Ok(())
    });
}

#[test]
fn addresses_in_messages_are_links_and_nothing_else_is() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        let guest = guest(stage, &link).await?;
        let text = "See https://example.org/a?b=1#c, (http://127.0.0.1:1/x) or javascript:alert(1) <b>!";
        guest.type_into("#chat-input", &format!("{text}{ENTER}")).await?;
        hears(&host, text).await?;
        let links = "return [...document.querySelectorAll('#chat-log p a')].map(({ href, target, rel }) => [href, target, rel])";
        let attributes = ["_blank", "noopener noreferrer nofollow"];
        assert_eq!(
            host.run(links).await?,
            json!([
                ["https://example.org/a?b=1#c", attributes[0], attributes[1]],
                ["http://127.0.0.1:1/x", attributes[0], attributes[1]]
            ])
        );
        Ok(())
    });
}

#[test]
fn messages_on_their_way_and_lost_ones_have_the_contrast_that_wcag_asks_for() {
    on_stage(async |stage| {
        let mut relay = Relay::start(&[])?;
        let host = stage.tab_at("host", &relay.page("/room/")).await?;
        let link = press_host(&host).await?;
        let guest = guest(stage, &link).await?;
        relay.kill()?;
        guest.type_into("#chat-input", &format!("Is anybody there?{ENTER}")).await?;
        for look in [Look::Light, Look::Dark] {
            guest.dress(Width::Desktop, look).await?;
            guest.screenshot(&format!("demo pending {look:?}")).await?;
            let contrast = guest.run_with(json!("#chat-log .pending p"), CONTRAST).await?;
            assert!(contrast.as_f64() >= Some(4.5), "{look:?}: {contrast}");
        }
        guest.click("#leave-button").await?;
        for look in [Look::Light, Look::Dark] {
            guest.dress(Width::Desktop, look).await?;
            let contrast = guest.run_with(json!("#chat-log .lost p, #closed b, #closed p"), CONTRAST).await?;
            assert!(contrast.as_f64() >= Some(4.5), "{look:?}: {contrast}");
        }
        Ok(())
    });
}

#[test]
fn a_connection_that_is_cut_while_a_guest_comes_in_does_not_end_the_room() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        let mut people = 1;
        // From which of these frames on, and how many of them later, nothing arrives.
        for (name, after) in [
            ("CONNECT", 0),
            ("CONNECT", 1),
            ("ACCEPT", 0),
            ("ACCEPT", 1),
            ("DATA", 0),
            ("DATA", 1),
            ("DATA", 2),
            ("DATA", 4),
        ] {
            let left = Arc::new(AtomicU16::new(after));
            let is_silent = Arc::new(AtomicBool::new(false));
            let wiretap = Wiretap::start(stage.relay()?.address()?, {
                let is_silent = is_silent.clone();
                let is_over = AtomicBool::new(false);
                move |frame| {
                    if frame.name() == name
                        && !is_over.load(Ordering::SeqCst)
                        && left.fetch_sub(1, Ordering::SeqCst) == 0
                    {
                        is_over.store(true, Ordering::SeqCst);
                        is_silent.store(true, Ordering::SeqCst);
                    }
                    is_silent.load(Ordering::SeqCst)
                }
            })
            .await?;
            let guest = stage
                .tab_at("guest", &link.replacen("/#", &format!("/?relay={}#", wiretap.url()), 1))
                .await?;
            while !is_silent.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            wiretap.cut();
            is_silent.store(false, Ordering::SeqCst);
            people += 1;
            let is_in = format!(
                "document.querySelectorAll('#peers li').length === {people}
                 && document.querySelectorAll('#peers li:last-child .port[data-state=open]').length === 2"
            );
            host.until("both of the guest's ports are open", &is_in)
                .await
                .with_context(|| format!("{name} {after}"))?;
            guest
                .until("the guest is in", "document.querySelector('#status').dataset.phase === 'open'")
                .await?;
        }
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
        let notice = notice(&late).await?;
        assert!(notice.contains("Nobody is hosting this room"), "{notice}");
        for developers in ["3701", "server", "relay", &link[link.len() - 56..]] {
            assert!(!notice.contains(developers), "{notice}");
        }
        Ok(())
    });
}

/// The messages of a chat that have arrived, in their order.
const SAID: &str =
    "[...document.querySelectorAll('#chat-log .said:not(.pending) p')].map(p => p.textContent)";

/// Bytes that look like chance.
fn noise(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Waits until a file is on its way to this tab, and is not here yet.
async fn is_receiving(tab: &Tab<'_>) -> Result<()> {
    let expression = "document.querySelector('#files li')?.dataset.state === 'receiving' \
                      && document.querySelector('#files progress').value > 0.05";
    tab.until("a part of the file is here", expression).await.map(drop)
}

/// Returns whether the file in this tab's list went on where an earlier line had left it.
async fn went_on(tab: &Tab<'_>) -> Result<bool> {
    let resumed = tab.text_of("return document.querySelector('#files li').dataset.resumed").await?;
    Ok(resumed.parse::<u64>()? > 0)
}

#[test]
fn a_room_goes_on_over_reloads_of_both_sides_and_a_relay_that_is_killed_and_nothing_is_lost() {
    on_stage(async |stage| {
        let mut relay = Relay::start(&[])?;
        let host = stage.tab_at("host", &relay.page("/room/")).await?;
        host.until("the start page shows", "document.body.dataset.view === 'landing'").await?;
        let link = press_host(&host).await?;
        let guest = guest(stage, &link).await?;
        guest.type_into("#chat-input", &format!("one{ENTER}")).await?;
        hears(&host, "one").await?;

        let folder = tempfile::tempdir()?;
        let path = folder.path().join("holiday.bin");
        let content = noise(120_000_000);
        std::fs::write(&path, &content)?;
        guest.type_into("#file-input", &path.to_string_lossy()).await?;
        is_receiving(&host).await?;
        host.reload().await?;
        guest.type_into("#chat-input", &format!("while the host is away{ENTER}")).await?;
        hears(&host, "one").await?;
        hears(&host, "while the host is away").await?;
        is_receiving(&host).await?;
        assert!(went_on(&host).await?, "the file goes on where it was");

        relay.kill()?;
        guest.type_into("#chat-input", &format!("without a relay{ENTER}")).await?;
        host.type_into("#chat-input", &format!("me, too{ENTER}")).await?;
        relay.restart()?;
        hears(&host, "without a relay").await?;
        hears(&guest, "me, too").await?;

        guest.reload().await?;
        guest.until("the guest is in", "document.querySelector('#status').dataset.phase === 'open'").await?;
        hears(&guest, "without a relay").await?;
        assert!(received(stage, &host, "holiday.bin").await? == content, "the file is the same");
        let two = "document.querySelectorAll('#peers li').length === 2";
        host.until("the guest is one person", two).await?;
        let (ours, theirs) =
            (host.run(&format!("return {SAID}")).await?, guest.run(&format!("return {SAID}")).await?);
        assert_eq!(ours, theirs, "both have the same messages");
        assert_eq!(ours.as_array().map(Vec::len), Some(4), "each of them once: {ours}");
        Ok(())
    });
}

#[test]
fn a_guest_that_is_reloaded_receives_the_rest_of_a_file_of_the_hosts() {
    on_stage(async |stage| {
        let (host, link) = host(stage, "Ada").await?;
        let guest = guest(stage, &link).await?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("film.bin");
        let content = noise(120_000_000);
        std::fs::write(&path, &content)?;
        host.type_into("#file-input", &path.to_string_lossy()).await?;
        is_receiving(&guest).await?;
        guest.reload().await?;
        assert!(received(stage, &guest, "film.bin").await? == content, "the file is the same");
        assert!(went_on(&guest).await?, "it went on where it was");
        Ok(())
    });
}
