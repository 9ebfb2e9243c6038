//! Events and errors give the codes and texts of the table of errors.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tunnel_e2e::{in_tests, on_stage};

/// `closeCode` and `event.code` of a name, as docs/errors.md has them.
fn documented(name: &str) -> Result<[u64; 2]> {
    let page = fs::read_to_string(in_tests("../docs/errors.md")?)?;
    let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
    let cells = row.with_context(|| format!("no row of {name}"))?.split('|').map(str::trim);
    let cells = cells.skip(2).take(2).map(|cell| cell.parse().context(name.to_owned()));
    let cells = cells.collect::<Result<Vec<u64>>>()?;
    Ok([cells[0], cells[1]])
}

/// Ends of sockets: `[name, closeCode, event.code, the reason of the event, whether it was open]`.
const ENDS: &str = "
    const end = async (port, whenOpen = () => {}, options = {}) => {
      const socket = PeerToPeerWebSocket.toPort(port, given, relay, options)
      let wasOpen = false
      socket.onopen = () => { wasOpen = true; whenOpen(socket) }
      const { code, reason } = await next(socket, 'close')
      const info = await socket.closed.catch(error => error)
      return [info.code ?? null, info.closeCode, code, reason, wasOpen]
    }
    const ends = {}";

#[test]
fn the_codes_of_errors_and_of_events_are_those_of_the_table() {
    on_stage(async |stage| {
        let server = stage.tab("server").await?;
        let id = server
            .run(
                "globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
                 server.listen(1, () => {}, { accept: () => false })
                 server.listen(2, () => { throw new Error('on purpose') })
                 server.listen(3, socket => socket.abort('on purpose'))
                 server.listen(4, () => {}, { maxMessageSize: 10 })
                 server.listen(5, socket => { socket.onmessage = () => server.close() })
                 addEventListener('error', event => event.preventDefault())
                 return server.serverId",
            )
            .await?;
        let client = stage.tab("client").await?;
        let while_there = format!(
            "{ENDS}
             ends['port-closed'] = await end(9)
             ends.refused = await end(1)
             ends.internal = await end(2)
             ends['aborted'] = await end(3)
             ends['too-big'] = await end(4, socket => socket.send('eleven bytes'))
             ends['going-away'] = await end(5, socket => socket.send('close'))
             return ends"
        );
        let ends = client.run_with(id.clone(), &while_there).await?;
        let mut ends = ends.as_object().context("an object")?.clone();
        // While it closes it refuses.
        server.run("await server.close()").await?;
        let afterwards = client.run_with(id, &format!("{ENDS}\n return end(5)")).await?;
        ends.insert("server-not-found".to_owned(), afterwards);
        assert_eq!(ends.len(), 7);
        for (name, end) in &ends {
            let [close_code, event_code] = documented(name)?;
            let was_open = end[4] == Value::Bool(true);
            // A clean end has no error.
            let known = if end[0].is_null() { json!(event_code) } else { json!(close_code) };
            assert_eq!(end[1], known, "closeCode of {name}: {end}");
            assert_eq!(end[2], if was_open { event_code } else { 1006 }, "event.code of {name}: {end}");
            let reason = end[3].as_str().unwrap_or_default();
            assert!(was_open || reason.starts_with(name.as_str()), "the event's reason of {name}: {end}");
            assert!(end[0].is_null() || end[0] == name.as_str(), "code of {name}: {end}");
        }
        let open = ends.values().filter(|end| end[4] == Value::Bool(true)).count();
        assert_eq!(open, 4, "of sockets that were open");
        Ok(())
    });
}
