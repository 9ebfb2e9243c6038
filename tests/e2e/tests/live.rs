//! The page that reprograms its relay, used as people use it: with the keyboard, in two windows, over reloads and restarts.

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;
use tunnel_e2e::{Look, Relay, Stage, Tab, Width, on_stage};

use crate::site::nothing_sticks_out;

pub(crate) const CREDENTIAL: &str = "a secret of the test";

/// Keys as WebDriver has them.
const SAVE: &str = "\u{e009}s\u{e009}";
const SELECT_ALL: &str = "\u{e009}a\u{e009}";
const PRINT_IT: &str = "\u{e009}p\u{e009}";
const BACKSPACE: &str = "\u{e003}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";

const EDITOR: &str = "#editor .cm-content";
const PAD: &str = "#pad .cm-content";

/// A relay that runs programs, and keeps in a folder what they keep; `None`, with a word about it, if it was built without.
pub(crate) fn relay(state: Option<&TempDir>) -> Result<Option<Relay>> {
    let folder = state.map(|state| state.path().display().to_string());
    let mut options =
        vec!["--livecode-credential", CREDENTIAL, "--livecode-programs", "on", "--livecode-share", "100"];
    if let Some(folder) = &folder {
        options.extend(["--livecode-state", folder]);
    }
    match Relay::start(&options) {
        Err(error) if error.to_string().contains("built without livecoding") => {
            eprintln!("skipped: the relay is built without livecoding; run `cargo xtask livecode`");
            Ok(None)
        }
        relay => relay.map(Some),
    }
}

/// The page, connected by the credential of its address.
pub(crate) async fn page<'a>(stage: &'a Stage, name: &str, relay: &Relay) -> Result<Tab<'a>> {
    let address = relay.page(&format!("/live/#credential={}", CREDENTIAL.replace(' ', "%20")));
    let tab = stage.tab_at(name, &address).await?;
    tab.dress(Width::Points(1600), Look::Light).await?;
    connected(&tab).await?;
    Ok(tab)
}

pub(crate) async fn connected(tab: &Tab<'_>) -> Result<()> {
    tab.until("it is connected", "document.body.dataset.state === 'open'").await?;
    Ok(())
}

/// Loads the page again, and waits until it is connected.
async fn reload(tab: &Tab<'_>) -> Result<()> {
    tab.run("document.body.dataset.state = 'before'; location.reload()").await?;
    connected(tab).await
}

async fn workspace<'a>(stage: &'a Stage, name: &str, relay: &Relay) -> Result<Tab<'a>> {
    let tab = page(stage, name, relay).await?;
    tab.click("#tab-workspace").await?;
    Ok(tab)
}

/// Writes an instruction by the keyboard. The editor closes brackets, and indents.
async fn write(tab: &Tab<'_>, name: &str, source: &str) -> Result<()> {
    tab.click("#new").await?;
    tab.fill("#name", name).await?;
    tab.type_into(EDITOR, &format!("{SELECT_ALL}{BACKSPACE}{source}")).await
}

/// Waits until an element's text has this in it.
pub(crate) async fn shows(tab: &Tab<'_>, selector: &str, text: &str) -> Result<()> {
    let selector = json!(selector);
    let text = json!(text);
    let expression = format!("document.querySelector({selector})?.textContent.includes({text})");
    tab.until(&format!("{selector} shows {text}"), &expression).await?;
    Ok(())
}

/// Takes pictures at the widths of a phone, a tablet and a large screen, light and dark.
async fn looks_right(tab: &Tab<'_>, name: &str) -> Result<()> {
    for (width, look) in [
        (360, Look::Light),
        (360, Look::Dark),
        (768, Look::Dark),
        (768, Look::Light),
        (1600, Look::Dark),
        (1600, Look::Light),
    ] {
        tab.dress(Width::Points(width), look).await?;
        nothing_sticks_out(tab).await.with_context(|| format!("{name} at {width} px"))?;
        let theme = if look == Look::Dark { "dark" } else { "light" };
        tab.screenshot(&format!("live {name} {width} {theme}")).await?;
    }
    Ok(())
}

