//! The WebSockets standard: `tests/conformance`, for the platform's class and ours.

use std::time::Duration;

use serde_json::json;
use tunnel_e2e::{conformance_server, on_stage};

/// Both classes in one scope, a few hundred short connections each.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn what_holds_for_the_platforms_class_holds_for_ours_in_a_window_and_a_worker() {
    on_stage(async |stage| {
        let (_program, native) = conformance_server()?;
        let server = stage.tab("server").await?;
        let host = "const { host } = await load('/conformance/host.js')
                    return host(ForwardingServerWebSocket, relay)";
        let ours = server.run(host).await?;
        let tab = stage.tab("client").await?;
        let urls = json!({ "native": native, "ours": ours });

        let window = "const { compare } = await load('/conformance/run.js')
                      return compare(PeerToPeerWebSocket, given)";
        check("window", &tab.run_within(LIMIT, urls.clone(), window).await?);

        let worker = "const worker = new Worker('/conformance/worker.js', { type: 'module' })
                      worker.postMessage(given)
                      const { data } = await next(worker, 'message')
                      worker.terminate()
                      return data";
        check("worker", &tab.run_within(LIMIT, urls, worker).await?);
        Ok(())
    });
}

fn check(scope: &str, result: &serde_json::Value) {
    let problems = result["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = problems.iter().filter_map(|problem| problem.as_str()).collect::<Vec<_>>().join("\n\n");
    assert!(problems.is_empty(), "{} in a {scope}:\n{shown}", problems.len());
    assert!(result["count"].as_u64().is_some_and(|count| count > 90), "only {} cases ran", result["count"]);
}
