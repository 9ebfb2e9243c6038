//! The files that operators copy from `deploy/`.

#![cfg(unix)]
use crate::support::process::command;
use crate::support::within;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tokio::process::Command;

const GUIDE: &str = include_str!("../../../../docs/OPERATING.md");
const UNIT: &str = include_str!("../../../../deploy/tunnel-relay.service");
const BINARY: &str = "/usr/local/bin/tunnel-relay";
const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/tunnel-relay.toml");

/// The unit's highest exposure in `systemd-analyze security`, in tenths: 0 is none, 100 is all.
const EXPOSURE: u32 = 20;

#[tokio::test]
async fn the_settings_are_understood() {
    let output =
        within("the check", command(&["check-config", "--config", SETTINGS]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn images_of_others_are_pinned_to_a_full_version() {
    const FILES: [&str; 3] = [
        include_str!("../../../../deploy/Dockerfile"),
        include_str!("../../../../deploy/compose.yaml"),
        include_str!("../../../../deploy/compose.cluster.yaml"),
    ];
    let lines = FILES.iter().flat_map(|file| file.lines()).map(str::trim);
    let named = lines.filter_map(|line| line.strip_prefix("FROM ").or_else(|| line.strip_prefix("image: ")));
    let images: Vec<_> = named.filter_map(|line| line.split_whitespace().next()).collect();
    let theirs = images.iter().filter(|image| !["scratch", "tunnel-relay"].contains(image));
    let is_pinned = |image: &str| {
        let version = image.split_once(':').map_or("", |(_, tag)| tag).trim_start_matches('v');
        let numbers = version.split(['-', '@']).next().unwrap_or_default().split('.');
        numbers.filter(|number| number.parse::<u32>().is_ok()).count() == 3
    };
    for image in theirs.clone() {
        assert!(is_pinned(image), "{image}: name a version with three numbers, which is published once");
    }
    assert!(theirs.count() >= 6, "{images:?}");
}

#[tokio::test]
async fn the_unit_runs_a_command_that_exists() {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let arguments: Vec<_> = line.strip_prefix(BINARY).unwrap().split_whitespace().collect();
    assert_eq!(arguments, ["serve", "--config", "/etc/tunnel-relay.toml"]);
    let output = within("its help", command(&["serve", "--help"]).output()).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("--config"), "{output:?}");
}

#[test]
fn the_unit_is_started_again_however_often_it_fails() {
    let (unit, service) = UNIT.split_once("[Service]").unwrap();
    assert!(unit.lines().any(|line| line == "StartLimitIntervalSec=0"), "{unit}");
    assert!(service.lines().any(|line| line == "Restart=on-failure"), "{service}");
}

/// Asks systemd, where there is one, about the unit with the binary of this build.
#[tokio::test]
async fn the_unit_is_one_for_systemd_and_gives_little_away() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("tunnel-relay.service");
    assert!(UNIT.contains("\nStartLimitIntervalSec=0\n"), "it never gives up for good");
    // With the lines that are there to be taken up.
    let all = UNIT.replace("\n#LoadCredential=", "\nLoadCredential=");
    assert_eq!(all.matches("\nLoadCredential=").count(), 3);
    std::fs::write(&unit, all.replace(BINARY, env!("CARGO_BIN_EXE_tunnel-relay"))).unwrap();
    let Some(said) = analyze(&["verify"], &unit).await else {
        return eprintln!("there is no systemd-analyze here: the unit is not checked");
    };
    assert!(!said.contains("tunnel-relay.service:"), "{said}");
    let threshold = format!("--threshold={EXPOSURE}");
    analyze(&["security", "--offline=true", "--no-pager", &threshold], &unit).await;
}

/// Runs what `promtool` has to say of the alerts, and each of them with series that raise it.
#[tokio::test]
async fn the_alerts_are_raised_by_what_they_are_for() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let mut promtool = Command::new("promtool");
        let output = within("promtool", promtool.args(arguments).current_dir(folder).output()).await;
        let Ok(output) = output else {
            return eprintln!("there is no promtool here (Debian: prometheus): the alerts are not tried");
        };
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn each_alert_has_a_selector_a_test_and_a_place_in_the_guide() {
    let (alerts, tests) =
        (include_str!("../../../../deploy/alerts.yml"), include_str!("../../../../deploy/alerts.test.yml"));
    let rules: Vec<_> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10);
    for rule in rules {
        let name = rule.lines().next().unwrap();
        assert!(tests.contains(&format!("    name: {name}\n")), "{name} has no test");
        assert!(GUIDE.contains(&format!("`{name}`")), "{name} is not in docs/OPERATING.md");
        let (_, expression) = rule.split_once("expr: ").unwrap();
        let expression = expression.split("labels: ").next().unwrap();
        for metric in ["tunnel_relay_", "process_", "up{"] {
            for place in expression.match_indices(metric).map(|(at, _)| &expression[at..]) {
                let after = place.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
                assert!(
                    after.starts_with("{job=\"tunnel-relay\""),
                    "{name}: a metric without a selector: {place}"
                );
            }
        }
    }
}

