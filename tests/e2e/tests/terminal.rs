//! A shell of another machine in a tab: the page `terminal/`, xterm.js, the command `tunnel` and socat.

use std::process::Command;

use anyhow::{Context as _, Result};
use tunnel_e2e::{Look, Program, Relay, Tab, Width, command, on_stage};

const ROWS: &str = "document.querySelector('.xterm-rows').textContent";

fn state(name: &str) -> String {
    format!("document.body.dataset.state === '{name}'")
}

/// Runs a line that the page shows for the other machine's shell, on a port that is free instead of the one that it names.
fn on_the_other_machine(line: &str, port: &str, ready: &str) -> Result<(Program, String)> {
    let line = line.trim_end_matches('&').replace("TCP-LISTEN:2323", "TCP-LISTEN:0").replace("2323", port);
    // The shell goes, so that what ends the process ends the program; socat says on standard error where it listens.
    let line = line.replace("socat ", "exec socat -dd ").replace("TUNNEL_RELAY=", "exec env TUNNEL_RELAY=");
    let tunnel = command()?;
    let folder = tunnel.parent().context("the command is in a folder")?;
    let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{line} 2>&1")]).env("PATH", path);
    Program::start(shell, ready)
}

/// Types into the terminal, and waits for what the shell makes of it.
async fn ask(tab: &Tab<'_>, typed: &str, answer: &str) -> Result<()> {
    tab.run("document.querySelector('.xterm-helper-textarea').focus()").await?;
    tab.press(typed).await?;
    tab.until(&format!("the answer to {typed:?}"), &format!("{ROWS}.includes('{answer}')")).await?;
    Ok(())
}

#[test]
fn a_shell_behind_the_command_answers_in_a_tab_and_outlives_the_relay() {
    on_stage(async |stage| {
        let mut relay = Relay::start(&[])?;
        let tab = stage.tab_at("terminal", &relay.page("/terminal/")).await?;
        tab.until("the page is ready", &state("ready")).await?;
        let shown = async |id: &str| {
            tab.text_of(&format!("return document.querySelector('#{id}').textContent")).await
        };
        let (_shell, address) = on_the_other_machine(&shown("shell").await?, "0", "listening on AF=2 ")?;
        let port = address.rsplit(':').next().context("socat prints an address")?;
        let keys = tempfile::tempdir()?;
        let listen = shown("listen").await?;
        let listen = format!("export TUNNEL_IDENTITIES={}; {listen}", keys.path().display());
        let (_listening, _) = on_the_other_machine(&listen, port, "/23")?;
        let id =
            Command::new(command()?).args(["id", "shell"]).env("TUNNEL_IDENTITIES", keys.path()).output()?;
        let target = format!("{}/23", String::from_utf8(id.stdout)?.trim());

        tab.fill("#target", "nobody/23").await?;
        tab.click("#connect").await?;
        tab.until("a mistyped ID", &state("failed")).await?;
        tab.fill("#target", &target).await?;
        tab.click("#connect").await?;
        tab.until("the shell is reached", &state("open")).await?;
        ask(&tab, "echo $((6 * 7))\u{e007}", "42").await?;
        // Characters of several bytes, and a size that nobody had to set.
        ask(&tab, "printf 'gr\\u00fc\\u00dfe %s\\n' $TERM\u{e007}", "gr\u{fc}\u{df}e xterm-256color").await?;
        for (look, name) in [(Look::Light, "terminal"), (Look::Dark, "terminal dark")] {
            tab.dress(Width::Desktop, look).await?;
            tab.screenshot(name).await?;
        }

        relay.kill()?;
        tab.until("the loss", &state("away")).await?;
        tab.run("document.querySelector('.xterm-helper-textarea').focus()").await?;
        tab.press("echo typed $((50 + 5)) while it was away\u{e007}").await?;
        relay.restart()?;
        tab.until("the way back", &state("open")).await?;
        tab.until("what was typed", &format!("{ROWS}.includes('typed 55 while')")).await?;

        // The link in the address leads to the same shell.
        tab.reload().await?;
        tab.until("again", &state("open")).await?;
        ask(&tab, "echo $((9 * 9))\u{e007}", "81").await?;
        tab.press("exit\u{e007}").await?;
        tab.until("the end", &state("closed")).await?;
        let message = tab.text_of("return document.querySelector('#message').textContent").await?;
        assert_eq!(message, "The shell has ended.");
        Ok(())
    });
}
