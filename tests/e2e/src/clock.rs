//! Time limits that say what they waited for.

use std::time::Duration;

use anyhow::{Context, Result};

/// Awaits `future`, and returns its value; an error that names `what` when that takes longer than `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, future)
        .await
        .with_context(|| format!("{what}: nothing within {} s", limit.as_secs_f32()))?
        .with_context(|| what.to_owned())
}
