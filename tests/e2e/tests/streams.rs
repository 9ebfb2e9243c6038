//! `opened`, `closed`, `readable`, `writable`, iteration and `getStats()`, with the ends of a socket in two tabs.

use anyhow::Result;
use serde_json::{Value, json};
use tunnel_e2e::{Stage, Tab, on_stage};

/// The bytes that may be between a writer and a reader that has stopped: what `writable` takes ahead, the reader's
/// window, which has grown to no more than 1 MiB, and the message that was one too many.
const ON_THE_WAY: u64 = (256 + 1024 + 64) * 1024;

/// A server tab whose only socket becomes `socket` there, and a client tab with its `socket`.
async fn pair(stage: &Stage) -> Result<(Tab<'_>, Tab<'_>)> {
    let server = stage.tab("server").await?;
    let id = server
        .run(
            "globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
             globalThis.accepted = new Promise(resolve => server.listen(1, resolve, { protocols: ['chat'] }))
             accepted.then(socket => { globalThis.socket = socket })
             return server.serverId",
        )
        .await?;
    let client = stage.tab("client").await?;
    let script = "globalThis.socket = PeerToPeerWebSocket.toPort(1, given, relay, { protocols: 'chat' })
                  await socket.opened";
    client.run_with(id, script).await?;
    server.run("await accepted").await?;
    Ok((server, client))
}

#[test]
fn a_reader_that_stops_stops_the_sender_in_the_other_tab_with_little_on_the_way() {
    on_stage(async |stage| {
        let (server, client) = pair(stage).await?;
        server.run("globalThis.reader = socket.readable.getReader()").await?;
        // 16 MiB, twelve times what may be on the way.
        client
            .run(
                "globalThis.written = 0
                 globalThis.writing = (async () => {
                   const writer = socket.writable.getWriter()
                   for (let n = 0; n < 256; n++) { await writer.write(new Uint8Array(65536).fill(n)); written++ }
                   await writer.close()
                 })()
                 for (let before = -1; before !== written; ) {
                   before = written
                   await new Promise(resolve => setTimeout(resolve, 500))
                 }",
            )
            .await?;
        let sent = client.run("return [socket.getStats().bytesSent, socket.bufferedAmount]").await?;
        let sent_bytes = sent[0].as_u64().unwrap_or(u64::MAX);
        let arrived =
            server.run("return socket.getStats().bytesReceived").await?.as_u64().unwrap_or_default();
        // Nothing was read: all that arrived waits in the reader's tab, within its window.
        eprintln!("{sent_bytes} bytes sent, {arrived} of them in the reader's tab, {} buffered", sent[1]);
        assert!(
            sent_bytes <= 2 * ON_THE_WAY,
            "{sent_bytes} bytes were taken of a sender whose reader has stopped"
        );
        assert!(arrived <= 1024 * 1024 + 65536, "{arrived} bytes are in a tab that reads nothing");

        let read = server
            .run(
                "let read = 0
                 for (;;) {
                   const { done, value } = await reader.read()
                   if (done) return [read, socket.getStats().bytesReceived]
                   if (!(value instanceof Uint8Array) || value.length !== 65536 || value[9] !== read) throw new Error(`${read}`)
                   read++
                 }",
            )
            .await?;
        assert_eq!(read, json!([256, 256 * 65536]));
        client.run("await writing").await?;
        Ok(())
    });
}

#[test]
fn the_promises_and_streams_have_the_shape_of_a_web_socket_streams() {
    on_stage(async |stage| {
        let (server, client) = pair(stage).await?;
        server.run("globalThis.reader = socket.readable.getReader()").await?;
        let shape = client
            .run(
                "const connection = await socket.opened
                 const { readable, writable, protocol, extensions } = connection
                 const writer = writable.getWriter()
                 await writer.write('text')
                 await writer.write(new Uint8Array([1, 2]))
                 await writer.write(new Uint8Array([3]).buffer)
                 await writer.write(new Blob(['b']))
                 return [Object.keys(connection).sort(), readable instanceof ReadableStream, writable instanceof WritableStream,
                   protocol, extensions, connection === await socket.opened, readable === socket.readable]",
            )
            .await?;
        let keys = ["extensions", "protocol", "readable", "writable"];
        assert_eq!(shape, json!([keys, true, true, "chat", "", true, true]));
        let heard = server
            .run(
                "const heard = []
                 while (heard.length < 4) {
                   const { value } = await reader.read()
                   heard.push(typeof value === 'string' ? value : [value.constructor === Uint8Array, ...value])
                 }
                 await reader.cancel()
                 return heard",
            )
            .await?;
        assert_eq!(heard, json!(["text", [true, 1, 2], [true, 3], [true, 98]]));
        let ended = client
            .run("return [await socket.closed, (await socket.readable.getReader().read()).done]")
            .await?;
        assert_eq!(ended, json!([{ "closeCode": 1005, "reason": "" }, true]));
        Ok(())
    });
}

#[test]
fn a_socket_that_fails_rejects_its_promises_and_breaks_its_streams() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let result = tab
            .run(
                "const server = await ForwardingServerWebSocket.newThrough(relay)
                 const socket = PeerToPeerWebSocket.toPort(9, server.serverId, relay)
                 const shown = promise => promise.then(() => 'nothing', ({ name, code, closeCode }) => [name, code, closeCode])
                 const { readable, writable } = socket
                 const stats = socket.getStats()
                 const results = await Promise.all([
                   socket.opened, socket.closed, readable.getReader().read(), writable.getWriter().write('x'),
                   socket[Symbol.asyncIterator]().next(),
                 ].map(shown))
                 return [results, Object.values(stats).length, socket.getStats().state]",
            )
            .await?;
        let error = json!(["TunnelError", "port-closed", 3702]);
        assert_eq!(result, json!([vec![error; 5], 11, "ended"]));
        Ok(())
    });
}

#[test]
fn the_counters_stay_when_the_socket_has_ended() {
    on_stage(async |stage| {
        let (server, client) = pair(stage).await?;
        server.run("socket.onmessage = ({ data }) => { socket.send('answer'); socket.close() }").await?;
        let stats =
            client.run("socket.send('grüße'); await next(socket, 'close'); return socket.getStats()").await?;
        let counted =
            ["bytesSent", "bytesReceived", "messagesSent", "messagesReceived", "reconnects", "state"];
        let counted: Vec<&Value> = counted.iter().map(|name| &stats[*name]).collect();
        assert_eq!(json!(counted), json!([7, 6, 1, 1, 0, "ended"]), "{stats}");
        Ok(())
    });
}
