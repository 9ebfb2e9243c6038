//! All that one test has.

use std::cell::{OnceCell, RefCell};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::Method;
use serde_json::json;
use tokio::sync::Mutex;

use crate::authority::{Authority, Trust};
use crate::clock::within;
use crate::paths;
use crate::pool::Claim;
use crate::process::Program;
use crate::tab::Tab;
use crate::webdriver::Browser;

/// Limit for a whole test. The parts have their own limits, which say more.
const TEST_LIMIT: Duration = Duration::from_secs(240);

/// Limit for the browser to save what it has already.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(20);

/// Limit for each thing that is looked at after a failure.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// A browser for itself, and a relay of its own once it is asked for.
#[derive(Debug)]
pub struct Stage {
    relay: OnceCell<Relay>,
    pub(crate) browser: Browser,
    /// Handle of the tab that commands go to; held while one does.
    pub(crate) current: Mutex<String>,
    /// Handle of the window that the browser started with: it stays, so that every tab of a test may be closed.
    spare: String,
    tabs: RefCell<Vec<(String, String)>>,
}

/// A relay on a free port.
#[derive(Debug)]
pub struct Relay {
    program: Program,
    options: Vec<String>,
    /// `ws://127.0.0.1:PORT`, or `wss://…` if it was given a certificate.
    pub url: String,
}

impl Relay {
    /// Starts one that serves the demo, the package at `/pkg`, and the tests' pages at `/e2e`, `/classes` and `/conformance`.
    ///
    /// `options` go to its command line, after the others.
    pub fn start(options: &[&str]) -> Result<Self> {
        let (root, package) = (paths::root()?, paths::package()?);
        let folders = [
            format!("/pkg={}", package.display()),
            format!("/e2e={}", root.join("tests/e2e/pages").display()),
            format!("/classes={}", root.join("tests/classes").display()),
            format!("/conformance={}", root.join("tests/conformance").display()),
            root.join("www").display().to_string(),
        ];
        let served = folders.iter().flat_map(|folder| ["--www", folder]);
        Self::serving(&served.chain(options.iter().copied()).collect::<Vec<_>>())
    }

    /// Starts one that serves what `options` say, and nothing else.
    pub fn serving(options: &[&str]) -> Result<Self> {
        let options = options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>();
        let (program, url) = run_relay("127.0.0.1:0", &options)?;
        Ok(Self { program, options, url })
    }

    /// Kills it without a word, as a crash does. Nobody listens on its port until [`restart`](Self::restart).
    pub fn kill(&mut self) -> Result<()> {
        self.program.kill()
    }

    /// Asks it to end, as a system does that is going to start it again, and waits until it has.
    pub fn terminate(&mut self) -> Result<()> {
        #[cfg(unix)]
        return self.program.terminate();
        #[cfg(not(unix))]
        return self.program.kill();
    }

    /// Starts it again on the port that it had. Blocks until it listens.
    pub fn restart(&mut self) -> Result<()> {
        let address = self.address()?.to_string();
        (self.program, _) = run_relay(&address, &self.options)?;
        Ok(())
    }

    /// The address at which it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = self.url.split_once("://").map_or("", |(_, address)| address);
        address.parse().with_context(|| format!("the relay printed {:?} for its address", self.url))
    }

    /// Address of a page that it serves; `path` begins with a slash.
    pub fn page(&self, path: &str) -> String {
        page_at(&self.url, path)
    }

    /// Returns its log.
    pub fn said(&self) -> String {
        self.program.said()
    }
}

fn page_at(url: &str, path: &str) -> String {
    format!("{}{path}", url.replacen("ws", "http", 1))
}

fn run_relay(listen: &str, options: &[String]) -> Result<(Program, String)> {
    let mut command = Command::new(paths::relay()?);
    // The relay takes all that begins so for settings of its own.
    command.env_remove("TUNNEL_RELAY_BINARY");
    command.args(["serve", "--listen", listen]).args(options);
    Program::start(command, "listening on ")
}

