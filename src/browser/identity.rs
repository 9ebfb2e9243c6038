//! Keys that outlive a page, as `js/kept.js` keeps them. Called by the driver, the classes and `engine.rs`.

use js_sys::Uint8Array;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::server_id::PublicKey;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/kept.js")]
extern "C" {
    /// Computes the secret that a key of WebCrypto's shares with `theirs`: 32 bytes, all zero if there is none.
    #[wasm_bindgen(js_name = diffieHellman)]
    async fn diffie_hellman(ours: Uint8Array, theirs: Uint8Array) -> JsValue;

    /// Takes the identity of this name, and makes it if there is none. Rejects with a `TunnelError`.
    #[wasm_bindgen(js_name = takeIdentity, catch)]
    async fn take_identity(name: &str) -> Result<JsValue, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    /// An identity that `takeIdentity` of `js/kept.js` has taken for the page.
    #[derive(Debug)]
    pub(crate) type TakenIdentity;

    /// The secret half of its key; the public half if that is protected.
    #[wasm_bindgen(method, getter)]
    fn key(this: &TakenIdentity) -> Vec<u8>;

    /// True if the secret half never leaves WebCrypto.
    #[wasm_bindgen(method, getter)]
    fn protected(this: &TakenIdentity) -> bool;

    /// Says that the page needs it no longer. A promise.
    #[wasm_bindgen(method)]
    pub(crate) fn release(this: &TakenIdentity);
}

impl TakenIdentity {
    /// Takes the identity of this name. An error says why that can't be, for example because another page has it.
    pub(crate) async fn take(name: &str) -> Result<Self, String> {
        match take_identity(name).await {
            Ok(identity) => Ok(identity.unchecked_into()),
            Err(error) => Err(error.unchecked_into::<js_sys::Error>().message().into()),
        }
    }

    /// The key as the endpoint uses it; `None` unless it is 32 bytes long.
    pub(crate) fn static_key(&self) -> Option<StaticKey> {
        let bytes = self.key().try_into().ok()?;
        Some(if self.protected() {
            StaticKey::external(PublicKey(bytes))
        } else {
            StaticKey::from_secret(bytes)
        })
    }
}

/// The secret that a protected key shares with `theirs`; zeros, which no key shares, if there is none.
pub(crate) async fn shared_secret(ours: PublicKey, theirs: PublicKey) -> [u8; 32] {
    let [ours, theirs] = [ours, theirs].map(|key| Uint8Array::from(&key.0[..]));
    let mut shared = [0; 32];
    let answer: Uint8Array = diffie_hellman(ours, theirs).await.unchecked_into();
    if answer.length() == 32 {
        answer.copy_to(&mut shared);
    }
    shared
}
