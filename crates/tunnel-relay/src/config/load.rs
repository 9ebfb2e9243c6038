//! Puts a configuration together, at the start and at SIGHUP: flags before environment before file before defaults.

use super::print::{Setting, name};
use super::{AccessMode, Config};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Prefix of the settings' names in the environment.
const PREFIX: &str = "TUNNEL_RELAY_";

/// Names that begin like settings but are none.
const OTHER_NAMES: [&str; 1] = ["TUNNEL_RELAY_CONFIG"];

/// Names the folder where systemd puts a unit's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Settings whose credential is the file that they name, and not their value.
const FILES: [&str; 5] =
    ["tls-certificate", "tls-key", "cluster-tls-certificate", "cluster-tls-key", "cluster-bus-credentials"];

/// The source of settings. It can be read again: see [`load`].
#[derive(Clone, Default)]
pub struct Sources {
    /// Values given on the command line, by the names of their settings.
    pub flags: BTreeMap<String, Vec<String>>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// A TOML file.
    pub file: Option<PathBuf>,
}

impl Sources {
    /// The environment of this process and nothing else.
    #[must_use]
    pub fn from_environment() -> Self {
        // A variable that is not UTF-8 must not count as unset.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        Self { environment: std::env::vars_os().filter_map(text).collect(), ..Self::default() }
    }
}

/// A configuration, and what is odd about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings about values that may have been meant otherwise.
    pub warnings: Vec<String>,
    /// The reason why nobody gets in, if so. A relay has no reason to start like this; one that runs, and is told to forget its
    /// last token, goes on.
    pub closed: Option<String>,
}

/// All that is wrong with a configuration, one line each: where, which setting, what, and what is allowed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// Reads all sources.
///
/// # Errors
///
/// The file can't be read, a setting in it is unknown, a value is not allowed, or values contradict each other: all
/// such problems.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut loader = Loader {
        config: Config::default(),
        settings: Config::settings(),
        places: BTreeMap::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    if let Some(path) = &sources.file {
        loader.read_file(path);
    }
    if let Some(folder) = sources.environment.get(CREDENTIALS) {
        loader.read_credentials(Path::new(folder));
    }
    loader.read_environment(&sources.environment);
    for (name, texts) in &sources.flags {
        loader.set(name, texts, &format!("--{name}"));
    }
    loader.finish()
}

struct Loader {
    config: Config,
    settings: Vec<Setting>,
    /// The source of each field's value, beside defaults.
    places: BTreeMap<&'static str, String>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Loader {
    /// Sets one setting, or notes what is wrong with the value; `place` says where it was found.
    fn set(&mut self, name: &str, texts: &[String], place: &str) {
        let Some(setting) = self.settings.iter().find(|setting| setting.name() == name) else {
            self.problems.push(format!("{place}: there is no such setting{}", self.meant(name)));
            return;
        };
        if let Err(error) = self.config.set(setting.field, texts) {
            // The error may quote the value.
            let error = if setting.secret { "the value is wrong".to_owned() } else { error };
            // In variables commas part the values, so nobody has one left there.
            let has_comma = setting.many && texts.iter().any(|text| text.contains(','));
            let hint =
                if has_comma { "; several values are several flags, or an array in the file" } else { "" };
            self.problems.push(format!("{place}: {error}; allowed is {}{hint}", setting.allowed));
        }
        self.places.insert(setting.field, place.to_owned());
    }

    /// Takes the credentials that are called like secret settings or like those that name a certificate's files.
    fn read_credentials(&mut self, folder: &Path) {
        let settings: Vec<_> = self.settings.iter().map(|setting| (setting.name(), setting.secret)).collect();
        for (name, is_secret) in settings {
            let path = folder.join(&name);
            let place = path.display().to_string();
            if FILES.contains(&name.as_str()) && path.is_file() {
                self.set(&name, std::slice::from_ref(&place), &place);
            } else if is_secret {
                match std::fs::read_to_string(&path) {
                    Ok(text) => self.set(&name, &[text.trim_end().to_owned()], &place),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => self.problems.push(format!("{place}: it can't be read: {error}")),
                }
            }
        }
    }

