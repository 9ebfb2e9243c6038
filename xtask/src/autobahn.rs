//! `cargo xtask autobahn`: Autobahn's fuzzing client against the relay's WebSocket stack.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::{output, run, shown};
use crate::workspace::Workspace;

/// The suite, on PyPI; it runs in Python 2.7 only.
const SUITE: &str = "autobahntestsuite==25.10.1";

/// Compression, which is never agreed to.
const NOT_APPLICABLE: [&str; 2] = ["12.*", "13.*"];

/// The address of the echo server. Ends when it is dropped.
struct Echo {
    process: Child,
    url: String,
}

/// Runs the cases that `cases` names, such as `5.*`; fails if one of them fails.
pub(crate) fn autobahn(workspace: &Workspace, cases: &[String]) -> Result<()> {
    let python = python(workspace)?;
    let suite = install(workspace, &python)?;
    run(workspace.cargo().args(["build", "--release", "-p", "tunnel-relay", "--example", "echo"]))?;
    let folder = workspace.target()?.join("autobahn");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let echo = Echo::start(workspace)?;
    let report = folder.join("report");
    let specification = json!({
        "outdir": report,
        "servers": [{ "agent": "echo", "url": echo.url, "options": { "version": 18 } }],
        "cases": cases,
        "exclude-cases": NOT_APPLICABLE,
        "exclude-agent-cases": {},
    });
    let file = folder.join("fuzzingclient.json");
    fs::write(&file, specification.to_string())
        .with_context(|| format!("cannot write {}", file.display()))?;
    // `addsitedir` makes the namespace packages among them work.
    let program =
        "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()";
    let mut client = Command::new(&python);
    client
        .current_dir(&folder)
        .args(["-c", program])
        .arg(&suite)
        .args(["-m", "fuzzingclient", "-s"])
        .arg(&file);
    run(&mut client)?;
    drop(echo);
    judge(&report)
}

/// A Python 2.7 that starts.
fn python(workspace: &Workspace) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let versions = fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().flatten();
    let of_pyenv = versions.map(|version| version.path().join("bin/python2.7"));
    let on_path = ["python2.7", "python2"].into_iter().filter_map(|name| workspace.locate(name));
    on_path
        .chain(of_pyenv)
        .find(|python| {
            let version = output(Command::new(python).args(["-c", "import sys; print(sys.version)"]));
            version.is_ok_and(|version| version.starts_with("2.7."))
        })
        .context(
            "no Python 2.7 is on PATH or among pyenv's versions, and Autobahn's test suite runs in no other: \
             install one, for example with `pyenv install 2.7.18`",
        )
}

/// Puts the suite into the tools' folder, if it is not there.
fn install(workspace: &Workspace, python: &Path) -> Result<PathBuf> {
    let folder = workspace.tools.join("autobahn").join(SUITE.replace("==", "-"));
    if !folder.join("autobahntestsuite").is_dir() {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&folder).arg(SUITE);
        run(&mut pip)?;
    }
    Ok(folder)
}

/// Counts the verdicts.
fn judge(report: &Path) -> Result<()> {
    let file = report.join("index.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let report: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
    let verdicts = verdicts(&report)?;
    for (verdict, cases) in &verdicts {
        println!("{verdict}: {} cases", cases.len());
        if verdict != "OK" {
            println!("  {}", cases.join(", "));
        }
    }
    println!("All of it: {}", file.with_file_name("index.html").display());
    // Informational cases can't fail.
    let bad: Vec<_> =
        verdicts.keys().filter(|verdict| !["OK", "INFORMATIONAL"].contains(&verdict.as_str())).collect();
    if !bad.is_empty() {
        bail!("some cases are not OK: see above");
    }
    Ok(())
}

/// The cases by verdict, of what was said and of how it was closed: the worse counts.
fn verdicts(report: &Value) -> Result<BTreeMap<String, Vec<String>>> {
    let cases = report["echo"].as_object().context("the report has no server `echo`")?;
    let mut verdicts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (case, result) in cases {
        let [behaviour, close] =
            ["behavior", "behaviorClose"].map(|key| result[key].as_str().unwrap_or("MISSING"));
        let verdict = if behaviour == "OK" { close } else { behaviour };
        verdicts.entry(verdict.to_owned()).or_default().push(case.clone());
    }
    Ok(verdicts)
}

impl Echo {
    fn start(workspace: &Workspace) -> Result<Self> {
        let mut command = Command::new(workspace.target()?.join("release/examples/echo"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start `{}`", shown(&command)))?;
        let printed = process.stdout.take().context("the echo server has no output")?;
        let mut line = String::new();
        let read = BufReader::new(printed).read_line(&mut line);
        let mut echo = Self { process, url: String::new() };
        read.context("cannot read what the echo server prints")?;
        let url = line.trim().strip_prefix("listening on ");
        url.context("the echo server does not listen: see its output above")?.clone_into(&mut echo.url);
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_two_verdicts_counts() {
        let case = |behaviour, close| json!({ "behavior": behaviour, "behaviorClose": close });
        let report = json!({ "echo": {
            "1.1.1": case("OK", "OK"), "7.1.6": case("INFORMATIONAL", "INFORMATIONAL"), "2.1": case("OK", "FAILED"),
        } });
        let verdicts = verdicts(&report).unwrap();
        assert_eq!(verdicts["OK"], ["1.1.1"]);
        assert_eq!(verdicts["FAILED"], ["2.1"]);
        assert_eq!(verdicts.len(), 3);
    }
}
