//! Every page of the site, in every state: accessible, without shifts, by keyboard; and its links and imports.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tunnel_e2e::{Look, Stage, Tab, Width, in_tests, on_stage, package};

use crate::live::{self, CREDENTIAL, connected, shows};

/// Runs axe-core over the part of the page that a selector finds, when all that moves has stopped.
const AXE: &str = "
    await Promise.all(document.getAnimations().filter(each => each.effect.getComputedTiming().endTime < Infinity).map(each => each.finished.catch(() => {})))
    const { violations } = await axe.run(given, { resultTypes: ['violations'] })
    return violations.map(({ id, nodes }) => [id, ...nodes.slice(0, 3).map(({ target, failureSummary }) => `${target}: ${failureSummary}`)])";

/// The shifts that nobody's input brought about.
const SHIFTS: &str = "
    return new Promise(resolve => {
      const found = []
      const observer = new PerformanceObserver(list => found.push(...list.getEntries()
        .filter(({ hadRecentInput }) => !hadRecentInput)
        .flatMap(({ value, sources }) => sources.map(({ node, previousRect, currentRect }) =>
          [value, node?.nodeName, node?.id || node?.className || node?.textContent, ...[previousRect, currentRect].map(({ x, y, width, height }) =>
            `${x} ${y} ${width} ${height}`)].join(', ')))))
      observer.observe({ type: 'layout-shift', buffered: true })
      // Buffered entries come in a task of their own.
      requestAnimationFrame(() => setTimeout(() => { observer.disconnect(); resolve(found) }))
    })";

/// Checks a state of a page, on a desktop and a phone, light and dark.
async fn is_accessible(tab: &Tab<'_>, part: &str, state: &str) -> Result<()> {
    if tab.run("return typeof axe").await? == "undefined" {
        let axe = fs::read_to_string(in_tests("node_modules/axe-core/axe.min.js")?)?;
        tab.run(&format!("{axe}\nglobalThis.axe = window.axe")).await?;
    }
    for (width, look) in [(Width::Desktop, Look::Light), (Width::Points(360), Look::Dark)] {
        tab.dress(width, look).await?;
        let violations = tab.run_with(json!(part), AXE).await?;
        assert_eq!(violations, json!([]), "{state}, {width:?}, {look:?}");
    }
    tab.dress(Width::Desktop, Look::Light).await?;
    Ok(())
}

/// Opens a page and waits until it is ready; nothing in it may have moved.
async fn opened<'a>(stage: &'a Stage, name: &str, url: &str, ready: &str) -> Result<Tab<'a>> {
    let tab = stage.tab_at(name, url).await?;
    tab.until(name, ready).await?;
    assert_eq!(tab.run(SHIFTS).await?, json!([]), "what moved while {name} loaded");
    is_accessible(&tab, "html", name).await?;
    Ok(tab)
}

#[test]
fn the_start_page_and_what_measures_have_no_violations_and_move_nothing() {
    on_stage(async |stage| {
        let relay = stage.relay()?;
        let open = "document.querySelector('#proof').dataset.state === 'open'";
        let start = opened(stage, "start page", &relay.page("/"), open).await?;
        // A switch of the page is pressed by keyboard, too.
        start.run("document.querySelector('#cut').focus()").await?;
        start.press(" ").await?;
        start.until("the network is cut", "document.querySelector('#proof').dataset.state === 'cut'").await?;
        is_accessible(&start, "html", "start page, cut").await?;
        start.press(" ").await?;
        start.until("it is mended", "document.querySelector('#proof').dataset.state === 'mended'").await?;
        is_accessible(&start, "html", "start page, mended").await?;

        let ready = "!document.querySelector('#run').disabled";
        let measure = opened(stage, "measure", &relay.page("/measure/"), ready).await?;
        measure.run("document.querySelector('#run').focus()").await?;
        measure.press(" ").await?;
        measure.until("figures", "document.querySelector('#results').dataset.state === 'done'").await?;
        is_accessible(&measure, "html", "measure, done").await
    });
}

