//! For tests: remembers what a stage said while it worked.

use super::{Events, Progress};
use std::cell::RefCell;

#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) progress: RefCell<Vec<Progress>>,
    pub(crate) warnings: RefCell<Vec<String>>,
}

impl Events for Heard {
    fn progress(&self, progress: Progress) {
        self.progress.borrow_mut().push(progress);
    }

    fn warn(&self, message: String) {
        self.warnings.borrow_mut().push(message);
    }

    fn log(&self, _: String) {}
}