/// Runs the relay's command, and returns what it prints, such as an access token.
pub fn relay_prints(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(paths::relay()?);
    let output =
        command.env_remove("TUNNEL_RELAY_BINARY").args(arguments).output().context("cannot run the relay")?;
    if !output.status.success() {
        bail!("the relay says: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout).context("the relay prints text")?.trim_end().to_owned())
}

/// A livecoding server in Node, as those of 2017 were, and its `ws://` address.
pub fn livecode_server(credential: &str) -> Result<(Program, String)> {
    let script = paths::root()?.join("tests/livecode-fixture/server.mjs");
    let mut command = Command::new("node");
    command.arg(script).args(["--port", "0", "--credential", credential]);
    Program::start(command, "listening on ")
}

/// The server that answers the platform's own `WebSocket` in the conformance tests, and its `ws://` address.
pub fn conformance_server() -> Result<(Program, String)> {
    let mut command = Command::new("node");
    command.arg(paths::root()?.join("tests/conformance/server.mjs"));
    Program::start(command, "listening on ")
}

/// A server of the package and the tests' pages over https, and its `https://` address.
pub fn https_server() -> Result<(Program, String)> {
    let root = paths::root()?;
    let mut command = Command::new("node");
    command.arg(root.join("tests/e2e/pages/https.mjs"));
    command.arg(format!("/pkg={}", paths::package()?.display()));
    command.arg(format!("/e2e={}", root.join("tests/e2e/pages").display()));
    Program::start(command, "listening on ")
}

impl Stage {
    async fn set(browser: Browser) -> Result<Self> {
        let first = browser.command(Method::GET, "/window", None).await?;
        let first = first.as_str().context("the first window has no handle")?.to_owned();
        let current = Mutex::new(first.clone());
        Ok(Self { relay: OnceCell::new(), browser, current, spare: first, tabs: RefCell::default() })
    }

    /// The relay, which also serves the pages. The first call starts it.
    pub fn relay(&self) -> Result<&Relay> {
        if let Some(relay) = self.relay.get() {
            return Ok(relay);
        }
        let relay = Relay::start(&[])?;
        Ok(self.relay.get_or_init(|| relay))
    }

    /// Opens a tab with the library loaded, in a window of its own.
    ///
    /// Its scripts find the classes of the package, the helpers of `pages/tab.js`, and the relay's address as `relay`.
    pub async fn tab(&self, name: &str) -> Result<Tab<'_>> {
        self.tab_through(name, &self.relay()?.url).await
    }

    /// The same through another relay, or whatever passes everything on to one.
    pub async fn tab_through(&self, name: &str, relay: &str) -> Result<Tab<'_>> {
        let tab = self.tab_at(name, &page_at(relay, "/e2e/tab.html")).await?;
        tab.run_with(json!({ "relay": relay }), "await library; globalThis.relay = given.relay")
            .await
            .context("the library does not load")?;
        Ok(tab)
    }

    /// Opens a tab with any page.
    pub async fn tab_at(&self, name: &str, url: &str) -> Result<Tab<'_>> {
        let body = json!({ "type": "window" });
        let answer = self.browser.command(Method::POST, "/window/new", Some(&body)).await?;
        let handle = answer["handle"].as_str().context("the new window has no handle")?.to_owned();
        self.tabs.borrow_mut().push((name.to_owned(), handle.clone()));
        let tab = Tab::new(self, name, handle);
        tab.open(url).await?;
        Ok(tab)
    }

    /// Closes a tab, which has to be the current one; no command works until there is another one.
    pub(crate) async fn close(&self, current: &mut String) -> Result<()> {
        self.browser.command(Method::DELETE, "/window", None).await?;
        self.tabs.borrow_mut().retain(|(_, handle)| handle != current);
        self.browser.command(Method::POST, "/window", Some(&json!({ "handle": self.spare }))).await?;
        current.clone_from(&self.spare);
        Ok(())
    }

    /// Crashes a tab, which has to be the current one. What is left of it takes no commands.
    pub(crate) async fn crash(&self, current: &str) -> Result<()> {
        self.tabs.borrow_mut().retain(|(_, handle)| handle != current);
        match self.browser.cdp("Page.crash", json!({})).await {
            Err(error) if format!("{error:#}").contains("tab crashed") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => bail!("the tab did not crash"),
        }
    }

    /// Waits until the browser has saved a file of this name, and returns its content.
    pub async fn downloaded(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.browser.downloads().join(name);
        let saved = async {
            // The browser gives the file its name when it is complete.
            while !path.is_file() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        within(DOWNLOAD_LIMIT, &format!("download of {name}"), saved).await
    }

    /// Leaves the browser as it was before the test, but for what it keeps for addresses that are gone.
    async fn clear(self) -> Result<Browser> {
        let handles = self.browser.command(Method::GET, "/window/handles", None).await?;
        for handle in handles.as_array().into_iter().flatten().filter(|handle| **handle != self.spare) {
            self.browser.command(Method::POST, "/window", Some(&json!({ "handle": handle }))).await?;
            self.browser.command(Method::DELETE, "/window", None).await?;
        }
        self.browser.command(Method::POST, "/window", Some(&json!({ "handle": self.spare }))).await?;
        self.browser.console().await?;
        match std::fs::remove_dir_all(self.browser.downloads()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)?,
            _ => Ok(self.browser),
        }
    }

    /// Prints and keeps what helps to understand a failure. Whatever does not answer is left out.
    async fn explain(&self, test: &str) {
        if let Some(relay) = self.relay.get() {
            eprintln!("--- {test}: the relay said\n{}", relay.said());
        }
        let tabs = self.tabs.borrow().clone();
        for (name, handle) in tabs {
            let tab = Tab::new(self, &name, handle);
            let kept = within(LOOK_LIMIT, "picture", tab.screenshot(&format!("failed {test} {name}"))).await;
            let console = within(LOOK_LIMIT, "console", tab.console()).await;
            eprintln!("--- {test}: tab {name}");
            match kept {
                Ok(path) => eprintln!("picture: {}", path.display()),
                Err(error) => eprintln!("no picture: {error:#}"),
            }
            match console {
                Ok(lines) => eprintln!("console:\n{}", lines.join("\n")),
                Err(error) => eprintln!("no console: {error:#}"),
            }
        }
    }
}

