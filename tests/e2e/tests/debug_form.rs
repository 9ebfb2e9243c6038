//! The debug form of the package.

use anyhow::{Result, ensure};
use serde_json::json;
use tunnel_e2e::{Relay, debug_package, in_tests, on_stage};

/// A relay that serves the debug form in the place of the package.
fn relay() -> Result<Relay> {
    let served = [("pkg", debug_package()?), ("e2e", in_tests("e2e/pages")?)]
        .map(|(path, folder)| format!("/{path}={}", folder.display()));
    Relay::serving(&["--www", &served[0], "--www", &served[1]])
}

#[test]
#[ignore = "`cargo xtask test --debug` builds what it needs"]
fn a_panic_says_in_words_what_happened_and_where() {
    on_stage(async |stage| {
        let relay = relay()?;
        let tab = stage.tab_through("tab", &relay.url).await?;
        // A fault that a page can bring about: its `send` closes the WebSocket, which the library is in the midst of using.
        let script = "
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, () => {})
            const socket = await opened(PeerToPeerWebSocket.toPort(1, server.serverId, relay))
            globalThis.ended = socket.closed.then(() => 'clean', ({ code, message }) => [code, message])
            WebSocket.prototype.send = function () { this.onclose(new CloseEvent('close')) }
            socket.send('a message')
            return ended";
        let end = tab.run(script).await?;
        ensure!(end[0] == json!("internal"), "{end}");
        let console = tab.console().await?.join("\n");
        for text in [end[1].as_str().unwrap_or_default(), &console] {
            for word in ["panicked at", "src/browser/driver.rs:", "already"] {
                ensure!(text.contains(word), "{word} is not in: {text}");
            }
        }
        // A function with its name, in the stack of the console.
        ensure!(console.contains("handle_link_closed"), "{console}");
        Ok(())
    });
}
