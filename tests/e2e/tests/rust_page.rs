//! The example of a page in Rust, `examples/yew`, as `cargo xtask example` has built it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tunnel_e2e::{Relay, Tab, on_stage};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/yew")
}

fn glue() -> Result<String> {
    fs::read_to_string(folder().join("pkg/yew_chat.js")).context("run `cargo xtask example`")
}

/// Types something and presses the Enter key.
async fn say(tab: &Tab<'_>, line: &str) -> Result<()> {
    tab.type_into("input", &format!("{line}\u{e007}")).await
}

async fn hears(tab: &Tab<'_>, line: &str) -> Result<()> {
    tab.until(line, &format!("document.body.textContent.includes({line:?})")).await.map(drop)
}

#[test]
fn a_page_in_rust_hosts_a_room_and_others_join_it() {
    on_stage(async |stage| {
        glue()?;
        let relay = Relay::serving(&["--www", &folder().display().to_string()])?;
        let room = stage.tab_at("room", &format!("{}?relay={}", relay.page("/"), relay.url)).await?;
        let link = room.until("the link", "document.querySelector('a')?.href").await?;
        let link = link.as_str().context("a link is text")?;
        let ann = stage.tab_at("ann", link).await?;
        let bob = stage.tab_at("bob", link).await?;
        hears(&room, "2 guests are here").await?;
        say(&ann, "hello from ann").await?;
        say(&room, "hello from the room").await?;
        for tab in [&room, &ann, &bob] {
            hears(tab, "hello from ann").await?;
            hears(tab, "hello from the room").await?;
        }
        room.close().await?;
        hears(&bob, "the connection ended with code 1001").await
    });
}

#[test]
fn the_crate_brings_no_exports_into_a_page_in_rust() {
    // The application's own start function, and what wasm-bindgen always exports.
    let expected = ["export function start() {", "export { initSync, __wbg_init as default };"];
    let glue = glue().unwrap();
    let exports: Vec<_> = glue.lines().filter(|line| line.starts_with("export ")).collect();
    assert_eq!(exports, expected);
}