/// A peer without the credential, that knows the relay's address as `node`.
async fn peer<'a>(stage: &'a Stage, relay: &Relay) -> Result<Tab<'a>> {
    let tab = stage.tab_through("peer", &relay.url).await?;
    tab.run("globalThis.live = await NodeJSLivecodingClient.connectTo(relay)").await?;
    Ok(tab)
}

/// The lines of the editor that an error is marked in, counted from 1.
const MARKED: &str = "[...document.querySelectorAll('#editor .cm-line')]
    .flatMap((line, n) => line.querySelector('.cm-lintRange-error') ? [n + 1] : [])";

#[test]
fn an_instruction_is_typed_its_error_marked_and_mended_and_its_log_seen() {
    on_stage(async |stage| {
        let state = TempDir::new()?;
        let Some(relay) = relay(Some(&state))? else { return Ok(()) };
        let tab = workspace(stage, "page", &relay).await?;
        assert_eq!(
            tab.run("return location.href.includes('secret')").await?,
            false,
            "the address keeps no credential"
        );
        looks_right(&tab, "workspace empty").await?;
        write(
            &tab,
            "greet",
            &format!("function greet(name) {{{ENTER}console.log('greets', name);{ENTER}return 1 +;"),
        )
        .await?;
        tab.type_into(EDITOR, SAVE).await?;
        shows(&tab, "#error", "SyntaxError in line 3").await?;
        assert_eq!(tab.run(&format!("return {MARKED}")).await?, json!([3]));
        looks_right(&tab, "workspace error").await?;

        tab.type_into(EDITOR, &format!("{BACKSPACE} 1;{SAVE}")).await?;
        shows(&tab, "#told", "added instruction 'greet', version 1").await?;
        // Tab indents, but behind Escape it leaves the editor: not everybody has a mouse.
        tab.type_into(EDITOR, &format!("{ESCAPE}{TAB}")).await?;
        let is_left = "return !document.activeElement.closest('#editor')";
        assert_eq!(tab.run(is_left).await?, true, "the focus is elsewhere");
        // So it does when Escape also closes the list of completions.
        tab.type_into(EDITOR, " con").await?;
        tab.until("completions", "document.querySelector('.cm-tooltip-autocomplete')").await?;
        tab.type_into(EDITOR, &format!("{ESCAPE}{TAB}")).await?;
        assert_eq!(tab.run(is_left).await?, true, "the focus is elsewhere, with completions, too");
        tab.type_into(EDITOR, &BACKSPACE.repeat(4)).await?;
        assert_eq!(tab.run(&format!("return {MARKED}")).await?, json!([]));
        let peer = peer(stage, &relay).await?;
        assert_eq!(peer.run("return (await live.invoke('greet', 'Ana')).returned").await?, "2");
        shows(&tab, "#log", "greets Ana").await?;
        shows(&tab, "#names [data-name=greet]", "1 call").await?;

        // An error that a caller meets is marked where it is, too.
        tab.type_into(
            EDITOR,
            &format!("{SELECT_ALL}{BACKSPACE}function greet(name) {{{ENTER}return name.missing.more;{SAVE}"),
        )
        .await?;
        shows(&tab, "#told", "version 2").await?;
        peer.run("return (await live.invoke('greet', 'Ana')).returned").await?;
        shows(&tab, "#error", "TypeError").await?;
        assert_eq!(tab.run(&format!("return {MARKED}")).await?, json!([2]));
        shows(&tab, "#names [data-name=greet]", "1 error").await?;

        // Back to the version that worked, by its number.
        tab.run("const versions = document.querySelector('#versions'); versions.value = '1'; versions.dispatchEvent(new Event('change'))").await?;
        shows(&tab, "#save", "Roll back").await?;
        tab.click("#compare").await?;
        tab.until("the difference", "document.querySelector('#editor .cm-deletedChunk')").await?;
        looks_right(&tab, "workspace diff").await?;
        tab.click("#save").await?;
        shows(&tab, "#told", "Version 1 runs again, as version 3").await?;
        assert_eq!(peer.run("return (await live.invoke('greet', 'Bo')).returned").await?, "2");
        Ok(())
    });
}

