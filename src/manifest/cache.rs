//! `[cache]`: where results are shared.

use crate::form;
use crate::settings::At;

form! {
    /// A second cache that machines share. Cannot change a result.
    pub struct CacheSettings {
        /// A folder, or `s3://bucket/prefix`; `--shared` goes before it. Keys and the server's address come from the
        /// `AWS_…` variables of the environment.
        shared: Option<At<String>>,
        /// Whether what is not in the local cache is looked for there.
        pull: bool = true,
        /// Whether what a run makes is sent there; `titer push` sends it in any case.
        push: bool = false,
    }
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { shared: None, pull: true, push: false }
    }
}
