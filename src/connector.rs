//! What the classes call: handed to `js/common.js` when the module starts.
//!
//! Drivers, links and sockets have numbers in JavaScript.

use crate::driver::Driver;
use crate::livecode::LinkCore;
use crate::options::Place;
use crate::socket::SocketCore;
use crate::{driver, event, identity, server};
use std::cell::Cell;
use tunnel_protocol::endpoint::{Endpoint, LinkId, LinkMessage};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::text::ToText;
use tunnel_protocol::{CloseCode, Message, ServerId, rehearsal};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/common.js")]
extern "C" {
    #[wasm_bindgen(js_name = start)]
    fn start_classes(connector: Connector);
}

#[wasm_bindgen]
extern "C" {
    /// A function that throws nothing.
    #[wasm_bindgen(js_name = Function)]
    pub(crate) type Task;

    #[wasm_bindgen(method)]
    fn call(this: &Task);
}

thread_local! {
    static STARTED: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn start() {
    if !STARTED.replace(true) {
        start_classes(Connector);
        driver::make_keys();
    }
}

/// All that is behind the classes: an object's methods would have to be given it each time, so these are the class's.
#[wasm_bindgen(private)]
#[derive(Debug)]
pub(crate) struct Connector;

/// Sockets.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl Connector {
    /// A socket that is to connect to a server's port; `target` hears of what comes of it. Times are milliseconds.
    pub fn client(
        target: JsValue,
        place: &str,
        port: u16,
        resume: f64,
        absent: f64,
        allow_plain: bool,
    ) -> u32 {
        let place = Place::parse(place);
        let options = place.connect_options(resume, absent, allow_plain);
        SocketCore::outgoing(target, place.relay, place.server_id, port, options)
    }

    /// Connects; as [`identity::key`] says, with a key that the page keeps, or else one of its own.
    pub fn dial(socket: u32, key: &[u8], stays: bool) {
        SocketCore::with(socket, |core| core.dial(identity::key(key, stays)));
    }

    /// Sends a text message.
    #[wasm_bindgen(js_name = sendText)]
    pub fn send_text(socket: u32, text: String) {
        SocketCore::with(socket, |core| core.send(Message::Text(text)));
    }

    /// Sends a binary message.
    #[wasm_bindgen(js_name = sendBytes)]
    pub fn send_bytes(socket: u32, data: Vec<u8>) {
        SocketCore::with(socket, |core| core.send(Message::Binary(data.into())));
    }

    /// Bytes that `sendText` and `sendBytes` took and that had not left when the current task began.
    #[wasm_bindgen(js_name = bufferedAmount)]
    pub fn buffered_amount(socket: u32) -> f64 {
        SocketCore::with(socket, SocketCore::buffered_amount)
    }

    /// Closes behind what has been sent; 0 is no code.
    pub fn close(socket: u32, code: u16, reason: &str) {
        SocketCore::with(socket, |core| core.close((code != 0).then_some(CloseCode(code)), reason));
    }

    /// Ends at once.
    pub fn abort(socket: u32, reason: &str) {
        SocketCore::with(socket, |core| core.abort(reason));
    }

    /// Keeps messages for `take`.
    pub fn hold(socket: u32) {
        SocketCore::with(socket, SocketCore::hold);
    }

    /// Keeps messages, and what comes after them, until `unpark`.
    pub fn park(socket: u32) {
        SocketCore::with(socket, SocketCore::park);
    }

    /// Has events fired for what was kept.
    pub fn unpark(socket: u32) {
        SocketCore::with(socket, SocketCore::unpark);
    }

    /// Gives the oldest message kept, if there is one, to `giveText` or `giveBytes`.
    pub fn take(socket: u32) {
        SocketCore::with(socket, SocketCore::take);
    }

    /// One of the counters, in the order in which `js/sockets.js` names them.
    pub fn stat(socket: u32, index: u32) -> f64 {
        SocketCore::with(socket, |core| core.stat(index))
    }

    /// Lets a server's client in, unless it has gone; `target` is its socket from now on.
    pub fn accept(socket: u32, target: JsValue, protocol: &str) {
        SocketCore::with(socket, |core| core.accept(target, protocol));
    }

    /// Turns a server's client away.
    pub fn refuse(socket: u32, code: u16, reason: &str) {
        SocketCore::with(socket, |core| core.refuse(CloseCode(code), reason));
        SocketCore::forget(socket);
    }

    /// Nobody has the socket any more.
    pub fn forget(socket: u32) {
        SocketCore::forget(socket);
    }
}

