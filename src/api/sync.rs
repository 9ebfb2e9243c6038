//! State that several owners change: in a page, which has one thread, without locks.

#[cfg(target_family = "wasm")]
mod platform {
    use std::cell::RefCell;
    pub(crate) use std::rc::Rc as Shared;

    /// Asks for nothing, where there are no threads.
    pub(crate) trait MaybeSync {}
    impl<T: ?Sized> MaybeSync for T {}

    #[derive(Debug, Default)]
    pub(crate) struct Slot<T>(RefCell<T>);

    impl<T> Slot<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(RefCell::new(value))
        }

        pub(crate) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
            act(&mut self.0.borrow_mut())
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod platform {
    pub(crate) use std::sync::Arc as Shared;
    use std::sync::{Mutex, PoisonError};

    /// `Send` and `Sync`, wherever there are threads.
    pub(crate) trait MaybeSync: Send + Sync {}
    impl<T: Send + Sync + ?Sized> MaybeSync for T {}

    #[derive(Debug, Default)]
    pub(crate) struct Slot<T>(Mutex<T>);

    impl<T> Slot<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
            act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
}

pub(crate) use platform::{MaybeSync, Shared, Slot};
use tunnel_protocol::endpoint::MaybeSend;

/// Something that is kept for what its drop does, for example for a lock.
pub(crate) trait Guard: MaybeSend {}
impl<T: MaybeSend> Guard for T {}
