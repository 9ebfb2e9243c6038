//! Reads and writes values, the same in flags, environment and file. The table in `config` names a kind for each setting.

use super::values::{AccessMode, AddressSource, Mount, Namespace, Secret, Switch};
use crate::access::{KnownToken, ParseTokenError, TokenSecret};
use crate::hosts::Host;
use crate::log::LogFormat;
use crate::origins::Origin;
use ipnet::IpNet;
use rustls::pki_types::DnsName;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A way to read and write values of the type `T`.
///
/// A file's numbers are read as their digits; a list is one text for each of its values.
pub(super) trait Kind<T> {
    /// The placeholder for a value in help texts.
    const FORM: &'static str;
    /// The values that are allowed, as a noun.
    const ALLOWED: &'static str;
    /// True for a list.
    const MANY: bool = false;
    /// True if values must not be shown.
    const SECRET: bool = false;

    /// Reads a value; the error says what is wrong with it, but not what is allowed.
    fn parse(texts: &[String]) -> Result<T, String>;

    /// Writes it for a file; `None` if it is not set.
    fn toml(value: &T) -> Option<String>;

    /// Writes it for people.
    fn human(value: &T) -> String {
        Self::toml(value).map_or_else(|| "–".to_owned(), |text| format!("`{}`", text.trim_matches('"')))
    }
}

/// A value that is written as one text.
pub(super) trait One<T> {
    const FORM: &'static str;
    const ALLOWED: &'static str;
    const SECRET: bool = false;

    fn parse_one(text: &str) -> Result<T, String>;
    fn toml_one(value: &T) -> String;
    fn human_one(value: &T) -> String {
        format!("`{}`", Self::toml_one(value).trim_matches('"'))
    }
}

impl<T, K: One<T>> Kind<T> for K {
    const FORM: &'static str = K::FORM;
    const ALLOWED: &'static str = K::ALLOWED;
    const SECRET: bool = K::SECRET;

    fn parse(texts: &[String]) -> Result<T, String> {
        match texts {
            [text] => K::parse_one(text),
            _ => Err(format!("{} values were given", texts.len())),
        }
    }

    fn toml(value: &T) -> Option<String> {
        Some(K::toml_one(value))
    }

    fn human(value: &T) -> String {
        K::human_one(value)
    }
}

/// A value that may be left out.
pub(super) struct Optional<K>(K);

impl<T, K: One<T>> Kind<Option<T>> for Optional<K> {
    const FORM: &'static str = K::FORM;
    const ALLOWED: &'static str = K::ALLOWED;
    const SECRET: bool = K::SECRET;

    fn parse(texts: &[String]) -> Result<Option<T>, String> {
        <K as Kind<T>>::parse(texts).map(Some)
    }

    fn toml(value: &Option<T>) -> Option<String> {
        value.as_ref().map(K::toml_one)
    }
}

/// Any number of values: a TOML array, a repeated flag, or commas in the environment.
pub(super) struct List<K>(K);

impl<T, K: One<T>> Kind<Vec<T>> for List<K> {
    const FORM: &'static str = K::FORM;
    const ALLOWED: &'static str = K::ALLOWED;
    const MANY: bool = true;
    const SECRET: bool = K::SECRET;

    fn parse(texts: &[String]) -> Result<Vec<T>, String> {
        texts.iter().map(|text| K::parse_one(text)).collect()
    }

    fn toml(values: &Vec<T>) -> Option<String> {
        let texts: Vec<_> = values.iter().map(K::toml_one).collect();
        (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
    }
}

/// A TOML string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A type whose text form is the setting's.
pub(super) trait Written: FromStr<Err: Display> + Display {
    const FORM: &'static str;
    const ALLOWED: &'static str;
}

/// For what is [`Written`].
pub(super) struct Form;

impl<T: Written> One<T> for Form {
    const FORM: &'static str = T::FORM;
    const ALLOWED: &'static str = T::ALLOWED;

    fn parse_one(text: &str) -> Result<T, String> {
        text.parse().map_err(|error| format!("{text:?}: {error}"))
    }

