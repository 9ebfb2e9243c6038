//! Access tokens: their forms, what they allow, and their check, which the router calls for each HELLO.
//!
//! Two kinds, for two kinds of operators. A *random* token is 256 random bits; the relay's configuration lists its hash and what
//! it allows, and forgetting the line takes it back. A *signed* one says itself what it allows and until when, under the
//! relay's secret: a web application makes them for its users, and the relay needs to know none of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tunnel_protocol::ServerId;
use tunnel_protocol::frame::MAX_TOKEN;
use tunnel_protocol::router::{Access, Grant};

/// Prefix of random tokens; the number is the format's.
const RANDOM: &str = "r1.";

/// Prefix of signed tokens.
const SIGNED: &str = "s1.";

/// Prefix of the configuration's entries.
const HASH: &str = "sha256:";

/// Checks the tokens that peers show.
#[derive(Debug)]
struct Tokens {
    known: Vec<KnownToken>,
    secret: Option<TokenSecret>,
}

/// Lets in whoever shows one of these tokens, or one that is signed with the secret. Where there are none, nobody gets in.
pub(crate) fn by_tokens(known: Vec<KnownToken>, secret: Option<TokenSecret>) -> Arc<dyn Access> {
    Arc::new(Tokens { known, secret })
}

impl Tokens {
    fn check_at(&self, token: &str, now: SystemTime) -> Result<Grant, String> {
        // Short: what a page is told of it is at most 123 bytes with all that goes before it.
        if token.is_empty() {
            return Err("an access token is needed".to_owned());
        }
        // The same for all that is wrong: nothing helps to guess.
        let wrong = || "the access token is wrong".to_owned();
        if token.starts_with(RANDOM) {
            let hash = hash(token);
            let found = self.known.iter().fold(None, |found, known| {
                let difference = known.hash.iter().zip(&hash).fold(0, |sum, (a, b)| sum | (a ^ b));
                if difference == 0 { Some(known) } else { found }
            });
            return found.map(|known| known.grant.clone()).ok_or_else(wrong);
        }
        let secret = self.secret.as_ref().ok_or_else(wrong)?;
        let claims = secret.open(token).ok_or_else(wrong)?;
        if now >= claims.until {
            return Err("the access token has expired".to_owned());
        }
        Ok(claims.grant)
    }
}

impl Access for Tokens {
    fn check(&self, token: &str) -> Result<Grant, String> {
        self.check_at(token, SystemTime::now())
    }
}

/// A random token as the configuration knows it: its hash, and what it allows.
///
/// Written `sha256:HASH`, then what it allows, if that is not everything: `host`, `connect`, `server=ID`, `ports=FIRST-LAST`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownToken {
    hash: [u8; 32],
    grant: Grant,
}

impl KnownToken {
    /// Draws a token; the configuration's entry for it.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn draw(grant: Grant) -> Result<(String, Self), getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let token = format!("{RANDOM}{}", URL_SAFE_NO_PAD.encode(bytes));
        let known = Self { hash: hash(&token), grant };
        Ok((token, known))
    }
}

impl fmt::Display for KnownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        let words = words(&self.grant);
        if words.is_empty() { Ok(()) } else { write!(f, " {words}") }
    }
}

impl FromStr for KnownToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(HASH).ok_or(ParseTokenError::NoHash)?;
        let (hex, words) = rest.split_once(' ').unwrap_or((rest, ""));
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseTokenError::NoHash);
        }
        let mut hash = [0; 32];
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16)
                .map_err(|_| ParseTokenError::NoHash)?;
        }
        Ok(Self { hash, grant: parse_grant(words)? })
    }
}

/// The key of signed tokens: 256 bits. `Debug` does not print it.
#[derive(Clone, Eq, PartialEq)]
pub struct TokenSecret([u8; 32]);

/// The content of a signed token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// The things that it allows.
    pub grant: Grant,
    /// Expiry, in whole seconds since 1970. A link that is open by then stays open.
    pub until: SystemTime,
}

