//! Sockets between web browsers.
