//! Long paths, many subprotocols, clients that offer none, and some that are only recordings.

use anyhow::Context;
use serde_json::json;
use tunnel_e2e::{Attacker, on_stage};

#[test]
fn a_path_of_8_kib_and_40_subprotocols_of_1_kib_arrive_and_more_than_possible_is_a_syntax_error() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const server = await ForwardingServerWebSocket.newThrough(relay)
            const protocols = Array.from({ length: 40 }, (_, index) => `${index}-`.padEnd(1024, 'p'))
            const many = Array.from({ length: 64 }, (_, index) => `protocol${index}`)
            const path = `/hub?access_token=${'t'.repeat(8192)}`
            server.listen(1, socket => socket.send(socket.path === path ? 'whole' : socket.path), {
              protocols: offered => offered.at(-1),
            })
            const connect = async protocols => {
              const socket = new PeerToPeerWebSocket(`${server.url}/1${path}`, protocols)
              const { data } = await next(socket, 'message')
              return [socket.protocol === protocols.at(-1), data]
            }
            const name = action => { try { action(); return 'nothing' } catch (error) { return [error.name, error.message] } }
            const results = [await connect(protocols), await connect(many)]
            results.push(
              name(() => new PeerToPeerWebSocket(`${server.url}/1/${'p'.repeat(20000)}`)),
              name(() => new PeerToPeerWebSocket(`${server.url}/1`, ['p'.repeat(1025)])),
              name(() => new PeerToPeerWebSocket(`${server.url}/1`, [...many, 'one'])),
              name(() => PeerToPeerWebSocket.toPort(1, server.serverId, relay, { protocols: [...many, 'one'] })),
            )
            await server.close()
            return results";
        let results = tab.run(script).await?;
        assert_eq!((&results[0], &results[1]), (&json!([true, "whole"]), &json!([true, "whole"])));
        for (result, told) in
            [(2, "path and query"), (3, "1025 bytes"), (4, "65 subprotocols"), (5, "at most 64")]
        {
            assert_eq!(results[result][0], json!("SyntaxError"), "{results}");
            assert!(results[result][1].as_str().is_some_and(|message| message.contains(told)), "{results}");
        }
        Ok(())
    });
}

#[test]
fn a_server_with_subprotocols_refuses_who_offers_none_of_them() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const server = await ForwardingServerWebSocket.newThrough(relay, { protocols: ['chat'] })
            server.listen(1, () => {})
            server.listen(2, () => {}, { protocols: () => undefined })
            const connect = async (port, protocols) => {
              const socket = PeerToPeerWebSocket.toPort(port, server.serverId, relay, { protocols })
              return socket.opened.then(() => 'open', ({ code, closeCode }) => [code, closeCode])
            }
            const results = [await connect(1), await connect(1, ['other']), await connect(1, ['other', 'chat']), await connect(2)]
            await server.close()
            return results";
        let refused = json!(["refused", 3703]);
        assert_eq!(tab.run(script).await?, json!([refused, refused, "open", "open"]));
        Ok(())
    });
}

#[test]
fn a_recorded_handshake_reaches_accept_unverified_and_never_becomes_a_socket() {
    on_stage(async |stage| {
        let host = "
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay, { identity: 'shop' })
            globalThis.asked = []
            globalThis.served = []
            const accept = ({ verified, remoteId }) => asked.push([verified, remoteId])
            server.listen(1, socket => {
              served.push([socket.verified, socket.remoteId])
              socket.onmessage = ({ data }) => socket.send(data)
            }, { accept })
            return server.serverId";
        let earlier = stage.tab("earlier").await?;
        let id = earlier.run(host).await?;
        let name = id.as_str().context("an ID")?;
        let mut attacker = Attacker::connect(stage.relay()?.address()?, name, 0).await?;
        let recorded = attacker.handshake()?.2;
        attacker.knock(recorded.clone()).await?;
        earlier.until("the handshake itself", "asked.length === 1").await?;
        earlier.run("await server.close()").await?;

        // Another page under the same identity has not seen it.
        let server = stage.tab("server").await?;
        assert_eq!(server.run(host).await?, id);
        attacker.knock(recorded).await?;
        server.until("the recording", "asked.length === 1").await?;
        let client = stage.tab("client").await?;
        let echo = "
            globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
            const answer = next(socket, 'message')
            socket.send('hello')
            return (await answer).data";
        assert_eq!(client.run_with(id, echo).await?, json!("hello"));
        let (asked, served) = (server.run("return asked").await?, server.run("return served").await?);
        assert_eq!(
            (&asked[0][0], &asked[1][0]),
            (&json!(false), &json!(false)),
            "a key in an offer proves nothing"
        );
        assert_ne!(asked[0][1], asked[1][1]);
        assert_eq!(served, json!([[true, asked[1][1]]]), "who answers is in");
        Ok(())
    });
}
