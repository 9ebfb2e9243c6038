//! A server in one tab, clients in others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tunnel_e2e::{Engine, Relay, Stage, Tab, UnusedAddress, on_stage};

/// Opens a tab with a server that answers each message with the same, and returns its server ID too.
async fn echo_server<'a>(stage: &'a Stage, ports: &str) -> Result<(Tab<'a>, Value)> {
    let tab = stage.tab("server").await?;
    let id = tab
        .run(&format!(
            "globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
             globalThis.heard = []
             globalThis.sockets = []
             globalThis.listener = server.listen({ports}, socket => {{
               sockets.push(socket)
               socket.onmessage = event => {{ heard.push(event.data); socket.send(event.data) }}
             }})
             return server.serverId"
        ))
        .await
        .context("the server does not come up")?;
    Ok((tab, id))
}

/// Connects and returns all events up to the close, for what is expected not to open.
const REFUSED: &str = "
  const socket = PeerToPeerWebSocket.toPort(given.port, given.id, given.relay ?? relay, given.options)
  const events = record(socket)
  if (socket.readyState !== 0) throw new Error(`not connecting at first: ${socket.readyState}`)
  await next(socket, 'close')
  return { events, readyState: socket.readyState }";

/// Checks that there was an `error` and then a `close` 1006 that is not clean; returns its reason.
fn refusal(result: &Value) -> &str {
    assert_eq!(result["readyState"], json!(3), "{result}");
    assert_eq!(result["events"][0], json!(["error"]), "{result}");
    let close = &result["events"][1];
    assert_eq!((&close[0], &close[1], &close[3]), (&json!("close"), &json!(1006), &json!(false)), "{result}");
    assert_eq!(result["events"].as_array().map(Vec::len), Some(2), "{result}");
    close[2].as_str().unwrap_or_default()
}

/// A page may put the class in the place of the platform's, and code of its own around that.
#[test]
fn the_class_works_in_place_of_the_platforms_and_through_a_wrapped_one() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let by_class = "class extends page.WebSocket {
          send(data) {
            super.send(data)
            keep(data)
          }
        }";
        // Says of itself that it is native code.
        let by_proxy = "(() => {
          const { prototype } = page.WebSocket
          const apply = (send, socket, [data]) => {
            Reflect.apply(send, socket, [data])
            keep(data)
          }
          prototype.send = new Proxy(prototype.send, { apply })
          return page.WebSocket
        })()";
        for wrapper in [by_class, by_proxy] {
            let script = format!(
                "const wrap = (page, keep) => {wrapper}
            {THROUGH_A_WRAPPED_ONE}"
            );
            assert_eq!(tab.run(&script).await?, json!(["hello", true, 0, 0]), "{wrapper}");
        }
        Ok(())
    });
}

const THROUGH_A_WRAPPED_ONE: &str = "
            const frame = document.body.appendChild(document.createElement('iframe'))
            const page = frame.contentWindow
            page.kept = []
            page.Native = page.WebSocket
            page.WebSocket = wrap(page, data => page.kept.push([data, new Uint8Array(data).join()]))
            const load = page.eval(`import('/pkg/tunnel_wasm.js')`)
            const { default: init, ForwardingServerWebSocket, PeerToPeerWebSocket } = await load
            await init({ warmUp: false })
            page.WebSocket = PeerToPeerWebSocket
            const server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, socket => { socket.onmessage = ({ data }) => socket.send(data) })
            const socket = new page.WebSocket(`${server.url}/1`)
            const echoed = await new Promise((resolve, reject) => {
              socket.onopen = () => socket.send('hello')
              socket.onmessage = ({ data }) => resolve(data)
              socket.onclose = ({ reason }) => reject(new Error(reason))
            })
            // The memory that a WebSocket was given belongs to the message, and nobody has written over it.
            const changed = page.kept.filter(([data, bytes]) => new Uint8Array(data).join() !== bytes)
            const shared = page.kept.filter(([data]) => data.buffer.byteLength !== data.byteLength)
            return [echoed, page.kept.length > 3, changed.length, shared.length]";

