//! What the shared cache has of that which is missing here.
//!
//! A plan goes from one instance to the next, and would wait for each answer. So all that can be asked for is asked for
//! at once when the first instance is missing: what its inputs make possible, then what those answers make possible.

use super::{Known, Resolver};
use crate::graph::upstream;
use crate::key::Digest;
use crate::record::Record;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) struct Offers<'a> {
    resolver: &'a Resolver<'a>,
    wanted: &'a [usize],
    forced: &'a BTreeSet<usize>,
    has_asked: bool,
}

impl<'a> Offers<'a> {
    pub(super) fn new(resolver: &'a Resolver<'a>, wanted: &'a [usize], forced: &'a BTreeSet<usize>) -> Self {
        Self { resolver, wanted, forced, has_asked: false }
    }

    /// The record of an instance that is not in this cache, if the shared one has it. `known` are the records of all
    /// instances before it.
    pub(super) fn find(&mut self, node: usize, key: &Digest, known: &Known) -> Option<Arc<Record>> {
        let remote = self.resolver.store.remote().filter(|remote| remote.pulls())?;
        if !std::mem::replace(&mut self.has_asked, true) {
            self.ask_from(node, known.clone());
        }
        remote.record(key, &self.resolver.pipeline.instances[node].recipe.outputs())
    }

    fn ask_from(&self, first: usize, mut known: Known) {
        let Resolver { pipeline, store, .. } = self.resolver;
        let Some(remote) = store.remote() else { return };
        let mut open: Vec<usize> = self.wanted.iter().copied().filter(|&node| node >= first).collect();
        open.retain(|node| !self.forced.contains(node));
        loop {
            let mut missing = Vec::new();
            open.retain(|&node| {
                let instance = &pipeline.instances[node];
                if upstream(instance).any(|input| known[input].is_none()) {
                    return true;
                }
                // Mistakes are reported by the plan, when it comes here.
                if let Ok(materials) = self.resolver.materials(node, &known) {
                    let key = self.resolver.document(node, &materials).key();
                    known[node] = store.get(&key).ok().flatten().filter(|record| store.complete(record)).map(Arc::new);
                    if known[node].is_none() {
                        missing.push((node, key, instance.recipe.outputs()));
                    }
                }
                false
            });
            let questions: Vec<_> = missing.iter().map(|(_, key, outputs)| (*key, outputs.clone())).collect();
            remote.ask_ahead(&questions);
            let mut has_learned = false;
            for (node, key, outputs) in missing {
                known[node] = remote.record(&key, &outputs);
                has_learned |= known[node].is_some();
            }
            if !has_learned {
                return;
            }
        }
    }
}
