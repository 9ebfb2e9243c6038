//! One instance of the module, with its limits. `engine.rs` calls it.

use crate::clock::processor_time;
use crate::image::{Image, ImageError};
use crate::program::{Program, ProgramError};
use std::sync::Arc;
use std::time::Duration;
use wasmi::errors::ErrorKind;
use wasmi::{Memory, Store, StoreLimits, StoreLimitsBuilder, TrapCode, TypedFunc, TypedResumableCall};

/// The limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Processor time after which JavaScript is stopped.
    pub soft: Duration,
    /// Processor time after which the call is dropped.
    pub hard: Duration,
    /// JavaScript's heap, in bytes. The linear memory is at most twice that.
    pub heap: u32,
    /// JavaScript's stack, in bytes.
    pub stack: u32,
    /// The bytes that a call may send.
    pub output: usize,
    /// The number of things that a call may have done.
    pub outputs: usize,
    /// Fuel between two looks at the clock.
    pub slice: u64,
    /// The limits of what instructions keep.
    pub kept: Kept,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            soft: Duration::from_millis(100),
            hard: Duration::from_millis(150),
            heap: 8 << 20,
            stack: 256 << 10,
            output: 4 << 20,
            outputs: 4_096,
            slice: 2_000_000,
            kept: Kept::default(),
        }
    }
}

/// The limits of what instructions keep, which the sandbox's own dispatcher obeys. JavaScript's heap bounds all of it.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Characters of all sources, older versions included.
    pub sources: u32,
    /// The number of instructions.
    pub instructions: u32,
    /// The number of versions of each that are kept, the newest included; at least 1.
    pub versions: u32,
    /// The number of timers that run.
    pub timers: u32,
}

impl Default for Kept {
    fn default() -> Self {
        Self { sources: 1 << 20, instructions: 256, versions: 16, timers: 64 }
    }
}

impl Kept {
    /// As the dispatcher takes them.
    pub(crate) fn json(&self) -> serde_json::Value {
        let Self { sources, instructions, versions, timers } = self;
        serde_json::json!({
            "sources": sources, "instructions": instructions, "versions": versions, "timers": timers,
        })
    }
}

impl Limits {
    /// With another time for each call; the hard limit is half as much later.
    #[must_use]
    pub fn with_call_time(self, soft: Duration) -> Self {
        Self { soft, hard: soft + soft / 2, ..self }
    }

    const fn memory(&self) -> usize {
        2 * self.heap as usize
    }
}

/// The tasks of a sandbox; the numbers are those of `prelude.js`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Op {
    /// To run an instruction.
    Run = 0,
    /// To add one.
    Add = 1,
    /// To evaluate a source.
    Eval = 2,
    /// To note that a link is closed.
    Closed = 3,
    /// To fire a timer: its number is in the link's place.
    Fire = 4,
    /// To go on after an image was brought back.
    Resume = 5,
    /// To list the instructions.
    List = 6,
    /// To give an instruction's source.
    Source = 7,
    /// To make an older version the newest.
    RollBack = 8,
    /// To forget an instruction.
    Remove = 9,
    /// To list the names below a path.
    Globals = 10,
    /// To give all sources.
    Sources = 11,
    /// To tell what happened to a client of the namespace's own server; its number is in the link's place.
    Served = 12,
    /// The same of a message in bytes, which follow the JSON after a line feed.
    ServedBytes = 13,
}

/// One thing that a call wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Out {
    /// The kind of thing.
    pub kind: OutKind,
    /// For which link, or timer; 0: for none.
    pub link: u32,
    /// With which text.
    pub text: String,
    /// With which bytes, if there is no text.
    pub bytes: Vec<u8>,
}

/// The kinds of things that a call can want.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutKind {
    /// A text for a link.
    Send,
    /// The call returned; the text is the value's.
    Returned,
    /// It threw: JSON with name, message and stack.
    Threw,
    /// A line for the log, after its level.
    Log,
    /// A timer that fires after as many milliseconds, or, without a text, never.
    Timer,
    /// A link to be closed: JSON with code and reason.
    Close,
    /// The answer to a privileged command, in JSON.
    Answer,
    /// An instruction of this name is there, and runs.
    Running,
    /// The stack of a call that was stopped.
    StoppedAt,
    /// There is no instruction of this name.
    Unknown,
    /// The final value of a command, in JSON.
    Settled,
    /// `1` if there are instructions of the tunnel's names, else `0`.
    Tunnel,
    /// An instruction listens on a port, which is in the link's place; without a text, no longer.
    Port,
    /// Bytes for a client.
    SendBytes,
}

