//! Pages with libraries that change what the package stands on: the real ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tunnel_e2e::{https_server, in_tests, on_stage};

/// A frame, which has classes and prototypes of its own: `page` is its window.
const FRAME: &str = "
    const page = document.body.appendChild(document.createElement('iframe')).contentWindow
    const load = async () => {
      const library = await page.eval(`import('/pkg/tunnel_wasm.js')`)
      await library.default({ warmUp: false })
      return library
    }";

/// A class in the place of the platform's in that frame, which says what goes through it.
const WATCHED: &str = "
    const sockets = []
    const sent = []
    page.WebSocket = class extends page.WebSocket {
      constructor(...given) { super(...given); sockets.push(this) }
      send(data) { super.send(data); sent.push(data) }
    }";

/// Has what every runtime has to do done in a page where `scripts` ran first; then `look` says what is `expected`.
fn talks_behind(scripts: &[&str], look: &str, expected: &Value) {
    talks_between(scripts, "", look, expected);
}

/// The same, with `start` evaluated in the page when the package has been loaded.
fn talks_between(scripts: &[&str], start: &str, look: &str, expected: &Value) {
    let texts =
        scripts.iter().map(|path| fs::read_to_string(path).with_context(|| format!("cannot read {path}")));
    let texts = texts.collect::<Result<Vec<_>>>().expect("`cargo xtask setup` installs it");
    let talk = in_tests("runtimes/talk.mjs").and_then(|path| Ok(fs::read_to_string(path)?));
    let talk = talk.expect("it is in the repository");
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{FRAME}
            for (const textContent of given.texts) {{
              page.document.head.append(Object.assign(page.document.createElement('script'), {{ textContent }}))
            }}
            page.talk = URL.createObjectURL(new Blob([given.talk], {{ type: 'text/javascript' }}))
            const {{ talk }} = await page.eval('import(talk)')
            const library = await load()
            page.eval(given.start)
            await talk(library, relay)
            return page.eval(given.look)"
        );
        let given = json!({ "texts": texts, "talk": talk, "start": start, "look": look });
        assert_eq!(tab.run_with(given, &script).await?, *expected);
        Ok(())
    });
}

#[test]
fn nothing_is_lost_in_a_page_whose_events_go_through_zone_js() {
    let zone = in_tests("runtimes/node_modules/zone.js/bundles/zone.umd.js").unwrap();
    let look = "Zone.current.name";
    talks_behind(&[zone.to_str().unwrap()], look, &json!("<root>"));
}

#[test]
fn subprotocols_are_offered_in_a_page_where_prototype_js_has_its_own_array_from() {
    let look = "Array.from(new Set([1])).length";
    talks_behind(&["/usr/share/javascript/prototype/prototype.js"], look, &json!(0));
}

#[test]
fn events_are_fired_in_a_page_where_mootools_has_its_own_event_and_array_from() {
    let look = "[Array.from(new Set([1]))[0] === 1, Event === DOMEvent]";
    talks_behind(&["/usr/share/javascript/mootools/mootools.js"], look, &json!([false, true]));
}

#[test]
fn a_page_may_add_any_property_to_the_prototype_of_all_objects() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("pollution.js");
    let names = "extend depth value writable open message close error connection";
    let text = format!("for (const name of '{names}'.split(' ')) Object.prototype[name] = name");
    fs::write(&script, text).unwrap();
    talks_behind(&[script.to_str().unwrap()], "({}).extend", &json!("extend"));
}

/// The clock that Jest, vitest and Sinon put in the place of the platform's, as a script.
fn fake_clock(folder: &Path) -> Result<String> {
    let script = folder.join("clock.js");
    let output = Command::new(in_tests("node_modules/.bin/esbuild")?)
        .arg(in_tests("runtimes/node_modules/@sinonjs/fake-timers")?)
        .args(["--bundle", "--format=iife", "--global-name=FakeTimers", "--log-level=error"])
        // It looks for this in Node.js.
        .args(["--external:util", "--external:timers", "--external:timers/promises"])
        .arg(format!("--outfile={}", script.display()))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(script.display().to_string())
}

#[test]
fn a_fake_clock_that_jumps_an_hour_at_a_time_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = fake_clock(folder.path()).unwrap();
    let start = "
        const { setInterval } = globalThis
        globalThis.clock = FakeTimers.install()
        let jumps = 0
        setInterval(() => { jumps++; clock.tick(3_600_000) }, 5)
        globalThis.hasJumped = () => jumps > 0";
    talks_between(&[&clock], start, "hasJumped()", &json!(true));
}

