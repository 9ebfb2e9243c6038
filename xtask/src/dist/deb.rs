//! A program as a Debian package: `dist/program.rs` calls [`make`], then [`try_out`].
//!
//! By Debian's own dpkg-deb, which every Debian has. cargo-deb would have to be compiled first, which takes minutes, and has a
//! default for much that is said here in a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::last_commit;
use super::program::{Built, COMMON, Program, THIRD_PARTY, architecture};
use crate::process::{output, run};
use crate::workspace::Workspace;

/// The facts about a program that only Debian's package needs.
pub(super) struct Debian {
    /// The folder of each file that comes with it, beside the licences and the list of changes.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// A line, and more lines that begin with a blank each.
    pub(super) description: &'static str,
    pub(super) service: Option<Service>,
}

/// A unit for systemd, `PACKAGE.service` among the files.
pub(super) struct Service {
    /// The file for `/etc`.
    pub(super) settings: &'static str,
    /// Arguments by which the program checks the settings; the file's path is the last one.
    pub(super) check: &'static [&'static str],
}

/// Scripts that dpkg runs, by name. A service is started by its operator, not by being installed; an update restarts one that runs, by
/// which no page loses anything.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", "systemctl daemon-reload && if [ -n \"$2\" ]; then systemctl try-restart PACKAGE; fi"),
    ("prerm", "if [ \"$1\" = remove ]; then systemctl disable --now PACKAGE; fi"),
    ("postrm", "systemctl daemon-reload"),
];

/// Makes `PACKAGE_VERSION_ARCHITECTURE.deb` in `folder`; `None` where there is no dpkg-deb.
pub(super) fn make(workspace: &Workspace, built: &Built<'_>, folder: &Path) -> Result<Option<PathBuf>> {
    if workspace.locate("dpkg-deb").is_none() {
        println!("  there is no dpkg-deb here: no Debian package is made");
        return Ok(None);
    }
    let Built { program: Program { package, binary, debian, .. }, version, .. } = *built;
    let tree = folder.join("deb");
    let place = |to: &str| -> Result<PathBuf> {
        let path = tree.join(to);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    };
    let documents = format!("usr/share/doc/{package}");
    let documents = COMMON.iter().chain([&THIRD_PARTY]).map(|file| (*file, &*documents));
    let settings = debian.service.as_ref().map(|service| (service.settings, "etc"));
    for (file, to) in [(*binary, "usr/bin")]
        .into_iter()
        .chain(documents)
        .chain(settings)
        .chain(debian.files.iter().copied())
    {
        fs::copy(built.files.join(file), place(to)?.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    let architecture = architecture();
    let control = format!(
        "Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: the tunnel-wasm project <tunnel-wasm@users.noreply.github.com>\n\
         Section: net\nPriority: optional\nHomepage: {}\nDescription: {}\n",
        env!("CARGO_PKG_REPOSITORY"),
        debian.description
    );
    let about = place("DEBIAN")?;
    fs::write(about.join("control"), control).context("cannot write the control file")?;
    if let Some(service) = &debian.service {
        add_service(workspace, built, service, &place("lib/systemd/system")?, &about)?;
    }
    run(workspace.command("chmod").args(["-R", "u=rwX,go=rX"]).arg(&tree))?;
    let archive = folder.join(format!("{package}_{version}_{architecture}.deb"));
    let mut build = workspace.command("dpkg-deb");
    // gzip: xz takes ten times as long for a fifth less.
    build.args(["--root-owner-group", "-Zgzip", "--build"]).arg(&tree).arg(&archive);
    output(build.env("SOURCE_DATE_EPOCH", last_commit(workspace)?))?;
    fs::remove_dir_all(&tree).context("cannot remove what was packed")?;
    Ok(Some(archive))
}

/// Adds the unit, and what dpkg has to know of a service.
fn add_service(
    workspace: &Workspace,
    built: &Built<'_>,
    service: &Service,
    units: &Path,
    about: &Path,
) -> Result<()> {
    let name = format!("{}.service", built.program.package);
    let unit = fs::read_to_string(built.files.join(&name)).context("the unit is missing")?;
    ensure!(
        unit.contains("/usr/local/bin/"),
        "the unit starts a program elsewhere than in /usr/local/bin, which deb.rs replaces"
    );
    let unit = unit.replace("/usr/local/bin/", "/usr/bin/");
    fs::write(units.join(name), unit).context("cannot write the unit")?;
    fs::write(about.join("conffiles"), format!("/etc/{}\n", service.settings))
        .context("cannot write conffiles")?;
    for (name, commands) in SCRIPTS {
        let commands = commands.replace("PACKAGE", built.program.package);
        let script =
            format!("#!/bin/sh\nset -e\n[ -d /run/systemd/system ] || exit 0\n{{ {commands}; }} || true\n");
        fs::write(about.join(name), script).with_context(|| format!("cannot write {name}"))?;
    }
    run(workspace.command("chmod").arg("755").args(SCRIPTS.map(|(name, _)| about.join(name))))
}

/// Installs it below a folder, with a list of packages of its own, and runs it, a service with the settings that came with it.
pub(super) fn try_out(workspace: &Workspace, program: &Program, archive: &Path, folder: &Path) -> Result<()> {
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
    let binary = root.join("usr/bin").join(program.binary);
    let settings = match &program.debian.service {
        Some(service) => {
            let unit = format!("lib/systemd/system/{}.service", program.package);
            ensure!(root.join(unit).is_file(), "the unit is not installed");
            let settings = root.join("etc").join(service.settings);
            output(Command::new(&binary).args(service.check).arg(&settings))?;
            Some(settings)
        }
        None => None,
    };
    for (file, to) in program.debian.files {
        ensure!(root.join(to).join(file).is_file(), "{to}/{file} is not installed");
    }
    program.try_installed(workspace, || {
        let mut command = Command::new(&binary);
        if let Some(settings) = &settings {
            command.env("TUNNEL_RELAY_CONFIG", settings);
        }
        command
    })
}