impl TokenSecret {
    /// Draws one.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Its text form, for the configuration.
    #[must_use]
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Makes a signed token: `s1.CLAIMS.SIGNATURE`, both in base64url, where the claims are words as in the configuration and
    /// `until=SECONDS`, and the signature is HMAC-SHA256 over all before the last dot.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let seconds = claims.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let words = words(&claims.grant);
        let text =
            if words.is_empty() { format!("until={seconds}") } else { format!("{words} until={seconds}") };
        let mut token = format!("{SIGNED}{}", URL_SAFE_NO_PAD.encode(text));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&token).finalize().into_bytes());
        token.push('.');
        token.push_str(&signature);
        token
    }

    /// The content of a token, if it is signed with this secret.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Claims> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let text = signed.strip_prefix(SIGNED)?;
        self.mac(signed).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (grant, until) = text.rsplit_once("until=")?;
        let until = Duration::from_secs(until.parse().ok()?);
        let until = SystemTime::UNIX_EPOCH.checked_add(until)?;
        Some(Claims { grant: parse_grant(grant).ok()?, until })
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        mac
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

impl FromStr for TokenSecret {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(ParseTokenError::NoSecret)
    }
}

/// A text does not say what a token allows, or is no hash or secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTokenError {
    /// There is no hash, or it is none.
    #[error("it has to begin with sha256: and 64 hexadecimal digits: `tunnel-relay token new` makes one")]
    NoHash,
    /// It is no secret.
    #[error("it has to be 32 bytes in base64url: `tunnel-relay token secret` makes one")]
    NoSecret,
    /// A word is unknown.
    #[error("{0:?} is none of host, connect, server=ID, ports=FIRST-LAST")]
    Word(String),
}

/// Reads what a token allows; without `host` and `connect` it is both.
///
/// # Errors
///
/// A word is unknown.
pub fn parse_grant(text: &str) -> Result<Grant, ParseTokenError> {
    let mut grant = Grant { host: false, connect: false, ..Grant::ALL };
    for word in text.split_ascii_whitespace() {
        let wrong = || ParseTokenError::Word(word.to_owned());
        match word.split_once('=') {
            None if word == "host" => grant.host = true,
            None if word == "connect" => grant.connect = true,
            Some(("server", id)) => grant.server = Some(id.parse::<ServerId>().map_err(|_| wrong())?),
            Some(("ports", ports)) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
                grant.ports = port(first)?..=port(last)?;
                if grant.ports.is_empty() {
                    return Err(wrong());
                }
            }
            _ => return Err(wrong()),
        }
    }
    if !grant.host && !grant.connect {
        (grant.host, grant.connect) = (true, true);
    }
    Ok(grant)
}

