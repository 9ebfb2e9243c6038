//! The program behind `cargo xtask bench pages`: `pages <rounds>`. Opens each page of the site with an empty cache, does what a person does
//! first, and prints how long both took.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tunnel_e2e::{Relay, Stage, on_stage_within};

/// The credential of the relay that runs programs.
const CREDENTIAL: &str = "a secret of the benchmark";

/// A page, and the first thing that a person does there.
struct Page {
    name: &'static str,
    path: &'static str,
    /// True once the page takes that, as an expression.
    ready: &'static str,
    /// The deed, as a script.
    act: &'static str,
    what: &'static str,
    /// True once it has had its effect.
    done: &'static str,
}

const PAGES: [Page; 8] = [
    Page {
        name: "start page",
        path: "/",
        ready: "$('#proof').dataset.state === 'open'",
        act: "$('#cut').click()",
        what: "the proof talks; *Cut the network*",
        done: "$('#proof').dataset.state === 'cut'",
    },
    Page {
        name: "Room",
        path: "/room/",
        ready: "document.body.dataset.view === 'landing' && !$('#host-button').disabled",
        act: "$('#host-button').click()",
        what: "*Host*, until there is a link",
        done: "document.body.dataset.view === 'room' && $('#share-link').href.includes('#')",
    },
    Page {
        name: "Pad",
        path: "/pad/",
        ready: "document.body.dataset.state === 'open' && $('.cm-content')",
        act: "$('.cm-content').focus(); document.execCommand('insertText', false, 'first')",
        what: "the editor is shared; a word",
        done: "$('.cm-content').textContent.includes('first')",
    },
    Page {
        name: "Play",
        path: "/play/",
        ready: "document.body.dataset.state === 'open'",
        act: "dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))",
        what: "the board is open; an arrow key, until there is a player",
        done: "$('#players li')",
    },
    Page {
        name: "Serve",
        path: "/serve/",
        ready: "document.readyState === 'complete'",
        act: "const files = new DataTransfer()
              files.items.add(new File(['<h1>Hello</h1>'], 'index.html'))
              $('#files').files = files.files
              $('#files').dispatchEvent(new Event('change'))",
        what: "a file, until it is served under a link",
        done: "$('#site').dataset.state === 'open'",
    },
    Page {
        name: "Live",
        path: "/live/#credential=a%20secret%20of%20the%20benchmark",
        ready: "document.body.dataset.state === 'open' && !$('#start').disabled",
        act: "$('#start').click()",
        what: "connected; *Say hello*, until the relay has answered",
        done: "$('#start-told').textContent",
    },
    Page {
        name: "Terminal",
        path: "/terminal/",
        ready: "document.body.dataset.state === 'ready'",
        act: "$('#target').value = 'nobody/23'; $('#connect').click()",
        what: "an ID with a typo; *Connect*, until the page names it",
        done: "document.body.dataset.state === 'failed'",
    },
    Page {
        name: "Measure",
        path: "/measure/",
        ready: "!$('#run').disabled",
        act: "$('#run').click()",
        what: "*Run*, until it runs",
        done: "$('#results').dataset.state",
    },
];

/// Waits for an expression without asking again and again, and until what it shows is on the screen.
const SEEN: &str = "
    const $ = selector => document.querySelector(selector)
    const seen = condition => new Promise(resolve => {
      const look = () => {
        if (!condition()) return
        observer.disconnect()
        requestAnimationFrame(() => setTimeout(() => resolve(performance.now())))
      }
      const observer = new MutationObserver(look)
      observer.observe(document, { attributes: true, characterData: true, childList: true, subtree: true })
      look()
    })";

fn main() -> Result<()> {
    let rounds = env::args().nth(1).context("usage: pages ROUNDS")?.parse::<u32>().context("ROUNDS")?;
    let limit = Duration::from_secs(60) + rounds * Duration::from_secs(60);
    on_stage_within(limit, async |stage| {
        let state = TempDir::new()?;
        let folder = state.path().display().to_string();
        let programs =
            ["--livecode-credential", CREDENTIAL, "--livecode-programs", "on", "--livecode-state", &folder];
        // A relay that is built without livecoding has all pages but one.
        let (relay, pages) = match Relay::start(&programs) {
            Ok(relay) => (relay, PAGES.iter().collect::<Vec<_>>()),
            Err(error) if error.to_string().contains("built without livecoding") => {
                eprintln!("without Live: the relay is built without livecoding");
                (Relay::start(&[])?, PAGES.iter().filter(|page| page.name != "Live").collect())
            }
            Err(error) => return Err(error),
        };
        let mut figures = vec![Vec::new(); pages.len()];
        for _ in 0..rounds {
            for (page, figures) in pages.iter().zip(&mut figures) {
                figures.push(measure(stage, &relay, page).await.with_context(|| page.name.to_owned())?);
            }
        }
        println!(
            "| page | loads | ready | first deed | both | at most | what |\n|---|---|---|---|---|---|---|"
        );
        for (page, figures) in pages.iter().zip(&figures) {
            let both = figures.iter().map(|[_, ready, deed]| ready + deed).collect::<Vec<_>>();
            let [loads, ready, deed] =
                [0, 1, 2].map(|n| median(figures.iter().map(|each| each[n]).collect()));
            println!(
                "| {} | {:.0} KB | {ready:.0} ms | {deed:.0} ms | {:.0} ms | {:.0} ms | {} |",
                page.name,
                loads / 1000.0,
                median(both.clone()),
                both.iter().copied().fold(0.0, f64::max),
                page.what
            );
        }
        Ok(())
    });
    Ok(())
}

/// Bytes that the page has loaded, and milliseconds from the navigation until it was ready and from there to the effect of the first deed.
async fn measure(stage: &Stage, relay: &Relay, page: &Page) -> Result<[f64; 3]> {
    let tab = stage.tab_at(page.name, "about:blank").await?;
    tab.forget_cache().await?;
    tab.open(&relay.page(page.path)).await?;
    let script = format!(
        "{SEEN}
         const ready = await seen(() => {ready})
         const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
         const loads = entries.reduce((sum, {{ encodedBodySize }}) => sum + encodedBodySize, 0)
         const begun = performance.now()
         ;{act}
         const deed = await seen(() => {done}) - begun
         return [loads, ready, deed]",
        ready = page.ready,
        act = page.act,
        done = page.done
    );
    let figures = tab.run_with(json!(null), &script).await?;
    tab.close().await?;
    let figure = |n: usize| figures[n].as_f64().context("a figure is no number");
    Ok([figure(0)?, figure(1)?, figure(2)?])
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
