//! A first connection before the first connection: the page connects to itself when it has nothing else to do.
//!
//! Engines compile code function by function, when each is called first, and run the first result slowly. After the warm-up
//! that is done for most functions of a first connection, which takes half of the time then. [`skip`] turns it off.

use crate::browser::driver::Driver;
use crate::browser::tasks;
use crate::loopback;
use std::cell::{Cell, RefCell};
use std::rc::Weak;
use tunnel_protocol::CloseCode;
use tunnel_protocol::endpoint::{LinkId, LinkMessage};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/server.js")]
extern "C" {
    /// Has a server and a client of the classes talk through the relay inside the page; then calls `end`.
    #[wasm_bindgen(js_name = warmUp)]
    fn connect_to_itself(end: &JsValue);
}

thread_local! {
    /// Whether the warm-up has begun, or is not wanted.
    static BEGUN: Cell<bool> = const { Cell::new(false) };
    /// The links of the server and of the client.
    static LINKS: RefCell<Vec<LoopbackLink>> = const { RefCell::new(Vec::new()) };
}

/// Turns the warm-up off, unless it has begun.
pub(crate) fn skip() {
    BEGUN.set(true);
}

/// Begins the warm-up, once: a server waits for its first client, or a page for somebody to connect to.
pub(crate) fn begin() {
    if !BEGUN.replace(true) {
        connect_to_itself(&Closure::once_into_js(end));
    }
}

/// Closes both links, and with them all that is left.
fn end() {
    for LoopbackLink { driver, id } in LINKS.take() {
        tasks::post(move || {
            if let Some(driver) = driver.upgrade() {
                driver.handle_link_closed(id, CloseCode::NORMAL, "");
            }
        });
    }
}

/// A link to the relay of the warm-up.
#[derive(Clone)]
pub(crate) struct LoopbackLink {
    driver: Weak<Driver>,
    id: LinkId,
}

impl LoopbackLink {
    /// Opens a link; the driver hears of it in a task of its own.
    pub(crate) fn open(driver: &Weak<Driver>, id: LinkId) -> Self {
        let link = Self { driver: driver.clone(), id };
        LINKS.with_borrow_mut(|links| links.push(link.clone()));
        link.tell(move |driver| driver.handle_link_opened(id, false));
        link
    }

    /// Has the relay carry a frame.
    pub(crate) fn send(&self, message: &LinkMessage) {
        let LinkMessage::Binary(frame) = message else { return };
        let Some((is_answer, frame)) = loopback::answer(frame.clone()) else { return };
        let receiver = LINKS.with_borrow(|links| {
            links.iter().find(|link| link.driver.ptr_eq(&self.driver) == is_answer).cloned()
        });
        if let Some(receiver) = receiver {
            let id = receiver.id;
            receiver.tell(move |driver| driver.handle_message(id, LinkMessage::Binary(frame)));
        }
    }

    fn tell(&self, event: impl FnOnce(&Driver) + 'static) {
        let driver = self.driver.clone();
        tasks::post(move || {
            if let Some(driver) = driver.upgrade() {
                event(&driver);
            }
        });
    }
}