/// Runs one test on a stage of its own, and cleans up whatever happens.
///
/// # Panics
/// When the test fails, after having printed what the browser and the relay have to say about it.
pub fn on_stage(test: impl AsyncFnOnce(&Stage) -> Result<()>) {
    on_stage_within(TEST_LIMIT, test);
}

/// The same with another limit for the whole.
///
/// # Panics
/// As [`on_stage`].
pub fn on_stage_within(limit: Duration, test: impl AsyncFnOnce(&Stage) -> Result<()>) {
    run(Trust::Everybody, limit, test);
}

/// The same with a browser that takes certificates as it does for people: those only that somebody known has signed.
///
/// # Panics
/// As [`on_stage`].
pub fn on_stage_distrusting(test: impl AsyncFnOnce(&Stage) -> Result<()>) {
    run(Trust::Usual, TEST_LIMIT, test);
}

/// The same with a browser that trusts an authority.
///
/// # Panics
/// As [`on_stage`].
pub fn on_stage_trusting(authority: &Authority, test: impl AsyncFnOnce(&Stage) -> Result<()>) {
    run(Trust::Also(authority), TEST_LIMIT, test);
}

fn run(trust: Trust<'_>, limit: Duration, test: impl AsyncFnOnce(&Stage) -> Result<()>) {
    let name = thread::current().name().unwrap_or("test").replace("::", " ");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs nothing that a test machine lacks");
    let claim = Claim::new();
    let stage = runtime.block_on(async { Stage::set(claim.browser(trust).await?).await });
    let stage = match stage {
        Ok(stage) => stage,
        Err(error) => {
            runtime.block_on(end_all(claim.end()));
            panic!("cannot set the stage: {error:#}");
        }
    };
    let result =
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(within(limit, "the whole test", test(&stage)))));
    let reusable = matches!(result, Ok(Ok(()))) && matches!(trust, Trust::Everybody);
    if !matches!(result, Ok(Ok(()))) {
        runtime.block_on(stage.explain(&name));
    }
    let cleared = runtime.block_on(within(LOOK_LIMIT, "end of the test's windows", stage.clear()));
    let mut unused = Vec::new();
    match cleared {
        Ok(browser) if reusable => unused = claim.give_back(browser),
        Ok(browser) => {
            unused.push(browser);
            unused.extend(claim.end());
        }
        // A browser that does not even close windows is ended with its driver.
        Err(error) => {
            eprintln!("{name}: {error:#}");
            unused = claim.end();
        }
    }
    runtime.block_on(end_all(unused));
    match result {
        Err(panic) => resume_unwind(panic),
        Ok(Err(error)) => panic!("{error:#}"),
        Ok(Ok(())) => {}
    }
}

async fn end_all(browsers: Vec<Browser>) {
    for browser in browsers {
        if let Err(error) = within(LOOK_LIMIT, "end of the browser", browser.close()).await {
            eprintln!("{error:#}");
        }
    }
}