    fn read_environment(&mut self, environment: &BTreeMap<String, String>) {
        if let Some(filter) = environment.get("RUST_LOG").filter(|filter| !filter.is_empty()) {
            self.set("log", std::slice::from_ref(filter), "RUST_LOG");
        }
        for (variable, value) in environment {
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            if OTHER_NAMES.contains(&variable.as_str()) {
                continue;
            }
            if is_service_link(rest, value) {
                continue;
            }
            let name = rest.to_ascii_lowercase().replace('_', "-");
            match self.settings.iter().find(|setting| setting.name() == name) {
                Some(setting) if setting.many => {
                    let texts: Vec<_> = value
                        .split(',')
                        .map(|text| text.trim().to_owned())
                        .filter(|t| !t.is_empty())
                        .collect();
                    self.set(&name, &texts, variable);
                }
                Some(_) => self.set(&name, std::slice::from_ref(value), variable),
                // Not a warning: what was to close the relay must not be overlooked.
                None => {
                    self.problems.push(format!("{variable}: there is no such setting{}", self.meant(&name)))
                }
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(format!("{shown}: it can't be read: {error}")),
        };
        if text.trim().is_empty() {
            let hint = "leave it out to run with the defaults";
            return self
                .problems
                .push(format!("{shown}: it is empty, as a file that was cut off is: {hint}"));
        }
        let line = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let table = match DeTable::parse(&text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let line = error.span().map_or(1, |span| line(span.start));
                return self.problems.push(format!("{shown}:{line}: it is no TOML: {}", error.message()));
            }
        };
        // In the order of the file, as people read it.
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name: &str = key.get_ref();
            let place = format!("{shown}:{}: {name}", line(key.span().start));
            match texts(value.get_ref()) {
                Some((texts, many)) => {
                    let wants_many = self.settings.iter().find(|s| s.name() == name).map(|s| s.many);
                    match wants_many {
                        Some(wanted) if wanted != many => {
                            let kind = if wanted { "an array" } else { "one value" };
                            self.problems.push(format!("{place}: it has to be {kind}"));
                        }
                        _ => self.set(name, &texts, &place),
                    }
                }
                None => {
                    let kind = value.get_ref().type_str();
                    let hint = self.meant(name);
                    self.problems.push(format!("{place}: a {kind} is no value of any setting{hint}"));
                }
            }
        }
    }

    /// A hint at the setting with the most similar name.
    fn meant(&self, name: &str) -> String {
        let nearest = self.settings.iter().map(|s| (distance(&s.name(), name), s.name())).min();
        match nearest {
            Some((distance, nearest)) if distance > 0 && distance <= 3.min(name.len() / 2) => {
                format!("; is {nearest} meant?")
            }
            _ => String::new(),
        }
    }

    /// The source of a setting's value.
    fn place(&self, field: &str) -> String {
        self.places.get(field).cloned().unwrap_or_else(|| format!("{} (default)", name(field)))
    }

    /// The access if the settings do not say it: an operator who names tokens, and be it none, does not mean everybody.
    fn decide_access(&mut self) {
        if self.places.contains_key("access") {
            return;
        }
        if ["access_tokens", "token_secret"].iter().any(|field| self.places.contains_key(field)) {
            self.config.access = AccessMode::Tokens;
        } else if !self.config.listen.ip().is_loopback() {
            self.warnings.push(format!(
                "{}: everybody who reaches this address may use the relay: say access = \"open\" if that is meant",
                self.place("listen")
            ));
        }
    }

    fn finish(mut self) -> Result<Loaded, Problems> {
        self.decide_access();
        if self.problems.is_empty()
            && let Some((field, error)) = self.config.contradiction()
        {
            self.problems.push(format!("{}: {error}", self.place(field)));
        }
        if self.problems.is_empty() {
            let closed =
                self.config.keeps_all_out().map(|(field, why)| format!("{}: {why}", self.place(field)));
            Ok(Loaded { config: self.config, warnings: self.warnings, closed })
        } else {
            Err(Problems(self.problems))
        }
    }
}