#[test]
fn the_pad_prints_and_inspects_and_checkpoints_bring_everything_back() {
    on_stage(async |stage| {
        let state = TempDir::new()?;
        let Some(relay) = relay(Some(&state))? else { return Ok(()) };
        let tab = workspace(stage, "page", &relay).await?;
        tab.type_into(
            PAD,
            &format!("{SELECT_ALL}{BACKSPACE}global.rooms = new Map([['tea', {{ people: 2 }}]]);{PRINT_IT}"),
        )
        .await?;
        shows(&tab, PAD, "// ").await?;
        tab.until("the inspector has it", "document.querySelector('#globals [data-name=rooms] summary')")
            .await?;
        // By the keyboard alone: a summary is opened by Enter.
        tab.type_into("#globals [data-name=rooms] summary", ENTER).await?;
        tab.until(
            "what is in the map",
            "document.querySelector('#globals [data-name=rooms] [data-name=tea]')",
        )
        .await?;
        tab.type_into("#globals [data-name=rooms] [data-name=tea] summary", ENTER).await?;
        shows(&tab, "#globals [data-name=people]", "number 2").await?;

        tab.type_into("#label", &format!("party{ENTER}")).await?;
        tab.until("it is kept", "document.querySelector('#checkpoints [data-name=party] button')").await?;
        tab.type_into(PAD, &format!("{SELECT_ALL}{BACKSPACE}rooms.clear(), rooms.size;{PRINT_IT}")).await?;
        shows(&tab, PAD, "// 0").await?;
        tab.click("#checkpoints [data-name=party] button").await?;
        shows(&tab, "#checkpoint-told", "as it was").await?;
        tab.type_into(PAD, &format!("{SELECT_ALL}{BACKSPACE}rooms.size;{PRINT_IT}")).await?;
        shows(&tab, PAD, "// 1").await?;

        tab.type_into(PAD, &format!("{SELECT_ALL}{BACKSPACE}1;{ENTER}[1, 2].map(missing);{PRINT_IT}"))
            .await?;
        shows(&tab, "#pad-error", "ReferenceError").await?;
        let marked = "return [...document.querySelectorAll('#pad .cm-line')].map(line => !!line.querySelector('.cm-lintRange-error'))";
        assert_eq!(tab.run(marked).await?, json!([false, true]));
        tab.click("#presets [data-name=chat] button").await?;
        shows(&tab, "#told", "3 instructions were added").await?;
        looks_right(&tab, "workspace chat").await?;
        Ok(())
    });
}

/// Plays the first three steps, until two tabs talk.
pub(crate) async fn play_to_the_conversation(tab: &Tab<'_>) -> Result<()> {
    tab.click("#start").await?;
    shows(tab, "#start-told", "no instruction").await?;
    for name in ["initialize", "create server credential", "install server"] {
        tab.click(&format!("#six [data-name='{name}'] .inject")).await?;
        tab.until(name, &format!("document.querySelector('#six [data-name=\"{name}\"]').dataset.version"))
            .await?;
        shows(tab, "#transcript", &format!("server: adding instruction '{name}'")).await?;
    }
    tab.click("#inject-all").await?;
    tab.until("all six", "document.querySelectorAll('#six [data-version]').length === 6").await?;
    tab.click("#connect").await?;
    hears(tab, "you said hello 2").await
}

/// Waits until Tab B, in the page, has heard this.
async fn hears(tab: &Tab<'_>, text: &str) -> Result<()> {
    let text = json!(text);
    let said =
        "[...document.querySelector('#page-b').contentDocument.querySelectorAll('#said [data-from=them]')]";
    tab.until(
        &format!("Tab B hears {text}"),
        &format!("{said}.some(item => item.textContent.includes({text}))"),
    )
    .await?;
    Ok(())
}

