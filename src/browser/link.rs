//! One WebSocket to a relay. The driver opens it, writes to it, and hears of it as its [`LinkSink`].

#[cfg(feature = "npm")]
pub(crate) mod loopback;
mod traffic;

#[cfg(feature = "npm")]
use crate::browser::frames;
use js_sys::{ArrayBuffer, JsString, Uint8Array};
#[cfg(feature = "npm")]
use loopback::LoopbackLink;
use std::rc::{Rc, Weak};
pub(crate) use traffic::Traffic;
use tunnel_protocol::close::truncate_reason;
use tunnel_protocol::early;
use tunnel_protocol::endpoint::{LinkId, LinkMessage};
use tunnel_protocol::link::{LinkError, MAX_RECEIVED};
use tunnel_protocol::{CloseCode, SUBPROTOCOL};
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, CloseEvent, Url, WebSocket};

/// A WebSocket is given nothing more while it holds this many bytes: data in it can no longer be overtaken or packed better.
const HIGH_WATER_MARK: u32 = 262_144;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Throws where the browser forbids the connection, as `ws:` from an `https:` page.
    #[wasm_bindgen(catch)]
    fn dial(url: &str, protocols: Vec<String>) -> Result<WebSocket, JsValue>;

    /// The access token that a function or a promise of the application gives; rejects with an error that says what is wrong.
    #[wasm_bindgen(catch, js_name = askToken)]
    async fn ask_token(source: JsValue) -> Result<JsValue, JsValue>;

    /// A sentence, or an empty text; never rejects.
    #[wasm_bindgen(js_name = askWhy)]
    async fn ask_why(url: &str) -> JsValue;

    /// Has the function called with the data of each message, and whether nobody else has seen it; a round of tasks runs behind it.
    #[wasm_bindgen(js_name = receiveFrom)]
    fn receive_from(socket: &WebSocket, receive: &JsValue);

    /// Ends that.
    #[wasm_bindgen(js_name = stopReceiving)]
    fn stop_receiving(socket: &WebSocket);

    /// Returns whether `send` is the platform's own, which is done with the bytes when it returns.
    #[wasm_bindgen(js_name = copiesWhatItSends)]
    fn copies_what_it_sends(socket: &WebSocket) -> bool;
}

#[wasm_bindgen]
extern "C" {
    /// Base64 of a text whose characters are bytes.
    fn btoa(bytes: &str) -> String;
}

/// Longest text of a relay that is taken, in UTF-16 code units.
const MAX_TEXT: usize = 16 << 20;

/// An access token for a relay.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// One that is known, or empty.
    Text(String),
    /// A function or a promise of the application, which is asked at each dial: tokens expire.
    Asked(JsValue),
}

impl Token {
    /// Asks the application; an error is a sentence.
    pub(crate) async fn ask(source: JsValue) -> Result<String, String> {
        let answer = ask_token(source).await.map_err(|error| message_of(&error))?;
        Ok(answer.as_string().unwrap_or_default())
    }
}

impl From<JsValue> for Token {
    fn from(value: JsValue) -> Self {
        value.as_string().map_or_else(|| Self::Asked(value), Self::Text)
    }
}

/// Finds out why a WebSocket to this URL did not open, which browsers don't tell; empty if nothing is known.
pub(crate) async fn why_closed(url: String) -> String {
    ask_why(&url).await.as_string().unwrap_or_default()
}

/// The way to a relay.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Relay {
    /// Its URL; `None` is the relay of the warm-up, inside the page.
    pub(crate) url: Option<String>,
    /// The URL without its query: what a registration is bound to.
    pub(crate) bound: String,
    pub(crate) token: Token,
    /// True if the application allows the livecode dialect.
    pub(crate) livecode: bool,
}

/// A relay's URL without its query, as registrations are bound to it.
pub(crate) fn bound_url(url: &Url) -> String {
    format!("{}//{}{}", url.protocol(), url.host(), url.pathname())
}

