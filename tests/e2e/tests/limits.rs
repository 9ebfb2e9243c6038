//! Limits: the number of clients of a server, and the length of messages.

use anyhow::ensure;
use serde_json::json;
use tunnel_e2e::on_stage;

#[test]
fn a_server_takes_as_many_clients_as_it_says_and_the_next_hears_why_not() {
    on_stage(async |stage| {
        let (server, client) = (stage.tab("server").await?, stage.tab("client").await?);
        let host = "
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay, { maxClients: 2 })
            server.listen(1, () => {})
            return server.serverId";
        let id = server.run(host).await?;
        let connect = "
            globalThis.sockets = []
            for (let n = 0; n < 2; n++) sockets.push(await opened(PeerToPeerWebSocket.toPort(1, given, relay)))
            return PeerToPeerWebSocket.toPort(1, given, relay).opened.catch(error => [error.code, error.message])";
        let refused = client.run_with(id.clone(), connect).await?;
        ensure!(refused[0] == json!("try-again-later"), "{refused}");
        ensure!(refused[1].as_str().is_some_and(|message| message.contains("2 clients")), "{refused}");
        let again = "
            sockets[0].close()
            await next(sockets[0], 'close')
            await opened(PeerToPeerWebSocket.toPort(1, given, relay))";
        client.run_with(id, again).await?;
        Ok(())
    });
}

#[test]
fn a_message_that_is_longer_than_the_receiver_takes_closes_both_ends_with_1009() {
    on_stage(async |stage| {
        let (server, client) = (stage.tab("server").await?, stage.tab("client").await?);
        let host = "
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay, { maxMessageSize: 2000 })
            globalThis.codes = []
            const serve = socket => {
              socket.onclose = ({ code }) => codes.push(code)
              socket.onmessage = ({ data }) => socket.send(data)
            }
            server.listen(1, serve)
            server.listen(2, serve, { maxMessageSize: 3000 })
            return server.serverId";
        let id = server.run(host).await?;
        let send = "
            const send = async (port, length, options) => {
              const socket = await opened(PeerToPeerWebSocket.toPort(port, given, relay, options))
              const heard = Promise.race([
                next(socket, 'message').then(() => 'message'),
                next(socket, 'close').then(({ code, reason }) => `${code} ${reason}`),
              ])
              socket.send(new Uint8Array(length))
              return heard
            }
            return [
              await send(1, 2000), await send(1, 2001),
              await send(2, 3000), await send(2, 3001),
              await send(2, 1000, { maxMessageSize: 1000 }), await send(2, 1001, { maxMessageSize: 1000 }),
            ]";
        let heard = client.run_with(id, send).await?;
        let limit = |len: u32, max: u32| {
            format!("1009 a message of {len} bytes exceeds the receiver's limit of {max} bytes")
        };
        let expected =
            json!(["message", limit(2001, 2000), "message", limit(3001, 3000), "message", limit(1001, 1000)]);
        ensure!(heard == expected, "{heard}");
        server.until("the ends of three sockets", "codes.length === 3").await?;
        ensure!(server.run("return codes").await? == json!([1009, 1009, 1009]));
        Ok(())
    });
}

#[test]
fn limits_that_are_none_are_refused_with_their_name() {
    on_stage(async |stage| {
        let tab = stage.tab("server").await?;
        let script = "
            const refused = async act => { try { await act(); return '' } catch (error) { return `${error.name}: ${error.message}` } }
            return [
              await refused(() => ForwardingServerWebSocket.newThrough(relay, { maxClients: 0 })),
              await refused(() => ForwardingServerWebSocket.newThrough(relay, { maxMessageSize: 'much' })),
            ]";
        let refused = tab.run(script).await?;
        let expected = [
            "TypeError: maxClients is 0: expected a number, 1 or more",
            "TypeError: maxMessageSize is much: expected a number, 1 or more",
        ];
        ensure!(refused == json!(expected), "{refused}");
        Ok(())
    });
}