/// Servers.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl Connector {
    /// Hosts a server, with a key as `dial`; `target` hears of what comes of it. Returns the driver.
    pub fn host(target: JsValue, place: &str, allow_plain: bool, key: &[u8], stays: bool) -> f64 {
        server::host(target, place, allow_plain, key, stays)
    }

    /// Closes the clients' sockets with 1001, then unregisters.
    pub fn unhost(driver: f64) {
        with(driver, |driver| driver.with(Endpoint::unhost));
    }

    /// What is wrong with a text that should be a server ID; empty if nothing is.
    #[wasm_bindgen(js_name = serverIdProblem)]
    pub fn server_id_problem(text: &str) -> String {
        text.parse::<ServerId>().err().map_or_else(String::new, |problem| problem.to_text())
    }
}

/// What drivers wait for.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl Connector {
    /// A WebSocket is open; `greeted` if the relay has taken the early frames.
    #[wasm_bindgen(js_name = handleOpened)]
    pub fn handle_opened(driver: f64, link: f64, greeted: bool) {
        let link = LinkId(link as u64);
        with(driver, |driver| driver.with(|endpoint, now| endpoint.handle_link_opened(link, greeted, now)));
    }

    /// A WebSocket has closed.
    #[wasm_bindgen(js_name = handleClosed)]
    pub fn handle_closed(driver: f64, link: f64, code: u16, reason: &str) {
        with(driver, |driver| driver.handle_link_closed(LinkId(link as u64), CloseCode(code), reason));
    }

    /// A WebSocket has a text message.
    #[wasm_bindgen(js_name = handleText)]
    pub fn handle_text(driver: f64, link: f64, text: String) {
        with(driver, |driver| driver.handle_message(LinkId(link as u64), LinkMessage::Text(text)));
    }

    /// A WebSocket has a binary message.
    #[wasm_bindgen(js_name = handleBytes)]
    pub fn handle_bytes(driver: f64, link: f64, data: Vec<u8>) {
        with(driver, |driver| driver.handle_message(LinkId(link as u64), LinkMessage::Binary(data.into())));
    }

    /// The time has come that `wake` was told.
    #[wasm_bindgen(js_name = handleTimer)]
    pub fn handle_timer(driver: f64) {
        with(driver, Driver::handle_timer);
    }

    /// What speaks the livecode dialect on a link.
    #[wasm_bindgen(js_name = handleTranslator)]
    pub fn handle_translator(driver: f64, link: f64, core: LinkCore) {
        with(driver, |driver| driver.handle_translator(LinkId(link as u64), core));
    }

    /// What `diffieHellman` was asked for: the other side's key, and the secret shared with it.
    #[wasm_bindgen(js_name = handleDiffieHellman)]
    pub fn handle_diffie_hellman(driver: f64, answer: &[u8]) {
        let Some((theirs, shared)) = answer.split_first_chunk() else { return };
        let shared = shared.try_into().unwrap_or_default();
        with(driver, |driver| {
            driver.with(|endpoint, now| endpoint.handle_diffie_hellman(PublicKey(*theirs), shared, now));
        });
    }

    /// The page has nothing else to do.
    pub fn idle() {
        driver::handle_idle();
    }

    /// The page goes: every peer is told, now or never.
    pub fn leave() {
        driver::leave();
    }

    /// Something happened that the links may not have survived.
    pub fn probe() {
        driver::probe();
    }
}

fn with(driver: f64, act: impl FnOnce(&Driver)) {
    if let Some(driver) = Driver::find(driver) {
        act(&driver);
    }
}

/// Tasks.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl Connector {
    /// Calls `task` in a task of its own, behind the events that wait for theirs.
    pub fn post(task: Task) {
        event::post(move || task.call());
    }

    /// Begins the round of tasks that was asked for.
    #[wasm_bindgen(js_name = beginTasks)]
    pub fn begin_tasks() {
        event::begin_asked_round();
    }

    /// Runs the oldest task; ends the round, and says `false`, if there is none or the round has lasted long.
    #[wasm_bindgen(js_name = runTask)]
    pub fn run_task() -> bool {
        event::run_one()
    }

    /// Ends a round of tasks, and asks for another one if some are left.
    #[wasm_bindgen(js_name = finishTasks)]
    pub fn finish_tasks() {
        event::finish_round();
    }

    /// Runs what waited for the script to end.
    #[wasm_bindgen(js_name = runDeferred)]
    pub fn run_deferred() {
        event::run_deferred();
    }

    /// What the relay of a rehearsal says to a frame: behind a 1 if it is the answer, behind a 0 if it is for the other
    /// side; empty if it says nothing.
    pub fn relay(frame: Vec<u8>) -> Vec<u8> {
        let said = rehearsal::relay(frame.into());
        said.map_or_else(Vec::new, |(is_answer, frame)| [&[is_answer.into()], &frame[..]].concat())
    }
}
