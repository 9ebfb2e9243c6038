//! A link to the relay inside the page ([`crate::loopback`]), for the warm-up: its two ends are a server and a client.

use super::LinkSink;
use crate::browser::tasks;
use crate::loopback;
use std::cell::RefCell;
use std::rc::Weak;
use tunnel_protocol::CloseCode;
use tunnel_protocol::endpoint::{LinkId, LinkMessage};

thread_local! {
    /// The links of the server and of the client.
    static LINKS: RefCell<Vec<LoopbackLink>> = const { RefCell::new(Vec::new()) };
}

/// Closes both links, and with them all that is left of the warm-up.
pub(crate) fn close() {
    for LoopbackLink { sink, id } in LINKS.take() {
        tasks::post(move || {
            if let Some(sink) = sink.upgrade() {
                sink.handle_link_closed(id, CloseCode::NORMAL, "");
            }
        });
    }
}

/// A link to the relay of the warm-up.
#[derive(Clone)]
pub(crate) struct LoopbackLink {
    sink: Weak<dyn LinkSink>,
    id: LinkId,
}

impl LoopbackLink {
    /// Opens a link; its sink hears of it in a task of its own.
    pub(crate) fn open(sink: &Weak<dyn LinkSink>, id: LinkId) -> Self {
        let link = Self { sink: sink.clone(), id };
        LINKS.with_borrow_mut(|links| links.push(link.clone()));
        link.tell(move |sink| sink.handle_link_opened(id, false));
        link
    }

    /// Has the relay carry a frame.
    pub(crate) fn send(&self, message: &LinkMessage) {
        let LinkMessage::Binary(frame) = message else { return };
        let Some((is_answer, frame)) = loopback::answer(frame.clone()) else { return };
        let receiver = LINKS.with_borrow(|links| {
            links.iter().find(|link| link.sink.ptr_eq(&self.sink) == is_answer).cloned()
        });
        if let Some(receiver) = receiver {
            let id = receiver.id;
            receiver.tell(move |sink| sink.handle_message(id, LinkMessage::Binary(frame)));
        }
    }

    fn tell(&self, event: impl FnOnce(&dyn LinkSink) + 'static) {
        let sink = self.sink.clone();
        tasks::post(move || {
            if let Some(sink) = sink.upgrade() {
                event(&*sink);
            }
        });
    }
}
