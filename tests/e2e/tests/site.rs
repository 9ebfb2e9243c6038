//! The site's pages beside the room, used as people use them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tunnel_e2e::{Look, Relay, Stage, Tab, Width, on_stage};

/// Finds what is wider than the screen, or beside it; what scrolls may be.
const STICKS_OUT: &str = "
    const width = document.documentElement.clientWidth
    return [...document.querySelectorAll('body *')]
      .filter(each => each.checkVisibility() && !each.closest('.unseen, svg, .scroll, pre, textarea, .cm-editor, #results'))
      .map(each => [each.tagName, each.id, each.getBoundingClientRect()])
      .filter(([, , { left, right }]) => left < -0.5 || right > width + 0.5)
      .map(([tag, id, { left, right }]) => `${tag}#${id}: ${left} to ${right} of ${width}`)";

pub(crate) async fn nothing_sticks_out(tab: &Tab<'_>) -> Result<()> {
    assert_eq!(tab.run(STICKS_OUT).await?, json!([]), "what does not fit the screen");
    Ok(())
}

/// Takes pictures of a page at the widths of a phone, a tablet and a large screen, light and dark, and leaves it on a desktop.
async fn looks_right(tab: &Tab<'_>, name: &str) -> Result<()> {
    for (width, look) in
        [360, 768, 1600].into_iter().flat_map(|width| [(width, Look::Dark), (width, Look::Light)])
    {
        tab.dress(Width::Points(width), look).await?;
        nothing_sticks_out(tab).await.with_context(|| format!("{name} at {width} px"))?;
        let theme = if look == Look::Dark { "dark" } else { "light" };
        tab.screenshot(&format!("site {name} {width} {theme}")).await?;
    }
    tab.dress(Width::Desktop, Look::Light).await
}

#[test]
fn the_start_pages_proof_goes_on_where_it_was_after_the_network_was_cut() {
    on_stage(async |stage| {
        let tab = stage.tab_at("start page", &stage.relay()?.page("/")).await?;
        tab.until("messages go", "document.querySelector('#proof').dataset.state === 'open'").await?;
        looks_right(&tab, "start").await?;
        tab.click("#cut").await?;
        tab.until(
            "messages wait",
            "/^[3-9] messages wait/.test(document.querySelector('#story').textContent)",
        )
        .await?;
        tab.screenshot("site start cut desktop light").await?;
        tab.click("#cut").await?;
        tab.until("it is back", "document.querySelector('#proof').dataset.state === 'mended'").await?;
        let story = tab.run("return document.querySelector('#story').textContent").await?;
        let story = story.as_str().unwrap_or_default();
        assert!(story.ends_with("none lost."), "{story}");
        let reconnects =
            tab.run("return document.querySelector('[data-fact=reconnects]').textContent").await?;
        assert_eq!(reconnects, "1 ×");
        Ok(())
    });
}

#[test]
fn the_lines_on_the_start_page_run_as_they_are_edited_and_say_what_is_wrong_with_them() {
    on_stage(async |stage| {
        let tab = stage.tab_at("start page", &stage.relay()?.page("/")).await?;
        tab.until("messages go", "document.querySelector('#proof').dataset.state === 'open'").await?;
        let edit = "const code = document.querySelector('#code')
                    code.value = code.value.replace(...given)
                    code.dispatchEvent(new Event('input'))";
        tab.run_with(json!(["you said", "it was"]), edit).await?;
        let log = "document.querySelector('#guest').contentDocument.querySelector('#log').textContent";
        tab.until("the new lines answer", &format!("{log}.includes('it was #')")).await?;
        tab.run_with(json!(["server.listen", "server.lisen"]), edit).await?;
        tab.until(
            "the error",
            "document.querySelector('#code-error').textContent.includes('lisen is not a function')",
        )
        .await?;
        Ok(())
    });
}

/// Hosts some files; returns the host and the site's link.
async fn serving<'a>(stage: &'a Stage, folder: &TempDir) -> Result<(Tab<'a>, String)> {
    fs::write(
        folder.path().join("index.html"),
        "<link rel=stylesheet href='/style.css'><h1>Hello</h1><a href='page.html'>on</a><script src=app.js></script>",
    )?;
    fs::write(folder.path().join("style.css"), "h1 { color: rgb(1, 2, 3) }")?;
    fs::write(folder.path().join("app.js"), "document.title = 'the script ran'")?;
    fs::write(folder.path().join("page.html"), "<p>the second page</p>")?;
    let host = stage.tab_at("host", &stage.relay()?.page("/serve/")).await?;
    looks_right(&host, "serve").await?;
    let files = ["index.html", "style.css", "app.js", "page.html"]
        .map(|name| folder.path().join(name).to_string_lossy().into_owned());
    host.type_into("#files", &files.join("\n")).await?;
    host.until("the site is open", "document.querySelector('#site').dataset.state === 'open'").await?;
    let link = host.run("return document.querySelector('#link').href").await?;
    Ok((host, link.as_str().unwrap_or_default().to_owned()))
}

