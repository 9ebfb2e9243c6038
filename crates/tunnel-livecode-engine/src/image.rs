//! A copy of a sandbox's memory, to go back to and to keep. Made and taken in by `sandbox.rs`.

use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"livecod1";
const HASH: usize = 32;
const HEADER: usize = MAGIC.len() + 2 * HASH + 4;

/// A copy of a sandbox's memory: everything there is of a namespace, closures and timers included.
#[derive(Clone)]
pub struct Image {
    /// Of the module that it belongs to.
    pub(crate) program: [u8; HASH],
    pub(crate) memory: Arc<[u8]>,
    /// The highest number of a link that the memory may know.
    pub(crate) last_number: u32,
}

/// The reason for which bytes are no image to go on from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// They are none, or not whole.
    #[error("it is no image of a livecoding sandbox, or not a whole one")]
    NoImage,
    /// They are not what was written.
    #[error("the image is damaged: its hash does not fit")]
    Damaged,
    /// They are the image of another build's engine.
    #[error("the image was made by another build of the livecoding engine")]
    OtherProgram,
    /// It needs more memory than a sandbox may have.
    #[error("the image is larger than a sandbox may be; raise `livecode-memory`")]
    TooLarge,
}

impl Image {
    /// As bytes for a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.memory.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.program);
        bytes.extend_from_slice(&self.hash());
        bytes.extend_from_slice(&self.last_number.to_be_bytes());
        bytes.extend_from_slice(&self.memory);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ImageError> {
        let (header, memory) = bytes.split_at_checked(HEADER).ok_or(ImageError::NoImage)?;
        let (magic, hashes) = header.split_at(MAGIC.len());
        if magic != MAGIC || memory.is_empty() {
            return Err(ImageError::NoImage);
        }
        let mut program = [0; HASH];
        program.copy_from_slice(&hashes[..HASH]);
        let (hash, number) = hashes[HASH..].split_at(HASH);
        let last_number = u32::from_be_bytes(number.try_into().map_err(|_| ImageError::NoImage)?);
        let image = Self { program, memory: memory.into(), last_number };
        if image.hash() != hash {
            return Err(ImageError::Damaged);
        }
        Ok(image)
    }

    /// Of the program's hash, too: a header of one image does not fit another's memory.
    fn hash(&self) -> [u8; HASH] {
        let number = self.last_number.to_be_bytes();
        Sha256::new()
            .chain_update(self.program)
            .chain_update(number)
            .chain_update(&*self.memory)
            .finalize()
            .into()
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} bytes)", self.memory.len())
    }
}
