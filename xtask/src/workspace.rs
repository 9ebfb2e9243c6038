//! The folders of the workspace, its tools, and the binaries that cargo made. Every command is given them.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::PACKAGE;
use crate::config::Config;
use crate::process::output;

/// Folders of this checkout, and its settings.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Folder that `setup` installs tools into: `.tools`, or what `TUNNEL_TOOLS` names, so that checkouts can share it.
    pub(crate) tools: PathBuf,
    pub(crate) config: Config,
}

impl Workspace {
    /// The workspace that this program belongs to.
    pub(crate) fn find() -> Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is not inside a workspace")?;
        let tools = match env::var_os("TUNNEL_TOOLS") {
            Some(folder) if !folder.is_empty() => std::path::absolute(folder)?,
            _ => root.join(".tools"),
        };
        Ok(Self { root: root.to_owned(), tools, config: Config::read(root)? })
    }

    /// A command that runs in the workspace and finds our tools before those of the machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let program = self.locate(program).unwrap_or_else(|| program.into());
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("PATH", self.path());
        command
    }

    /// `cargo`, the one that runs us.
    pub(crate) fn cargo(&self) -> Command {
        self.command(&env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
    }

    /// Full path of a program: our tools first, then `PATH`.
    pub(crate) fn locate(&self, program: &str) -> Option<PathBuf> {
        let names = [format!("{program}{}", env::consts::EXE_SUFFIX), format!("{program}.cmd")];
        let names = if cfg!(windows) { &names[..] } else { &names[..1] };
        env::split_paths(&self.path())
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
            .find(|path| path.is_file())
    }

    /// Folder of the npm package.
    pub(crate) fn package(&self) -> PathBuf {
        self.root.join(&self.config.build.out_dir)
    }

    /// Folder of the package's debug form.
    pub(crate) fn debug_package(&self) -> PathBuf {
        self.root.join(format!("{}-debug", self.config.build.out_dir))
    }

    /// The target folder that this program itself was built into.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let this = env::current_exe().context("cannot tell where this program is")?;
        let mut profile = this.parent();
        // Test programs are one folder deeper than others.
        if profile.is_some_and(|folder| folder.ends_with("deps")) {
            profile = profile.and_then(Path::parent);
        }
        let target = profile.and_then(Path::parent).context("this program is not in a target folder")?;
        Ok(target.to_owned())
    }

    /// A program of this workspace that was built with the `debug` or `release` profile.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> Result<PathBuf> {
        Ok(self.target()?.join(profile).join(format!("{name}{}", env::consts::EXE_SUFFIX)))
    }

    /// Flags that keep the folders of this machine out of what rustc makes: the same bytes wherever it runs.
    pub(crate) fn remap_flags(&self) -> Result<Vec<String>> {
        let commit = self.rustc_says("commit-hash")?;
        let library = self.rust_source()?;
        let cargo = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
        let folders = [
            (cargo, "/cargo".to_owned()),
            (Some(library), format!("/rustc/{commit}")),
            (Some(self.root.clone()), format!("/{PACKAGE}")),
        ];
        // The last one that fits counts: the workspace may lie in the home folder.
        let flag = |(folder, name): (Option<PathBuf>, _)| {
            folder.map(|folder| format!("--remap-path-prefix={}={name}", folder.display()))
        };
        Ok(folders.into_iter().filter_map(flag).collect())
    }

    /// The place of the source of Rust's standard library, if it is installed.
    fn rust_source(&self) -> Result<PathBuf> {
        let sysroot = output(self.command("rustc").args(["--print", "sysroot"]))?;
        Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust"))
    }

    /// One of the lines of `rustc -vV`, without its name.
    fn rustc_says(&self, name: &str) -> Result<String> {
        let lines = output(self.command("rustc").arg("-vV"))?;
        let value = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(value.unwrap_or_default().to_owned())
    }

    fn path(&self) -> OsString {
        let ours = [self.tools.join("bin"), self.tools.join("node_modules").join(".bin")];
        let inherited = env::var_os("PATH").unwrap_or_default();
        // A folder whose name has a separator in it can't be on a PATH; the tools are then those of the machine.
        env::join_paths(ours.into_iter().chain(env::split_paths(&inherited))).unwrap_or(inherited)
    }
}