impl OutKind {
    const fn of(op: u32) -> Option<Self> {
        Some(match op {
            0 => Self::Send,
            1 => Self::Returned,
            2 => Self::Threw,
            3 => Self::Log,
            4 => Self::Timer,
            5 => Self::Close,
            6 => Self::Answer,
            7 => Self::Running,
            8 => Self::StoppedAt,
            9 => Self::Unknown,
            10 => Self::Settled,
            11 => Self::Tunnel,
            12 => Self::Port,
            13 => Self::SendBytes,
            _ => return None,
        })
    }
}

/// The end of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum How {
    /// By itself.
    Well,
    /// JavaScript was stopped at the soft limit. What it did until then stays.
    Interrupted,
    /// The call was dropped, and the sandbox is in no state to go on: bring an image back.
    Dropped(String),
}

/// The result of a call.
#[derive(Debug)]
pub struct Called {
    /// The way in which it ended.
    pub how: How,
    /// The things that it wants done. Of a call that was dropped, nothing may be.
    pub out: Vec<Out>,
    /// The processor time that it took.
    pub spent: Duration,
}

/// The state that the imported functions see.
pub(crate) struct Host {
    out: Vec<Out>,
    out_bytes: usize,
    limits: Limits,
    store: StoreLimits,
    pub(crate) soft_end: Duration,
}

impl Host {
    /// Takes one thing that the call wants done.
    pub(crate) fn take(&mut self, op: u32, link: u32, text: &[u8]) -> Result<(), wasmi::Error> {
        self.out_bytes += text.len();
        if self.out_bytes > self.limits.output || self.out.len() >= self.limits.outputs {
            return Err(wasmi::Error::new("too much output"));
        }
        let Some(kind) = OutKind::of(op) else { return Err(wasmi::Error::new("an unknown output")) };
        let (text, bytes) = match kind {
            OutKind::SendBytes => (String::new(), text.to_vec()),
            _ => (String::from_utf8_lossy(text).into_owned(), Vec::new()),
        };
        self.out.push(Out { kind, link, text, bytes });
        Ok(())
    }
}

/// One memory of the program.
pub struct Sandbox {
    program: Arc<Program>,
    store: Store<Host>,
    memory: Memory,
    buffer: TypedFunc<u32, u32>,
    call: TypedFunc<(u32, u32), u32>,
    used: TypedFunc<(), u32>,
    init: TypedFunc<(u32, u32), u32>,
}

impl Sandbox {
    /// One in which nothing has happened yet.
    pub fn new(program: &Arc<Program>) -> Result<Self, ProgramError> {
        let mut sandbox = Self::bare(program)?;
        sandbox.put(program.fresh()).map_err(|_| ProgramError::Start)?;
        Ok(sandbox)
    }

    /// One that goes on where the image was made.
    pub fn from_image(program: &Arc<Program>, image: &Image) -> Result<Self, ImageError> {
        if image.program != program.hash {
            return Err(ImageError::OtherProgram);
        }
        let mut sandbox = Self::bare(program).map_err(|_| ImageError::NoImage)?;
        sandbox.put(&image.memory)?;
        Ok(sandbox)
    }

    /// One whose memory is as the module has it.
    pub(crate) fn bare(program: &Arc<Program>) -> Result<Self, ProgramError> {
        let limits = program.limits;
        let store =
            StoreLimitsBuilder::new().memory_size(limits.memory()).instances(1).memories(1).tables(1).build();
        let host = Host { out: Vec::new(), out_bytes: 0, limits, store, soft_end: Duration::MAX };
        let mut store = Store::new(&program.engine, host);
        store.limiter(|host| &mut host.store);
        store.set_fuel(u64::MAX)?;
        let instance = program.linker.instantiate_and_start(&mut store, &program.module)?;
        let memory = instance.get_memory(&store, "memory").ok_or(ProgramError::Export("memory"))?;
        let buffer = instance.get_typed_func(&store, "livecode_buffer")?;
        let call = instance.get_typed_func(&store, "livecode_call")?;
        let used = instance.get_typed_func(&store, "livecode_memory")?;
        let init = instance.get_typed_func(&store, "livecode_init")?;
        Ok(Self { program: program.clone(), store, memory, buffer, call, used, init })
    }

    /// Has the module make itself ready.
    pub(crate) fn init(&mut self) -> Result<(), ProgramError> {
        let limits = self.program.limits;
        if self.init.call(&mut self.store, (limits.heap, limits.stack))? != 0 {
            return Err(ProgramError::Start);
        }
        match self.call(Op::Resume, 0, resume_text(&limits, &[], false, "")).how {
            How::Well => Ok(()),
            _ => Err(ProgramError::Start),
        }
    }

