//! What is read and changed in a wasm module: its sections, and the names that it shares with its JavaScript.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Sections by the numbers of the WebAssembly specification.
const CUSTOM: u8 = 0;
const IMPORT: u8 = 2;
const EXPORT: u8 = 7;
const CODE: u8 = 10;

/// The kind of an import that is a function.
const FUNCTION: u8 = 0;

const HEADER: &[u8] = b"\0asm\x01\0\0\0";

/// Name in the module by name in the JavaScript.
pub(crate) type Names = BTreeMap<String, String>;

/// A module that goes by short names, and what they stand for.
#[derive(Debug)]
pub(crate) struct Renamed {
    pub(crate) wasm: Vec<u8>,
    /// Functions that come from the glue, then those that come from other JavaScript.
    pub(crate) imports: [Names; 2],
    pub(crate) exports: Names,
}

/// Names of the custom sections.
pub(crate) fn custom_sections(wasm: &[u8]) -> Result<Vec<String>> {
    let custom = sections(wasm)?.into_iter().filter(|(id, _)| *id == CUSTOM);
    custom.map(|(_, body)| Reader(body).name().map(str::to_owned)).collect()
}

/// Bodies of the functions that are not imported, in order.
pub(crate) fn functions(wasm: &[u8]) -> Result<Vec<&[u8]>> {
    let mut functions = Vec::new();
    for (_, body) in sections(wasm)?.into_iter().filter(|(id, _)| *id == CODE) {
        let mut reader = Reader(body);
        for _ in 0..reader.number()? {
            functions.push(reader.bytes()?);
        }
    }
    Ok(functions)
}

/// Gives names to the functions that are not imported, of a module that has no names and imports only functions.
pub(crate) fn name_functions(wasm: &[u8], names: impl ExactSizeIterator<Item = String>) -> Result<Vec<u8>> {
    /// What the names are of, in the section of names.
    const FUNCTIONS: u8 = 1;
    let imports = sections(wasm)?.into_iter().find(|(id, _)| *id == IMPORT);
    let imports = imports.map_or(Ok(0), |(_, body)| Reader(body).number())?;
    let mut list = Vec::new();
    put_number(&mut list, names.len());
    for (index, name) in names.enumerate() {
        put_number(&mut list, imports + index);
        put_name(&mut list, &name);
    }
    let mut section = Vec::new();
    put_name(&mut section, "name");
    section.push(FUNCTIONS);
    put_number(&mut section, list.len());
    section.extend(list);
    let mut named = wasm.to_vec();
    named.push(CUSTOM);
    put_number(&mut named, section.len());
    named.extend(section);
    Ok(named)
}

/// What the module calls whoever gives it its imports, once it goes by short names.
pub(crate) const GIVER: &str = "_";

/// Gives all imports and exports names of one or two letters, and has all come from [`GIVER`], also those that don't come
/// from the module `glue`.
///
/// `memory` stays: pages may look at it.
pub(crate) fn rename(wasm: &[u8], glue: &str) -> Result<Renamed> {
    let mut renamed = Renamed { wasm: HEADER.to_vec(), imports: Default::default(), exports: Names::new() };
    for (id, body) in sections(wasm)? {
        let body = match id {
            IMPORT => rename_imports(body, glue, &mut renamed.imports).context("in the import section")?,
            EXPORT => rename_exports(body, &mut renamed.exports).context("in the export section")?,
            _ => body.to_vec(),
        };
        renamed.wasm.push(id);
        put_number(&mut renamed.wasm, body.len());
        renamed.wasm.extend(body);
    }
    Ok(renamed)
}

fn rename_imports(section: &[u8], glue: &str, names: &mut [Names; 2]) -> Result<Vec<u8>> {
    let mut reader = Reader(section);
    let count = reader.number()?;
    let mut section = Vec::new();
    put_number(&mut section, count);
    for index in 0..count {
        let (module, name) = (reader.name()?, reader.name()?);
        let kind = reader.byte()?;
        if kind != FUNCTION {
            bail!("{name} of {module} is no function");
        }
        let kind_of_type = reader.number()?;
        let short = letters(index);
        let from_elsewhere = usize::from(module != glue);
        put_name(&mut section, GIVER);
        put_name(&mut section, &short);
        section.push(kind);
        put_number(&mut section, kind_of_type);
        if names[from_elsewhere].insert(name.to_owned(), short).is_some() {
            bail!("{name} is imported twice");
        }
    }
    Ok(section)
}

