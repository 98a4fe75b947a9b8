//! What is read of other machines: what was fetched of it, and what is not here yet.

use super::Resolver;
use super::finder::{Finder, Found};
use super::material::{Place, digest_of, is_read};
use crate::address::{self, Address, Extent};
use crate::diagnostic::{Diagnostic, Span};
use crate::manifest::Source;
use crate::record::FileEntry;
use crate::stage::Form;

/// Something that is read of another machine.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Where.
    pub address: Address,
    /// What of it.
    pub extent: Extent,
    /// Where the manifest says so.
    pub span: Span,
    /// Its files, if it was fetched.
    pub files: Vec<FileEntry>,
    /// Whether their bytes are in the cache.
    pub is_here: bool,
    /// Whether its digest is known.
    pub is_known: bool,
}

impl Resolver<'_> {
    /// What an instance reads of other machines: where from, and whether it is here.
    pub fn elsewhere(&self, node: usize) -> Vec<Elsewhere> {
        let mut found = Vec::new();
        for input in &self.pipeline.instances[node].inputs {
            if let Source::Path(path) = &input.source
                && input.form != Form::Argument
                && Address::is_meant(path)
                && let Ok(address) = Address::parse(path)
            {
                let extent = extent(input.form, &address);
                let fetched = self.store.fetched(&address, extent).ok().flatten();
                let is_here = fetched.as_ref().is_some_and(|fetched| self.store.has_fetched(fetched));
                let is_known = fetched.is_some() || (address.digest.is_some() && input.form != Form::Tokenizer);
                let files = fetched.map(|fetched| fetched.files).unwrap_or_default();
                found.push(Elsewhere { address, extent, span: input.span, files, is_here, is_known });
            }
        }
        found
    }
}

impl Finder<'_> {
    /// What was fetched from an address; the digest is known without it if the address says it.
    pub(super) fn look_elsewhere(&self, form: Form, text: &str) -> Found {
        let address = Address::parse(text).map_err(Diagnostic::new)?;
        let extent = extent(form, &address);
        let unreadable = |error: &dyn std::fmt::Display| Diagnostic::new(format!("cannot read `{text}`: {error:#}"));
        self.saw(&self.store.fetched_record(&address, extent));
        let fetched = self.store.fetched(&address, extent).map_err(|error| unreadable(&error))?;
        let folder = self.store.fetched_folder(&address, extent);
        let path = if extent == Extent::File { folder.join(address.name()) } else { folder };
        let (digest, files) = match (fetched, address.digest) {
            (Some(fetched), Some(digest)) if extent != Extent::Tokenizer && fetched.digest() != digest => {
                let problem = format!("`{}` has another digest: {}, not {digest}", address.bare(), fetched.digest());
                return Err(Box::new(Diagnostic::new(problem)));
            }
            (Some(fetched), _) => {
                let files: Vec<FileEntry> =
                    fetched.files.into_iter().filter(|file| is_read(form, &file.path)).collect();
                (if extent == Extent::File { files[0].digest } else { digest_of(&files) }, files)
            }
            (None, Some(digest)) if form != Form::Tokenizer => (digest, Vec::new()),
            (None, _) => {
                let problem = Diagnostic::new(format!("`{text}` has not been fetched yet"));
                return Err(Box::new(
                    problem.hint("`titer run` fetches what it needs; `titer fetch` fetches it alone"),
                ));
            }
        };
        Ok(vec![(Place::Fetched { path, files }, text.to_string(), digest)])
    }
}

/// What of an address is read in a form. A server that lists nothing is asked for a whole model.
fn extent(form: Form, address: &Address) -> Extent {
    match (form, &address.place) {
        (Form::Tokenizer, address::Place::Hub(_)) => Extent::Tokenizer,
        (Form::Model | Form::Tokenizer, _) => Extent::Model,
        _ => Extent::File,
    }
}
