//! The processor time of a thread. Calls are limited and paid for by it.

use std::time::Duration;

/// Processor time of the calling thread. What other processes do has no part in it.
pub(crate) fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
