//! For tests: remembers what a stage said while it worked.

use super::{Events, Progress};
use std::cell::{Cell, RefCell};

#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) progress: RefCell<Vec<Progress>>,
    pub(crate) warnings: RefCell<Vec<String>>,
    pub(crate) log: RefCell<Vec<String>>,
    pub(crate) device: RefCell<Option<String>>,
    /// The work is asked to end when it asks for the so-manieth time; 0: never.
    pub(crate) patience: Cell<u32>,
}

impl Events for Heard {
    fn progress(&self, progress: Progress) {
        self.progress.borrow_mut().push(progress);
    }

    fn warn(&self, message: String) {
        self.warnings.borrow_mut().push(message);
    }

    fn log(&self, message: String) {
        self.log.borrow_mut().push(message);
    }

    fn computes_on(&self, device: &str) {
        self.device.replace(Some(device.to_string()));
    }

    fn is_asked_to_end(&self) -> bool {
        let left = self.patience.get();
        self.patience.set(left.saturating_sub(1));
        left == 1
    }
}