    fn toml_one(value: &T) -> String {
        quote(&value.to_string())
    }
}

impl Written for SocketAddr {
    const FORM: &'static str = "ADDRESS:PORT";
    const ALLOWED: &'static str = "an IP address and a port, such as 0.0.0.0:8087 or [::]:8087";
}

/// A network, or one address: a network of one.
pub(super) struct Network;

impl One<IpNet> for Network {
    const FORM: &'static str = "NETWORK";
    const ALLOWED: &'static str =
        "a network such as 10.0.0.0/8 or 2001:db8::/32, or an address such as 127.0.0.1";

    fn parse_one(text: &str) -> Result<IpNet, String> {
        let one = |_| text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(one).map_err(|_| format!("{text:?} is neither a network nor an address"))
    }

    fn toml_one(value: &IpNet) -> String {
        quote(&value.to_string())
    }
}

/// A name that a certificate can be ordered for.
pub(super) struct Domain;

impl One<String> for Domain {
    const FORM: &'static str = "NAME";
    const ALLOWED: &'static str = "a DNS name such as relay.example.org, without scheme, port or path";

    fn parse_one(text: &str) -> Result<String, String> {
        let wrong = |why: &str| Err(format!("{text:?} {why}"));
        if text.contains("://") || text.contains(['/', ':']) {
            return wrong("is no name alone");
        }
        if text.starts_with("*.") {
            return wrong("stands for many names, which can't be proven on a port (TLS-ALPN-01)");
        }
        if text.parse::<IpAddr>().is_ok() {
            return wrong("is an address");
        }
        match DnsName::try_from(text) {
            Ok(_) if !text.ends_with('.') => Ok(text.to_ascii_lowercase()),
            _ => wrong("is no DNS name; write others than ASCII as browsers send them (xn--…)"),
        }
    }

    fn toml_one(value: &String) -> String {
        quote(value)
    }
}

/// A mail address.
pub(super) struct Mail;

impl One<String> for Mail {
    const FORM: &'static str = "ADDRESS";
    const ALLOWED: &'static str = "a mail address such as operator@example.org";

    fn parse_one(text: &str) -> Result<String, String> {
        let is_one = text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if is_one && !text.starts_with("mailto:") && !text.contains([' ', ',', '<']) {
            Ok(text.to_owned())
        } else {
            Err(format!("{text:?} is no mail address"))
        }
    }

    fn toml_one(value: &String) -> String {
        quote(value)
    }
}

/// The address of an ACME directory.
pub(super) struct Https;

impl One<String> for Https {
    const FORM: &'static str = "URL";
    const ALLOWED: &'static str = "a URL that begins with https://";

    fn parse_one(text: &str) -> Result<String, String> {
        let uri = text.parse::<http::Uri>().ok();
        if uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some()) {
            Ok(text.to_owned())
        } else {
            Err(format!("{text:?} is no such URL"))
        }
    }

    fn toml_one(value: &String) -> String {
        quote(value)
    }
}

impl Written for KnownToken {
    const FORM: &'static str = "TOKEN";
    const ALLOWED: &'static str =
        "sha256:HASH, then what it allows: host, connect, server=ID, ports=FIRST-LAST";
}

impl Written for Namespace {
    const FORM: &'static str = "NAMESPACE";
    const ALLOWED: &'static str =
        "NAME sha256:HASH: a name of at most 32 of a-z, 0-9 and -, and the SHA-256 of its credential";
}

impl Written for Host {
    const FORM: &'static str = "HOST";
    const ALLOWED: &'static str = "HOST, HOST:PORT, or the URL that pages dial, such as https://HOST/PATH/";
}

impl Written for Origin {
    const FORM: &'static str = "ORIGIN";
    const ALLOWED: &'static str =
        "SCHEME://HOST or SCHEME://HOST:PORT, where HOST may begin with \"*.\"; null; absent; or any";
}

impl Written for Mount {
    const FORM: &'static str = "[/PATH=]FOLDER";
    const ALLOWED: &'static str = "FOLDER, or /PATH=FOLDER";
}

/// For paths of files and folders.
pub(super) struct File;

impl One<PathBuf> for File {
    const FORM: &'static str = "PATH";
    const ALLOWED: &'static str = "the path of a file or folder";

    fn parse_one(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.into()) }
    }

    fn toml_one(value: &PathBuf) -> String {
        quote(&value.to_string_lossy())
    }
}

pub(super) struct Text;

impl One<String> for Text {
    const FORM: &'static str = "TEXT";
    const ALLOWED: &'static str = "a text";

