//! Reads the frames between one client and a relay.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use hyper::header::{HeaderName, HeaderValue};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_websockets::{ClientBuilder, ServerBuilder};
use tunnel_protocol::{Frame, SUBPROTOCOL};

/// The direction of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the page to the relay.
    ToRelay,
    /// From the relay to the page.
    ToPage,
}

/// Stands between pages and a relay, and keeps a copy of every frame. Dropping it ends all connections.
///
/// It takes no early frames, so that pages send all of them as messages.
#[derive(Debug)]
pub struct Wiretap {
    address: SocketAddr,
    frames: Mutex<UnboundedReceiver<(Way, Frame)>>,
    cuts: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Wiretap {
    /// Listens on a free port of the loopback address. Frames for which `keeps_back` is true are not passed on.
    pub async fn start(
        relay: SocketAddr,
        keeps_back: impl Fn(&Frame) -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let (sender, frames) = unbounded_channel();
        let (cuts, cut) = watch::channel(());
        let keeps_back = Arc::new(keeps_back);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, keeps_back, mut cut) = (sender.clone(), keeps_back.clone(), cut.clone());
                cut.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        ended = pass_on(stream, relay, &*keeps_back, &sender) => {
                            if let Err(error) = ended {
                                eprintln!("a connection through the wiretap ended: {error:#}");
                            }
                        }
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, frames: Mutex::new(frames), cuts, task })
    }

    /// `ws://127.0.0.1:PORT`, for pages.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends all connections that there are now.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// The frames since the last call.
    ///
    /// # Panics
    /// If another thread panicked in here.
    pub fn frames(&self) -> Vec<(Way, Frame)> {
        let mut frames = self.frames.lock().expect("nobody panicked in here");
        std::iter::from_fn(|| frames.try_recv().ok()).collect()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(
    stream: TcpStream,
    relay: SocketAddr,
    keeps_back: &(dyn Fn(&Frame) -> bool + Send + Sync),
    frames: &UnboundedSender<(Way, Frame)>,
) -> Result<()> {
    let name = HeaderName::from_static("sec-websocket-protocol");
    let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
    let builder = ServerBuilder::new().add_header(name.clone(), subprotocol.clone())?;
    let (_, page) = builder.accept(stream).await.context("the page's handshake")?;
    let builder = ClientBuilder::from_uri(format!("ws://{relay}/").parse()?).add_header(name, subprotocol)?;
    let (relay, _) =
        builder.connect_on(TcpStream::connect(relay).await?).await.context("the relay's handshake")?;
    let (mut to_page, mut from_page) = page.split();
    let (mut to_relay, mut from_relay) = relay.split();
    let up = async {
        while let Some(message) = from_page.next().await {
            let message = message?;
            if message.is_binary()
                && let Some(frame) = Frame::decode(message.as_payload().clone().into())?
            {
                let kept = keeps_back(&frame);
                frames.send((Way::ToRelay, frame))?;
                if kept {
                    continue;
                }
            }
            to_relay.send(message).await?;
        }
        anyhow::Ok(())
    };
    let down = async {
        while let Some(message) = from_relay.next().await {
            let message = message?;
            if message.is_binary()
                && let Some(frame) = Frame::decode(message.as_payload().clone().into())?
            {
                let kept = keeps_back(&frame);
                frames.send((Way::ToPage, frame))?;
                if kept {
                    continue;
                }
            }
            to_page.send(message).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! { ended = up => ended, ended = down => ended }
}
