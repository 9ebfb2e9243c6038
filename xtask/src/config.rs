//! Settings in `wasm-pack.toml`, for all commands.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// All of `wasm-pack.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) tools: Tools,
    pub(crate) build: Build,
    pub(crate) test: Test,
    pub(crate) size: Size,
}

/// Versions of the tools, exact.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tools {
    pub(crate) wasm_bindgen: String,
    pub(crate) wasm_pack: String,
    pub(crate) binaryen: String,
    pub(crate) esbuild: String,
    pub(crate) geckodriver: String,
    pub(crate) nats_server: String,
}

/// Settings of the npm package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Build {
    /// Compilation target of rustc.
    pub(crate) rust_target: String,
    /// Cargo profile.
    pub(crate) profile: String,
    /// Cargo profile of the debug form.
    pub(crate) debug_profile: String,
    /// Folder of the package, relative to the workspace.
    pub(crate) out_dir: String,
    /// Arguments of wasm-opt.
    pub(crate) wasm_opt: Vec<String>,
}

/// The browsers of the tests, and their modes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Test {
    pub(crate) browsers: Vec<Browser>,
    pub(crate) modes: Vec<Mode>,
    /// Limit for one test file in one mode, in seconds.
    pub(crate) timeout_seconds: u32,
}

/// Limits for what a page loads.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Size {
    /// Wasm and JavaScript together, compressed, in bytes.
    pub(crate) brotli_bytes: usize,
}

/// A browser that the tests can run in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Browser {
    Chromium,
    Firefox,
    WebKit,
}

impl Browser {
    /// The option of `wasm-pack test`, which knows no WebKit but Safari's.
    pub(crate) fn wasm_pack_option(self) -> Option<&'static str> {
        match self {
            Self::Chromium => Some("--chrome"),
            Self::Firefox => Some("--firefox"),
            Self::WebKit => None,
        }
    }

    /// Its name in the multi-tab tests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::WebKit => "webkit",
        }
    }
}

/// A browser as one names it on the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum BrowserChoice {
    Chromium,
    Firefox,
    Webkit,
    All,
}

impl BrowserChoice {
    /// Each browser that was chosen, once; the default ones if none was.
    pub(crate) fn browsers(choices: &[Self], default: &[Browser]) -> Vec<Browser> {
        let all = [
            (Self::Chromium, Browser::Chromium),
            (Self::Firefox, Browser::Firefox),
            (Self::Webkit, Browser::WebKit),
        ];
        let chosen = |choice| match choices {
            [] => None,
            _ => Some(choices.contains(&choice) || choices.contains(&Self::All)),
        };
        all.into_iter()
            .filter(|&(choice, browser)| chosen(choice).unwrap_or_else(|| default.contains(&browser)))
            .map(|(_, browser)| browser)
            .collect()
    }
}

/// The kind of global scope that a browser test runs in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Window,
    DedicatedWorker,
    SharedWorker,
    ServiceWorker,
}

impl Mode {
    /// The environment variable that makes `wasm-bindgen-test-runner` choose this mode.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Window => "WASM_BINDGEN_USE_BROWSER",
            Self::DedicatedWorker => "WASM_BINDGEN_USE_DEDICATED_WORKER",
            Self::SharedWorker => "WASM_BINDGEN_USE_SHARED_WORKER",
            Self::ServiceWorker => "WASM_BINDGEN_USE_SERVICE_WORKER",
        }
    }

    /// As `wasm-pack.toml` writes it, with a space for the hyphen.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::DedicatedWorker => "dedicated worker",
            Self::SharedWorker => "shared worker",
            Self::ServiceWorker => "service worker",
        }
    }
}

impl Config {
    /// Reads `wasm-pack.toml` in `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join("wasm-pack.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not understood", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        if config.test.browsers.is_empty() || config.test.modes.is_empty() {
            bail!("test.browsers and test.modes need at least one entry each");
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../../wasm-pack.toml");

    #[test]
    fn our_own_file_is_understood() {
        assert!(Config::parse(OURS).is_ok());
    }

    #[test]
    fn a_field_that_is_not_known_is_refused_by_name() {
        let error = Config::parse(&OURS.replace("[size]", "[size]\ngzip-bytes = 1")).unwrap_err();
        assert!(error.to_string().contains("gzip-bytes"), "{error}");
    }

    #[test]
    fn browsers_are_chosen_by_name_or_all_at_once() {
        let default = [Browser::Chromium];
        let choose = |choices: &[BrowserChoice]| BrowserChoice::browsers(choices, &default);
        assert_eq!(choose(&[]), default);
        assert_eq!(choose(&[BrowserChoice::Webkit, BrowserChoice::Webkit]), [Browser::WebKit]);
        assert_eq!(choose(&[BrowserChoice::All]), [Browser::Chromium, Browser::Firefox, Browser::WebKit]);
    }

    #[test]
    fn no_browser_at_all_is_refused() {
        assert!(Config::parse(&OURS.replace("[\"chromium\"]", "[]")).is_err());
    }
}