#[test]
fn a_guest_browses_the_files_of_a_tab_and_is_told_when_it_has_gone() {
    on_stage(async |stage| {
        let folder = TempDir::new()?;
        let (host, link) = serving(stage, &folder).await?;
        let guest = stage.tab_at("guest", &link).await?;
        guest.until("it may be opened", "!document.querySelector('#go').disabled").await?;
        looks_right(&guest, "visit").await?;
        guest.click("#go").await?;
        guest.until("the page with its script", "document.title === 'the script ran'").await?;
        let colour = guest.run("return getComputedStyle(document.querySelector('h1')).color").await?;
        assert_eq!(colour, "rgb(1, 2, 3)", "what is loaded from the site's root");
        let part = "const response = await fetch('page.html', { headers: { range: 'bytes=3-5' } })
                    return [response.status, response.headers.get('content-range'), await response.text()]";
        assert_eq!(guest.run(part).await?, json!([206, "bytes 3-5/22", "the"]));
        guest.click("a").await?;
        guest.until("the second page", "document.body?.textContent.includes('the second page')").await?;
        let missing = guest.run("return (await fetch('nothing.html')).status").await?;
        assert_eq!(missing, 404);
        looks_right(&host, "serve open").await?;

        host.click("#stop").await?;
        guest.run("location.reload()").await?;
        guest.until("a page that says so", "document.body?.textContent.includes('is not there now')").await?;
        Ok(())
    });
}

#[test]
fn the_measuring_page_has_a_figure_in_each_row_and_gives_them_as_markdown() {
    on_stage(async |stage| {
        let tab = stage.tab_at("measure", &stage.relay()?.page("/measure/")).await?;
        tab.until("it is ready", "!document.querySelector('#run').disabled").await?;
        tab.click("#run").await?;
        tab.until("it is done", "document.querySelector('#results').dataset.state === 'done'").await?;
        let figures = tab
            .run("return [...document.querySelectorAll('[data-row]')].map(cell => cell.textContent)")
            .await?;
        let figures = figures.as_array().cloned().unwrap_or_default();
        assert_eq!(figures.len(), 7);
        for figure in figures {
            let figure = figure.as_str().unwrap_or_default();
            assert!(figure.ends_with(" ms") || figure.ends_with(" MB/s"), "{figure}");
        }
        looks_right(&tab, "measure").await?;
        tab.click("#copy").await?;
        tab.until("the text", "document.querySelector('#markdown').textContent.includes('|---|')").await?;
        let text = tab.run("return document.querySelector('#markdown').textContent").await?;
        assert_eq!(
            text.as_str().unwrap_or_default().lines().filter(|line| line.starts_with("| ")).count(),
            5
        );
        Ok(())
    });
}

/// Plays until it has a point: to and fro over the whole board, line by line.
const PLAY: &str = "
    const press = (type, key) => dispatchEvent(new KeyboardEvent(type, { key }))
    const go = (key, time) => new Promise(resolve => {
      press('keydown', key)
      setTimeout(() => { press('keyup', key); resolve() }, time)
    })
    const score = () => Number(document.querySelector(`#players [data-player='${document.body.dataset.player}']`).dataset.score)
    const ways = [['ArrowRight', 500, 7], ['ArrowDown', 200, 1], ['ArrowLeft', 500, 7], ['ArrowDown', 200, 1]]
    await go('ArrowUp', 2000)
    for (let n = 0; ; n++) {
      const [key, time, parts] = ways[n % ways.length]
      for (let part = 0; part < parts; part++) {
        if (score() > 0) return score()
        await go(key, time)
      }
    }";

