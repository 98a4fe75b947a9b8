//! The graph of instances: who reads whom. That it has no cycle is the manifest's doing: instances come in topological
//! order.

use crate::manifest::{Instance, Pipeline, Source};
use petgraph::Direction;
use petgraph::graphmap::DiGraphMap;
use petgraph::visit::{Dfs, Reversed};

/// Edges run from what is read to its reader; nodes are places in [`Pipeline::instances`].
#[derive(Debug)]
pub struct Graph {
    edges: DiGraphMap<usize, ()>,
}

impl Graph {
    /// The graph of a pipeline.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut edges = DiGraphMap::new();
        for (node, instance) in pipeline.instances.iter().enumerate() {
            edges.add_node(node);
            for input in upstream(instance) {
                edges.add_edge(input, node, ());
            }
        }
        Self { edges }
    }

    /// What each node reads, each once, in order.
    pub fn upstream(&self) -> Vec<Vec<usize>> {
        let read = |node| {
            let mut inputs: Vec<usize> = self.edges.neighbors_directed(node, Direction::Incoming).collect();
            inputs.sort_unstable();
            inputs
        };
        (0..self.edges.node_count()).map(read).collect()
    }

    /// The targets and all that they need, in topological order.
    pub fn closure(&self, targets: &[usize]) -> Vec<usize> {
        let reversed = Reversed(&self.edges);
        let mut search = Dfs::empty(reversed);
        let mut wanted = Vec::new();
        for &target in targets {
            search.move_to(target);
            while let Some(node) = search.next(reversed) {
                wanted.push(node);
            }
        }
        wanted.sort_unstable();
        wanted
    }
}

/// The instances that an instance reads; one that is read twice comes twice.
pub fn upstream(instance: &Instance) -> impl Iterator<Item = usize> + '_ {
    instance.inputs.iter().filter_map(|input| match input.source {
        Source::Output { instance, .. } => Some(instance),
        Source::Path(_) => None,
    })
}
