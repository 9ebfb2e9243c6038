//! The machine that benchmarks run on.

use std::fmt;
use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::process::output;
use crate::workspace::Workspace;

/// The machine and programs that figures depend on. Displays as a line with date, processors, kernel, and versions of Rust and Node.js.
pub(super) struct Machine<'a> {
    workspace: &'a Workspace,
    pub(super) date: String,
    pub(super) processors: usize,
    pub(super) cpu: String,
    pub(super) kernel: String,
    pub(super) rust: String,
    pub(super) node: String,
}

impl<'a> Machine<'a> {
    pub(super) fn look(workspace: &'a Workspace) -> Result<Self> {
        let said = |program: &str, arguments: &[&str]| -> Result<String> {
            Ok(output(workspace.command(program).args(arguments))?.trim().to_owned())
        };
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let rust = said("rustc", &["--version"])?;
        Ok(Self {
            workspace,
            date: said("date", &["-u", "+%Y-%m-%d"])?,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: said("uname", &["-r"])?,
            rust: rust.split(' ').nth(1).unwrap_or("?").to_owned(),
            node: said("node", &["--version"])?.trim_start_matches('v').to_owned(),
        })
    }

    /// The version of a package that the tests have from npm.
    pub(super) fn npm_version(&self, package: &str) -> String {
        let manifest = self.workspace.root.join("tests/node_modules").join(package).join("package.json");
        let manifest = fs::read_to_string(manifest).unwrap_or_default();
        let manifest: Value = serde_json::from_str(&manifest).unwrap_or_default();
        manifest["version"].as_str().unwrap_or("?").to_owned()
    }
}

impl fmt::Display for Machine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, processors, cpu, kernel, rust, node, .. } = self;
        write!(f, "{date}; {processors} processors, {cpu}, Linux {kernel}; Rust {rust}, Node {node}")
    }
}
