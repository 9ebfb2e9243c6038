//! What the classes call: handed to `js/common.js` when the module starts.

use crate::identity::Identity;
use crate::options::Dial;
use crate::server::{ForwardingServerWebSocket, ServerCore};
use crate::socket::{PeerToPeerWebSocket, SocketCore};
use crate::{driver, event};
use std::cell::Cell;
use tunnel_protocol::{ServerId, rehearsal};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/tunnel.js")]
extern "C" {
    #[wasm_bindgen(js_name = start)]
    fn start_classes(connector: Connector);
}

thread_local! {
    static STARTED: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn start() {
    if !STARTED.replace(true) {
        start_classes(Connector);
    }
}

/// All that is behind the classes.
#[wasm_bindgen(private)]
#[derive(Debug)]
pub(crate) struct Connector;

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl Connector {
    /// What connects to a server's port; `socket` hears of what comes of it.
    pub fn client(&self, socket: PeerToPeerWebSocket, dial: &Dial) -> Result<SocketCore, JsValue> {
        SocketCore::outgoing(socket, dial)
    }

    /// Hosts a server, under the identity if there is one; `server` hears of what comes of it.
    pub fn host(
        &self,
        server: ForwardingServerWebSocket,
        dial: &Dial,
        identity: Option<Identity>,
    ) -> ServerCore {
        ServerCore::host(server, dial, identity)
    }

    /// What is wrong with a text that should be a server ID; `undefined` if nothing is.
    #[wasm_bindgen(js_name = serverIdProblem)]
    pub fn server_id_problem(&self, text: &str) -> Option<String> {
        text.parse::<ServerId>().err().map(|problem| problem.to_string())
    }

    /// Calls `task` in a task of its own, behind the events that wait for theirs.
    pub fn post(&self, task: js_sys::Function) {
        event::post(move || {
            // Events are dispatched there, which never throws.
            let _ = task.call0(&JsValue::UNDEFINED);
        });
    }

    /// Begins the round of tasks that was asked for.
    #[wasm_bindgen(js_name = beginTasks)]
    pub fn begin_tasks(&self) {
        event::begin_asked_round();
    }

    /// Runs the oldest task; ends the round, and says `false`, if there is none or the round has lasted long.
    #[wasm_bindgen(js_name = runTask)]
    pub fn run_task(&self) -> bool {
        event::run_one()
    }

    /// Ends a round of tasks, and asks for another one if some are left.
    #[wasm_bindgen(js_name = finishTasks)]
    pub fn finish_tasks(&self) {
        event::finish_round();
    }

    /// The page has nothing else to do.
    pub fn idle(&self) {
        driver::handle_idle();
    }

    /// What the relay of a rehearsal says to a frame: behind a 1 if it is the answer, behind a 0 if it is for the other
    /// side; empty if it says nothing.
    pub fn relay(&self, frame: Vec<u8>) -> Vec<u8> {
        let said = rehearsal::relay(frame.into());
        said.map_or_else(Vec::new, |(is_answer, frame)| [&[is_answer.into()], &frame[..]].concat())
    }

    /// The page goes: every peer is told, now or never.
    pub fn leave(&self) {
        driver::leave();
    }

    /// Something happened that the links may not have survived.
    pub fn probe(&self) {
        driver::probe();
    }
}
