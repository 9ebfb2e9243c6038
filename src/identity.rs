//! Keys that outlive a page, as `js/identity.js` keeps them.

use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::server_id::PublicKey;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/identity.js")]
extern "C" {
    /// Computes the secret that a key of WebCrypto's shares with `theirs`, for the driver of this number: it hears of it
    /// later.
    #[wasm_bindgen(js_name = diffieHellman)]
    fn diffie_hellman(driver: f64, ours: &[u8], theirs: &[u8]);
}

/// The key as the endpoint uses it. `bytes` are its secret half, or the public half of one that stays with WebCrypto;
/// anything but 32 are none.
pub(crate) fn key(bytes: &[u8], stays: bool) -> Option<StaticKey> {
    let bytes = bytes.try_into().ok()?;
    Some(if stays { StaticKey::external(PublicKey(bytes)) } else { StaticKey::from_secret(bytes) })
}

/// Has the driver of this number told the secret shared with `theirs`.
pub(crate) fn share(driver: f64, ours: PublicKey, theirs: PublicKey) {
    diffie_hellman(driver, &ours.0, &theirs.0);
}