/// Words in the guide that look like settings and are none: reasons of refusals, codes, headers, other programs and their flags.
const NO_SETTINGS: [&str; 14] = [
    "address-rate",
    "bad-credential",
    "check-config",
    "deploy-hook",
    "livecode-is-off",
    "no-cache",
    "no-default-features",
    "no-randomness",
    "no-room",
    "off-roster",
    "proxy-protocol",
    "systemd-analyze",
    "tunnel-relay",
    "x-forwarded-for",
];

/// The table of all settings is made of the code; this is about the text around it.
#[tokio::test]
async fn every_setting_and_command_that_the_guide_names_exists() {
    let mut flags = BTreeMap::new();
    for words in ["serve", "check", "check-config", "token new", "token secret", "token sign"] {
        let arguments: Vec<_> = words.split(' ').chain(["--help"]).collect();
        let output = within("its help", command(&arguments).output()).await.unwrap();
        assert!(output.status.success(), "{words}");
        let help = String::from_utf8(output.stdout).unwrap();
        let found = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        flags.insert(
            words,
            found.map(|word| word.trim_matches([',', '.', ']']).to_owned()).collect::<BTreeSet<_>>(),
        );
    }
    let settings = &flags["serve"];
    let (mut named, mut commands) = (0, 0);
    // Every second piece is between backticks; code blocks are pieces of several lines.
    for code in GUIDE.replace("```", "`").split('`').skip(1).step_by(2) {
        let name = code.split([' ', '=']).next().unwrap().trim_start_matches("--");
        let is_name = name.contains('-') && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if is_name && !NO_SETTINGS.contains(&name) {
            let exists = flags.values().any(|flags| flags.contains(name));
            assert!(exists, "`{code}` in docs/OPERATING.md is no setting");
            named += 1;
        }
        for variable in code.match_indices("TUNNEL_RELAY_").map(|(at, prefix)| &code[at + prefix.len()..]) {
            let name = variable.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap();
            let name = name.to_lowercase().replace('_', "-");
            assert!(name.is_empty() || settings.contains(&name), "{code}: there is no {name}");
        }
        for line in code.lines().filter_map(|line| line.trim().strip_prefix("tunnel-relay ")) {
            let line = line.split(" #").next().unwrap();
            let known = flags.keys().find(|words| line.starts_with(&format!("{words} ")) || line == **words);
            let known = known.unwrap_or_else(|| panic!("there is no command `tunnel-relay {line}`"));
            for flag in line.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(flags[known].contains(flag), "`tunnel-relay {known}` takes no --{flag}");
            }
            commands += 1;
        }
    }
    assert!(named > 60 && commands > 8, "the guide was read: {named} settings, {commands} commands");
}

/// Output of `systemd-analyze`, which has to succeed; `None` if there is none.
async fn analyze(arguments: &[&str], unit: &Path) -> Option<String> {
    let output =
        within("systemd-analyze", Command::new("systemd-analyze").args(arguments).arg(unit).output()).await;
    let output = output.ok()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    Some(said)
}
