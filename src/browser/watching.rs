//! The answers of `getLinks()` and of a server's `getStats()`: for the inspector, and whoever else looks on.

use crate::browser::driver::{self, Driver};
use crate::browser::link::Link;
use std::rc::Rc;
use tunnel_protocol::endpoint::{HostStats, LinkId, SocketId};
use wasm_bindgen::prelude::*;
use web_sys::WebSocket;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Never called: `reexport` puts the function on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = observe, reexport, skip_typescript)]
    fn observe();
}

#[wasm_bindgen(module = "/js/common.js")]
extern "C" {
    /// Never called, as that one.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = getLinks, reexport, skip_typescript)]
    fn get_links();

    /// Makes the object that the application gets. The numbers are copied.
    #[wasm_bindgen(js_name = linkStats)]
    fn link_stats(socket: &WebSocket, counters: &[f64]) -> JsValue;

    /// The same for a server; `link` is what `linkStats` made, or undefined.
    #[wasm_bindgen(js_name = serverStats)]
    fn server_stats(link: &JsValue, counters: &[f64]) -> JsValue;
}

/// The page's WebSockets to relays, as the application sees them.
pub(crate) fn links() -> Vec<JsValue> {
    let of_driver = |driver: &Rc<Driver>| -> Vec<JsValue> {
        driver.link_ids().into_iter().filter_map(|id| link(driver, id)).collect()
    };
    driver::all().iter().flat_map(of_driver).collect()
}

/// One of them; `None` for that of the warm-up, which is no WebSocket.
fn link(driver: &Driver, id: LinkId) -> Option<JsValue> {
    let stats = driver.read(|endpoint| endpoint.link_stats(id))?;
    driver.with_link(id, |link| {
        let Link::WebSocket(link) = link else { return None };
        let ((sent, bytes_sent), (received, bytes_received)) =
            (link.traffic.sent.get(), link.traffic.received.get());
        let round_trip = stats.round_trip.map_or(f64::NAN, |time| time.as_micros() as f64 / 1000.0);
        let counters = [
            f64::from(u8::from(stats.is_ready)),
            f64::from(u8::from(stats.is_livecode)),
            stats.channels as f64,
            stats.paused as f64,
            sent as f64,
            received as f64,
            bytes_sent as f64,
            bytes_received as f64,
            round_trip,
        ];
        Some(link_stats(&link.socket, &counters))
    })
}

/// The WebSocket that a socket runs over now.
pub(crate) fn socket_link(driver: &Driver, id: SocketId) -> Option<WebSocket> {
    let link = driver.read(|endpoint| endpoint.link_of(id))?;
    driver.with_link(link, |link| match link {
        Link::WebSocket(link) => Some(link.socket.clone()),
        Link::Loopback(_) => None,
    })
}

/// The counters of a server as its application sees them; `driver` is `None` once it has ended.
pub(crate) fn server(driver: Option<&Driver>, stats: &HostStats) -> JsValue {
    let link = driver.and_then(|driver| link(driver, driver.read(|endpoint| endpoint.link_of_host())?));
    let counters = [
        f64::from(u8::from(stats.is_registered)),
        stats.clients as f64,
        stats.incoming as f64,
        stats.admitted as f64,
        stats.refused as f64,
        stats.interruptions as f64,
    ];
    server_stats(&link.unwrap_or_default(), &counters)
}