/// The words that [`parse_grant`] reads as this; empty for everything.
fn words(grant: &Grant) -> String {
    let mut text = String::new();
    if !(grant.host && grant.connect) {
        text.push_str(if grant.host { "host" } else { "connect" });
    }
    if let Some(server) = &grant.server {
        let _never_fails = write!(text, " server={server}");
    }
    if grant.ports != Grant::ALL.ports {
        let _never_fails = write!(text, " ports={}-{}", grant.ports.start(), grant.ports.end());
    }
    text.trim_start().to_owned()
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn grants() -> Vec<Grant> {
        let id = Some(ServerId::Number(7));
        vec![
            Grant::ALL,
            Grant { host: false, ..Grant::ALL },
            Grant { connect: false, ..Grant::ALL },
            Grant { connect: false, server: id, ..Grant::ALL },
            Grant { host: false, server: id, ports: 80..=80, ..Grant::ALL },
            Grant { ports: 1_000..=65_535, ..Grant::ALL },
        ]
    }

    fn in_an_hour() -> SystemTime {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        SystemTime::UNIX_EPOCH + Duration::from_secs(now + 3_600)
    }

    fn tokens(known: &[KnownToken], secret: Option<TokenSecret>) -> Tokens {
        Tokens { known: known.to_vec(), secret }
    }

    #[test]
    fn a_grant_is_written_in_words() {
        for grant in grants() {
            assert_eq!(parse_grant(&words(&grant)), Ok(grant));
        }
        assert_eq!(parse_grant(" host  connect "), Ok(Grant::ALL));
        for wrong in ["all", "host=1", "ports=", "ports=9-1", "ports=1-65536", "server=", "server=x", "HOST"]
        {
            assert_eq!(parse_grant(wrong), Err(ParseTokenError::Word(wrong.to_owned())));
        }
    }

    #[test]
    fn a_random_token_is_known_by_its_hash() {
        for grant in grants() {
            let (token, known) = KnownToken::draw(grant.clone()).unwrap();
            assert_eq!(known.to_string().parse(), Ok(known.clone()));
            assert!(!known.to_string().contains(&token));
            let (other, other_known) = KnownToken::draw(Grant::ALL).unwrap();
            let tokens = tokens(&[other_known, known], None);
            assert_eq!(tokens.check(&token), Ok(grant));
            assert_eq!(tokens.check(&other), Ok(Grant::ALL));
            assert_eq!(tokens.check(&token[..token.len() - 1]).unwrap_err(), "the access token is wrong");
        }
    }

    #[test]
    fn a_signed_token_says_what_it_allows_until_it_expires() {
        let secret = TokenSecret::draw().unwrap();
        assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
        for grant in grants() {
            let until = in_an_hour();
            let token = secret.sign(&Claims { grant: grant.clone(), until });
            let tokens = tokens(&[], Some(secret.clone()));
            assert_eq!(tokens.check(&token), Ok(grant.clone()));
            assert_eq!(tokens.check_at(&token, until - Duration::from_secs(1)), Ok(grant));
            assert_eq!(tokens.check_at(&token, until).unwrap_err(), "the access token has expired");
        }
    }

    #[test]
    fn no_other_token_opens() {
        let secret = TokenSecret::draw().unwrap();
        let claims = Claims { grant: Grant::ALL, until: in_an_hour() };
        let good = secret.sign(&claims);
        let tokens = tokens(&[], Some(secret));
        for index in 0..good.len() {
            for bit in 0..7 {
                let mut bytes = good.clone().into_bytes();
                bytes[index] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                assert!(tokens.check(&changed).is_err(), "{changed}");
            }
            assert!(tokens.check(&good[..index]).is_err());
        }
        let of_another = TokenSecret::draw().unwrap().sign(&claims);
        let (unknown, _) = KnownToken::draw(Grant::ALL).unwrap();
        for wrong in [of_another.as_str(), &unknown, "s1.", "s1..", "r1.", "sesame", &"x".repeat(MAX_TOKEN)] {
            assert_eq!(tokens.check(wrong).unwrap_err(), "the access token is wrong", "one answer for all");
        }
        assert_eq!(tokens.check("").unwrap_err(), "an access token is needed");
    }

    #[test]
    fn hashes_and_secrets_that_are_none_are_refused() {
        let zeros = "0".repeat(64);
        for wrong in ["", "sesame", "sha256:", "sha256:00", &zeros, &format!("sha256:{zeros}0")] {
            assert_eq!(wrong.parse::<KnownToken>(), Err(ParseTokenError::NoHash), "{wrong}");
        }
        assert!(format!("sha256:{zeros} hosts").parse::<KnownToken>().is_err());
        for wrong in ["", "hunter2", &zeros] {
            assert_eq!(wrong.parse::<TokenSecret>(), Err(ParseTokenError::NoSecret), "{wrong}");
        }
    }

    #[test]
    fn nobody_needs_a_token_unless_the_configuration_names_some() {
        assert!(Config::default().router().access.is_none());
        let config = Config { token_secret: Some(TokenSecret::draw().unwrap()), ..Config::default() };
        assert!(config.router().access.is_some());
        assert!(!format!("{config:?}").contains(&config.token_secret.unwrap().reveal()));
    }
}