#[test]
fn a_fake_clock_that_stands_still_since_before_the_package_was_loaded_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = fake_clock(folder.path()).unwrap();
    let install = folder.path().join("install.js");
    fs::write(&install, "FakeTimers.install(); globalThis.begun = performance.now()").unwrap();
    let look = "performance.now() - begun";
    talks_behind(&[&clock, install.to_str().unwrap()], look, &json!(0));
}

#[test]
fn a_hidden_page_probes_its_link_when_the_network_is_back() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{FRAME}{WATCHED}
            const {{ ForwardingServerWebSocket, PeerToPeerWebSocket }} = await load()
            const server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, () => {{}})
            const socket = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
            await socket.opened
            Object.defineProperty(page.document, 'hidden', {{ value: true }})
            const said = event => {{
              sent.length = 0
              event()
              return sent.length > 0
            }}
            return [
              said(() => page.document.dispatchEvent(new Event('visibilitychange'))),
              said(() => page.dispatchEvent(new Event('online'))),
            ]"
        );
        assert_eq!(tab.run(&script).await?, json!([false, true]));
        Ok(())
    });
}

#[test]
fn an_https_page_dials_a_relay_on_its_machine_once_for_all_sockets() {
    on_stage(async |stage| {
        let (_program, url) = https_server()?;
        let tab = stage.tab_at("secure", &format!("{url}/e2e/tab.html")).await?;
        let relay = json!(stage.relay()?.url);
        // Another address makes it another module, which takes this class for the platform's.
        let script = format!(
            "const page = globalThis
            {WATCHED}
            const library = await load('/pkg/tunnel_wasm.js#watched')
            await library.default({{ warmUp: false }})
            const server = await library.ForwardingServerWebSocket.newThrough(given)
            server.listen(1, () => {{}})
            const counts = []
            for (let n = 0; n < 3; n++) {{
              await library.PeerToPeerWebSocket.toPort(1, server.serverId, given).opened
              counts.push(sockets.length)
            }}
            return counts"
        );
        // One finds out whether the browser allows it; one is the server's, and one the clients'.
        assert_eq!(tab.run_with(relay, &script).await?, json!([3, 3, 3]));
        Ok(())
    });
}

/// The package's module with memory of 2,048 pages at most, which are 128 MiB.
const SMALL: &str = "
    const small = async () => {
      const given = new Uint8Array(await (await fetch('/pkg/tunnel_wasm_bg.wasm')).arrayBuffer())
      let at = 8
      const number = () => {
        let value = 0
        for (let shift = 1; ; shift *= 128) {
          const byte = given[at++]
          value += (byte & 127) * shift
          if (byte < 128) return value
        }
      }
      for (;;) {
        const begin = at
        const id = given[at++]
        const end = number() + at
        if (id === 5) {
          // One memory, with a maximum.
          const [, , pages] = given.subarray(at, end)
          return new Uint8Array([...given.subarray(0, begin), 5, 5, 1, 1, pages, 128, 16, ...given.subarray(end)])
        }
        at = end
      }
    }";

#[test]
fn a_message_that_the_module_cannot_hold_is_a_range_error_and_nothing_else_is_lost() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{SMALL}
            // Another address makes it another module.
            const library = await load('/pkg/tunnel_wasm.js?small')
            await library.default({{ module_or_path: await small(), warmUp: false }})
            const server = await library.ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, socket => {{ socket.onmessage = ({{ data }}) => socket.send(data) }})
            const socket = library.PeerToPeerWebSocket.toPort(1, server.serverId, relay)
            await socket.opened
            const heard = []
            const all = new Promise(resolve => {{
              socket.onmessage = ({{ data }}) => heard.push(data) === 5 && resolve()
            }})
            const mebibytes = 80
            const size = mebibytes << 20
            const names = []
            for (const message of [new ArrayBuffer(size), 'x'.repeat(size), new Blob([new ArrayBuffer(size)]), new ArrayBuffer(2 ** 31)]) {{
              socket.send(`before ${{names.length}}`)
              try {{ socket.send(message) }} catch (error) {{ names.push(error.name) }}
            }}
            socket.send('behind')
            await all
            await server.close()
            return [names, heard]"
        );
        let names = ["RangeError"; 4];
        let heard = ["before 0", "before 1", "before 2", "before 3", "behind"];
        assert_eq!(tab.run(&script).await?, json!([names, heard]));
        Ok(())
    });
}
