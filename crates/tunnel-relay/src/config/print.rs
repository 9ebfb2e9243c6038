//! Writes configurations, for `--print-config` and the live page, and the table of all settings in `docs/OPERATING.md`.

use super::Config;
use std::fmt::Write as _;

/// One row of the table of settings.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The heading under which it is listed.
    pub group: &'static str,
    /// The field of [`Config`].
    pub field: &'static str,
    /// The placeholder for a value in help texts.
    pub form: &'static str,
    /// The values that are allowed, as a noun.
    pub allowed: String,
    /// True if it takes any number of values.
    pub many: bool,
    /// True if values must not be shown.
    pub secret: bool,
    /// True if it can change while the relay runs.
    pub reload: bool,
    /// The default, for people.
    pub default: String,
    /// Its effect.
    pub what: &'static str,
    /// The reason for the default.
    pub why: &'static str,
}

impl Setting {
    /// Its name as a flag, without the dashes before it, and in the file.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.field)
    }
}

pub(super) fn name(field: &str) -> String {
    field.replace('_', "-")
}

/// A TOML file that reads back to the same configuration, with what each setting does; only secrets are left out.
#[must_use]
pub fn print(config: &Config) -> String {
    let mut text = String::new();
    let mut group = "";
    for setting in Config::settings() {
        if setting.group != group {
            group = setting.group;
            let _never_fails = writeln!(text, "{}## {group}", if text.is_empty() { "" } else { "\n" });
        }
        let name = setting.name();
        let _never_fails = writeln!(text, "\n# {}.", plain(setting.what));
        let _never_fails = match config.toml(setting.field) {
            Some(_) if setting.secret => writeln!(text, "# {name} = (set, and not shown)"),
            Some(value) => writeln!(text, "{name} = {value}"),
            // Left out, it would be read as its default.
            None if setting.many && setting.default != "–" => writeln!(text, "{name} = []"),
            None => writeln!(
                text,
                "# {name} = ({} {})",
                if setting.many { "any number of" } else { "one" },
                setting.form
            ),
        };
    }
    text
}

/// The table of all settings, in Markdown.
#[must_use]
pub fn table() -> String {
    let mut text = String::new();
    let mut group = "";
    for setting in Config::settings() {
        if setting.group != group {
            group = setting.group;
            let _never_fails = write!(
                text,
                "### {group}\n\n| setting | default | what it does | why this default | reload |\n|---|---|---|---|---|\n"
            );
        }
        let Setting { form, default, what, why, .. } = &setting;
        let name = setting.name();
        let more = if setting.many { ", …" } else { "" };
        let reload = if setting.reload { "yes" } else { "" };
        let _never_fails =
            writeln!(text, "| `{name}` {form}{more} | {default} | {what} | {why} | {reload} |");
    }
    text.replace("\n### ", "\n\n### ")
}

/// A text of the table without its markup.
pub(super) fn plain(text: &str) -> String {
    text.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::super::{Secret, Sources, Switch, load};
    use super::*;
    use std::collections::BTreeSet;

    /// Sets a setting to something that is not its default.
    fn other(setting: &Setting, config: &mut Config) {
        let candidates = [
            "7",
            "7s",
            "12KiB",
            "200",
            "4MiB",
            "on",
            "off",
            "warn",
            "json",
            "relay.example.org",
            "operator@example.org",
            "https://acme.example.org/directory",
            "/a=b",
            "relay-1:8089",
            "127.0.0.1:7",
            "10.0.0.0/8",
            "https://*.example.org:81",
            "forwarded",
            "tokens",
            "a secret of 32 random characters",
            "sha256:000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f connect ports=1-9",
            "AAECAwQFBgcICQoLDA0ODwABAgMEBQYHCAkKCwwNDg8",
            "nats://bus:4222",
            "tea sha256:000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f",
        ];
        let changed = candidates.into_iter().any(|text| {
            let before = config.clone();
            config.set(setting.field, &[text.to_owned()]).is_ok() && *config != before
        });
        assert!(changed, "no candidate fits {}", setting.field);
    }

    // A relay without ACME takes none of its settings.
    #[cfg(feature = "acme")]
    #[test]
    fn what_is_printed_reads_back_to_the_same() {
        let mut changed = Config::default();
        for setting in Config::settings() {
            other(&setting, &mut changed);
        }
        // These would contradict the rest.
        changed.idle_timeout = std::time::Duration::from_secs(3_600);
        changed.websocket_ping_interval = changed.ping_interval * 2;
        (changed.link_frames_per_second, changed.link_bytes_per_second) = (200, 0);
        changed.acme_domains = Vec::new();
        changed.metrics_listen = None;
        changed.livecode_credential = None;
        changed.livecode_programs = Switch::Off;
        changed.livecode_namespaces = Vec::new();
        (changed.cluster, changed.cluster_secret) = (Vec::new(), None);
        (changed.cluster_listen, changed.cluster_address) = (None, None);
        let closed = Config { allowed_origins: Vec::new(), ..changed.clone() };
        for config in [Config::default(), changed, closed] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), print(&config)).unwrap();
            let mut sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
            for secret in Config::settings().iter().filter(|setting| setting.secret) {
                if let Some(value) = config.toml(secret.field) {
                    sources.flags.insert(secret.name(), vec![value.trim_matches('"').to_owned()]);
                }
            }
            assert_eq!(load(&sources).unwrap().config, config, "{}", print(&config));
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let config = Config { livecode_credential: Some(Secret("hunter2".to_owned())), ..Config::default() };
        assert!(!print(&config).contains("hunter2"));
    }

    #[test]
    fn no_two_settings_have_one_name() {
        let settings = Config::settings();
        let names: BTreeSet<_> = settings.iter().map(Setting::name).collect();
        assert_eq!(names.len(), settings.len());
    }

    /// `UPDATE_DOCS=1 cargo test -p tunnel-relay --lib` writes it.
    #[test]
    fn the_table_in_the_documentation_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPERATING.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("<!-- settings -->\n").unwrap();
        let (documented, after) = rest.split_once("<!-- /settings -->").unwrap();
        let table = format!("\n{}\n", table());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}<!-- settings -->\n{table}<!-- /settings -->{after}"))
                .unwrap();
        } else {
            assert!(
                documented == table,
                "docs/OPERATING.md is out of date: run this test with UPDATE_DOCS=1"
            );
        }
    }
}
