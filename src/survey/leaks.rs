//! Questions that a model was trained on: an answer to one proves no skill.

use super::Survey;
use super::rows::{RowFile, rows};
use crate::key::Digest;
use crate::row::{self, Row};
use crate::stage::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// How many rows of one file are asked for in another, by the digests of both: found once, however often it is asked.
pub(super) type Overlaps = BTreeMap<(Digest, Digest), (usize, usize)>;

/// What is read and held of a row: a hash of the question.
type Question = [u8; 16];

impl Survey<'_> {
    /// Warns of every prediction whose questions its model has seen with their answers.
    pub(super) fn leaks(&mut self, overlaps: &mut Overlaps) {
        let mut found: BTreeMap<(String, String), (usize, usize, usize)> = BTreeMap::new();
        let instances = &self.subject.pipeline.instances;
        for (node, _) in self.made(Kind::Predict) {
            let asked = self.files_of(node, "data");
            for trained in self.graph.closure(&[node]) {
                if instances[trained].id.kind != Kind::Train || self.known[trained].is_none() {
                    continue;
                }
                for (asked, taught) in asked
                    .iter()
                    .flat_map(|asked| self.files_of(trained, "data").into_iter().map(move |taught| (asked, taught)))
                {
                    // What cannot be read says so elsewhere.
                    let Some((both, all)) = overlap(asked, &taught, overlaps).filter(|(both, _)| *both > 0) else {
                        continue;
                    };
                    let place = (instances[node].id.stage(), instances[trained].id.stage());
                    let (number, most, of) = found.entry(place).or_default();
                    *number += 1;
                    if both > *most {
                        (*most, *of) = (both, all);
                    }
                }
            }
        }
        for ((predict, train), (number, most, of)) in found {
            let (most, how) =
                if number == 1 { (most.to_string(), "") } else { (format!("up to {most}"), ", in several instances") };
            self.warn(Some(predict), format!("{most} of {of} questions are among the training rows of `{train}`{how}"));
        }
    }
}

fn overlap(asked: &RowFile, taught: &RowFile, known: &mut Overlaps) -> Option<(usize, usize)> {
    let pair = (asked.digest, taught.digest);
    if let Some(found) = known.get(&pair) {
        return Some(*found);
    }
    let (asked, taught) = (questions(asked)?, questions(taught)?);
    let taught: BTreeSet<Question> = taught.into_iter().collect();
    let found = (asked.iter().filter(|question| taught.contains(*question)).count(), asked.len());
    known.insert(pair, found);
    Some(found)
}

fn questions(file: &RowFile) -> Option<Vec<Question>> {
    rows(file).ok()?.map(|row| row.ok().map(|row| question(&row))).collect()
}

/// The instruction and the input: the question is the same, whatever the answer.
fn question(row: &Row) -> Question {
    let text = |column: &str| row::text(row, column).unwrap_or_default();
    let hash = Digest::of(format!("{}\0{}", text(row::INSTRUCTION), text(row::INPUT)).as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}
