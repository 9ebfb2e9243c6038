//! Events for whoever looks for a fault: those of the crate `tracing`, if the feature of that name is on. Otherwise they are
//! no code at all. Called by the endpoint and the session.

/// `event!(DEBUG, field = value, "what happened")`, as `tracing::event!` has it.
macro_rules! event {
    ($level:ident, $($event:tt)+) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(tracing::Level::$level, $($event)+);
    }};
}
pub(crate) use event;
