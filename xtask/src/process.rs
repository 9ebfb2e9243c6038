//! Running other programs: every command does so by these functions.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end, with our output and no input.
///
/// An error says what was run, and how it ended.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status}): see its output above", shown(command));
    }
    Ok(())
}

/// Runs to the end and returns what it printed. An error holds what it said on standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it; programs without their folder.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    command.get_args().fold(program, |line, argument| {
        let argument = argument.to_string_lossy();
        if argument.contains(' ') { format!("{line} '{argument}'") } else { format!("{line} {argument}") }
    })
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`: is it installed? `cargo xtask setup` installs what it can", shown(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("rustc").args(["--quiet", "a b"])).unwrap_err();
        assert!(error.to_string().contains("`rustc --quiet 'a b'` failed"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let error = run(&mut Command::new("/no/such/program")).unwrap_err();
        assert!(
            error.to_string().contains("`program`") && error.to_string().contains("xtask setup"),
            "{error}"
        );
    }
}
