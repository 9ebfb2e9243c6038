//! One tab of the browser.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use crate::clock::within;
use crate::engine::Engine;
use crate::paths;
use crate::stage::Stage;

/// Limit for a script that is given none.
const SCRIPT_LIMIT: Duration = Duration::from_secs(30);

/// A script's body becomes an async function of `given`. The limit is kept in the page, so that the session can
/// still be asked for the console after it. Firefox runs scripts in a global scope of their own, behind which is the
/// page's: what a script keeps for the next has to go to the page's.
const WRAPPER: &str = r"
const [given, limit, done] = arguments
const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`nothing within ${limit} ms`)), limit))
const shown = error => typeof error?.message === 'string'
  ? `${error.name}${typeof error.code === 'string' ? ` (${error.code})` : ''}: ${error.message}\n${error.stack ?? ''}`
  : `thrown: ${String(error)}`
const script = async (given, globalThis) => { 'use strict'; BODY }
Promise.race([script(given, window), late]).then(value => done({ value: value ?? null }), error => done({ error: shown(error) }))
";

/// The settings of a person's device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// Dark text on light ground.
    Light,
    /// Light text on dark ground.
    Dark,
}

/// Kind of device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// 1280 by 800 points.
    Desktop,
    /// 390 by 844 points.
    Phone,
    /// So many points wide, with a touch screen if that is narrow, and 900 high.
    Points(u32),
}

/// A tab, in a window of its own, so that none is hidden behind another.
#[derive(Debug)]
pub struct Tab<'a> {
    stage: &'a Stage,
    name: String,
    handle: String,
}

impl<'a> Tab<'a> {
    pub(crate) fn new(stage: &'a Stage, name: &str, handle: String) -> Self {
        Self { stage, name: name.to_owned(), handle }
    }