/// Fresh memory for each frame halves what a page can send.
#[test]
fn frames_are_not_copied_on_their_way_to_the_platforms_own_websocket() {
    on_stage(async |stage| {
        let (_server, id) = echo_server(stage, "1337").await?;
        let script = "
            const socket = PeerToPeerWebSocket.toPort(1337, given, relay)
            socket.binaryType = 'arraybuffer'
            await opened(socket)
            const message = new Uint8Array(1 << 20)
            let copies = 0
            // Frames have at most 64 KiB; the message that comes back is longer, and has to be copied once.
            const isFrame = bytes => ArrayBuffer.isView(bytes) && bytes.byteLength > 10_000 && bytes.byteLength <= 65_536
            globalThis.Uint8Array = new Proxy(Uint8Array, {
              construct(Class, given) {
                if (isFrame(given[0])) copies++
                return Reflect.construct(Class, given)
              },
            })
            socket.send(message)
            const { data } = await next(socket, 'message')
            return [copies, data.byteLength]";
        let client = stage.tab("client").await?;
        assert_eq!(client.run_with(id, script).await?, json!([0, 1 << 20]));
        Ok(())
    });
}

/// Timers took a sixth of a page's time in a round trip.
#[test]
fn messages_arm_no_timers_unless_the_page_reads_buffered_amount() {
    on_stage(async |stage| {
        let (_server, id) = echo_server(stage, "1337").await?;
        let script = "
            const socket = PeerToPeerWebSocket.toPort(1337, given, relay)
            await opened(socket)
            const echo = async () => {
              const answer = next(socket, 'message')
              socket.send('hello')
              return answer
            }
            await echo()
            const native = setTimeout
            let timers = 0
            globalThis.setTimeout = (...given) => {
              timers++
              return native(...given)
            }
            for (let i = 0; i < 200; i++) await echo()
            const armed = timers
            // It falls for a page that reads it.
            socket.onmessage = null
            socket.send('a'.repeat(1000))
            const first = socket.bufferedAmount
            while (socket.bufferedAmount > 0) await new Promise(resolve => native(resolve, 1))
            return [armed < 20, first]";
        let client = stage.tab("client").await?;
        assert_eq!(client.run_with(id, script).await?, json!([true, 1000]));
        Ok(())
    });
}

#[test]
fn text_binary_and_blob_travel_both_ways_between_a_server_and_two_clients() {
    on_stage(async |stage| {
        let (server, id) = echo_server(stage, "1337").await?;
        let script = "
            globalThis.socket = PeerToPeerWebSocket.toPort(1337, given, relay)
            await opened(socket)
            const answers = []
            for (const message of ['grüße 🚇', new Uint8Array([0, 1, 255]), new Blob(['blob of ', name])]) {
              socket.send(message)
              const { data } = await next(socket, 'message')
              answers.push(data instanceof Blob ? ['Blob', await data.text(), data.size] : [typeof data, data])
            }
            socket.binaryType = 'arraybuffer'
            socket.send(new DataView(new Uint8Array([9, 8, 7, 6]).buffer, 1, 2))
            const { data } = await next(socket, 'message')
            answers.push([data.constructor.name, ...new Uint8Array(data)])
            return answers";
        for name in ["one", "two"] {
            let client = stage.tab(name).await?;
            client.run_with(json!(name), "globalThis.name = given").await?;
            let answers = client.run_with(id.clone(), script).await?;
            let expected = json!([
                ["string", "grüße 🚇"],
                ["Blob", "\u{0}\u{1}\u{fffd}", 3],
                ["Blob", format!("blob of {name}"), 11],
                ["ArrayBuffer", 8, 7],
            ]);
            assert_eq!(answers, expected, "client {name}");
        }
        let kinds =
            server.run("return heard.map(data => data instanceof Blob ? 'Blob' : typeof data)").await?;
        assert_eq!(kinds, json!(["string", "Blob", "Blob", "Blob", "string", "Blob", "Blob", "Blob"]));
        Ok(())
    });
}