/// Waits until the last that Tab B heard is so.
async fn last_heard(tab: &Tab<'_>, pattern: &str) -> Result<()> {
    let said =
        "[...document.querySelector('#page-b').contentDocument.querySelectorAll('#said [data-from=them]')]";
    tab.until(
        &format!("the last word is {pattern}"),
        &format!("/{pattern}/.test({said}.at(-1)?.textContent)"),
    )
    .await?;
    Ok(())
}

const DONE: &str =
    "return [...document.querySelectorAll('#steps [data-done]')].map(step => step.dataset.step)";

#[test]
fn the_five_steps_lead_to_a_conversation_that_is_changed_while_it_goes_on() {
    on_stage(async |stage| {
        let state = TempDir::new()?;
        let Some(relay) = relay(Some(&state))? else { return Ok(()) };
        let tab = page(stage, "page", &relay).await?;
        looks_right(&tab, "story start").await?;
        assert_eq!(tab.run(DONE).await?, json!([]));
        play_to_the_conversation(&tab).await?;
        assert_eq!(tab.run(DONE).await?, json!(["start", "inject", "connect"]));
        tab.run("document.querySelector('[data-step=connect]').scrollIntoView()").await?;
        looks_right(&tab, "story talk").await?;

        tab.click("#shout").await?;
        tab.click("#story-save").await?;
        last_heard(&tab, "^YOU SAID HELLO").await?;
        // An error is said at its line, and the conversation goes on as it was.
        tab.type_into(
            "#story-editor .cm-content",
            &format!("{SELECT_ALL}{BACKSPACE}function () {{{ENTER}return 1 +;{SAVE}"),
        )
        .await?;
        shows(&tab, "#story-error", "SyntaxError in line 2").await?;
        tab.run("document.querySelector('[data-step=change]').scrollIntoView()").await?;
        looks_right(&tab, "story error").await?;
        last_heard(&tab, "^YOU SAID HELLO").await?;
        tab.click("#back").await?;
        last_heard(&tab, "^you said hello").await?;
        assert_eq!(tab.run(DONE).await?, json!(["start", "inject", "connect", "change", "back"]));
        let text = tab.run("return document.querySelector('#story-error').textContent").await?;
        assert_eq!(text, "", "what is in the editor is what runs");
        Ok(())
    });
}

#[test]
fn the_conversation_goes_on_after_reloads_of_either_side_and_a_restart_of_the_relay() {
    on_stage(async |stage| {
        let state = TempDir::new()?;
        let Some(mut relay) = relay(Some(&state))? else { return Ok(()) };
        let tab = page(stage, "page", &relay).await?;
        play_to_the_conversation(&tab).await?;
        for side in ["a", "b"] {
            let frame = format!("document.querySelector('#page-{side}')");
            // A mark that is gone with the document.
            tab.run(&format!(
                "{frame}.contentDocument.body.id = 'before'; {frame}.contentWindow.location.reload()"
            ))
            .await?;
            let again = format!(
                "{frame}.contentDocument?.body?.dataset.state === 'open' && {frame}.contentDocument.body.id === ''"
            );
            tab.until(&format!("Tab {side} is there again"), &again).await?;
            tab.run(
                "document.querySelector('#page-b').contentDocument.querySelector('#said').replaceChildren()",
            )
            .await?;
            hears(&tab, "you said hello").await.with_context(|| format!("Tab {side} was reloaded"))?;
        }
        // The whole page: it goes on where the relay is.
        reload(&tab).await?;
        tab.until(
            "both tabs are back",
            "!!document.querySelector('#page-b')?.contentDocument?.querySelector('#said [data-from=them]')",
        )
        .await?;
        assert_eq!(tab.run("return document.querySelectorAll('#six [data-version]').length").await?, 6);

        relay.terminate()?;
        tab.until("it is told", "document.body.dataset.state === 'away'").await?;
        looks_right(&tab, "story away").await?;
        tab.run("document.querySelector('#page-b').contentDocument.querySelector('#said').replaceChildren()")
            .await?;
        relay.restart()?;
        connected(&tab).await?;
        hears(&tab, "you said hello").await?;
        Ok(())
    });
}