#[test]
fn the_terminal_has_no_violations_and_moves_nothing() {
    on_stage(async |stage| {
        let ready = "document.body.dataset.state === 'ready'";
        let terminal = opened(stage, "terminal", &stage.relay()?.page("/terminal/"), ready).await?;
        terminal.run("document.querySelector('#target').focus()").await?;
        terminal.press("nobody/23\u{e007}").await?;
        terminal.until("a mistyped ID", "document.body.dataset.state === 'failed'").await?;
        is_accessible(&terminal, "html", "terminal, a mistyped ID").await
    });
}

#[test]
fn the_game_and_the_pad_have_no_violations_and_move_nothing() {
    on_stage(async |stage| {
        let relay = stage.relay()?;
        let open = "document.body.dataset.state === 'open'";
        let link = "return document.querySelector('#link').href";
        let board = opened(stage, "board", &relay.page("/play/"), open).await?;
        opened(stage, "player", &board.text_of(link).await?, open).await?;

        let host = opened(stage, "pad", &relay.page("/pad/"), open).await?;
        let here =
            "document.body.dataset.state === 'open' && document.querySelectorAll('#files li').length === 3";
        let guest = opened(stage, "guest of the pad", &host.text_of(link).await?, here).await?;
        guest.click("#new-file").await?;
        is_accessible(&guest, "html", "pad, a new file").await?;
        guest.press("\u{e00c}").await?;
        guest.click(".cm-content").await?;
        // Tab indents in the editor, and Escape gives it back.
        guest.press("\u{e00c}\u{e004}").await?;
        let left = "return !document.querySelector('#editor').contains(document.activeElement)";
        assert_eq!(guest.run(left).await?, true, "the editor is no trap");
        host.close().await?;
        guest.until("the host is away", "document.body.dataset.state === 'away'").await?;
        is_accessible(&guest, "html", "pad, host away").await
    });
}

#[test]
fn the_site_of_a_tab_and_the_room_have_no_violations_and_move_nothing() {
    on_stage(async |stage| {
        let relay = stage.relay()?;
        let folder = TempDir::new()?;
        let file = folder.path().join("index.html");
        fs::write(&file, "<h1>Hello</h1>")?;
        let serve =
            opened(stage, "serve", &relay.page("/serve/"), "document.readyState === 'complete'").await?;
        serve.type_into("#files", &file.to_string_lossy()).await?;
        serve.until("the site is open", "document.querySelector('#site').dataset.state === 'open'").await?;
        is_accessible(&serve, "html", "serve, open").await?;
        let link = serve.text_of("return document.querySelector('#link').href").await?;
        opened(stage, "visit", &link, "!document.querySelector('#go').disabled").await?;

        let landing = "document.body.dataset.view === 'landing'";
        let host = opened(stage, "room", &relay.page("/room/"), landing).await?;
        host.run("document.querySelector('#host-button').focus()").await?;
        host.press("\u{e007}").await?;
        let link = "document.body.dataset.view === 'room' && document.querySelector('#share-link').href.includes('#') && document.querySelector('#share-link').href";
        let link = host.until("the room is open", link).await?;
        is_accessible(&host, "html", "room, host").await?;
        let guest = "document.querySelector('#status').dataset.phase === 'open' && document.querySelectorAll('#peers li').length === 2";
        let guest = opened(stage, "guest", link.as_str().unwrap_or_default(), guest).await?;
        guest.run("document.querySelector('#chat-input').focus()").await?;
        guest.press("Hello\u{e007}").await?;
        guest.type_into("#file-input", &file.to_string_lossy()).await?;
        host.until("the file", "document.querySelector('#files li')?.dataset.state === 'done'").await?;
        is_accessible(&host, "html", "room, a message and a file").await?;
        is_accessible(&guest, "html", "room, guest").await?;
        host.run("document.querySelector('#leave-button').focus()").await?;
        host.press("\u{e007}").await?;
        host.until("it asks", "document.querySelector('#ask-close').open").await?;
        is_accessible(&host, "html", "room, asked").await?;
        host.click("#close-room").await?;
        guest.until("the end", "document.querySelector('#status').dataset.phase === 'closed'").await?;
        is_accessible(&guest, "html", "room, closed").await
    });
}