#[test]
fn messages_arrive_in_order_while_both_sides_send() {
    on_stage(async |stage| {
        let (_server, id) = echo_server(stage, "1").await?;
        let client = stage.tab("client").await?;
        let in_order = client
            .run_with(
                id,
                "const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
                 const sizes = Array.from({ length: 500 }, (_, n) => (n * n * 37) % 9000)
                 const answers = []
                 const all = new Promise(resolve => {
                   socket.onmessage = ({ data }) => { answers.push(data); if (answers.length === sizes.length) resolve() }
                 })
                 sizes.forEach((size, n) => socket.send(`${n}:${'x'.repeat(size)}`))
                 await all
                 return answers.every((data, n) => data === `${n}:${'x'.repeat(sizes[n])}`)",
            )
            .await?;
        assert_eq!(in_order, json!(true));
        Ok(())
    });
}

#[test]
fn a_file_of_64_mib_arrives_with_the_same_digest() {
    on_stage(async |stage| {
        let server = stage.tab("server").await?;
        let id = server
            .run(
                "globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
                 server.listen(1, socket => {
                   socket.onmessage = async ({ data }) => socket.send(`${data.size} ${await sha256(data)}`)
                 })
                 return server.serverId",
            )
            .await?;
        let client = stage.tab("client").await?;
        let script = "
            const file = new File([noise(64 * 1024 * 1024)], 'noise')
            const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
            socket.send(file)
            const closed = next(socket, 'close').then(event => { throw new Error(`${event.code} ${event.reason}`) })
            const { data } = await Promise.race([next(socket, 'message'), closed])
            return [data, `${file.size} ${await sha256(file)}`]";
        let digests = client.run_within(Duration::from_secs(120), id, script).await?;
        assert_eq!(digests[0], digests[1]);
        assert!(digests[0].as_str().is_some_and(|text| text.starts_with("67108864 ")), "{digests}");
        Ok(())
    });
}

#[test]
fn two_ports_and_a_range_are_served_apart_on_one_server() {
    on_stage(async |stage| {
        let server = stage.tab("server").await?;
        let id = server
            .run(
                "globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
                 const greet = word => socket => socket.send(`${word} ${socket.port}`)
                 server.listen(80, greet('web'))
                 server.listen([443, { first: 6000, last: 6009 }], greet('range'))
                 return server.serverId",
            )
            .await?;
        let client = stage.tab("client").await?;
        let greetings = client
            .run_with(
                id.clone(),
                "const greeting = async port => {
                   const socket = PeerToPeerWebSocket.toPort(port, given, relay)
                   const { data } = await next(socket, 'message')
                   return `${data} ${socket.port}`
                 }
                 return Promise.all([80, 443, 6000, 6009].map(greeting))",
            )
            .await?;
        assert_eq!(greetings, json!(["web 80 80", "range 443 443", "range 6000 6000", "range 6009 6009"]));

        let result = client.run_with(json!({ "id": id, "port": 6010 }), REFUSED).await?;
        assert!(refusal(&result).contains("6010"), "{result}");

        let taken = server
            .run("try { server.listen(6005, () => {}); return 'listens' } catch { return 'throws' }")
            .await?;
        assert_eq!(taken, json!("throws"), "a port of the range is taken");
        Ok(())
    });
}

#[test]
fn a_port_that_nobody_listens_on_is_an_error_and_a_close_that_name_it() {
    on_stage(async |stage| {
        let (_server, id) = echo_server(stage, "80").await?;
        let client = stage.tab("client").await?;
        let result = client.run_with(json!({ "id": id, "port": 81 }), REFUSED).await?;
        let reason = refusal(&result);
        assert!(reason.contains("81") && reason.contains("port-closed"), "{reason}");
        Ok(())
    });
}

#[test]
fn a_server_id_that_is_not_registered_is_an_error_and_a_close_that_say_so() {
    on_stage(async |stage| {
        let (server, id) = echo_server(stage, "80").await?;
        server.run("await server.close()").await?;
        let client = stage.tab("client").await?;
        let given = json!({ "id": id, "port": 80, "options": { "absentTimeout": 500 } });
        let result = client.run_with(given, REFUSED).await?;
        let reason = refusal(&result);
        assert!(reason.contains("80") && reason.contains("server-not-found"), "{reason}");
        Ok(())
    });
}

