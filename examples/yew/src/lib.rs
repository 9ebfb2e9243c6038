//! A chat room in a tab. The first page hosts the room and shows a link; whoever opens the link is in the room.

mod room;

use futures_channel::mpsc::UnboundedSender;
use tunnel_wasm::Error;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::{HtmlInputElement, UrlSearchParams};
use yew::prelude::*;

/// An event in the page.
pub enum Event {
    /// The room is open under this server ID.
    Open(String),
    /// There is a connection: to a guest, or to the room. What is put into it is sent.
    Connected(UnboundedSender<String>),
    /// Somebody else said something.
    Heard(String),
    /// Somebody at this page has something to say.
    Say(String),
    /// The room cannot be reached, or has ended.
    Ended(Error),
}

struct Chat {
    /// The room's ID if it is in another page.
    room: Option<String>,
    link: Option<String>,
    connections: Vec<UnboundedSender<String>>,
    lines: Vec<String>,
}

impl Chat {
    /// Sends a line to everybody at the other ends, and drops the connections that have ended.
    fn tell(&mut self, line: &str) {
        self.connections.retain(|connection| connection.unbounded_send(line.to_owned()).is_ok());
    }
}

impl Component for Chat {
    type Message = Event;
    type Properties = ();

    fn create(context: &Context<Self>) -> Self {
        let relay = parameter("relay").unwrap_or_else(|| "ws://localhost:8087".into());
        let room = parameter("room");
        let events = context.link().callback(|event| event);
        match room.clone() {
            Some(id) => {
                context.link().send_future(async move { Event::Ended(room::join(relay, id, events).await) })
            }
            None => context.link().send_future(async move { Event::Ended(room::host(relay, events).await) }),
        }
        Self { room, link: None, connections: Vec::new(), lines: Vec::new() }
    }

    fn update(&mut self, _: &Context<Self>, event: Event) -> bool {
        match event {
            Event::Open(id) => {
                let relay = parameter("relay").map(|relay| format!("&relay={relay}")).unwrap_or_default();
                self.link = Some(format!("?room={id}{relay}"));
            }
            Event::Connected(connection) => {
                self.connections.push(connection);
                if self.room.is_none() {
                    let line = format!("{} guests are here", self.connections.len());
                    self.tell(&line);
                    self.lines.push(line);
                }
            }
            Event::Heard(line) => {
                // The room repeats what a guest says; everybody hears it from there.
                if self.room.is_none() {
                    self.tell(&line);
                }
                self.lines.push(line);
            }
            Event::Say(line) => {
                self.tell(&line);
                if self.room.is_none() {
                    self.lines.push(line);
                }
            }
            Event::Ended(error) => self.lines.push(error.to_string()),
        }
        true
    }

    fn view(&self, context: &Context<Self>) -> Html {
        let say = context.link().batch_callback(|event: KeyboardEvent| {
            let input: HtmlInputElement = event.target_unchecked_into();
            let line = input.value();
            (event.key() == "Enter" && !line.is_empty()).then(|| {
                input.set_value("");
                Event::Say(line)
            })
        });
        html! {
            <main>
                if let Some(link) = &self.link {
                    <p><a href={link.clone()} target="_blank">{ "Open this in another tab" }</a></p>
                }
                <ul>{ for self.lines.iter().map(|line| html! { <li>{ line }</li> }) }</ul>
                <input placeholder="Say something" onkeydown={say} />
            </main>
        }
    }
}

/// A parameter of the page's address.
fn parameter(name: &str) -> Option<String> {
    let query = web_sys::window()?.location().search().ok()?;
    UrlSearchParams::new_with_str(&query).ok()?.get(name)
}

#[wasm_bindgen(start)]
fn start() {
    yew::Renderer::<Chat>::new().render();
}
