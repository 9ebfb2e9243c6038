//! Keys that outlive a page, as `js/identity.js` keeps them.

use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::server_id::PublicKey;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/tunnel.js")]
extern "C" {
    /// A key: either its secret half, or the public half of one that stays with WebCrypto; or an empty object, nobody's.
    #[wasm_bindgen(js_name = Object)]
    #[derive(Clone, Debug)]
    pub(crate) type Identity;

    #[wasm_bindgen(method, getter)]
    fn secret(this: &Identity) -> Option<Vec<u8>>;
    #[wasm_bindgen(method, getter, js_name = publicKey)]
    fn public_key(this: &Identity) -> Option<Vec<u8>>;

    /// Computes the secret shared with `theirs` for the driver of this number, which hears of it later.
    #[wasm_bindgen(js_name = diffieHellman)]
    fn diffie_hellman(driver: f64, identity: &Identity, theirs: &[u8]);
}

impl Identity {
    /// The key as the endpoint uses it; of nobody, none.
    pub(crate) fn key(&self) -> Option<StaticKey> {
        let secret = self.secret().and_then(array).map(StaticKey::from_secret);
        secret.or_else(|| self.public_key().and_then(array).map(PublicKey).map(StaticKey::external))
    }

    /// Has the driver of this number told the secret shared with `theirs`.
    pub(crate) fn share(&self, driver: f64, theirs: PublicKey) {
        diffie_hellman(driver, self, &theirs.0);
    }
}

fn array(bytes: Vec<u8>) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}