    /// The whole linear memory.
    pub(crate) fn memory_bytes(&self) -> &[u8] {
        self.memory.data(&self.store)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let size = self.memory.data_size(&self.store);
        if let Some(more) = bytes.len().checked_sub(size) {
            self.memory
                .grow(&mut self.store, more.div_ceil(1 << 16) as u64)
                .map_err(|_| ImageError::TooLarge)?;
        }
        self.memory.data_mut(&mut self.store)[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// An image of it. Only between calls, and not after one that was dropped.
    #[must_use]
    pub fn image(&self) -> Image {
        Image { program: self.program.hash, memory: self.memory_bytes().into(), last_number: 0 }
    }

    /// Makes the memory what it was when the image of this sandbox was made.
    pub fn bring_back(&mut self, image: &Image) -> Result<(), ImageError> {
        *self = Self::from_image(&self.program, image)?;
        Ok(())
    }

    /// Bytes of linear memory.
    #[must_use]
    pub fn size(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Bytes of JavaScript's heap in use.
    pub fn heap(&mut self) -> u32 {
        // It is a sum that the module keeps: the fuel is for its few steps.
        let counted = self.store.set_fuel(u64::MAX).and_then(|()| self.used.call(&mut self.store, ()));
        counted.unwrap_or(0)
    }

    /// Runs one call to its end, or to its limits.
    pub fn call(&mut self, op: Op, link: u32, text: impl AsRef<[u8]>) -> Called {
        let start = processor_time();
        let limits = self.program.limits;
        let host = self.store.data_mut();
        host.out.clear();
        host.out_bytes = 0;
        host.soft_end = start + limits.soft;
        let ended = self.run(op, link, text.as_ref(), start + limits.hard);
        let how = match ended {
            Ok(0) => How::Well,
            Ok(1) => How::Interrupted,
            Ok(2) => How::Dropped("out of memory".to_owned()),
            Ok(3) => How::Dropped("out of time: promises without end".to_owned()),
            Ok(_) => How::Dropped("the dispatcher failed".to_owned()),
            Err(error) => How::Dropped(reason(&error)),
        };
        let out = std::mem::take(&mut self.store.data_mut().out);
        Called { how, out, spent: processor_time().saturating_sub(start) }
    }

    fn run(&mut self, op: Op, link: u32, text: &[u8], end: Duration) -> Result<u32, wasmi::Error> {
        let slice = self.program.limits.slice;
        self.store.set_fuel(u64::MAX)?;
        let len = u32::try_from(text.len()).map_err(|_| wasmi::Error::new("too long a command"))?;
        let at = self.buffer.call(&mut self.store, len)?;
        self.memory
            .write(&mut self.store, at as usize, text)
            .map_err(|_| wasmi::Error::new("out of memory"))?;
        self.store.set_fuel(slice)?;
        let mut state = self.call.call_resumable(&mut self.store, (op as u32, link))?;
        loop {
            state = match state {
                TypedResumableCall::Finished(how) => return Ok(how),
                TypedResumableCall::HostTrap(trap) => {
                    return Err(wasmi::Error::new(trap.host_error().to_string()));
                }
                TypedResumableCall::OutOfFuel(rest) => {
                    if processor_time() >= end {
                        return Err(wasmi::Error::new("out of time"));
                    }
                    self.store.set_fuel(slice.max(rest.required_fuel()))?;
                    rest.resume(&mut self.store)?
                }
            }
        }
    }
}

/// The reason for which a call was dropped, in the words of those who wrote instructions.
fn reason(error: &wasmi::Error) -> String {
    match error.kind() {
        ErrorKind::TrapCode(TrapCode::StackOverflow) => "too deep a recursion".to_owned(),
        ErrorKind::TrapCode(TrapCode::UnreachableCodeReached) => "out of memory".to_owned(),
        ErrorKind::TrapCode(trap) => format!("the sandbox failed: {trap}"),
        _ => error.to_string(),
    }
}

/// The text of [`Op::Resume`]: the numbers that are open, whether listeners are not asked, and the namespace's server ID.
pub(crate) fn resume_text(limits: &Limits, open: &[u32], is_silent: bool, server: &str) -> String {
    let limits = limits.kept.json();
    serde_json::json!({ "open": open, "isSilent": is_silent, "limits": limits, "server": server }).to_string()
}