/// A proxy before the relay that takes no header longer than 256 bytes; returns its address, and how many it refused.
async fn terse_proxy(relay: SocketAddr) -> Result<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let refused = Arc::clone(&count);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await?);
                }
                if head.split(|&byte| byte == b'\n').any(|line| line.len() > 256) {
                    refused.fetch_add(1, Ordering::Relaxed);
                    return near.write_all(b"HTTP/1.1 431 Too Large\r\nconnection: close\r\n\r\n").await;
                }
                let mut far = TcpStream::connect(relay).await?;
                far.write_all(&head).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
            });
        }
    });
    Ok((address, refused))
}

#[test]
fn a_first_connection_opens_through_a_proxy_that_refuses_long_headers() {
    on_stage(async |stage| {
        let (_server, id) = echo_server(stage, "80").await?;
        let (proxy, refused) = terse_proxy(stage.relay()?.address()?).await?;
        let client = stage.tab("client").await?;
        let script = "
            const socket = PeerToPeerWebSocket.toPort(80, given.id, given.relay)
            await opened(socket)
            socket.send('through')
            return (await next(socket, 'message')).data";
        let answer = client.run_with(json!({ "id": id, "relay": format!("ws://{proxy}") }), script).await?;
        assert_eq!(answer, json!("through"));
        assert_eq!(refused.load(Ordering::Relaxed), 1);
        Ok(())
    });
}

#[test]
fn a_relay_that_is_not_running_is_an_error_and_a_close_and_a_rejection() {
    on_stage(async |stage| {
        let (_server, id) = echo_server(stage, "80").await?;
        let client = stage.tab("client").await?;
        let unused = UnusedAddress::take()?;
        let nowhere = format!("ws://{}", unused.address());
        let given = json!({ "id": id, "port": 80, "relay": nowhere, "options": { "resumeTimeout": 1000 } });
        let result = client.run_with(given, REFUSED).await?;
        let reason = refusal(&result);
        let nobody = format!("no relay answers at {nowhere}/: is it running");
        assert!(reason.starts_with("relay-unreachable: port 80 of server "), "{reason}");
        assert!(reason.contains(&nobody), "{reason}");

        let code = client
            .run_with(
                json!(nowhere),
                "try { await ForwardingServerWebSocket.newThrough(given); return 'registered' }
                 catch (error) { return `${error.name} ${error.code}: ${error.message}` }",
            )
            .await?;
        let told = code
            .as_str()
            .is_some_and(|text| text.starts_with(&format!("TunnelError relay-unreachable: {nobody}")));
        assert!(told, "{code}");
        Ok(())
    });
}

#[test]
fn an_error_has_the_real_close_code_where_the_close_event_has_1006() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let unused = UnusedAddress::take()?;
        let nowhere = format!("ws://{}", unused.address());
        let script = "
            const server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, () => {}, { accept: () => false })
            const end = async (port, relay) => {
              const socket = PeerToPeerWebSocket.toPort(port, server.serverId, relay, { resumeTimeout: 1000 })
              const { code } = await next(socket, 'close')
              const [opened, closed] = await Promise.all([socket.opened, socket.closed].map(end => end.catch(error => error)))
              return [code, closed.code, closed.closeCode, opened === closed]
            }
            return [await end(1, relay), await end(2, relay), await end(1, given)]";
        let expected = json!([
            [1006, "refused", 3703, true],
            [1006, "port-closed", 3702, true],
            [1006, "relay-unreachable", 3712, true]
        ]);
        assert_eq!(tab.run_with(json!(nowhere), script).await?, expected);
        Ok(())
    });
}

