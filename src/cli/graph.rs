//! `titer graph`: who reads whom, as a text tree, DOT, Mermaid or SVG. Stages are folded into one box with the number of
//! their instances, so that thousands stay readable.

use super::project::{Failure, Project};
use super::{Exit, out};
use crate::graph::upstream;
use crate::report::graph::{Look, Node, to_svg};
use crate::stage::Kind;
use crate::survey::look;
use clap::ValueEnum;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A tree from the targets down to what they read.
    Tree,
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown viewers draw it.
    Mermaid,
    /// A drawing.
    Svg,
}

/// Boxes in topological order, and for each what it reads.
#[derive(Debug, PartialEq)]
struct Boxes {
    names: Vec<String>,
    /// How many instances each stands for.
    counts: Vec<usize>,
    reads: Vec<BTreeSet<usize>>,
}

pub(super) fn show(project: &Project, format: Format, expand: bool, as_json: bool) -> Result<Exit, Failure> {
    let boxes = Boxes::of(project, expand);
    if as_json {
        out::json(&boxes.json());
        return Ok(Exit::Done);
    }
    let text = match format {
        Format::Tree => boxes.tree(),
        Format::Dot => boxes.dot(&project.pipeline.name),
        Format::Mermaid => boxes.mermaid(),
        Format::Svg => boxes.svg(&project.pipeline.name),
    };
    out::say(text.trim_end());
    Ok(Exit::Done)
}

impl Boxes {
    fn of(project: &Project, expand: bool) -> Self {
        let instances = &project.pipeline.instances;
        let mut place: BTreeMap<String, usize> = BTreeMap::new();
        let mut boxes = Self { names: Vec::new(), counts: Vec::new(), reads: Vec::new() };
        let mut box_of = Vec::new();
        for instance in instances {
            let name = if expand { instance.id.to_string() } else { instance.id.stage() };
            let number = *place.entry(name.clone()).or_insert_with(|| {
                boxes.names.push(name);
                boxes.reads.push(BTreeSet::new());
                boxes.counts.push(0);
                boxes.counts.len() - 1
            });
            boxes.counts[number] += 1;
            box_of.push(number);
            // A figure reads the table of its own stage.
            let reads = upstream(instance).map(|input| box_of[input]).filter(|read| *read != number);
            boxes.reads[number].extend(reads);
        }
        boxes
    }

    /// Names are names; how many instances a box stands for is a number of its own.
    fn json(&self) -> Json {
        let one = |place: usize| {
            let reads: Vec<&String> = self.reads[place].iter().map(|read| &self.names[*read]).collect();
            json!({ "name": self.names[place], "instances": self.counts[place], "reads": reads })
        };
        (0..self.names.len()).map(one).collect()
    }

    fn labels(&self) -> Vec<String> {
        let label = |(name, count): (&String, &usize)| match count {
            1 => name.clone(),
            count => format!("{name} ×{count}"),
        };
        self.names.iter().zip(&self.counts).map(label).collect()
    }

    fn tree(&self) -> String {
        let read: BTreeSet<usize> = self.reads.iter().flatten().copied().collect();
        let mut text = String::new();
        let mut shown = BTreeSet::new();
        let labels = self.labels();
        for root in (0..self.names.len()).filter(|place| !read.contains(place)) {
            self.branch(root, "", "", &labels, &mut shown, &mut text);
        }
        text
    }

    /// `first` stands before the box itself, `rest` before what it reads.
    fn branch(
        &self,
        place: usize,
        first: &str,
        rest: &str,
        labels: &[String],
        shown: &mut BTreeSet<usize>,
        text: &mut String,
    ) {
        let again = !shown.insert(place) && !self.reads[place].is_empty();
        let _ = writeln!(text, "{first}{}{}", labels[place], if again { " (see above)" } else { "" });
        if again {
            return;
        }
        let last = self.reads[place].len();
        for (number, read) in self.reads[place].iter().enumerate() {
            let (own, below) = if number + 1 == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.branch(*read, &format!("{rest}{own}"), &format!("{rest}{below}"), labels, shown, text);
        }
    }

    fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.reads.iter().enumerate().flat_map(|(reader, reads)| reads.iter().map(move |read| (*read, reader)))
    }

    fn dot(&self, name: &str) -> String {
        let mut text = format!("digraph \"{name}\" {{\n  rankdir=LR;\n  node [shape=box];\n");
        for (place, name) in self.labels().iter().enumerate() {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(text, "  n{place} [label=\"{name}\"];");
        }
        for (read, reader) in self.edges() {
            let _ = writeln!(text, "  n{read} -> n{reader};");
        }
        text + "}\n"
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_string();
        for (place, name) in self.labels().iter().enumerate() {
            let _ = writeln!(text, "  n{place}[\"{}\"]", name.replace('"', "#quot;"));
        }
        for (read, reader) in self.edges() {
            let _ = writeln!(text, "  n{read} --> n{reader}");
        }
        text
    }
}

impl Boxes {
    fn svg(&self, name: &str) -> String {
        let node = |place: usize| {
            let name = &self.names[place];
            let (word, name) = name.split_once('.').unwrap_or(("", name));
            let look = Kind::from_name(word).map_or(Look::Pill, look);
            let reads = self.reads[place].iter().copied().collect();
            Node { word: word.to_string(), name: name.to_string(), count: self.counts[place], look, reads }
        };
        let nodes: Vec<Node> = (0..self.names.len()).map(node).collect();
        to_svg(name, &nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxes() -> Boxes {
        Boxes {
            names: ["mix.a", "train.b", "predict.c", "score.\"d\""].map(String::from).to_vec(),
            counts: vec![1, 2, 2, 1],
            reads: vec![[].into(), [0].into(), [0, 1].into(), [2].into()],
        }
    }

    #[test]
    fn a_tree_shows_each_box_with_what_it_reads_once() {
        assert_eq!(boxes().tree(), "score.\"d\"\n└─ predict.c ×2\n   ├─ mix.a\n   └─ train.b ×2\n      └─ mix.a\n");
        let mut twice = boxes();
        twice.names.push("score.e".into());
        twice.counts.push(1);
        twice.reads.push([2].into());
        assert!(twice.tree().ends_with("score.e\n└─ predict.c ×2 (see above)\n"), "{}", twice.tree());
    }

    #[test]
    fn json_has_names_and_counts_apart() {
        assert_eq!(boxes().json()[2], json!({ "name": "predict.c", "instances": 2, "reads": ["mix.a", "train.b"] }));
    }

    #[test]
    fn drawings_have_all_edges_and_quote_names() {
        let dot = boxes().dot("p");
        assert_eq!(dot.matches("->").count(), 4);
        assert!(dot.contains("n3 [label=\"score.\\\"d\\\"\"];") && dot.contains("n0 -> n2;"), "{dot}");
        let mermaid = boxes().mermaid();
        assert_eq!(mermaid.matches("-->").count(), 4);
        assert!(mermaid.contains("n3[\"score.#quot;d#quot;\"]"), "{mermaid}");
    }
}