    fn parse_one(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn toml_one(value: &String) -> String {
        quote(value)
    }

    fn human_one(value: &String) -> String {
        if value.is_empty() { "–".to_owned() } else { format!("`{value}`") }
    }
}

/// A filter for the log.
pub(super) struct Filter;

impl One<String> for Filter {
    const FORM: &'static str = "LEVEL";
    const ALLOWED: &'static str = "error, warn, info, debug, trace or off, or levels by module such as \
                                   info,tunnel_relay::connection=debug";

    fn parse_one(text: &str) -> Result<String, String> {
        crate::log::filter(text).map(|_| text.to_owned())
    }

    fn toml_one(value: &String) -> String {
        quote(value)
    }
}

pub(super) struct SecretText;

impl One<Secret> for SecretText {
    const FORM: &'static str = "SECRET";
    const ALLOWED: &'static str = "a text of 16 to 1,024 bytes, better random";
    const SECRET: bool = true;

    fn parse_one(text: &str) -> Result<Secret, String> {
        text.parse().map_err(|error: super::ParseSecretError| error.to_string())
    }

    fn toml_one(value: &Secret) -> String {
        quote(&value.0)
    }
}

pub(super) struct TokenKey;

impl One<TokenSecret> for TokenKey {
    const FORM: &'static str = "SECRET";
    const ALLOWED: &'static str = "32 bytes in base64url: `tunnel-relay token secret` makes one";
    const SECRET: bool = true;

    fn parse_one(text: &str) -> Result<TokenSecret, String> {
        text.parse().map_err(|error: ParseTokenError| error.to_string())
    }

    fn toml_one(value: &TokenSecret) -> String {
        quote(&value.reveal())
    }
}

/// One of a few words.
pub(super) trait Named: Copy + PartialEq + 'static {
    const FORM: &'static str;
    const ALLOWED: &'static str;
    const ALL: &'static [(&'static str, Self)];
}

/// For what is [`Named`].
pub(super) struct Choice;

impl<T: Named> One<T> for Choice {
    const FORM: &'static str = T::FORM;
    const ALLOWED: &'static str = T::ALLOWED;

    fn parse_one(text: &str) -> Result<T, String> {
        let found = T::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is not one of them"))
    }

    fn toml_one(value: &T) -> String {
        quote(T::ALL.iter().find(|(_, other)| other == value).map_or("", |(name, _)| name))
    }
}

impl Named for LogFormat {
    const FORM: &'static str = "FORMAT";
    const ALLOWED: &'static str = "human or json";
    const ALL: &'static [(&'static str, Self)] = &[("human", Self::Human), ("json", Self::Json)];
}

impl Named for AccessMode {
    const FORM: &'static str = "MODE";
    const ALLOWED: &'static str = "open or tokens";
    const ALL: &'static [(&'static str, Self)] = &[("open", Self::Open), ("tokens", Self::Tokens)];
}

impl Named for Switch {
    const FORM: &'static str = "SWITCH";
    const ALLOWED: &'static str = "on or off";
    const ALL: &'static [(&'static str, Self)] = &[("off", Self::Off), ("on", Self::On)];
}

impl Named for AddressSource {
    const FORM: &'static str = "SOURCE";
    const ALLOWED: &'static str = "x-forwarded-for, forwarded or proxy-protocol";
    const ALL: &'static [(&'static str, Self)] = &[
        ("x-forwarded-for", Self::XForwardedFor),
        ("forwarded", Self::Forwarded),
        ("proxy-protocol", Self::ProxyProtocol),
    ];
}

pub(super) struct Count;

impl<T: Copy + TryFrom<u64> + TryInto<u64>> One<T> for Count {
    const FORM: &'static str = "COUNT";
    const ALLOWED: &'static str = "a whole number";

    fn parse_one(text: &str) -> Result<T, String> {
        whole(text)
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("{text:?} is no number"))
    }

    fn toml_one(value: &T) -> String {
        number(*value).to_string()
    }

    fn human_one(value: &T) -> String {
        grouped(number(*value))
    }
}

pub(super) struct Bytes;

const SIZES: [(&str, u64); 5] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

impl<T: Copy + TryFrom<u64> + TryInto<u64>> One<T> for Bytes {
    const FORM: &'static str = "BYTES";
    const ALLOWED: &'static str = "a number of bytes such as 65536, 64KiB or 16MiB";

