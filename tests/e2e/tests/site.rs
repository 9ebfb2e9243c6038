//! The site's pages beside the room, used as people use them.

use std::fs;

use anyhow::Result;
use tempfile::TempDir;
use tunnel_e2e::{Look, Stage, Tab, Width, on_stage};

/// What is wider than the screen, or beside it; what scrolls may be.
const STICKS_OUT: &str = "
    const width = document.documentElement.clientWidth
    return [...document.querySelectorAll('body *')]
      .filter(each => each.checkVisibility() && !each.closest('.unseen, svg, .scroll, pre, textarea, #results'))
      .map(each => [each.tagName, each.id, each.getBoundingClientRect()])
      .filter(([, , { left, right }]) => left < -0.5 || right > width + 0.5)
      .map(([tag, id, { left, right }]) => `${tag}#${id}: ${left} to ${right} of ${width}`)";

async fn nothing_sticks_out(tab: &Tab<'_>) -> Result<()> {
    assert_eq!(tab.run(STICKS_OUT).await?, serde_json::json!([]), "what does not fit the screen");
    Ok(())
}

/// Takes pictures of a page on a desktop and on a phone, light and dark.
async fn looks_right(tab: &Tab<'_>, name: &str) -> Result<()> {
    for (width, look, what) in
        [(Width::Phone, Look::Dark, "phone dark"), (Width::Desktop, Look::Light, "desktop light")]
    {
        tab.dress(width, look).await?;
        nothing_sticks_out(tab).await?;
        tab.screenshot(&format!("site {name} {what}")).await?;
    }
    Ok(())
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
        tab.run_with(serde_json::json!(["you said", "it was"]), edit).await?;
        let log = "document.querySelector('#guest').contentDocument.querySelector('#log').textContent";
        tab.until("the new lines answer", &format!("{log}.includes('it was #')")).await?;
        tab.run_with(serde_json::json!(["server.listen", "server.lisen"]), edit).await?;
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
        assert_eq!(guest.run(part).await?, serde_json::json!([206, "bytes 3-5/22", "the"]));
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

#[test]
fn a_game_goes_on_under_its_link_when_the_board_is_reloaded() {
    on_stage(async |stage| {
        let host = stage.tab_at("board", &stage.relay()?.page("/play/")).await?;
        host.until("the board is open", "document.body.dataset.state === 'open'").await?;
        let link = host.run("return document.querySelector('#link').href").await?;
        let player = stage.tab_at("player", link.as_str().unwrap_or_default()).await?;
        player
            .until("it plays", "document.body.dataset.player && document.querySelector('#players li')")
            .await?;
        looks_right(&player, "play controller").await?;
        looks_right(&host, "play board").await?;
        // To the right edge and back: the board decides where the player is, and tells it.
        player.run("dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))").await?;
        host.until("the player is listed", "document.querySelectorAll('#players li').length === 1").await?;
        host.run("location.reload()").await?;
        host.until("the player is back", "document.querySelectorAll('#players li').length === 1").await?;
        assert_eq!(host.run("return document.querySelector('#link').href").await?, link, "the link");
        player.until("it plays again", "document.body.dataset.state === 'open'").await?;
        Ok(())
    });
}