/// The owner of links: it hears under a link's ID what happens to it.
pub(crate) trait LinkSink {
    /// A link is open; `greeted` if the relay has taken the early frames.
    fn handle_link_opened(&self, link: LinkId, greeted: bool);
    /// Takes in one message of a link, whose task becomes a round: all that comes of it leaves together.
    fn handle_message(&self, link: LinkId, message: LinkMessage);
    /// A link has closed.
    fn handle_link_closed(&self, link: LinkId, code: CloseCode, reason: &str);
}

/// A carrier of frames to a relay. It is closed when it is dropped.
pub(crate) enum Link {
    WebSocket(WebSocketLink),
    #[cfg(feature = "npm")]
    Loopback(LoopbackLink),
}

impl Link {
    /// Dials; an error is the browser's message.
    pub(crate) fn open(
        sink: &Weak<dyn LinkSink>,
        id: LinkId,
        relay: &Relay,
        early: &[u8],
    ) -> Result<Self, String> {
        match &relay.url {
            Some(url) => WebSocketLink::open(sink, id, url, early).map(Self::WebSocket),
            #[cfg(feature = "npm")]
            None => Ok(Self::Loopback(LoopbackLink::open(sink, id))),
            #[cfg(not(feature = "npm"))]
            None => Err("there is no URL".to_owned()),
        }
    }

    /// Returns whether it was closed as soon as it was made, as where a Content Security Policy forbids it. Chromium says no more of that.
    pub(crate) fn is_stillborn(&self) -> bool {
        match self {
            Self::WebSocket(link) => link.socket.ready_state() == WebSocket::CLOSED,
            #[cfg(feature = "npm")]
            Self::Loopback(_) => false,
        }
    }

    /// Returns whether it takes messages at all.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::WebSocket(link) => link.socket.ready_state() == WebSocket::OPEN,
            #[cfg(feature = "npm")]
            Self::Loopback(_) => true,
        }
    }

    /// Returns whether it holds little enough to be given more.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::WebSocket(link) => link.socket.buffered_amount() < HIGH_WATER_MARK,
            #[cfg(feature = "npm")]
            Self::Loopback(_) => true,
        }
    }

    /// Sends through one that is open.
    pub(crate) fn send(&self, message: &LinkMessage) {
        match self {
            Self::WebSocket(link) => link.send(message),
            #[cfg(feature = "npm")]
            Self::Loopback(link) => link.send(message),
        }
    }

    /// Closes it. Nothing more is heard of it.
    pub(crate) fn close(self, code: CloseCode, reason: &str) {
        #[cfg_attr(
            not(feature = "npm"),
            allow(irrefutable_let_patterns, reason = "the other kind is the npm package's")
        )]
        if let Self::WebSocket(link) = &self {
            // A page may say no other codes.
            let code = if code.is_for_applications() { code } else { CloseCode::NORMAL };
            // Fails for codes and reasons that this is not.
            let _ = link.socket.close_with_code_and_reason(code.0, truncate_reason(reason));
        }
    }
}

