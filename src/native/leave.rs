//! The end of a program that has sockets: peers hear of it before the process is gone.

use super::driver::drivers;
use super::link::CHANGED;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// Time after which a relay is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Closes all sockets and servers of the process with 1001, and waits until that is written to the relays, at most 2 s. Call it
/// before the program ends, for example behind a signal: a peer hears of it at once then, instead of waiting for somebody who is gone.
pub async fn leave() {
    let drivers = drivers();
    for driver in &drivers {
        driver.leave();
    }
    let has_left = async {
        loop {
            let mut changed = pin!(CHANGED.notified());
            // Registered before the look, so that no change is missed between the two.
            changed.as_mut().enable();
            if drivers.iter().all(|driver| driver.has_left()) {
                return;
            }
            changed.await;
        }
    };
    let _late = timeout(PATIENCE, has_left).await;
}