#[test]
fn a_game_goes_on_with_players_points_and_link_when_the_board_is_reloaded() {
    on_stage(async |stage| {
        let board = stage.tab_at("board", &stage.relay()?.page("/play/")).await?;
        board.until("the board is open", "document.body.dataset.state === 'open'").await?;
        let link = board.run("return document.querySelector('#link').href").await?;
        // The keyboard of the board's own page is its first player.
        board.press("\u{e014}").await?;
        board.until("it plays", "document.querySelector('[data-player=\"1\"]')").await?;
        let player = stage.tab_at("player", link.as_str().unwrap_or_default()).await?;
        player.until("it plays", "document.querySelector('#players [data-player=\"2\"]')").await?;
        assert_eq!(player.run("return document.body.dataset.player").await?, "2");
        looks_right(&player, "play controller").await?;
        looks_right(&board, "play board").await?;
        let points = player.run_within(Duration::from_secs(60), json!(null), PLAY).await?;

        board.reload().await?;
        let list = "[...document.querySelectorAll('#players li')].map(({ dataset }) => dataset.player).join() === '1,2'
                    && !document.querySelector('#players').textContent.includes('away')";
        board.until("both are back", list).await?;
        let kept = "return Number(document.querySelector('#players [data-player=\"2\"]').dataset.score)";
        assert!(board.run(kept).await?.as_u64() >= points.as_u64(), "the points are kept");
        assert_eq!(board.run("return document.querySelector('#link').href").await?, link, "the link");
        player.until("it plays again", "document.body.dataset.state === 'open'").await?;
        assert_eq!(player.run("return document.body.dataset.player").await?, "2");

        // The other side: a controller that is reloaded is the same player, and another tab with its secret takes its place.
        player.reload().await?;
        let listed =
            "document.body.dataset.player === '2' && document.querySelector('#players [data-player=\"2\"]')";
        player.until("it plays again, and has heard of all players", listed).await?;
        assert!(player.run(kept).await?.as_u64() >= points.as_u64(), "the points are kept");
        let (player, copy) = (player, stage.tab_at("copy", link.as_str().unwrap_or_default()).await?);
        let secret = player.run("return { ...sessionStorage }").await?;
        copy.run_with(secret, "Object.assign(sessionStorage, given)").await?;
        copy.reload().await?;
        copy.until("it is the same player", "document.body.dataset.player === '2'").await?;
        player.until("it is told", "document.body.dataset.state === 'closed'").await?;
        shows_text(&player, "#message", "in another tab").await?;
        Ok(())
    });
}

async fn shows_text(tab: &Tab<'_>, selector: &str, text: &str) -> Result<()> {
    let expression =
        format!("document.querySelector({}).textContent.includes({})", json!(selector), json!(text));
    tab.until(&format!("{selector} says {text}"), &expression).await.map(drop)
}

#[test]
fn a_ninth_player_is_told_that_there_are_eight() {
    on_stage(async |stage| {
        let board = stage.tab_at("board", &stage.relay()?.page("/play/")).await?;
        board.until("the board is open", "document.body.dataset.state === 'open'").await?;
        let link = board.text_of("return document.querySelector('#link').href").await?;
        // Seven that only connect, and somebody at the board.
        let others = stage.tab("others").await?;
        let connect = "const id = new URL(given).hash.slice(1)
            globalThis.players = Array.from({ length: 7 }, (_, n) => new PeerToPeerWebSocket(`${relay}/${id}/30/player${n}`))
            await Promise.all(players.map(player => player.opened))";
        others.run_with(json!(link), connect).await?;
        board.press("\u{e014}").await?;
        board.until("eight play", "document.querySelectorAll('#players li').length === 8").await?;
        let ninth = stage.tab_at("ninth", &link).await?;
        ninth.until("it is told", "document.body.dataset.state === 'closed'").await?;
        shows_text(&ninth, "#message", "8 play already").await?;
        // A message that is no move ends the socket that sent it, and nothing else.
        let wrong = "players[1].send('null'); players[2].send('[1e999, {}]'); players[0].send('{')
                     return (await next(players[0], 'close')).code";
        assert_eq!(others.run(wrong).await?, 4400);
        board.until("it goes on", "document.querySelector('#players').textContent.includes('away')").await?;
        Ok(())
    });
}

#[test]
fn the_start_pages_proof_and_the_game_go_on_when_the_relay_is_killed_and_started_again() {
    on_stage(async |stage| {
        let mut relay = Relay::start(&[])?;
        let start = stage.tab_at("start page", &relay.page("/")).await?;
        start.until("messages go", "document.querySelector('#proof').dataset.state === 'open'").await?;
        let board = stage.tab_at("board", &relay.page("/play/")).await?;
        board.until("the board is open", "document.body.dataset.state === 'open'").await?;
        let link = board.text_of("return document.querySelector('#link').href").await?;
        let player = stage.tab_at("player", &link).await?;
        player
            .until("it plays", "document.body.dataset.player && document.body.dataset.state === 'open'")
            .await?;

        relay.kill()?;
        player.until("the player hears of it", "document.body.dataset.state === 'away'").await?;
        relay.restart()?;
        let fact = |name: &str| format!("document.querySelector('[data-fact={name}]').textContent");
        start.until("the proof is back", &format!("{} === '1 ×'", fact("reconnects"))).await?;
        // One may be on its way at any time.
        start.until("all is answered", &format!("Number({}) <= 1", fact("waiting"))).await?;
        player.until("the player is back", "document.body.dataset.state === 'open'").await?;
        let number = player.run("return document.body.dataset.player").await?;
        player.reload().await?;
        player
            .until("it plays again", "document.body.dataset.player && document.body.dataset.state === 'open'")
            .await?;
        assert_eq!(player.run("return document.body.dataset.player").await?, number, "the same player");
        board.until("there is one of them", "document.querySelectorAll('#players li').length === 1").await?;
        Ok(())
    });
}

