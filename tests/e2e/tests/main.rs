//! The multi-tab tests, in one program: they share browsers, and wait for pages side by side.
#![allow(missing_docs)] // Each module says what it tests.

mod classes;
mod conformance;
mod debug_form;
mod demo;
mod frameworks;
mod harness;
mod hostile;
mod identity;
mod known_answers;
mod late_listeners;
mod libraries;
mod lies;
mod limits;
mod livecode;
mod memory;
mod misuse;
mod offers;
mod other_libraries;
mod packaging;
mod relay;
mod reloads;
mod runtimes;
mod rust_page;
mod scopes;
mod serve;
mod site;
mod soak;
mod sockets;
mod streams;
mod trap;
mod turned_away;
mod types;
mod unreachable;
