//! `tunnel-wasm/serve`: HTTP from tab to tab.

use std::time::Duration;

use serde_json::json;
use tunnel_e2e::on_stage;

/// For all cases together, each of which makes some connections.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn requests_and_responses_pass_as_they_were_made_and_bad_frames_reach_nobody() {
    on_stage(async |stage| {
        let tab = stage.tab("both ends").await?;
        let script = "const [http, { cases }] = await Promise.all([load('/pkg/serve.js'), load('/e2e/serve.js')])
                      const problems = []
                      const all = Object.entries(cases(http, globalThis, relay))
                      for (const [sentence, run] of all) {
                        const late = new Promise((_, reject) => setTimeout(reject, 20_000, new Error('no end')))
                        await Promise.race([run(), late]).catch(error => problems.push(`${sentence}: ${error.stack}`))
                      }
                      return { problems, count: all.length }";
        let result = tab.run_within(LIMIT, json!(null), script).await?;
        assert_eq!(result["problems"], json!([]), "of {} cases", result["count"]);
        assert!(
            result["count"].as_u64().is_some_and(|count| count > 15),
            "only {} cases ran",
            result["count"]
        );
        Ok(())
    });
}

#[test]
fn a_download_between_two_tabs_goes_on_over_a_relay_that_is_killed_and_started_again() {
    on_stage(async |stage| {
        let mut relay = tunnel_e2e::Relay::start(&[])?;
        let server = stage.tab("server").await?;
        let host = "const { serve } = await load('/pkg/serve.js')
                    globalThis.server = await ForwardingServerWebSocket.newThrough(given)
                    const whole = noise(16 * 1024 * 1024)
                    let sent = 0
                    globalThis.half = Promise.withResolvers()
                    serve(server, 80, () => new Response(new ReadableStream({
                      async pull(controller) {
                        if (sent === whole.length) return controller.close()
                        // The rest waits for the test, which kills the relay before.
                        if (sent === whole.length / 2) await half.promise
                        controller.enqueue(whole.slice(sent, sent += 65_536))
                      },
                    }, { highWaterMark: 0 })))
                    return { url: server.url, hash: await sha256(whole.buffer) }";
        let hosted = server.run_with(json!(relay.url), host).await?;
        let client = stage.tab("client").await?;
        let ask = "const { fetchThrough } = await load('/pkg/serve.js')
                   globalThis.arrived = 0
                   const response = await fetchThrough(`${given.url}/80/`)
                   const pieces = []
                   globalThis.hash = (async () => {
                     for await (const piece of response.body) {
                       pieces.push(piece)
                       arrived += piece.length
                     }
                     return sha256(new Blob(pieces))
                   })()";
        client.run_with(hosted.clone(), ask).await?;
        client.until("half of the download", "arrived >= 8 * 1024 * 1024").await?;
        relay.kill()?;
        server.run("half.resolve()").await?;
        relay.restart()?;
        let hash = client.run("return await globalThis.hash").await?;
        assert_eq!(hash, hosted["hash"], "the hash of what arrived");
        Ok(())
    });
}