/// Returns whether a variable is one of those that Kubernetes and Docker set for a service that is called `tunnel-relay`.
fn is_service_link(rest: &str, value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match rest.strip_prefix("PORT") {
        Some("") => value.contains("://"),
        Some(port) => {
            let number = port.strip_prefix('_').and_then(|port| port.split('_').next());
            number.is_some_and(is_number)
        }
        None => rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT") && is_number(value),
    }
}

/// The texts of a value or of an array's, and whether it is an array.
fn texts(value: &DeValue<'_>) -> Option<(Vec<String>, bool)> {
    fn one(value: &DeValue<'_>) -> Option<String> {
        match value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
            }
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            DeValue::Boolean(value) => Some(value.to_string()),
            _ => None,
        }
    }
    match value {
        DeValue::Array(values) => {
            Some((values.iter().map(|value| one(value.get_ref())).collect::<Option<_>>()?, true))
        }
        value => Some((vec![one(value)?], false)),
    }
}

/// Number of letters that have to be changed, added or left out to make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().collect();
    let mut row: Vec<_> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn from_file(text: &str) -> Result<Loaded, String> {
        let file = file(text);
        let result = load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() });
        result.map_err(|problems| problems.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn flags(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
    }

    #[test]
    fn flags_win_over_the_environment_which_wins_over_the_file() {
        let file = file("max-channels = 1\nmax-incoming = 1\nmax-waiting = 1\nnode = \"file\"\n");
        let sources = Sources {
            file: Some(file.path().to_owned()),
            environment: environment(&[
                ("TUNNEL_RELAY_MAX_CHANNELS", "2"),
                ("TUNNEL_RELAY_MAX_INCOMING", "2"),
                ("HOME", "/"),
            ]),
            flags: flags(&[("max-channels", "3")]),
        };
        let config = load(&sources).unwrap().config;
        assert_eq!((config.max_channels, config.max_incoming, config.max_waiting), (3, 2, 1));
        assert_eq!(config.node, "file");
        assert_eq!(config.max_waiting_per_link, Config::default().max_waiting_per_link);
    }

    #[cfg(not(feature = "acme"))]
    #[test]
    fn a_relay_without_acme_refuses_each_of_its_settings_and_says_what_to_do() {
        for text in [
            "acme-domains = [\"relay.example.org\"]",
            "acme-contacts = [\"me@example.org\"]",
            "acme-cache = \"/var/lib/relay\"",
            "acme-directory = \"https://example.org/\"",
            "acme-root = \"root.pem\"",
        ] {
            let (setting, _) = text.split_once(' ').unwrap();
            let problem = from_file(text).unwrap_err();
            assert!(problem.contains(setting), "{problem}");
            assert!(
                problem.contains("built without ACME") && problem.contains("feature `acme`"),
                "{problem}"
            );
        }
    }

    #[test]
    fn credentials_are_values_of_secrets_and_files_of_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("livecode-credential", "not at all as wished\n"),
            ("tls-certificate", "PEM"),
            ("tls-key", "PEM"),
            ("node", "not a secret: it is left alone"),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        let directory = folder.path().to_str().unwrap();
        let file = file("livecode-credential = 'from the settings file'");
        let sources = Sources {
            environment: environment(&[("CREDENTIALS_DIRECTORY", directory)]),
            file: Some(file.path().to_owned()),
            ..Sources::default()
        };
        let config = load(&sources).unwrap().config;
        assert_eq!(config.livecode_credential.unwrap().0, "not at all as wished");
        assert_eq!(
            (config.tls_certificate, config.tls_key),
            (Some(path("tls-certificate")), Some(path("tls-key")))
        );
        assert_eq!(config.node, "");
    }

    #[test]
    fn a_list_is_an_array_or_has_commas() {
        let config = from_file("www = [\"a\", \"/b=c\"]").unwrap().config;
        let variables = environment(&[("TUNNEL_RELAY_WWW", "a, /b=c,")]);
        let same = load(&Sources { environment: variables, ..Sources::default() }).unwrap().config;
        assert_eq!(config, same);
        assert_eq!(config.www.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_with_file_line_setting_and_what_is_allowed() {
        for (text, message) in [
            (
                "# a comment\nmax-channels = 1.5",
                "FILE:2: max-channels: \"1.5\" is no number; allowed is a whole number, from 1 to 1,000,000",
            ),
            (
                "\n\nmax-channels = 0",
                "FILE:3: max-channels: \"0\" is out of bounds; allowed is a whole number, from 1 to 1,000,000",
            ),
            ("max-chanels = 1", "FILE:1: max-chanels: there is no such setting; is max-channels meant?"),
            ("colour = 'red'", "FILE:1: colour: there is no such setting"),
            ("\n[limits]\nmax-channels = 1", "FILE:2: limits: a table is no value of any setting"),
            ("www = 'folder'", "FILE:1: www: it has to be an array"),
            ("node = ['a']", "FILE:1: node: it has to be one value"),
            ("node = 'a'\nnode = 'b'", "FILE:2: it is no TOML: duplicate key"),
            ("channel-high = '1KiB'", "channel-low (default): it may not be larger than channel-high"),
            (
                "idle-timeout = '90s'\nping-interval = '2min'",
                "FILE:2: ping-interval: it has to be shorter than idle-timeout",
            ),
            (
                "websocket-ping-interval = '20s'",
                "FILE:1: websocket-ping-interval: it has to be longer than ping-interval",
            ),
        ] {
            assert_eq!(from_file(text).unwrap_err(), message, "{text}");
        }
        let missing = load(&Sources { file: Some("/no/such/file".into()), ..Sources::default() });
        assert!(missing.unwrap_err().to_string().starts_with("/no/such/file: it can't be read: "));
    }

    #[test]
    fn all_problems_are_said_at_once() {
        let sources = Sources {
            environment: environment(&[("TUNNEL_RELAY_CLOSE_TIMEOUT", "soon")]),
            flags: flags(&[("listen", "nowhere")]),
            file: Some(file("nonsense = 1").path().to_owned()),
        };
        let text = load(&sources).unwrap_err().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("TUNNEL_RELAY_CLOSE_TIMEOUT: \"soon\" is no time; allowed is "),
            "{text}"
        );
        assert!(lines[2].starts_with("--listen: \"nowhere\": "), "{text}");
        assert_eq!(lines.len(), 3, "{text}");
    }

    #[test]
    fn a_variable_that_is_no_setting_is_refused_but_those_of_orchestrators_are_not() {
        let variables = environment(&[
            ("TUNNEL_RELAY_ACCES_TOKENS", "1"),
            ("TUNNEL_RELAY_CONFIG", "x"),
            ("TUNNEL_RELAY_PORT", "8087"),
        ]);
        let problems = load(&Sources { environment: variables, ..Sources::default() }).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "TUNNEL_RELAY_ACCES_TOKENS: there is no such setting; is access-tokens meant?\n\
             TUNNEL_RELAY_PORT: there is no such setting"
        );
        let variables = environment(&[
            ("TUNNEL_RELAY_SERVICE_HOST", "10.0.0.7"),
            ("TUNNEL_RELAY_SERVICE_PORT", "8087"),
            ("TUNNEL_RELAY_SERVICE_PORT_WS", "8087"),
            ("TUNNEL_RELAY_PORT", "tcp://10.0.0.7:8087"),
            ("TUNNEL_RELAY_PORT_8087_TCP", "tcp://10.0.0.7:8087"),
            ("TUNNEL_RELAY_PORT_8087_TCP_PROTO", "tcp"),
        ]);
        load(&Sources { environment: variables, ..Sources::default() }).unwrap();
    }

    /// Loads these variables: returns who may use the relay, and whether nobody gets in; or else the problems.
    fn access(pairs: &[(&str, &str)]) -> Result<(AccessMode, bool), String> {
        let sources = Sources { environment: environment(pairs), ..Sources::default() };
        let loaded = load(&sources).map_err(|problems| problems.to_string())?;
        assert_eq!(loaded.config.wants_tokens(), loaded.config.access == AccessMode::Tokens);
        Ok((loaded.config.access, loaded.closed.is_some()))
    }

    #[test]
    fn nothing_that_is_empty_opens_the_relay() {
        const TOKEN: &str = "sha256:000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f";
        let (mode, tokens) = ("TUNNEL_RELAY_ACCESS", "TUNNEL_RELAY_ACCESS_TOKENS");
        let origins = "TUNNEL_RELAY_ALLOWED_ORIGINS";
        for (variables, expected) in [
            (&[][..], Some((AccessMode::Open, false))),
            (&[(mode, "open")], Some((AccessMode::Open, false))),
            (&[(mode, "")], None),
            (&[(mode, "tokens")], Some((AccessMode::Tokens, true))),
            (&[(tokens, "")], Some((AccessMode::Tokens, true))),
            (&[(tokens, " , ")], Some((AccessMode::Tokens, true))),
            (&[(tokens, TOKEN)], Some((AccessMode::Tokens, false))),
            (&[(mode, "tokens"), (tokens, TOKEN)], Some((AccessMode::Tokens, false))),
            (&[(mode, "open"), (tokens, "")], Some((AccessMode::Open, false))),
            (&[(mode, "open"), (tokens, TOKEN)], None),
            (&[("TUNNEL_RELAY_TOKEN_SECRET", "")], None),
            (&[(origins, "")], Some((AccessMode::Open, true))),
            (&[(origins, "any")], Some((AccessMode::Open, false))),
        ] {
            assert_eq!(access(variables).ok(), expected, "{variables:?}");
        }
        let file = from_file(&format!("access-tokens = ['{TOKEN}']\nallowed-origins = []"));
        let closed = file.unwrap().closed.unwrap();
        assert!(
            closed.ends_with("allowed-origins: no origin is allowed, so nobody gets in: \"any\" lets all in")
        );
        assert!(
            from_file("access-tokens = []").unwrap().closed.unwrap().contains(":1: access-tokens: access is")
        );
        assert!(from_file(" \n").unwrap_err().starts_with("FILE: it is empty"));
    }

    #[test]
    fn an_address_that_others_reach_wants_to_be_told_that_it_is_open() {
        let warned = |pairs: &[(&str, &str)]| {
            load(&Sources { environment: environment(pairs), ..Sources::default() }).unwrap().warnings.len()
        };
        let listen = ("TUNNEL_RELAY_LISTEN", "0.0.0.0:8087");
        assert_eq!(warned(&[listen]), 1);
        assert_eq!(warned(&[listen, ("TUNNEL_RELAY_ACCESS", "open")]), 0);
        assert_eq!(warned(&[listen, ("TUNNEL_RELAY_ACCESS_TOKENS", "")]), 0);
        assert_eq!(warned(&[]), 0);
    }

    #[test]
    fn a_wrong_secret_is_not_repeated() {
        let variables = environment(&[("TUNNEL_RELAY_LIVECODE_CREDENTIAL", "")]);
        let problems = load(&Sources { environment: variables, ..Sources::default() }).unwrap_err();
        assert!(problems.to_string().contains("LIVECODE_CREDENTIAL: the value is wrong; allowed is "));
    }

    #[test]
    fn a_reload_takes_what_can_change_and_names_what_waits() {
        let old = Config::default();
        let new = Config {
            listen: "127.0.0.1:1".parse().unwrap(),
            close_timeout: Duration::from_secs(9),
            ..Config::default()
        };
        let (config, waiting) = old.reloaded(new);
        assert_eq!(config, Config { close_timeout: Duration::from_secs(9), ..Config::default() });
        assert_eq!(waiting, ["listen"]);
    }
}