    fn parse_one(text: &str) -> Result<T, String> {
        with_unit(text, &SIZES)
            .and_then(|bytes| T::try_from(bytes).ok())
            .ok_or_else(|| format!("{text:?} is no number of bytes"))
    }

    fn toml_one(value: &T) -> String {
        match unit_of(number(*value), &SIZES) {
            (count, "B" | "") => count.to_string(),
            (count, unit) => quote(&format!("{count}{unit}")),
        }
    }

    fn human_one(value: &T) -> String {
        let (count, unit) = unit_of(number(*value), &SIZES);
        format!("{} {unit}", grouped(count))
    }
}

/// For times.
pub(super) struct Time;

const TIMES: [(&str, u64); 6] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1), ("", 1_000)];

impl One<Duration> for Time {
    const FORM: &'static str = "TIME";
    const ALLOWED: &'static str = "a time such as 10s, 500ms, 2min, 1h or 30d (a number alone: seconds)";

    fn parse_one(text: &str) -> Result<Duration, String> {
        with_unit(text, &TIMES).map(Duration::from_millis).ok_or_else(|| format!("{text:?} is no time"))
    }

    fn toml_one(value: &Duration) -> String {
        let (count, unit) = time(*value);
        quote(&format!("{count}{unit}"))
    }

    fn human_one(value: &Duration) -> String {
        let (count, unit) = time(*value);
        format!("{} {unit}", grouped(count))
    }
}

fn time(value: Duration) -> (u64, &'static str) {
    match unit_of(u64::try_from(value.as_millis()).unwrap_or(u64::MAX), &TIMES) {
        (0, _) => (0, "s"),
        // 60 s stays 60 s: an operator who wrote it does not look for a minute.
        (count @ 1..=5, "min") => (count * 60, "s"),
        other => other,
    }
}

fn number<T: TryInto<u64>>(value: T) -> u64 {
    value.try_into().unwrap_or(u64::MAX)
}

/// Digits, with `_` between them as in TOML and Rust.
fn whole(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    (digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (count, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    whole(count)?.checked_mul(*factor)
}

/// The largest unit of which it is a multiple.
fn unit_of(value: u64, units: &[(&'static str, u64)]) -> (u64, &'static str) {
    let largest = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    largest.map_or((value, "B"), |(name, factor)| (value / factor, *name))
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut result = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            result.push(',');
        }
        result.push(digit);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T, K: One<T>>(text: &str) -> Option<T> {
        K::parse_one(text).ok()
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("60_000", 60_000), ("7B", 7), ("64KiB", 65_536), ("16 MiB", 16 << 20)]
        {
            assert_eq!(parse::<u64, Bytes>(text), Some(bytes), "{text}");
        }
        for wrong in ["", "KiB", "-1", "1.5MiB", "64kb", "1 KiB x", "99999999999999999999", "20000000000GiB"]
        {
            assert_eq!(parse::<u64, Bytes>(wrong), None, "{wrong}");
        }
        assert_eq!(parse::<u32, Bytes>("4GiB"), None, "more than the type holds");
    }

    #[test]
    fn times_have_units_and_are_seconds_without() {
        for (text, ms) in [("5", 5_000), ("5s", 5_000), ("250ms", 250), ("2min", 120_000), ("1 h", 3_600_000)]
        {
            assert_eq!(parse::<Duration, Time>(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse::<Duration, Time>("30d"), Some(Duration::from_secs(30 * 24 * 3_600)));
        for wrong in ["", "s", "1.5s", "-3", "5 m"] {
            assert_eq!(parse::<Duration, Time>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 1_000, 1_024, 60_000, 65_536, 3 << 20, 5 << 30] {
            let text = <Bytes as One<u64>>::toml_one(&bytes);
            assert_eq!(parse::<u64, Bytes>(text.trim_matches('"')), Some(bytes), "{text}");
        }
        for ms in [0, 1, 999, 1_000, 90_000, 60_000, 600_000, 7_200_000] {
            let time = Duration::from_millis(ms);
            let text = Time::toml_one(&time);
            assert_eq!(parse::<Duration, Time>(text.trim_matches('"')), Some(time), "{text}");
        }
    }

    #[test]
    fn numbers_are_grouped_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
