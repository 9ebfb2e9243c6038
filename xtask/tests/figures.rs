//! The figures in README.md and the guide are those of docs/BENCHMARKS.md and docs/SIZE.md, rounded.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

/// The cells of the first row of a table that begins so.
fn row<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let line = document.lines().find(|line| line.starts_with(&format!("| {name} |")));
    line.unwrap_or_else(|| panic!("there is no row {name:?}"))
        .trim_matches('|')
        .split('|')
        .map(str::trim)
        .collect()
}

/// The number at the start of a cell, and half of the value of its last digit that is no zero.
fn number(cell: &str) -> (f64, f64) {
    let text: String = cell
        .chars()
        .take_while(|char| char.is_ascii_digit() || ".,".contains(*char))
        .filter(|c| *c != ',')
        .collect();
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let zeros = if decimals > 0 { 0 } else { text.chars().rev().take_while(|char| *char == '0').count() };
    let last = 10_f64.powi(i32::try_from(zeros).unwrap() - i32::try_from(decimals).unwrap());
    (text.parse().unwrap_or_else(|_| panic!("{cell:?} is no number")), last / 2.0)
}

#[test]
fn the_readmes_figures_are_those_of_the_benchmarks() {
    let (readme, benchmarks) = (document("README.md"), document("docs/BENCHMARKS.md"));
    for (named, measured) in [
        ("round trip of 64 B, median", "round trip of 64 B, p50"),
        ("first echo of a page's later sockets", "first echo of its later sockets"),
        ("first echo of a page at rest", "first echo of a page, 0.3 s after init()"),
        ("messages of 64 KiB", "messages of 64 KiB"),
        ("messages of 64 B", "messages of 64 B"),
    ] {
        let (said, found) = (row(&readme, named), row(&benchmarks, measured));
        for column in [1, 2] {
            let ((said, tolerance), (found, _)) = (number(said[column]), number(found[column]));
            assert!(
                (said - found).abs() <= tolerance * 1.000_001,
                "README.md has {said} for {named:?}, docs/BENCHMARKS.md {found}: write the figure of the benchmarks"
            );
        }
    }
}

#[test]
fn the_size_of_the_package_is_the_same_in_all_documents() {
    let (measured, _) = number(
        row(&document("docs/SIZE.md"), "**together, for `init` and an encrypted session**")[1]
            .trim_matches('*'),
    );
    let said = format!("{:.0} KB", measured / 1000.0);
    for name in ["README.md", "docs/guide/faq.md", "docs/guide/bundlers.md", "docs/guide/comparison.md"] {
        assert!(document(name).contains(&said), "{name} does not say that a page downloads {said}");
    }
    let size = document("docs/SIZE.md");
    let sentence = "does not compress sends ";
    let (plain, _) = number(size.split(sentence).nth(1).unwrap());
    let said = format!("{sentence}{:.0} KB", plain / 1000.0);
    let guide = document("docs/guide/bundlers.md").replace('\n', " ");
    assert!(guide.contains(&said), "docs/guide/bundlers.md does not say that a server that {said}");
}

#[test]
fn every_page_takes_its_first_deed_within_the_second_that_is_the_goal() {
    let benchmarks = document("docs/BENCHMARKS.md");
    for page in ["start page", "Room", "Pad", "Play", "Serve", "Live", "Measure"] {
        let found = row(&benchmarks, page);
        let (both, slowest) = (number(found[4]).0, number(found[5]).0);
        assert!(both <= slowest && slowest < 1000.0, "{page}: {both} ms, {slowest} ms at most");
    }
}
