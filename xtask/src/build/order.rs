//! The order of a module's functions: those that have much in common stand together, as compression finds again what is
//! near. It is 1 % of what a page downloads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::process::run;
use crate::wasm::{functions, name_functions};
use crate::workspace::Workspace;

/// Changes the module in the file `wasm`; takes out what says who made it, too.
pub(super) fn order(workspace: &Workspace, wasm: &Path) -> Result<()> {
    let module = fs::read(wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    let order = together(&functions(&module)?);
    let mut places = vec![0; order.len()];
    for (place, function) in order.into_iter().enumerate() {
        places[function] = place;
    }
    // Names that sort as the functions shall, for wasm-opt, which knows where their numbers are.
    let names = places.into_iter().map(|place| format!("{place:06}"));
    let module = name_functions(&module, names)?;
    fs::write(wasm, module).with_context(|| format!("cannot write {}", wasm.display()))?;
    run(workspace
        .command("wasm-opt")
        .args(["--reorder-functions-by-name", "--strip-producers", "--strip-target-features", "-o"])
        .args([wasm, wasm]))
}

/// What two functions may have in common: so many bytes in a row, one instruction or two.
const ROW: usize = 4;

/// Orders functions, by their bodies: the two that are most alike become neighbours, then the next two, as long as each
/// has a free side.
fn together(functions: &[&[u8]]) -> Vec<usize> {
    let mut chains: Vec<Vec<usize>> = (0..functions.len()).map(|function| vec![function]).collect();
    let mut chain_of: Vec<usize> = (0..functions.len()).collect();
    for (one, other) in by_likeness(functions) {
        let (left, right) = (chain_of[one], chain_of[other]);
        let is_end =
            |chain: &[usize], function| chain.first() == Some(&function) || chain.last() == Some(&function);
        if left == right || !is_end(&chains[left], one) || !is_end(&chains[right], other) {
            continue;
        }
        let mut joined = std::mem::take(&mut chains[right]);
        if joined.first() != Some(&other) {
            joined.reverse();
        }
        if chains[left].last() != Some(&one) {
            chains[left].reverse();
        }
        for &function in &joined {
            chain_of[function] = left;
        }
        chains[left].append(&mut joined);
    }
    chains.retain(|chain| !chain.is_empty());
    for chain in &mut chains {
        if chain.first() > chain.last() {
            chain.reverse();
        }
    }
    chains.sort();
    chains.concat()
}

/// All pairs of functions that have anything in common, those first that have the most.
fn by_likeness(functions: &[&[u8]]) -> Vec<(usize, usize)> {
    let mut owners = BTreeMap::<&[u8], Vec<usize>>::new();
    for (index, function) in functions.iter().enumerate() {
        for row in function.windows(ROW) {
            let owners = owners.entry(row).or_default();
            if owners.last() != Some(&index) {
                owners.push(index);
            }
        }
    }
    let mut likeness = BTreeMap::<(usize, usize), f64>::new();
    for owners in owners.values() {
        // What all have says little.
        let weight = (owners.len() as f64).sqrt().recip();
        for (at, &one) in owners.iter().enumerate() {
            for &other in &owners[at + 1..] {
                *likeness.entry((one, other)).or_default() += weight;
            }
        }
    }
    // A long function has something in common with every other.
    let length = |function: usize| (functions[function].len() as f64).sqrt().sqrt();
    let mut pairs: Vec<_> = likeness
        .into_iter()
        .map(|((one, other), likeness)| (likeness / length(one) / length(other), (one, other)))
        .collect();
    pairs.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_have_the_most_in_common_become_neighbours() {
        let functions: [&[u8]; 5] = [b"abcdefgh", b"12345678", b"abcdefxy", b"------", b"12345xyz"];
        assert_eq!(together(&functions), [0, 2, 1, 4, 3]);
    }

    #[test]
    fn a_function_has_its_likest_on_either_side() {
        let functions: [&[u8]; 4] = [b"tuvwxyz", b"0123456", b"abcdefg0123456tuvwxyz", b"------"];
        assert_eq!(together(&functions), [0, 2, 1, 3]);
    }

    #[test]
    fn every_function_has_one_place() {
        let functions: Vec<Vec<u8>> =
            (0..100_u8).map(|seed| (0..seed).map(|at| at.wrapping_mul(seed) % 7).collect()).collect();
        let functions: Vec<&[u8]> = functions.iter().map(Vec::as_slice).collect();
        let mut order = together(&functions);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
