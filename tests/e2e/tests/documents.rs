//! The documents as pages: `cargo xtask site` makes them, and checks their links.

use anyhow::{Result, ensure};
use serde_json::json;
use tunnel_e2e::{Look, Relay, Tab, Width, in_tests, on_stage};

/// A relay that serves the site with its documents, as the demo does.
fn relay() -> Result<Relay> {
    let documents = in_tests("../site/docs")?;
    ensure!(documents.join("index.html").is_file(), "run `cargo xtask site`");
    Relay::start(&["--www", &format!("/docs={}", documents.display())])
}

/// Elements that are wider than the screen, or beside it; tables and code scroll.
const STICKS_OUT: &str = "
    const width = document.documentElement.clientWidth
    return [...document.querySelectorAll('.VPContent *, .VPNav *')]
      .filter(each => each.checkVisibility() && !each.closest('table, pre, svg, .visually-hidden, .VPSkipLink, .header-anchor'))
      .map(each => [each.tagName, each.className, each.getBoundingClientRect()])
      .filter(([, , { left, right, width }]) => width > 0 && (left < -0.5 || right > document.documentElement.clientWidth + 0.5))
      .map(([tag, name, { left, right }]) => `${tag}.${name}: ${left} to ${right} of ${width}`)";

async fn looks_right(tab: &Tab<'_>, name: &str) -> Result<()> {
    for (points, look, what) in [
        (360, Look::Light, "360 light"),
        (360, Look::Dark, "360 dark"),
        (768, Look::Light, "768 light"),
        (768, Look::Dark, "768 dark"),
        (1600, Look::Light, "1600 light"),
        (1600, Look::Dark, "1600 dark"),
    ] {
        tab.dress(Width::Points(points), look).await?;
        let is_dark = json!(look == Look::Dark);
        tab.until(
            "its colours",
            &format!("document.documentElement.classList.contains('dark') === {is_dark}"),
        )
        .await?;
        assert_eq!(tab.run(STICKS_OUT).await?, json!([]), "what does not fit {what} in {name}");
        tab.screenshot(&format!("docs {name} {what}")).await?;
    }
    Ok(())
}

/// Everything that the page has loaded comes from the relay, and all of it was there.
async fn loads_from_here_only(tab: &Tab<'_>) -> Result<()> {
    let loaded = tab
        .run(
            "return performance.getEntriesByType('resource')
               .filter(({ name, responseStatus }) => !name.startsWith(`${location.origin}/`) || responseStatus >= 400)
               .map(({ name, responseStatus }) => `${name} ${responseStatus}`)",
        )
        .await?;
    assert_eq!(loaded, json!([]), "what is loaded from elsewhere, or is missing");
    Ok(())
}

#[test]
fn a_word_is_found_in_the_documents_without_another_host() {
    on_stage(async |stage| {
        let relay = relay()?;
        let tab = stage.tab_at("documents", &relay.page("/docs/")).await?;
        tab.dress(Width::Points(1600), Look::Light).await?;
        tab.until("the page has started", "document.querySelector('.VPNavBarSearch button')").await?;
        tab.click(".VPNavBarSearch button").await?;
        tab.until("the search box", "document.querySelector('#localsearch-input')").await?;
        tab.type_into("#localsearch-input", "absentTimeout").await?;
        let found = "document.querySelector('#localsearch-list a')?.href.includes('/docs/')";
        tab.until("a result", found).await?;
        tab.screenshot("docs search 1600 light").await?;
        tab.click("#localsearch-list a").await?;
        tab.until("the page", "document.querySelector('main').textContent.includes('absentTimeout')").await?;
        loads_from_here_only(&tab).await?;
        let errors = tab.console().await?;
        ensure!(errors.is_empty(), "the console has {errors:?}");
        Ok(())
    });
}

#[test]
fn the_documents_fit_phones_and_large_screens_light_and_dark() {
    on_stage(async |stage| {
        let relay = relay()?;
        for (path, name) in [
            ("", "start"),
            ("guide/connection.html", "life of a connection"),
            ("errors.html", "errors"),
            ("api/tunnel_wasm/classes/PeerToPeerWebSocket.html", "reference"),
        ] {
            let tab = stage.tab_at(name, &relay.page(&format!("/docs/{path}"))).await?;
            tab.until("its heading", "document.querySelector('main h1')").await?;
            looks_right(&tab, name).await?;
            loads_from_here_only(&tab).await?;
            tab.close().await?;
        }
        Ok(())
    });
}
