//! Mistakes that would show themselves late, looked for before anything runs.

use super::Resolver;
use super::columns::Columns;
use super::resolver::recipe_json;
use crate::diagnostic::{Place, Problems};
use std::collections::BTreeSet;

/// The stages' own checks, each distinct one once.
#[derive(Debug)]
pub struct Checks<'a> {
    resolver: &'a Resolver<'a>,
    columns: Columns<'a>,
    done: BTreeSet<String>,
}

impl<'a> Checks<'a> {
    /// Nothing has been checked yet.
    pub fn new(resolver: &'a Resolver<'a>) -> Self {
        Self { resolver, columns: Columns::new(resolver), done: BTreeSet::new() }
    }

    /// Checks one instance.
    pub fn run(&mut self, node: usize, problems: &mut Problems) {
        let Self { resolver, columns, .. } = self;
        columns.check(node).into_iter().for_each(|problem| problems.push(problem));
        let instance = &resolver.pipeline.instances[node];
        let inputs = resolver.existing_inputs(node);
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        if !self.done.insert(format!("{}{names:?}", recipe_json(&instance.recipe))) {
            return;
        }
        let axes = resolver.pipeline.stages.iter().flat_map(|stage| &stage.axes).map(String::as_str).collect();
        for mut problem in crate::stage::check(&instance.recipe, &inputs, &axes) {
            if problem.place.is_none() {
                problem.place = Some(Place::Span(instance.span));
            }
            problems.push(problem);
        }
    }
}
