//! The relay and its token, from the environment or a file: never from the command line, which other users see.

use crate::failure::Failure;
use etcetera::BaseStrategy as _;
use serde::Deserialize;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The relay, and the access token for it; empty if there is none.
pub(crate) struct Settings {
    pub(crate) relay: String,
    pub(crate) token: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    relay: Option<String>,
    token: Option<String>,
}

impl Settings {
    pub(crate) fn read() -> Result<Self, Failure> {
        let (configuration, path) = configuration()?;
        let relay = variable("TUNNEL_RELAY")?.or(configuration.relay).ok_or_else(|| {
            let path = path.map_or_else(String::new, |path| format!(", or `relay` in {}", path.display()));
            Failure::Usage(format!(
                "no relay is known: set TUNNEL_RELAY to its URL, for example wss://relay.example{path}"
            ))
        })?;
        let token = variable("TUNNEL_TOKEN")?.or(configuration.token).unwrap_or_default();
        Ok(Self { relay, token })
    }
}

/// A variable. One that is empty is a mistake, as of a script whose own variable was never set.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) if value.trim().is_empty() => {
            Err(Failure::Usage(format!("{name} is empty: set it, or unset it")))
        }
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{name} is no UTF-8"))),
    }
}

fn configuration() -> Result<(Configuration, Option<PathBuf>), Failure> {
    let named = variable("TUNNEL_CONFIG")?.map(PathBuf::from);
    let is_named = named.is_some();
    let Some(path) = named.or_else(usual_path) else {
        return Ok((Configuration::default(), None));
    };
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named => {
            return Ok((Configuration::default(), Some(path)));
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    let configuration: Configuration = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if configuration.token.is_some() {
        check_mode(&path).map_err(wrong)?;
    }
    Ok((configuration, Some(path)))
}

fn usual_path() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.config_dir().join("tunnel").join("config.toml"))
}

#[cfg(unix)]
fn check_mode(path: &std::path::Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("others may read the token in it (mode {mode:03o}): run `chmod 600` on it"))
}

#[cfg(not(unix))]
fn check_mode(_: &std::path::Path) -> Result<(), String> {
    Ok(())
}