    /// Goes to another page.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.command(Method::POST, "/url", Some(&json!({ "url": url }))).await?;
        Ok(())
    }

    /// Has the browser forget all that it has loaded, so that the next page is as for somebody who is new. Only Chromium does.
    pub async fn forget_cache(&self) -> Result<()> {
        let _turn = self.turn().await?;
        self.stage.browser.cdp("Network.clearBrowserCache", json!({})).await?;
        Ok(())
    }

    /// Loads the page again, as the browser's own button does.
    pub async fn reload(&self) -> Result<()> {
        self.command(Method::POST, "/refresh", Some(&json!({}))).await?;
        Ok(())
    }

    /// Runs the body of an async function in the page and returns what that returns.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.run_with(Value::Null, script).await
    }

    /// The same, with a value that the script knows as `given`.
    pub async fn run_with(&self, given: Value, script: &str) -> Result<Value> {
        self.run_within(SCRIPT_LIMIT, given, script).await
    }

    /// The same, with its own limit.
    pub async fn run_within(&self, limit: Duration, given: Value, script: &str) -> Result<Value> {
        let body = json!({
            "script": WRAPPER.replacen("BODY", script, 1),
            "args": [given, limit.as_millis() as u64],
        });
        let mut answer = self
            .command(Method::POST, "/execute/async", Some(&body))
            .await
            .with_context(|| format!("tab {}: {}", self.name, script.trim()))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("tab {}: {}\nin: {}", self.name, error.trim(), script.trim());
        }
        Ok(answer["value"].take())
    }

    /// The text that a script returns.
    pub async fn text_of(&self, script: &str) -> Result<String> {
        let value = self.run(script).await?;
        Ok(value
            .as_str()
            .with_context(|| format!("tab {}: {value} is no text\nin: {script}", self.name))?
            .to_owned())
    }

    /// Waits until an expression is true in the page, and returns its value.
    pub async fn until(&self, what: &str, expression: &str) -> Result<Value> {
        let script = format!(
            "for (;;) {{
               const value = ({expression})
               if (value) return value
               await new Promise(resolve => {{
                 const observer = new MutationObserver(again)
                 const timer = setTimeout(again, 200)
                 function again() {{ observer.disconnect(); clearTimeout(timer); resolve() }}
                 observer.observe(document, {{ attributes: true, characterData: true, childList: true, subtree: true }})
               }})
             }}"
        );
        self.run(&script).await.with_context(|| what.to_owned())
    }

    /// Clicks on the element that a CSS selector finds, as a person would: it has to be in view and uncovered.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.command(Method::POST, &format!("/element/{element}/click"), Some(&json!({}))).await?;
        Ok(())
    }

    /// Types into the element that a CSS selector finds; `\u{e007}` is the Enter key, and the path of a file is what
    /// a file input takes.
    pub async fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector).await?;
        let body = json!({ "text": text });
        self.command(Method::POST, &format!("/element/{element}/value"), Some(&body)).await?;
        Ok(())
    }

    /// Presses keys on whatever has the focus, one after the other; `\u{e004}` is Tab, `\u{e00c}` Escape.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let strokes = keys.chars().flat_map(|key| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        });
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>() });
        self.command(Method::POST, "/actions", Some(&json!({ "actions": [keyboard] }))).await?;
        Ok(())
    }

    /// Waits until there is an element in the shadow root of `host`, in which no script can wait for it if it is closed.
    pub async fn until_inside(&self, host: &str, selector: &str) -> Result<()> {
        let found = async {
            while self.element_inside(host, selector).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        within(SCRIPT_LIMIT, selector, found).await
    }

    /// Clicks on an element in the shadow root of `host`, which no script finds if it is closed.
    pub async fn click_inside(&self, host: &str, selector: &str) -> Result<()> {
        let element = self.element_inside(host, selector).await?;
        self.command(Method::POST, &format!("/element/{element}/click"), Some(&json!({}))).await?;
        Ok(())
    }

    /// The text that a person sees of an element in the shadow root of `host`.
    pub async fn text_inside(&self, host: &str, selector: &str) -> Result<String> {
        let element = self.element_inside(host, selector).await?;
        let text = self.command(Method::GET, &format!("/element/{element}/text"), None).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// An attribute of an element in the shadow root of `host`.
    pub async fn attribute_inside(&self, host: &str, selector: &str, name: &str) -> Result<Value> {
        let element = self.element_inside(host, selector).await?;
        self.command(Method::GET, &format!("/element/{element}/attribute/{name}"), None).await
    }

    async fn element_inside(&self, host: &str, selector: &str) -> Result<String> {
        let host = self.element(host).await?;
        let root = self.command(Method::GET, &format!("/element/{host}/shadow"), None).await?;
        let root = first_value(&root).context("the element has no shadow root")?;
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.command(Method::POST, &format!("/shadow/{root}/element"), Some(&body)).await;
        let found =
            found.with_context(|| format!("tab {} has no {selector} in its shadow root", self.name))?;
        Ok(first_value(&found).context("the element has no ID")?.to_owned())
    }

    /// Runs the body of a function in a frame of the page, of whatever origin, and returns what that returns.
    pub async fn run_in_frame(&self, frame: &str, script: &str) -> Result<Value> {
        let element = self.element(frame).await?;
        let _turn = self.turn().await?;
        let browser = &self.stage.browser;
        let id = json!({ "id": { "element-6066-11e4-a52e-4f735466cecf": element } });
        browser.command(Method::POST, "/frame", Some(&id)).await?;
        let body = json!({ "script": script, "args": [] });
        let result = browser.command(Method::POST, "/execute/sync", Some(&body)).await;
        browser.command(Method::POST, "/frame", Some(&json!({ "id": null }))).await?;
        result
    }

    /// Waits until an expression is true in a frame of the page.
    pub async fn until_in_frame(&self, frame: &str, expression: &str) -> Result<()> {
        let holds = async {
            while self.run_in_frame(frame, &format!("return !!({expression})")).await.ok()
                != Some(true.into())
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        within(SCRIPT_LIMIT, expression, holds).await
    }

    /// Empties the field that a CSS selector finds, and types into it.
    pub async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.command(Method::POST, &format!("/element/{element}/clear"), Some(&json!({}))).await?;
        self.type_into(selector, text).await
    }

    async fn element(&self, selector: &str) -> Result<String> {
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.command(Method::POST, "/element", Some(&body)).await;
        let found = found.with_context(|| format!("tab {} has no {selector}", self.name))?;
        Ok(first_value(&found).context("the element has no ID")?.to_owned())
    }

    /// Sets the size of the page and the colour scheme that it is asked for: but of Chromium, only the size of its window can be set.
    pub async fn dress(&self, width: Width, look: Look) -> Result<()> {
        let (width, height, mobile) = match width {
            Width::Desktop => (1280, 800, false),
            Width::Phone => (390, 844, true),
            Width::Points(width) => (width, 900, width < 760),
        };
        let scheme = if look == Look::Dark { "dark" } else { "light" };
        let _turn = self.turn().await?;
        let browser = &self.stage.browser;
        if browser.engine != Engine::Chromium {
            let rect = json!({ "width": width, "height": height });
            return browser.command(Method::POST, "/window/rect", Some(&rect)).await.map(drop);
        }
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        browser.cdp("Emulation.setDeviceMetricsOverride", metrics).await?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.cdp("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Keeps a picture of the page as `test-output/<name>.png`, and returns where it is.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let picture = self.command(Method::GET, "/screenshot", None).await?;
        let picture =
            STANDARD.decode(picture.as_str().unwrap_or_default()).context("the picture is no base64")?;
        let path = paths::output(&format!("{}.png", name.replace([' ', '/'], "-")))?;
        std::fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Returns what the page has written to the console since this was last asked.
    pub async fn console(&self) -> Result<Vec<String>> {
        let _turn = self.turn().await?;
        self.stage.browser.console().await
    }

    /// Bytes in use of the page's JavaScript heap after a collection. Only Chromium tells.
    pub async fn heap(&self) -> Result<u64> {
        let _turn = self.turn().await?;
        let browser = &self.stage.browser;
        browser.cdp("HeapProfiler.collectGarbage", json!({})).await?;
        let usage = browser.cdp("Runtime.getHeapUsage", json!({})).await?;
        usage["usedSize"].as_f64().map(|bytes| bytes as u64).context("the heap has no size")
    }

    /// Closes the tab as a person does.
    pub async fn close(self) -> Result<()> {
        let mut current = self.turn().await?;
        self.stage.close(&mut current).await
    }

    /// Ends the process that runs the page, so that the page has no last word.
    pub async fn crash(self) -> Result<()> {
        let current = self.turn().await?;
        self.stage.crash(&current).await
    }

    async fn command(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let _turn = self.turn().await?;
        self.stage.browser.command(method, path, body).await
    }

    /// Makes this the tab that commands go to, until the guard is dropped.
    async fn turn(&self) -> Result<MutexGuard<'a, String>> {
        let mut current = self.stage.current.lock().await;
        if *current != self.handle {
            let body = json!({ "handle": self.handle });
            self.stage.browser.command(Method::POST, "/window", Some(&body)).await?;
            current.clone_from(&self.handle);
        }
        Ok(current)
    }
}

/// The ID of an element or a shadow root, as WebDriver gives it.
fn first_value(found: &Value) -> Option<&str> {
    found.as_object()?.values().next()?.as_str()
}
