//! The relay as a Debian package: `dist/relay.rs` calls [`make`], then [`try_out`].
//!
//! By Debian's own dpkg-deb, which every Debian has. cargo-deb would have to be compiled first, which takes minutes, and has a
//! default for much that is said here in a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::last_commit;
use super::relay::{Built, architecture, try_program};
use crate::process::{output, run};
use crate::workspace::Workspace;

/// Where each file goes.
const FILES: [(&str, &str); 14] = [
    ("tunnel-relay", "usr/bin"),
    ("tunnel-relay.toml", "etc"),
    ("THIRD-PARTY.txt", "usr/share/doc/tunnel-relay"),
    ("LICENSE-APACHE", "usr/share/doc/tunnel-relay"),
    ("LICENSE-MIT", "usr/share/doc/tunnel-relay"),
    ("OPERATING.md", "usr/share/doc/tunnel-relay"),
    ("CHANGELOG.md", "usr/share/doc/tunnel-relay"),
    ("Caddyfile", "usr/share/doc/tunnel-relay/examples"),
    ("nginx.conf", "usr/share/doc/tunnel-relay/examples"),
    ("haproxy.cfg", "usr/share/doc/tunnel-relay/examples"),
    ("apache.conf", "usr/share/doc/tunnel-relay/examples"),
    ("alerts.yml", "usr/share/doc/tunnel-relay/examples"),
    ("alerts.test.yml", "usr/share/doc/tunnel-relay/examples"),
    ("grafana.json", "usr/share/doc/tunnel-relay/examples"),
];

/// Scripts that dpkg runs, by name. The relay is started by its operator, not by being installed; an update restarts one that
/// runs, by which no page loses anything.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", "systemctl daemon-reload && if [ -n \"$2\" ]; then systemctl try-restart tunnel-relay; fi"),
    ("prerm", "if [ \"$1\" = remove ]; then systemctl disable --now tunnel-relay; fi"),
    ("postrm", "systemctl daemon-reload"),
];

/// Makes `tunnel-relay_VERSION_ARCHITECTURE.deb` in `folder`; `None` where there is no dpkg-deb.
pub(super) fn make(workspace: &Workspace, built: &Built<'_>, folder: &Path) -> Result<Option<PathBuf>> {
    if workspace.locate("dpkg-deb").is_none() {
        println!("  there is no dpkg-deb here: no Debian package is made");
        return Ok(None);
    }
    let tree = folder.join("deb");
    let place = |to: &str| -> Result<PathBuf> {
        let path = tree.join(to);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    };
    for (file, to) in FILES {
        fs::copy(built.files.join(file), place(to)?.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    let unit = fs::read_to_string(built.files.join("tunnel-relay.service")).context("the unit is missing")?;
    ensure!(
        unit.contains("/usr/local/bin/"),
        "the unit starts the relay elsewhere than in /usr/local/bin, which deb.rs replaces"
    );
    let unit = unit.replace("/usr/local/bin/", "/usr/bin/");
    fs::write(place("lib/systemd/system")?.join("tunnel-relay.service"), unit)
        .context("cannot write the unit")?;
    let (version, architecture) = (built.version, architecture());
    let control = format!(
        "Package: tunnel-relay\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: the tunnel-wasm project <tunnel-wasm@users.noreply.github.com>\n\
         Section: net\nPriority: optional\nHomepage: {}\n\
         Description: relay that forwards sealed records between web browsers\n \
         It can read none of them. Its settings are in /etc/tunnel-relay.toml, and\n \
         `systemctl enable --now tunnel-relay` starts it.\n",
        env!("CARGO_PKG_REPOSITORY")
    );
    let about = place("DEBIAN")?;
    fs::write(about.join("control"), control).context("cannot write the control file")?;
    fs::write(about.join("conffiles"), "/etc/tunnel-relay.toml\n").context("cannot write conffiles")?;
    for (name, commands) in SCRIPTS {
        let script =
            format!("#!/bin/sh\nset -e\n[ -d /run/systemd/system ] || exit 0\n{{ {commands}; }} || true\n");
        fs::write(about.join(name), script).with_context(|| format!("cannot write {name}"))?;
    }
    run(workspace.command("chmod").args(["-R", "u=rwX,go=rX"]).arg(&tree))?;
    run(workspace.command("chmod").arg("755").args(SCRIPTS.map(|(name, _)| about.join(name))))?;
    let archive = folder.join(format!("tunnel-relay_{version}_{architecture}.deb"));
    let mut build = workspace.command("dpkg-deb");
    // gzip: xz takes ten times as long for a fifth less.
    build.args(["--root-owner-group", "-Zgzip", "--build"]).arg(&tree).arg(&archive);
    output(build.env("SOURCE_DATE_EPOCH", last_commit(workspace)?))?;
    fs::remove_dir_all(&tree).context("cannot remove what was packed")?;
    Ok(Some(archive))
}

/// Installs it below a folder, with a list of packages of its own, and runs it with the settings that came with it.
pub(super) fn try_out(workspace: &Workspace, archive: &Path, folder: &Path) -> Result<()> {
    let (root, list) = (folder.join("root"), folder.join("list"));
    for path in [root.clone(), list.join("info"), list.join("updates")] {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    fs::write(list.join("status"), "").context("cannot write an empty list of packages")?;
    let mut install = workspace.command("dpkg");
    install.arg(format!("--instdir={}", root.display())).arg(format!("--admindir={}", list.display()));
    // The scripts would be run in the folder, where there is no shell.
    install.args(["--force-not-root", "--force-script-chrootless", "--log=/dev/null", "--install"]);
    output(install.arg(archive))?;
    let (binary, settings) = (root.join("usr/bin/tunnel-relay"), root.join("etc/tunnel-relay.toml"));
    output(Command::new(&binary).args(["check-config", "--config"]).arg(&settings))?;
    ensure!(root.join("lib/systemd/system/tunnel-relay.service").is_file(), "the unit is not installed");
    try_program(|| {
        let mut command = Command::new(&binary);
        command.env("TUNNEL_RELAY_CONFIG", &settings);
        command
    })
}