#[test]
fn the_page_that_reprograms_its_relay_has_no_violations_moves_nothing_and_is_used_by_keyboard() {
    on_stage(async |stage| {
        let state = TempDir::new()?;
        let Some(relay) = live::relay(Some(&state))? else { return Ok(()) };
        let locked = "document.body.dataset.state === 'locked' && document.querySelector('#six li')";
        let tab = opened(stage, "live, locked", &relay.page("/live/"), locked).await?;
        focus(&tab, "#credential").await?;
        tab.press("a secret that is wrong\u{e007}").await?;
        shows(&tab, "#problem", "takes this credential for wrong").await?;
        is_accessible(&tab, "html", "live, refused").await?;
        tab.press(&format!("{CREDENTIAL}\u{e007}")).await?;
        connected(&tab).await?;
        is_accessible(&tab, "html", "live, story").await?;

        // Through the five steps with nothing but keys.
        for (button, done) in [
            ("#start", "document.querySelector('#start-told').textContent"),
            (
                "#six [data-name='initialize'] .inject",
                "document.querySelector('#six [data-name=initialize]').dataset.version",
            ),
            ("#inject-all", "document.querySelectorAll('#six [data-version]').length === 6"),
            (
                "#connect",
                "document.querySelector('#page-b').contentDocument?.querySelector('#said [data-from=them]')",
            ),
        ] {
            focus(&tab, button).await?;
            tab.press(" ").await?;
            tab.until(button, &format!("!!({done})")).await?;
        }
        focus(&tab, "#story-editor .cm-content").await?;
        tab.press("function () {\u{e007}return 1 +;").await?;
        // One Escape for what is proposed, if it is, and one for the editor.
        tab.press("\u{e00c}\u{e00c}\u{e004}").await?;
        let left = "return !document.activeElement.closest('#story-editor')";
        assert_eq!(tab.run(left).await?, true, "the editor is no trap");
        focus(&tab, "#story-save").await?;
        tab.press(" ").await?;
        shows(&tab, "#story-error", "SyntaxError").await?;
        is_accessible(&tab, "html", "live, story with an error").await?;

        // The tab list: one stop, and arrows between the views.
        focus(&tab, "#tab-story").await?;
        tab.press("\u{e014}").await?;
        tab.until(
            "the workspace",
            "document.activeElement.id === 'tab-workspace' && document.querySelector('#names li')",
        )
        .await?;
        is_accessible(&tab, "html", "live, workspace").await?;
        focus(&tab, "#names li button").await?;
        tab.press("\u{e007}").await?;
        tab.until(
            "its source",
            "document.querySelector('#editor .cm-line').textContent.includes('function')",
        )
        .await?;
        focus(&tab, "#pad .cm-content").await?;
        tab.press("missing\u{e00c}\u{e004}").await?;
        focus(&tab, "#print").await?;
        tab.press(" ").await?;
        shows(&tab, "#pad-error", "ReferenceError").await?;
        is_accessible(&tab, "html", "live, workspace with an instruction and an error").await?;
        focus(&tab, "#tab-workspace").await?;
        tab.press("\u{e012}").await?;
        tab.until("the story", "document.activeElement.id === 'tab-story'").await?;

        // With the credential in its address the page opens connected; and its two sides are pages of their own.
        let address = relay.page(&format!("/live/#credential={}", CREDENTIAL.replace(' ', "%20")));
        let talking = "document.body.dataset.state === 'open' && document.querySelectorAll('#six [data-version]').length === 6";
        opened(stage, "live, by a link", &address, talking).await?;
        let side = "document.body.dataset.state === 'open'";
        opened(stage, "live, a side", &relay.page("/live/tab.html#a"), side).await.map(drop)
    });
}

async fn focus(tab: &Tab<'_>, selector: &str) -> Result<()> {
    tab.run_with(json!(selector), "document.querySelector(given).focus()").await.map(drop)
}

#[test]
fn the_inspector_has_no_violations() {
    on_stage(async |stage| {
        let tab = stage.tab("inspected").await?;
        // axe sees into open roots only.
        let open = "const attach = Element.prototype.attachShadow
                    Element.prototype.attachShadow = function (init) { return attach.call(this, { ...init, mode: 'open' }) }
                    const server = await ForwardingServerWebSocket.newThrough(relay)
                    server.listen(1, socket => { socket.onmessage = ({ data }) => socket.send(data) })
                    const socket = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
                    socket.onmessage = () => {}
                    await opened(socket)
                    socket.send('hello')
                    const { show } = await load('/pkg/inspect.js')
                    show()";
        tab.run(open).await?;
        tab.until(
            "rows",
            "document.querySelector('tunnel-inspector').shadowRoot.querySelectorAll('tbody tr').length >= 3",
        )
        .await?;
        is_accessible(&tab, "tunnel-inspector", "inspector").await
    });
}

