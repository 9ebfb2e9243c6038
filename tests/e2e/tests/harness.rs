//! The harness itself: tabs, scripts, limits, pictures.

use std::time::Duration;

use serde_json::{Value, json};
use tunnel_e2e::{Look, Width, on_stage};

const PAGE: &str =
    "data:text/html,<title>t</title><body><button onclick=\"this.textContent='hit'\">press</button><input>";

#[test]
fn the_package_is_one_module_and_its_classes_keep_their_names() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let names = tab
            .run(
                "const classes = [PeerToPeerWebSocket, ForwardingServerWebSocket, NodeJSTunnelingClient, TunnelError]
                 const loaded = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/pkg/'))
                 const tags = classes.map(({ prototype }) => prototype[Symbol.toStringTag] ?? prototype.name)
                 return [classes.map(({ name }) => name), tags, loaded.map(({ name }) => name.split('/pkg/')[1])]",
            )
            .await?;
        let classes =
            ["PeerToPeerWebSocket", "ForwardingServerWebSocket", "NodeJSTunnelingClient", "TunnelError"];
        assert_eq!(names, json!([classes, classes, ["tunnel_wasm.js", "tunnel_wasm_bg.wasm"]]));
        Ok(())
    });
}

#[test]
fn scripts_run_in_the_tab_they_are_given_to() {
    on_stage(async |stage| {
        let a = stage.tab_at("a", PAGE).await?;
        let b = stage.tab_at("b", PAGE).await?;
        a.run("globalThis.who = 'a'").await?;
        b.run("globalThis.who = 'b'").await?;
        assert_eq!(a.text_of("return who").await?, "a");
        assert_eq!(b.text_of("return who").await?, "b");
        assert_eq!(a.run_with(json!({ "n": [1, 2] }), "return given.n[1]").await?, json!(2));
        assert_eq!(a.run("").await?, Value::Null);
        Ok(())
    });
}

#[test]
fn a_script_that_throws_or_hangs_is_an_error_that_names_the_tab() {
    on_stage(async |stage| {
        let a = stage.tab_at("a", PAGE).await?;
        let thrown = a.run("throw new TypeError('wrong')").await.unwrap_err().to_string();
        assert!(thrown.starts_with("tab a: TypeError: wrong"), "{thrown}");
        let hung = a.run_within(Duration::from_millis(50), Value::Null, "await new Promise(() => {})").await;
        let hung = hung.unwrap_err().to_string();
        assert!(hung.starts_with("tab a: Error: nothing within 50 ms"), "{hung}");
        assert_eq!(a.run("return 1").await?, json!(1), "the tab still works");
        Ok(())
    });
}

#[test]
fn a_page_is_clicked_typed_into_watched_and_pictured() {
    on_stage(async |stage| {
        let a = stage.tab_at("a", PAGE).await?;
        a.dress(Width::Phone, Look::Dark).await?;
        let seen = a.run("return [innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]").await?;
        assert_eq!(seen[1], json!(true));
        a.click("button").await?;
        a.until("the button is hit", "document.querySelector('button').textContent === 'hit'").await?;
        a.type_into("input", "hello").await?;
        assert_eq!(a.text_of("return document.querySelector('input').value").await?, "hello");
        a.run("console.error('a word')").await?;
        assert!(a.console().await?.iter().any(|line| line.contains("a word")));
        let picture = a.screenshot("harness").await?;
        assert!(std::fs::read(&picture)?.starts_with(b"\x89PNG"));
        std::fs::remove_file(picture)?;
        Ok(())
    });
}