/// A WebSocket with the closures that it calls.
pub(crate) struct WebSocketLink {
    pub(crate) socket: WebSocket,
    pub(crate) traffic: Rc<Traffic>,
    /// True if it may be given views of wasm memory.
    takes_views: bool,
    _on_open: Closure<dyn FnMut()>,
    _on_message: Closure<dyn FnMut(JsValue, bool)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

impl WebSocketLink {
    fn open(sink: &Weak<dyn LinkSink>, id: LinkId, url: &str, early: &[u8]) -> Result<Self, String> {
        let socket = dial(url, offer(early)).map_err(|error| message_of(&error))?;
        socket.set_binary_type(BinaryType::Arraybuffer);

        let (to, opened) = (sink.clone(), socket.clone());
        let on_open = Closure::<dyn FnMut()>::new(move || {
            if let Some(sink) = to.upgrade() {
                sink.handle_link_opened(id, opened.protocol() == early::SUBPROTOCOL);
            }
        });
        let traffic = Rc::<Traffic>::default();
        let (to, counts) = (sink.clone(), traffic.clone());
        let on_message = Closure::<dyn FnMut(JsValue, bool)>::new(move |data: JsValue, is_ours| {
            if let Some(sink) = to.upgrade() {
                receive(&*sink, id, &data, is_ours, &counts);
            }
        });
        let to = sink.clone();
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            if let Some(sink) = to.upgrade() {
                sink.handle_link_closed(id, CloseCode(event.code()), &event.reason());
            }
        });
        receive_from(&socket, on_message.as_ref());
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        let takes_views = copies_what_it_sends(&socket);
        Ok(Self {
            socket,
            traffic,
            takes_views,
            _on_open: on_open,
            _on_message: on_message,
            _on_close: on_close,
        })
    }

    fn send(&self, message: &LinkMessage) {
        self.traffic.count_sent(message);
        // None of these fails while the WebSocket is open.
        let _ = match message {
            // Without a copy of our own: one of 64 KiB for each frame, in fresh memory, halves what a page can send.
            LinkMessage::Binary(data) if self.takes_views => self.socket.send_with_u8_array(data),
            // A WebSocket that the page has wrapped may keep the bytes.
            LinkMessage::Binary(data) => self.socket.send_with_js_u8_array(&Uint8Array::from(&data[..])),
            LinkMessage::Text(text) => self.socket.send_with_str(text),
        };
    }
}

impl Drop for WebSocketLink {
    fn drop(&mut self) {
        stop_receiving(&self.socket);
        self.socket.set_onopen(None);
        self.socket.set_onclose(None);
        // Does nothing to one that is closed or closing.
        let _ = self.socket.close();
    }
}

/// The subprotocols that are offered to the relay: the last one holds the early frames.
fn offer(early: &[u8]) -> Vec<String> {
    let frames = btoa(&early.iter().copied().map(char::from).collect::<String>());
    let frames = frames.trim_end_matches('=').replace('+', "-").replace('/', "_");
    vec![SUBPROTOCOL.to_owned(), early::SUBPROTOCOL.to_owned(), early::PREFIX.to_owned() + &frames]
}

fn receive(sink: &dyn LinkSink, id: LinkId, data: &JsValue, is_ours: bool, traffic: &Traffic) {
    let too_long = |len: usize| {
        let error = LinkError::TooLong { len, max: MAX_RECEIVED };
        sink.handle_link_closed(id, error.code(), &error.to_string());
    };
    // A message that is too long is not copied.
    if let Some(buffer) = data.dyn_ref::<ArrayBuffer>() {
        let len = buffer.byte_length() as usize;
        if len > MAX_RECEIVED {
            return too_long(len);
        }
        let bytes = Uint8Array::new(buffer).to_vec();
        #[cfg(feature = "npm")]
        if is_ours {
            frames::keep(buffer, bytes.len());
        }
        #[cfg(not(feature = "npm"))]
        let _ = is_ours;
        let message = LinkMessage::Binary(bytes.into());
        traffic.count_received(&message);
        sink.handle_message(id, message);
    } else if let Some(text) = data.dyn_ref::<JsString>() {
        let len = text.length() as usize;
        if len > MAX_TEXT {
            return too_long(len);
        }
        let message = LinkMessage::Text(String::from(text));
        traffic.count_received(&message);
        sink.handle_message(id, message);
    } else {
        let reason = "the page's WebSocket gave a message that is neither a text nor an ArrayBuffer";
        sink.handle_link_closed(id, CloseCode::PROTOCOL_ERROR, reason);
    }
}

fn message_of(error: &JsValue) -> String {
    error.dyn_ref::<js_sys::Error>().map_or_else(String::new, |error| error.message().into())
}