fn www() -> Result<PathBuf> {
    Ok(in_tests("../www")?.canonicalize()?)
}

/// All files with one of the endings, below a folder.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, endings)?);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The texts between `before` and the next `after`.
fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(after).next())
}

/// A relay of which a page's own HTML comes in two parts: the second when the first has been painted, as on a machine that is busy.
struct InParts {
    address: SocketAddr,
}

impl InParts {
    /// Cuts the HTML of `path`, a folder of the site, behind the first `mark` that follows `after`.
    fn start(relay: SocketAddr, path: &str, after: &'static str, mark: &'static str) -> Result<Self> {
        let html = fs::read_to_string(www()?.join(path.trim_start_matches('/')).join("index.html"))?;
        let start = html.find(after).with_context(|| format!("{path} has no {after}"))?;
        let cut =
            start + html[start..].find(mark).with_context(|| format!("{path} has no {mark}"))? + mark.len();
        // The policy of the page forbids what tells that it has been painted.
        let policy = html.find("<meta http-equiv=\"Content-Security-Policy\"").context("a policy")?;
        let policy_end = policy + html[policy..].find('>').context("its end")? + 1;
        let painted =
            "<script>requestAnimationFrame(() => requestAnimationFrame(() => fetch('/painted')))</script>";
        let first = format!("{}{}{painted}", &html[..policy], &html[policy_end..cut]);
        let rest = html[cut..].to_owned();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let page = format!("GET {path} ");
        thread::spawn(move || {
            let painted = Arc::new((Mutex::new(false), Condvar::new()));
            for stream in listener.incoming().map_while(Result::ok) {
                let (page, first, rest, painted) =
                    (page.clone(), first.clone(), rest.clone(), Arc::clone(&painted));
                // A connection that breaks is the browser's affair: the test sees what is missing.
                thread::spawn(move || serve_in_parts(stream, relay, &page, [&first, &rest], &painted).ok());
            }
        });
        Ok(Self { address })
    }
}

fn serve_in_parts(
    mut stream: TcpStream,
    relay: SocketAddr,
    page: &str,
    [first, rest]: [&str; 2],
    (is_painted, news): &(Mutex<bool>, Condvar),
) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    if head.starts_with("GET /painted ") {
        *is_painted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        news.notify_all();
        return stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }
    if head.starts_with(page) {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n",
        )?;
        stream.write_all(first.as_bytes())?;
        let painted = is_painted.lock().unwrap_or_else(PoisonError::into_inner);
        drop(news.wait_while(painted, |is_painted| !*is_painted));
        return stream.write_all(rest.as_bytes());
    }
    let mut far = TcpStream::connect(relay)?;
    // One request on each connection, so that all come by here.
    far.write_all(head.replace("Connection: keep-alive", "Connection: close").as_bytes())?;
    let (mut near, mut answers) = (stream, far.try_clone()?);
    let mut pages = near.try_clone()?;
    thread::spawn(move || {
        std::io::copy(&mut answers, &mut pages)?;
        pages.shutdown(Shutdown::Both)
    });
    far.write_all(reader.buffer())?;
    std::io::copy(&mut near, &mut far).map(drop)
}

#[test]
fn no_page_moves_what_it_shows_when_its_next_part_is_parsed() {
    on_stage(async |stage| {
        let relay = stage.relay()?.address()?;
        let mut pages = vec![("/room/", "<main", "</button>")];
        for path in ["/", "/pad/", "/play/", "/serve/", "/terminal/", "/live/", "/measure/"] {
            pages.push((path, "<nav", "</a>"));
        }
        for path in ["/serve/", "/live/", "/measure/", "/"] {
            pages.push((path, "<main", if path == "/serve/" { "</label>" } else { "</button>" }));
        }
        for (path, after, mark) in pages {
            let parts = InParts::start(relay, path, after, mark)?;
            let name = format!("{path}, cut behind {mark}");
            let tab = stage.tab_at(&name, &format!("http://{}{path}", parts.address)).await?;
            tab.until("all of it", "document.readyState === 'complete' && document.querySelector('#end')")
                .await?;
            assert_eq!(tab.run(SHIFTS).await?, json!([]), "what moved in {name}");
            tab.close().await?;
        }
        Ok(())
    });
}

