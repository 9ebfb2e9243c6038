//! The ways in which the command fails, and their exit codes.

use std::process::ExitCode;
use tunnel_wasm::Error;

/// A reason to end with another code than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Settings or arguments are wrong.
    #[error("{0}")]
    Usage(String),
    /// The relay, the network or the other side.
    #[error("{0}")]
    Remote(String),
    /// This machine: a file, a port, a disk.
    #[error("{0}")]
    Local(String),
    /// A signal asked the program to end.
    #[error("ended by {name}")]
    Signal {
        /// The signal's name.
        name: &'static str,
        /// The signal's number.
        number: u8,
    },
}

impl Failure {
    /// The exit code, as shells have it for signals.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Remote(_) => 1,
            Self::Usage(_) => 2,
            Self::Local(_) => 3,
            Self::Signal { number, .. } => 128 + number,
        })
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Remote(_) => "remote",
            Self::Local(_) => "local",
            Self::Signal { .. } => "signal",
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Url(_) => {
                Self::Usage(format!("{error}: mend TUNNEL_RELAY, or `relay` in the configuration"))
            }
            Error::Identity(_) => Self::Local(error.to_string()),
            error => Self::Remote(error.to_string()),
        }
    }
}
