//! Set-up, build, demo and test, one command each.
fn main() {}
