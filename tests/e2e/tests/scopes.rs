//! Servers and clients in each kind of scope: window, dedicated, shared and service worker.

use serde_json::json;
use tunnel_e2e::{livecode_server, on_stage};

#[test]
fn every_kind_of_scope_hosts_and_connects_to_every_other() {
    on_stage(async |stage| {
        let host = stage.tab("host").await?;
        let script = "globalThis.scopes = await load('/e2e/scopes.js')
                      const urls = []
                      for (const kind of scopes.kinds) urls.push([kind, await scopes.inScope(kind, { command: 'host', relay })])
                      return urls";
        let urls = host.run(script).await?;
        assert_eq!(urls.as_array().map(Vec::len), Some(4), "{urls}");
        // The second tab has workers of its own, but for the two kinds that the pages of an origin share.
        let client = stage.tab("client").await?;
        let script = "globalThis.scopes = await load('/e2e/scopes.js')
                      const answers = []
                      for (const kind of scopes.kinds) {
                        for (const [hostKind, url] of given) {
                          const text = `${kind} to ${hostKind}:`
                          const answer = await scopes.inScope(kind, { command: 'connect', url, text })
                          const expected = [`${text} ${hostKind}GlobalScope`.replace('WindowGlobalScope', 'Window'), 1000, true]
                          answers.push(String(answer) === String(expected) || answer)
                        }
                      }
                      return answers";
        let answers = client.run_with(urls.clone(), script).await?;
        assert_eq!(answers, json!(vec![true; 16]));
        // And to each other inside one page.
        assert_eq!(host.run_with(urls, script).await?, json!(vec![true; 16]));
        Ok(())
    });
}

#[test]
fn a_worker_has_the_identity_of_its_origin() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let script = "const { inScope } = await load('/e2e/scopes.js')
                      const ids = []
                      for (const kind of ['Window', 'DedicatedWorker', 'SharedWorker', 'ServiceWorker']) {
                        ids.push(await inScope(kind, { command: 'host', relay, identity: 'shop' }))
                        await inScope(kind, { command: 'close' })
                      }
                      return new Set(ids).size";
        assert_eq!(tab.run(script).await?, json!(1));
        Ok(())
    });
}

#[test]
fn every_kind_of_scope_speaks_the_livecode_dialect_a_service_worker_when_it_is_given_it() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server("a secret of the test")?;
        let tab = stage.tab("a").await?;
        let script = "const { inScope, kinds } = await load('/e2e/scopes.js')
                      await NodeJSTunnelingClient.configureServerAt(given, 'a secret of the test')
                      const answers = []
                      for (const kind of kinds) {
                        if (kind === 'ServiceWorker') {
                          answers.push(await inScope(kind, { command: 'host', relay: given, livecode: true }).catch(({ message }) => message))
                          await inScope(kind, { command: 'useLivecode' })
                        }
                        const url = await inScope(kind, { command: 'host', relay: given, livecode: true })
                        const [answer] = await inScope(kind, { command: 'connect', url, text: 'from', livecode: true })
                        answers.push(answer)
                      }
                      return answers";
        let answers = tab.run_with(json!(url), script).await?;
        let answers: Vec<_> =
            answers.as_array().into_iter().flatten().filter_map(|answer| answer.as_str()).collect();
        let [window, dedicated, shared, refused, service] = answers[..] else { panic!("{answers:?}") };
        assert_eq!(window, "from Window");
        assert_eq!(dedicated, "from DedicatedWorkerGlobalScope");
        assert_eq!(shared, "from SharedWorkerGlobalScope");
        assert!(refused.contains("tunnel-wasm/livecode"), "{refused}");
        assert_eq!(service, "from ServiceWorkerGlobalScope");
        Ok(())
    });
}
