//! Properties of the classes beyond the platform's WebSocket: `tests/classes`, with both ends of each socket in one page.

use std::time::Duration;

use serde_json::Value;
use tunnel_e2e::on_stage;

/// All cases in one scope. Each has its own limit.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn the_classes_do_what_they_say_in_a_window() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let script = "const { runAll } = await load('/classes/run.js')
                      return runAll({ ForwardingServerWebSocket, PeerToPeerWebSocket }, relay)";
        check(&tab.run_within(LIMIT, Value::Null, script).await?);
        Ok(())
    });
}

#[test]
fn the_classes_do_what_they_say_in_a_worker() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let script = "const worker = new Worker('/classes/worker.js', { type: 'module' })
                      worker.postMessage(relay)
                      const { data } = await next(worker, 'message')
                      worker.terminate()
                      return data";
        check(&tab.run_within(LIMIT, Value::Null, script).await?);
        Ok(())
    });
}

fn check(result: &Value) {
    let problems = result["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = problems.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(problems.is_empty(), "{} failed:\n{shown}", problems.len());
    assert!(result["count"].as_u64().is_some_and(|count| count > 20), "only {} cases ran", result["count"]);
}
