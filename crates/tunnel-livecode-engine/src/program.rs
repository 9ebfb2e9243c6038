//! The WebAssembly module in which instructions run, compiled once for all sandboxes.

use crate::clock::processor_time;
use crate::sandbox::{Host, Limits, Sandbox};
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wasmi::{Caller, CompilationMode, Config, Engine, Linker, Module};

/// The functions that the module may import; it may import nothing else.
pub(crate) const IMPORTS: [(&str, &str); 4] = [
    ("env", "__rquickjs_host_now_us"),
    ("livecode", "emit"),
    ("livecode", "interrupted"),
    ("livecode", "random"),
];

/// The functions that it has to export.
pub(crate) const EXPORTS: [&str; 6] = [
    "livecode_buffer",
    "livecode_call",
    "livecode_gc",
    "livecode_init",
    "livecode_memory",
    "livecode_version",
];

/// The size of WebAssembly's stack, in bytes, and the depth of its calls.
const MAX_STACK: usize = 1 << 20;
const MAX_DEPTH: usize = 4_096;

/// The reason for which a module is none that sandboxes can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not valid, or does not fit the limits.
    #[error(
        "the module of the livecoding engine does not run: {0}; build it again with `cargo xtask livecode`"
    )]
    Module(#[from] wasmi::Error),
    /// It wants more of the host than it gets.
    #[error("the module of the livecoding engine imports {0}.{1}, which it must not")]
    Import(String, String),
    /// It lacks a function.
    #[error(
        "the module of the livecoding engine has no function {0}; build it again with `cargo xtask livecode`"
    )]
    Export(&'static str),
    /// It could not make itself ready.
    #[error("the livecoding engine does not start within its limits of memory")]
    Start,
}

/// The engine's module, compiled for the interpreter; all sandboxes of a process share it.
pub struct Program {
    pub(crate) engine: Engine,
    pub(crate) module: Module,
    pub(crate) linker: Linker<Host>,
    pub(crate) limits: Limits,
    /// Of the module: images are for one and no other.
    pub(crate) hash: [u8; 32],
    fresh: OnceLock<Vec<u8>>,
}

impl Program {
    /// Reads a module; `limits` are for each sandbox.
    pub fn new(wasm: &[u8], limits: Limits) -> Result<Arc<Self>, ProgramError> {
        let mut config = Config::default();
        config
            .consume_fuel(true)
            .allow_start_fn(false)
            .set_max_stack_height(MAX_STACK)
            .set_max_recursion_depth(MAX_DEPTH)
            .compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, wasm)?;
        for import in module.imports() {
            if !IMPORTS.contains(&(import.module(), import.name())) {
                return Err(ProgramError::Import(import.module().to_owned(), import.name().to_owned()));
            }
        }
        for export in EXPORTS {
            if module.get_export(export).is_none() {
                return Err(ProgramError::Export(export));
            }
        }
        let linker = link(&engine)?;
        let hash = Sha256::digest(wasm).into();
        let program = Arc::new(Self { engine, module, linker, limits, hash, fresh: OnceLock::new() });
        let mut first = Sandbox::bare(&program)?;
        first.init()?;
        // Each later sandbox is a copy of this one.
        let fresh = first.memory_bytes().to_vec();
        program.fresh.set(fresh).map_err(|_| ProgramError::Start)?;
        Ok(program)
    }

    /// The memory of a sandbox in which nothing has happened.
    pub(crate) fn fresh(&self) -> &[u8] {
        self.fresh.get().map_or(&[], Vec::as_slice)
    }

    /// Names of what the module imports and exports, in the order of the module.
    #[must_use]
    pub fn interface(&self) -> (Vec<String>, Vec<String>) {
        let imports = self.module.imports().map(|it| format!("{}.{}", it.module(), it.name())).collect();
        (imports, self.module.exports().map(|it| it.name().to_owned()).collect())
    }
}

fn link(engine: &Engine) -> Result<Linker<Host>, wasmi::Error> {
    let mut linker = Linker::<Host>::new(engine);
    linker.func_wrap(
        "livecode",
        "emit",
        |mut caller: Caller<'_, Host>, op: u32, link: u32, at: u32, len: u32| -> Result<(), wasmi::Error> {
            let memory = caller.get_export("memory").and_then(wasmi::Extern::into_memory);
            let Some(memory) = memory else { return Err(wasmi::Error::new("no memory")) };
            let (bytes, host) = memory.data_and_store_mut(&mut caller);
            let end = at.checked_add(len).map(|end| end as usize);
            match end.and_then(|end| bytes.get(at as usize..end)) {
                Some(text) => host.take(op, link, text),
                None => Err(wasmi::Error::new("a text outside of the memory")),
            }
        },
    )?;
    linker.func_wrap("livecode", "interrupted", |caller: Caller<'_, Host>| -> u32 {
        u32::from(processor_time() >= caller.data().soft_end)
    })?;
    linker.func_wrap("livecode", "random", || -> Result<f64, wasmi::Error> {
        let bits = getrandom::u64().map_err(|error| wasmi::Error::new(error.to_string()))?;
        // 53 bits are what the number's fraction holds.
        Ok((bits >> 11) as f64 / (1_u64 << 53) as f64)
    })?;
    linker.func_wrap("env", "__rquickjs_host_now_us", || -> f64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        // In steps of 1 ms: a finer clock tells what others do.
        since.as_millis() as f64 * 1_000.0
    })?;
    Ok(linker)
}
