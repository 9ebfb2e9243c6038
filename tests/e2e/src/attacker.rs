//! A client that attacks the server in a tab: it speaks the protocols itself, and has no manners.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};
use tunnel_protocol::frame::{ChannelId, ChannelKind};
use tunnel_protocol::handshake::{Initiator, Transport};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::session::{Epoch, Open, Opened, Position, SessionId};
use tunnel_protocol::{Frame, ServerId};

/// The port that it attacks.
pub const PORT: u16 = 1;

/// One link of an attacker to the relay.
#[derive(Debug)]
pub struct Attacker {
    socket: WebSocketStream<TcpStream>,
    server: ServerId,
    /// Different for each attacker: its keys are made of it.
    number: u64,
    next_channel: u32,
    secrets: u64,
}

/// A session with the server.
#[derive(Debug)]
pub struct Session {
    channel: ChannelId,
    transport: Transport,
    /// Bytes of the stream sent so far.
    sent: u64,
    /// Credit up to which it may send.
    limit: u64,
}

impl Session {
    /// Reads how far it may go, and whether it has ended.
    fn read(&mut self, mut frames: &[u8]) -> Result<()> {
        loop {
            let len = match frames {
                // STREAM
                [1, _, _, _, _, _, _, _, _, high, low, ..] => {
                    11 + usize::from(u16::from_be_bytes([*high, *low]))
                }
                // ACK
                [2, _, _, _, _, _, _, _, _, limit @ ..] => {
                    self.limit = u64::from_be_bytes(*limit.first_chunk().context("a limit")?);
                    17
                }
                // PING and PONG
                [3 | 4, ..] => 9,
                // CLOSE
                [5, high, low, ..] => bail!("closed with {}", u16::from_be_bytes([*high, *low])),
                _ => return Ok(()),
            };
            frames = frames.get(len..).unwrap_or_default();
        }
    }
}

impl Attacker {
    /// Connects to the relay.
    pub async fn connect(relay: SocketAddr, server_id: &str, number: u64) -> Result<Self> {
        let stream = TcpStream::connect(relay).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = ClientBuilder::from_uri(format!("ws://{relay}/").parse()?)
            .add_header("sec-websocket-protocol".parse()?, "tunnel.v1".parse()?)?
            .connect_on(stream)
            .await?;
        let server = server_id.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut attacker = Self { socket, server, number, next_channel: 1, secrets: 0 };
        let hello = Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() };
        attacker.send(&hello).await?;
        match attacker.next().await? {
            Frame::Welcome(_) => Ok(attacker),
            other => bail!("no WELCOME but {other:?}"),
        }
    }

    /// The next frame that is not a sign of life.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            let message = self.socket.next().await.context("the relay has closed the link")??;
            if !message.is_binary() {
                continue;
            }
            match Frame::decode(message.into_payload().into())? {
                Some(Frame::Ping { nonce }) => self.send(&Frame::Pong { nonce }).await?,
                Some(frame) => return Ok(frame),
                None => {}
            }
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<()> {
        Ok(self.socket.send(Message::binary(BytesMut::from(frame.encode()))).await?)
    }

    fn secret(&mut self) -> [u8; 32] {
        self.secrets += 1;
        let mut secret = [0xa7; 32];
        secret[..8].copy_from_slice(&self.secrets.to_be_bytes());
        secret[8..16].copy_from_slice(&self.number.to_be_bytes());
        secret
    }

    /// A handshake that nobody has seen, and who it is from.
    pub fn handshake(&mut self) -> Result<(Initiator, StaticKey, Bytes)> {
        let ServerId::Key(server) = self.server else { bail!("a livecode server") };
        let prologue = [tunnel_protocol::SUBPROTOCOL.as_bytes(), &PORT.to_be_bytes()].concat();
        let key = StaticKey::from_secret(self.secret());
        let mut initiator = Initiator::new(&prologue, server, self.secret());
        let mut session_id = [0; 16];
        session_id.copy_from_slice(&self.secret()[..16]);
        let open = Open {
            session_id: SessionId(session_id),
            epoch: Epoch(1),
            server_epoch: None,
            position: Position { received: 0, limit: 1 << 20 },
            protocols: Vec::new(),
            path: String::new(),
            features: 0,
        };
        let message = initiator.write_message(&key, &open.encode())?;
        Ok((initiator, key, message))
    }

    /// Sends a first handshake message, be it new or not.
    pub async fn knock(&mut self, message: Bytes) -> Result<ChannelId> {
        let channel = ChannelId(self.next_channel);
        self.next_channel += 2;
        let kind = ChannelKind::Session;
        self.send(&Frame::Connect { channel, server_id: self.server, port: PORT, kind, payload: message })
            .await?;
        Ok(channel)
    }

    /// Opens a session.
    pub async fn open(&mut self) -> Result<Session> {
        let (mut initiator, key, message) = self.handshake()?;
        let channel = self.knock(message).await?;
        loop {
            match self.next().await? {
                Frame::Accept { channel: accepted, payload } if accepted == channel => {
                    let (payload, transport) = initiator.read_message(&key, &payload)?;
                    let limit = match Opened::decode(payload)? {
                        Opened::Accepted { position, .. } => position.limit,
                        Opened::Refused { code, reason } => {
                            bail!("the server refuses {channel}: {code} {reason}")
                        }
                    };
                    return Ok(Session { channel, transport, sent: 0, limit });
                }
                Frame::Close { channel: closed, code, reason } if closed == channel => {
                    bail!("{channel} was closed: {code} {reason}")
                }
                _ => {}
            }
        }
    }

    /// Sends what the session's stream goes on with, whether it may or not.
    pub async fn say(&mut self, session: &mut Session, stream: &[u8]) -> Result<()> {
        let mut record = vec![1];
        record.extend(session.sent.to_be_bytes());
        record.extend(u16::try_from(stream.len())?.to_be_bytes());
        record.extend(stream);
        session.sent += stream.len() as u64;
        let payload = session.transport.seal(&record)?;
        self.send(&Frame::Data { channel: session.channel, payload }).await
    }

    /// Sends of a message that was announced as long as the server lets it; the end of the channel is an error.
    pub async fn pour(&mut self, session: &mut Session, length: u64) -> Result<()> {
        while session.sent < length {
            // One message has begun, which costs 64.
            let credit = session.limit.saturating_sub(session.sent + 64).min(32_768);
            if credit > 0 {
                self.say(session, &vec![0; credit as usize]).await?;
                continue;
            }
            match self.next().await? {
                Frame::Data { channel, payload } if channel == session.channel => {
                    let plaintext = session.transport.open(payload)?;
                    session.read(&plaintext)?;
                }
                Frame::Close { channel, code, .. } if channel == session.channel => {
                    bail!("closed with {code}")
                }
                _ => {}
            }
        }
        Ok(())
    }
}