#[test]
fn a_relay_that_has_forgotten_everything_is_taught_again_and_the_tabs_go_on_by_themselves() {
    on_stage(async |stage| {
        let Some(mut relay) = relay(None)? else { return Ok(()) };
        let tab = page(stage, "page", &relay).await?;
        play_to_the_conversation(&tab).await?;
        relay.kill()?;
        relay.restart()?;
        let forgotten =
            "document.body.dataset.state === 'open' && !document.querySelector('#six [data-version]')";
        tab.until("the page sees what is missing", forgotten).await?;
        tab.click("#inject-all").await?;
        tab.until("all six", "document.querySelectorAll('#six [data-version]').length === 6").await?;
        // The new text runs, not the relay's built-in instruction.
        tab.click("#shout").await?;
        tab.click("#story-save").await?;
        last_heard(&tab, "^YOU SAID HELLO").await
    });
}

#[test]
fn two_windows_see_each_others_saves_and_neither_loses_what_is_typed() {
    on_stage(async |stage| {
        let state = TempDir::new()?;
        let Some(relay) = relay(Some(&state))? else { return Ok(()) };
        let one = workspace(stage, "one", &relay).await?;
        let two = workspace(stage, "two", &relay).await?;
        write(&one, "say", &format!("function say() {{{ENTER}return 'one';{SAVE}")).await?;
        two.until("it is listed", "document.querySelector('#names [data-name=say]')").await?;
        two.click("#names [data-name=say] button").await?;
        shows(&two, EDITOR, "return 'one'").await?;

        // One saves, and the other, who typed nothing, sees it.
        one.type_into(EDITOR, &format!("{SELECT_ALL}{BACKSPACE}function say() {{{ENTER}return 'two';{SAVE}"))
            .await?;
        shows(&two, EDITOR, "return 'two'").await?;
        shows(&two, "#told", "Version 2 was saved elsewhere").await?;

        // The other types: a save is told, and takes nothing away.
        two.type_into(EDITOR, &format!("{SELECT_ALL}{BACKSPACE}function say() {{{ENTER}return 'mine';"))
            .await?;
        one.type_into(
            EDITOR,
            &format!("{SELECT_ALL}{BACKSPACE}function say() {{{ENTER}return 'three';{SAVE}"),
        )
        .await?;
        shows(&two, "#foreign", "Version 3 was saved elsewhere").await?;
        shows(&two, EDITOR, "return 'mine'").await?;
        looks_right(&two, "workspace foreign").await?;
        reload(&two).await?;
        shows(&two, EDITOR, "return 'mine'").await?;
        two.type_into(EDITOR, SAVE).await?;
        shows(&one, EDITOR, "return 'mine'").await?;
        shows(&one, "#told", "Version 4").await?;
        Ok(())
    });
}

#[test]
fn nothing_opens_without_the_right_credential() {
    on_stage(async |stage| {
        let state = TempDir::new()?;
        let Some(relay) = relay(Some(&state))? else { return Ok(()) };
        let tab = stage.tab_at("page", &relay.page("/live/")).await?;
        tab.until("it asks", "!document.querySelector('#unlock').hidden && document.querySelector('#relay-state').textContent === 'Not connected'").await?;
        tab.until("it has started", "document.querySelector('#six li')").await?;
        assert_eq!(tab.run("return document.querySelector('#start').disabled").await?, true);
        looks_right(&tab, "locked").await?;
        tab.type_into("#credential", &format!("a secret that is wrong{ENTER}")).await?;
        shows(&tab, "#problem", "takes this credential for wrong").await?;
        assert_eq!(tab.run("return document.body.dataset.state").await?, "refused");
        tab.type_into("#credential", &format!("{CREDENTIAL}{ENTER}")).await?;
        connected(&tab).await?;
        assert_eq!(
            tab.run("return document.documentElement.outerHTML.includes('a secret of')").await?,
            false
        );
        tab.click("#lock").await?;
        tab.run("document.body.dataset.state = 'before'; location.reload()").await?;
        tab.until(
            "it asks again",
            "document.body.dataset.state === 'locked' && document.querySelector('#six li')",
        )
        .await?;
        Ok(())
    });
}