#[test]
fn every_link_between_files_of_the_site_leads_to_one() -> Result<()> {
    let www = www()?;
    let mut broken = Vec::new();
    let mut count = 0;
    for page in files(&www, &["html"])? {
        let text = fs::read_to_string(&page)?;
        let links = between(&text, " href=\"", '"').chain(between(&text, " src=\"", '"'));
        // The documents are made of docs/ when the site is built.
        let is_checked = |link: &&str| !link.contains(':') && !link.starts_with('#') && *link != "docs/";
        for link in links.filter(is_checked) {
            count += 1;
            let path = link.split(['#', '?']).next().unwrap_or_default();
            let target = match (path.strip_prefix("../docs/"), path.strip_prefix("../pkg/")) {
                (Some(document), _) => in_tests("../docs")?.join(document).with_extension("md"),
                (_, Some(file)) => package()?.join(file),
                _ => page.parent().context("it is in a folder")?.join(path),
            };
            let target =
                if path.is_empty() || path.ends_with('/') { target.join("index.html") } else { target };
            if !target.is_file() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert!(count > 40, "only {count} links");
    Ok(())
}

#[test]
fn every_link_between_our_documents_leads_to_one() -> Result<()> {
    let root = in_tests("..")?.canonicalize()?;
    let mut pages = files(&root.join("docs"), &["md"])?;
    // The reference of the types is made of the declarations.
    let is_ours = |page: &Path| {
        !page.components().any(|part| ["node_modules", "api"].iter().any(|name| part.as_os_str() == *name))
    };
    pages.retain(|page| is_ours(page));
    pages.extend(["README.md", "ARCHITECTURE.md"].map(|name| root.join(name)));
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page)?;
        for link in between(&text, "](", ')').filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = page.parent().context("it is in a folder")?.join(path);
            let there = target.exists() && (anchor.is_empty() || has_anchor(&target, anchor)?);
            if !there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    Ok(())
}

/// Returns whether a document has a heading of which the anchor is made, as hosts of Markdown make it.
fn has_anchor(document: &Path, anchor: &str) -> Result<bool> {
    let text = fs::read_to_string(document)?;
    let slug = |heading: &str| -> String {
        let kept = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|each| each.is_alphanumeric() || " -_".contains(*each))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    Ok(text.lines().any(|line| line.starts_with('#') && slug(line.trim_start_matches('#')) == anchor))
}

#[test]
fn the_pages_use_the_public_api_only_and_show_their_sources() -> Result<()> {
    let www = www()?;
    for script in files(&www, &["js"])? {
        let text = fs::read_to_string(&script)?;
        let imported = between(&text, " from '", '\'').chain(between(&text, "import('", '\''));
        for path in imported.filter(|path| path.starts_with('.')) {
            let is_ours =
                !path.contains("/pkg/") && script.parent().is_some_and(|folder| folder.join(path).is_file());
            let is_public = ["tunnel_wasm.js", "serve.js", "inspect.js", "tunnel_livecode.js"]
                .iter()
                .any(|module| path.ends_with(&format!("/pkg/{module}")));
            assert!(
                is_ours || is_public || path.contains("/pkg/bundles/"),
                "{} imports {path}",
                script.display()
            );
        }
    }
    for page in ["home", "room", "pad", "play", "serve", "terminal", "measure", "live"] {
        let path = if page == "home" { www.join("index.html") } else { www.join(page).join("index.html") };
        let text = fs::read_to_string(&path)?;
        let sources =
            between(&text, "<a href=\"", '"').filter(|link| link.ends_with(".js") && !link.contains(':'));
        assert!(sources.count() > 0, "{} has no link to its source", path.display());
    }
    Ok(())
}