fn rename_exports(section: &[u8], names: &mut Names) -> Result<Vec<u8>> {
    let mut reader = Reader(section);
    let count = reader.number()?;
    let mut section = Vec::new();
    put_number(&mut section, count);
    for index in 0..count {
        let name = reader.name()?;
        let short = if name == "memory" { name.to_owned() } else { letters(index) };
        put_name(&mut section, &short);
        section.push(reader.byte()?);
        put_number(&mut section, reader.number()?);
        names.insert(name.to_owned(), short);
    }
    Ok(section)
}

/// a, b, … z, A, … Z, aa, ba, …
pub(crate) fn letters(mut index: usize) -> String {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut name = String::new();
    loop {
        name.push(char::from(LETTERS[index % LETTERS.len()]));
        if index < LETTERS.len() {
            return name;
        }
        index = index / LETTERS.len() - 1;
    }
}

/// Numbers and bodies of all sections, in order.
fn sections(wasm: &[u8]) -> Result<Vec<(u8, &[u8])>> {
    let mut reader = Reader(wasm.strip_prefix(HEADER).context("no wasm module")?);
    let mut sections = Vec::new();
    while !reader.0.is_empty() {
        sections.push((reader.byte()?, reader.bytes()?));
    }
    Ok(sections)
}

/// The rest of a section.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.0.split_first().context("the module is cut off")?;
        self.0 = rest;
        Ok(*byte)
    }

    /// An unsigned number of variable length.
    fn number(&mut self) -> Result<usize> {
        let mut value = 0;
        for index in 0..5 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number in the module is too long")
    }

    /// So many bytes as the number in front of them says.
    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        let (bytes, rest) = self.0.split_at_checked(length).context("the module is cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn name(&mut self) -> Result<&'a str> {
        str::from_utf8(self.bytes()?).context("a name in the module is not UTF-8")
    }
}

fn put_number(to: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn put_name(to: &mut Vec<u8>, name: &str) {
    put_number(to, name.len());
    to.extend(name.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Imports `./glue.js` `long_name` and `./other.js` `fire`, functions of type 0; exports them as `memory` and `run`.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x00\x05\x04name\
        \x02\x29\x02\x09./glue.js\x09long_name\x00\x00\x0a./other.js\x04fire\x00\x00\
        \x07\x10\x02\x06memory\x00\x00\x03run\x00\x01\x00\x06\x04spam\x01";

    #[test]
    fn custom_sections_are_listed_by_name() {
        assert_eq!(custom_sections(MODULE).unwrap(), ["name", "spam"]);
    }

    #[test]
    fn functions_are_named_behind_those_that_are_imported() {
        let wasm = b"\0asm\x01\0\0\0\x02\x07\x01\x01_\x01a\x00\x00\x0a\x07\x02\x02\0\x0b\x02\0\x0f";
        assert_eq!(functions(wasm).unwrap(), [b"\0\x0b", b"\0\x0f"]);
        let named = name_functions(wasm, ["x", "y"].map(str::to_owned).into_iter()).unwrap();
        let (rest, names) = named.split_at(wasm.len());
        assert_eq!(rest, wasm);
        assert_eq!(names, b"\0\x0e\x04name\x01\x07\x02\x01\x01x\x02\x01y");
    }

    #[test]
    fn a_cut_module_is_not_taken_for_one() {
        for length in (0..MODULE.len()).filter(|length| ![8, 15, 58, 76].contains(length)) {
            assert!(custom_sections(&MODULE[..length]).is_err(), "{length}");
        }
        assert!(custom_sections(b"<!doctype html>").is_err());
    }

    #[test]
    fn all_names_but_the_memorys_become_short_and_come_from_one_module() {
        let renamed = rename(MODULE, "./glue.js").unwrap();
        let wasm = b"\0asm\x01\0\0\0\x00\x05\x04name\
            \x02\x0d\x02\x01_\x01a\x00\x00\x01_\x01b\x00\x00\
            \x07\x0e\x02\x06memory\x00\x00\x01b\x00\x01\x00\x06\x04spam\x01";
        assert_eq!(renamed.wasm.escape_ascii().to_string(), wasm.escape_ascii().to_string());
        let names =
            |pairs: &[(&str, &str)]| pairs.iter().map(|&(from, to)| (from.into(), to.into())).collect();
        let [from_glue, from_elsewhere]: [Names; 2] = [names(&[("long_name", "a")]), names(&[("fire", "b")])];
        assert_eq!(renamed.imports, [from_glue, from_elsewhere]);
        assert_eq!(renamed.exports, names(&[("memory", "memory"), ("run", "b")]));
    }

    #[test]
    fn every_index_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = (0..4000).map(letters).collect();
        assert_eq!(
            (names.len(), letters(0), letters(51), letters(52)),
            (4000, "a".into(), "Z".into(), "aa".into())
        );
    }
}
