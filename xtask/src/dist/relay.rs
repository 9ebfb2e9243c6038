//! The relay as it is given away.

use std::process::Command;

use anyhow::Result;

use super::deb::{Debian, Service};
use super::program::Program;
use crate::relay::{CLUSTER, Relay};
use crate::workspace::Workspace;

const EXAMPLES: &str = "usr/share/doc/tunnel-relay/examples";

pub(super) const PROGRAM: Program = Program {
    package: "tunnel-relay",
    binary: "tunnel-relay",
    title: "The relay",
    about: "The relay of tunnel-wasm: forwards sealed records between web browsers",
    readme: "# tunnel-relay\n\n\
        `npx tunnel-relay serve` runs the relay of tunnel-wasm; `npx tunnel-relay --help` says what else there is.\n",
    has_livecoding: true,
    features: &[CLUSTER],
    files: &[
        "docs/OPERATING.md",
        "deploy/tunnel-relay.service",
        "deploy/tunnel-relay.toml",
        "deploy/grafana.json",
        "deploy/alerts.yml",
        "deploy/alerts.test.yml",
        "deploy/nginx.conf",
        "deploy/haproxy.cfg",
        "deploy/apache.conf",
        "deploy/Caddyfile",
    ],
    completions: &[],
    debian: Debian {
        files: &[
            ("OPERATING.md", "usr/share/doc/tunnel-relay"),
            ("Caddyfile", EXAMPLES),
            ("nginx.conf", EXAMPLES),
            ("haproxy.cfg", EXAMPLES),
            ("apache.conf", EXAMPLES),
            ("alerts.yml", EXAMPLES),
            ("alerts.test.yml", EXAMPLES),
            ("grafana.json", EXAMPLES),
        ],
        description: "relay that forwards sealed records between web browsers\n \
            It can read none of them. Its settings are in /etc/tunnel-relay.toml, and\n \
            `systemctl enable --now tunnel-relay` starts it.",
        service: Some(Service { settings: "tunnel-relay.toml", check: &["check-config", "--config"] }),
    },
    has_image: true,
    try_it,
};

/// Fails unless it serves, is ready, and ends when it is told to.
fn try_it(_workspace: &Workspace, command: &dyn Fn() -> Command) -> Result<()> {
    let mut serve = command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log", "warn"]);
    let relay = Relay::launch(serve)?;
    relay.check_ready()?;
    relay.end()
}
