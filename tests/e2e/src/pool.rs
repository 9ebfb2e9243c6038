//! Browsers that wait for the next test. Starting one takes longer than most tests, and what a test leaves in one (storage,
//! workers) belongs to the port of a relay that is gone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::authority::Trust;
use crate::webdriver::Browser;

#[derive(Debug)]
struct Pool {
    /// The number of tests that run: with the last one the browsers end, for nobody else would end them.
    tests: usize,
    idle: Vec<Browser>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { tests: 0, idle: Vec::new() });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test's right to a browser.
#[derive(Debug)]
pub(crate) struct Claim(());

impl Claim {
    /// A test begins.
    pub(crate) fn new() -> Self {
        pool().tests += 1;
        Self(())
    }

    /// A browser that waits, or a new one; always a new one where it takes the certificates of others than most.
    pub(crate) async fn browser(&self, trust: Trust<'_>) -> Result<Browser> {
        let idle = if matches!(trust, Trust::Everybody) { pool().idle.pop() } else { None };
        match idle {
            Some(browser) => Ok(browser),
            None => Browser::start(trust).await,
        }
    }

    /// The test has ended, and its browser is as good as new. Those that nobody is left to use come back: to be ended.
    #[must_use]
    pub(crate) fn give_back(self, browser: Browser) -> Vec<Browser> {
        pool().idle.push(browser);
        self.end()
    }

    /// The test has ended otherwise.
    #[must_use]
    pub(crate) fn end(self) -> Vec<Browser> {
        let mut pool = pool();
        pool.tests -= 1;
        if pool.tests == 0 { std::mem::take(&mut pool.idle) } else { Vec::new() }
    }
}
