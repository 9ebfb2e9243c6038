//! The browsers that tests run in, each behind its own WebDriver server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::authority::Trust;
use crate::clock::within;
use crate::process::Program;
use crate::unused::UnusedAddress;

/// Flags for Chromium that the tests of `wasm-pack test` use too.
const CHROMIUM: &str = include_str!("../../webdriver.json");

/// The time that a driver on a busy machine may take until it listens.
const DRIVER_LIMIT: Duration = Duration::from_secs(30);

/// A browser engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// Chromium with chromedriver.
    Chromium,
    /// Firefox with geckodriver.
    Firefox,
    /// WebKitGTK's MiniBrowser with WebKitWebDriver, on a screen of its own.
    WebKit,
}

/// A driver that waits for a session, and what it needs.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) address: SocketAddr,
    // In the order in which they end.
    _programs: Vec<Program>,
}

impl Engine {
    /// The one that `TUNNEL_E2E_BROWSER` names; Chromium otherwise.
    pub fn wanted() -> Result<Self> {
        match env::var("TUNNEL_E2E_BROWSER").as_deref() {
            Err(_) | Ok("" | "chromium") => Ok(Self::Chromium),
            Ok("firefox") => Ok(Self::Firefox),
            Ok("webkit") => Ok(Self::WebKit),
            Ok(other) => bail!("TUNNEL_E2E_BROWSER is {other:?}: expected chromium, firefox or webkit"),
        }
    }

    /// Starts its driver. `folder` is where the browser may keep things.
    pub(crate) async fn start(self, folder: &Path) -> Result<Driver> {
        match self {
            Self::Chromium => {
                let command = || {
                    let mut command = Command::new(named("CHROMEDRIVER", "chromedriver"));
                    command.arg("--port=0");
                    command
                };
                // It takes a free port of IPv6 and then the same of IPv4, which may be somebody else's.
                let ready = "started successfully on port ";
                let (driver, port) = Program::start_on_some_port(command, ready, "port not available")?;
                let port = port.trim_end_matches('.').parse();
                let port = port.with_context(|| format!("chromedriver said: {}", driver.said()))?;
                Ok(Driver { address: SocketAddr::from(([127, 0, 0, 1], port)), _programs: vec![driver] })
            }
            Self::Firefox => {
                let mut command = Command::new(named("GECKODRIVER", "geckodriver"));
                command.args(["--port", "0", "--profile-root"]).arg(folder);
                let (driver, address) = Program::start(command, "Listening on ")?;
                let address = address.parse();
                let address = address.with_context(|| format!("geckodriver said: {}", driver.said()))?;
                Ok(Driver { address, _programs: vec![driver] })
            }
            Self::WebKit => {
                let mut command = Command::new("Xvfb");
                command.args(["-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]);
                // The only line that it prints is the number of the screen.
                let (screen, number) = Program::start(command, "")?;
                // It takes no port 0, nor one that is held for it.
                let address = UnusedAddress::take()?.address();
                let mut command = Command::new(named("WEBKITDRIVER", "WebKitWebDriver"));
                command.arg(format!("--port={}", address.port())).env("DISPLAY", format!(":{number}"));
                command
                    .env("XDG_DATA_HOME", folder)
                    .env("XDG_CACHE_HOME", folder)
                    .env("XDG_CONFIG_HOME", folder);
                let driver = Program::start_silent(command)?;
                within(DRIVER_LIMIT, "WebKitWebDriver", listening(address)).await?;
                Ok(Driver { address, _programs: vec![driver, screen] })
            }
        }
    }

    /// The capabilities with which a session is asked for.
    pub(crate) fn capabilities(self, folder: &Path, downloads: &Path, trust: Trust<'_>) -> Result<Value> {
        let mut capabilities = self.own_capabilities(folder, downloads, trust)?;
        if matches!(trust, Trust::Also(_)) && self != Self::Chromium {
            // They can't be told whom to trust on the command line.
            capabilities["acceptInsecureCerts"] = true.into();
        }
        Ok(capabilities)
    }

    fn own_capabilities(self, folder: &Path, downloads: &Path, trust: Trust<'_>) -> Result<Value> {
        match self {
            Self::Chromium => {
                let mut capabilities: Value =
                    serde_json::from_str(CHROMIUM).context("tests/webdriver.json")?;
                let arguments = capabilities["goog:chromeOptions"]["args"].as_array_mut();
                let arguments =
                    arguments.context("tests/webdriver.json has no args in goog:chromeOptions")?;
                arguments.push(format!("--user-data-dir={}", folder.join("profile").display()).into());
                arguments.push("--remote-debugging-pipe".into());
                // Names of this machine that are no secure contexts over plain HTTP, which its own names are.
                arguments.push("--host-resolver-rules=MAP *.test 127.0.0.1".into());
                // For tests of what is freed.
                arguments.push("--js-flags=--expose-gc".into());
                if let Trust::Also(authority) = trust {
                    let pin = authority.pin();
                    arguments.push(format!("--ignore-certificate-errors-spki-list={pin}").into());
                }
                capabilities["goog:chromeOptions"]["prefs"] = json!({
                    "download.default_directory": downloads,
                    "download.prompt_for_download": false,
                });
                capabilities["browserName"] = "chrome".into();
                capabilities["acceptInsecureCerts"] = (!matches!(trust, Trust::Usual)).into();
                capabilities["goog:loggingPrefs"] = json!({ "browser": "ALL" });
                Ok(capabilities)
            }
            Self::Firefox => Ok(json!({
                "browserName": "firefox",
                "acceptInsecureCerts": !matches!(trust, Trust::Usual),
                "moz:firefoxOptions": {
                    "args": ["-headless"],
                    "prefs": {
                        "browser.download.dir": downloads,
                        "browser.download.folderList": 2,
                        // Firefox makes a page wait for minutes that has failed to connect a few times.
                        "network.websocket.delay-failed-reconnects": false,
                    },
                },
            })),
            Self::WebKit => Ok(json!({
                "browserName": "MiniBrowser",
                "acceptInsecureCerts": !matches!(trust, Trust::Usual),
                "webkitgtk:browserOptions": { "binary": mini_browser()?, "args": ["--automation"] },
            })),
        }
    }
}

/// A program: what an environment variable names, or one on the PATH.
fn named(variable: &str, program: &str) -> std::ffi::OsString {
    env::var_os(variable).unwrap_or_else(|| program.into())
}

/// Waits until somebody listens there.
async fn listening(address: SocketAddr) -> Result<()> {
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// It is no command of its own: distributions keep it in a folder of the library.
fn mini_browser() -> Result<PathBuf> {
    if let Some(named) = env::var_os("MINIBROWSER") {
        return Ok(named.into());
    }
    let folders = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    ["/usr/lib", "/usr/libexec"]
        .iter()
        .flat_map(|base| folders(Path::new(base)))
        .flat_map(|folder| folders(&folder).into_iter().chain([folder]))
        .map(|folder| folder.join("MiniBrowser"))
        .find(|path| path.is_file())
        .context("no MiniBrowser in /usr/lib: `cargo xtask setup --browsers webkit` installs it")
}