#[test]
fn clients_hear_from_a_server_tab_that_it_was_closed() {
    on_stage(async |stage| {
        let (server, id) = echo_server(stage, "1").await?;
        let one = stage.tab("one").await?;
        let two = stage.tab("two").await?;
        for client in [&one, &two] {
            let script = "
                const options = { absentTimeout: 3000 }
                const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay, options))
                globalThis.events = record(socket)
                globalThis.ended = next(socket, 'close')";
            client.run_with(id.clone(), script).await?;
        }
        server.close().await?;
        for client in [&one, &two] {
            let limit = Duration::from_secs(20);
            let events = client.run_within(limit, Value::Null, "await ended; return events").await?;
            let close = events.as_array().and_then(|events| events.last()).cloned().unwrap_or_default();
            // No time-out has this code: the server must have said so.
            let said = close[1] == 1001 && close[3] == true;
            // Firefox may have ended the WebSocket before the page heard that it was closed, and WebKitGTK before it has
            // written what the page sent then.
            let found_out = close[1] == 3701 && Engine::wanted()? != Engine::Chromium;
            assert!(close[0] == "close" && (said || found_out), "{events}");
        }
        Ok(())
    });
}

#[test]
fn a_server_that_closes_closes_its_clients_with_1001() {
    on_stage(async |stage| {
        let (server, id) = echo_server(stage, "1").await?;
        let client = stage.tab("client").await?;
        let script = "
            const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
            globalThis.events = record(socket)
            globalThis.ended = next(socket, 'close')";
        client.run_with(id, script).await?;
        server.run("await server.close()").await?;
        let events = client.run("await ended; return events").await?;
        assert_eq!((&events[0][1], &events[0][3]), (&json!(1001), &json!(true)), "{events}");
        assert_eq!(server.run("return [server.readyState, server.clients.size]").await?, json!([3, 0]));
        Ok(())
    });
}

#[test]
fn close_code_and_reason_reach_the_other_side_whoever_closes() {
    on_stage(async |stage| {
        let (server, id) = echo_server(stage, "1").await?;
        let client = stage.tab("client").await?;
        let connect = "
            globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
            globalThis.events = record(socket)
            globalThis.ended = next(socket, 'close')
            socket.send('here')
            await next(socket, 'message')";
        let watch = "const socket = sockets.at(-1)
                     globalThis.events = record(socket)
                     globalThis.ended = next(socket, 'close')";

        client.run_with(id.clone(), connect).await?;
        server.run(watch).await?;
        client.run("socket.close(4001, 'enough, thank you')").await?;
        for tab in [&server, &client] {
            let events = tab.run("await ended; return events.at(-1)").await?;
            assert_eq!(events, json!(["close", 4001, "enough, thank you", true]));
        }

        client.run_with(id, connect).await?;
        server.run(watch).await?;
        server.run("sockets.at(-1).close(4002, 'go')").await?;
        for tab in [&client, &server] {
            let events = tab.run("await ended; return events.at(-1)").await?;
            assert_eq!(events, json!(["close", 4002, "go", true]));
        }
        Ok(())
    });
}

#[test]
fn a_lost_connection_without_resumption_is_a_close_1006_and_no_error() {
    on_stage(async |stage| {
        let mut relay = Relay::start(&[])?;
        let tab = stage.tab_through("a", &relay.url).await?;
        let script = "
            const server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, () => {})
            globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, server.serverId, relay, { resumeTimeout: 0 }))
            globalThis.events = record(socket)
            globalThis.ended = next(socket, 'close')";
        tab.run(script).await?;
        relay.kill()?;
        let events = tab.run("await ended; return events").await?;
        assert_eq!(events.as_array().map(Vec::len), Some(1), "{events}");
        assert_eq!((&events[0][1], &events[0][3]), (&json!(1006), &json!(false)), "{events}");
        Ok(())
    });
}

#[test]
fn two_hundred_clients_talk_to_one_server() {
    on_stage(async |stage| {
        let (server, id) = echo_server(stage, "1").await?;
        let client = stage.tab("client").await?;
        let script = "
            const conversation = async n => {
              const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
              socket.send(`client ${n}`)
              const { data } = await next(socket, 'message')
              return data === `client ${n}`
            }
            const all = await Promise.all(Array.from({ length: 200 }, (_, n) => conversation(n)))
            return all.filter(Boolean).length";
        let answered = client.run_within(Duration::from_secs(90), id, script).await?;
        assert_eq!(answered, json!(200));
        assert_eq!(server.run("return [server.clients.size, new Set(heard).size]").await?, json!([200, 200]));
        Ok(())
    });
}