#[test]
fn a_site_of_a_tab_is_there_again_when_the_relay_is_killed_and_started_again_and_the_guest_reloads() {
    on_stage(async |stage| {
        let mut relay = Relay::start(&[])?;
        let folder = TempDir::new()?;
        fs::write(folder.path().join("index.html"), "<title>The site</title><h1>Hello</h1>")?;
        let host = stage.tab_at("host", &relay.page("/serve/")).await?;
        host.type_into("#files", &folder.path().join("index.html").to_string_lossy()).await?;
        host.until("the site is open", "document.querySelector('#site').dataset.state === 'open'").await?;
        let link = host.text_of("return document.querySelector('#link').href").await?;
        let guest = stage.tab_at("guest", &link).await?;
        guest.until("it may be opened", "!document.querySelector('#go').disabled").await?;
        guest.click("#go").await?;
        guest.until("the page", "document.title === 'The site'").await?;
        relay.kill()?;
        host.until(
            "the host hears of it",
            "document.querySelector('#site').dataset.state === 'reconnecting'",
        )
        .await?;
        relay.restart()?;
        host.until("it is open again", "document.querySelector('#site').dataset.state === 'open'").await?;
        guest.reload().await?;
        guest.until("the page, again", "document.title === 'The site'").await?;
        Ok(())
    });
}

/// Bytes of a file that takes a while: more than all that buffers on its way.
const FILM: usize = 24 << 20;

#[test]
fn a_site_goes_on_when_the_tab_that_serves_is_reloaded_also_within_a_file() {
    on_stage(async |stage| {
        let folder = TempDir::new()?;
        let film = folder.path().join("film.bin");
        fs::write(&film, (0..FILM).map(|n| (n * 31 + n / 251) as u8).collect::<Vec<_>>())?;
        let (host, link) = serving(stage, &folder).await?;
        // The folder's files and one more: another site, under another link.
        host.click("#stop").await?;
        host.type_into("#files", &film.to_string_lossy()).await?;
        host.until("the site is open", "document.querySelector('#site').dataset.state === 'open'").await?;
        let new = host.text_of("return document.querySelector('#link').href").await?;
        assert_ne!(new, link, "an old link does not lead to what is served later");
        shows_text(&host, "#kept", "You may reload it").await?;

        let guest = stage.tab_at("guest", &new).await?;
        guest.until("it may be opened", "!document.querySelector('#go').disabled").await?;
        guest.click("#go").await?;
        guest.until("the list of files", "document.querySelector('a[href=\"film.bin\"]')").await?;
        let begin = "globalThis.reader = (await fetch('film.bin')).body.getReader()
                     globalThis.parts = [(await reader.read()).value]";
        guest.run(begin).await?;
        host.run("location.reload()").await?;
        // Requests wait meanwhile.
        assert_eq!(guest.run("return (await fetch('film.bin', { method: 'HEAD' })).status").await?, 200);
        host.until("it is open again", "document.querySelector('#site').dataset.state === 'open'").await?;
        assert_eq!(host.text_of("return document.querySelector('#link').href").await?, new, "the link");
        shows_text(&host, "#log", "/film.bin").await?;
        let end = "for (;;) {
                     const { value, done } = await reader.read()
                     if (done) break
                     parts.push(value)
                   }
                   const film = new Uint8Array(await new Blob(parts).arrayBuffer())
                   return [film.length, film.findIndex((byte, n) => byte !== ((n * 31 + Math.floor(n / 251)) & 255))]";
        assert_eq!(guest.run(end).await?, json!([FILM, -1]), "length, and the first wrong byte");
        guest.reload().await?;
        guest.until("the list of files", "document.querySelector('a[href=\"film.bin\"]')").await?;

        // A copy of the tab has the same memory, and must not take the site away.
        let copy = stage.tab_at("copy", &stage.relay()?.page("/serve/")).await?;
        let memory = host.run("return { ...sessionStorage }").await?;
        copy.run_with(memory, "Object.assign(sessionStorage, given)").await?;
        copy.reload().await?;
        copy.until("it is told", "document.querySelector('#site').dataset.state === 'failed'").await?;
        shows_text(&copy, "#problem", "a copy of a tab").await?;
        assert_eq!(guest.run("return (await fetch('film.bin', { method: 'HEAD' })).status").await?, 200);

        host.click("#stop").await?;
        host.reload().await?;
        host.until("it serves nothing", "document.querySelector('#site').dataset.state === 'empty'").await?;
        let kept =
            "return (await indexedDB.databases()).filter(({ name }) => name.startsWith('site: ')).length";
        assert_eq!(host.run(kept).await?, 0, "nothing is left of the files");
        Ok(())
    });
}
