//! A WebDriver client: one session with a driver, which is one browser.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::authority::Trust;
use crate::clock::within;
use crate::engine::{Driver, Engine};

/// A browser needs some seconds to start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A script has its own limit in the page, which is shorter and says more.
const SCRIPT_LIMIT: Duration = Duration::from_secs(300);

/// A browser of its own, with an empty profile.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) engine: Engine,
    address: SocketAddr,
    session: String,
    // Ended first: the browser follows when its driver is gone.
    _driver: Driver,
    folder: TempDir,
}

impl Browser {
    /// A new one, which takes the certificates of whom it is to trust.
    pub(crate) async fn start(trust: Trust<'_>) -> Result<Self> {
        let engine = Engine::wanted()?;
        let folder = tempfile::tempdir().context("no folder for the browser's profile")?;
        let driver = engine.start(folder.path()).await?;
        let mut browser =
            Self { engine, address: driver.address, session: String::new(), _driver: driver, folder };
        let mut capabilities = engine.capabilities(browser.folder.path(), &browser.downloads(), trust)?;
        capabilities["timeouts"] = json!({ "script": SCRIPT_LIMIT.as_millis() as u64 });
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let answer = browser.send(Method::POST, "/session", Some(&body));
        let answer = within(START_WITHIN, &format!("start of {engine:?}"), answer).await?;
        let id = answer["sessionId"].as_str().context("the driver gave no session ID")?;
        browser.session = id.to_owned();
        Ok(browser)
    }

    /// Folder that the browser saves files in.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.folder.path().join("downloads")
    }

    /// Sends one command of the session; `path` comes after its ID.
    pub(crate) async fn command(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, &format!("/session/{}{path}", self.session), body).await
    }

    /// Sends a command of Chromium's own protocol to the tab that is switched to.
    pub(crate) async fn cdp(&self, command: &str, parameters: Value) -> Result<Value> {
        let body = json!({ "cmd": command, "params": parameters });
        self.command(Method::POST, "/goog/cdp/execute", Some(&body)).await
    }

    /// Returns what the pages have written to the console since this was last asked; and errors of their own.
    ///
    /// Only Chromium tells.
    pub(crate) async fn console(&self) -> Result<Vec<String>> {
        if self.engine != Engine::Chromium {
            return Ok(Vec::new());
        }
        let entries = self.command(Method::POST, "/se/log", Some(&json!({ "type": "browser" }))).await?;
        let entries = entries.as_array().context("the console is not a list")?;
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        Ok(entries
            .iter()
            .map(|entry| format!("{} {}", text(entry, "level"), text(entry, "message")))
            .collect())
    }

    /// Ends the browser.
    pub(crate) async fn close(&self) -> Result<()> {
        self.command(Method::DELETE, "", None).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let stream = TcpStream::connect(self.address).await.context("the driver does not answer")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the request; an error of it is an error of the request too.
        tokio::spawn(connection);
        let shown = format!("{method} {path}");
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await.with_context(|| shown.clone())?;
        let ok = response.status().is_success();
        let body = response.into_body().collect().await.with_context(|| shown.clone())?.to_bytes();
        let mut answer: Value = serde_json::from_slice(&body).with_context(|| format!("{shown}: no JSON"))?;
        let value = answer.get_mut("value").ok_or_else(|| anyhow!("{shown}: no value"))?.take();
        if !ok {
            let error = value["error"].as_str().unwrap_or("error");
            let message = value["message"].as_str().unwrap_or_default();
            bail!("{shown}: {error}: {}", message.lines().next().unwrap_or_default());
        }
        Ok(value)
    }
}
