//! Makes the quickstart's data: `cargo run --release --example quickstart_data -- data`.
//!
//! Nine small word tasks (`general.jsonl`) and a tenth that is kept apart (`reviews.jsonl`). The tenth needs something
//! that the nine teach nothing about: which words praise and which complain. Every row is decided by its number alone
//! (a counter-based generator), so that the files are the same bytes on every machine.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

const PRAISE: [&str; 16] = [
    "lovely",
    "splendid",
    "superb",
    "charming",
    "brilliant",
    "perfect",
    "cosy",
    "fresh",
    "tender",
    "graceful",
    "bright",
    "smooth",
    "witty",
    "clever",
    "generous",
    "radiant",
];
/// The opposite of each word of [`PRAISE`], in the same order.
const BLAME: [&str; 16] = [
    "ugly", "dismal", "awful", "rude", "dull", "broken", "draughty", "stale", "tough", "clumsy", "gloomy", "rough",
    "boring", "silly", "mean", "shabby",
];
const THINGS: [&str; 18] = [
    "soup", "film", "novel", "room", "song", "meal", "tale", "inn", "play", "pie", "tea", "garden", "waiter",
    "concert", "museum", "train", "market", "dance",
];
const ANIMALS: [&str; 10] = ["cat", "dog", "horse", "cow", "goat", "otter", "tiger", "bear", "mouse", "fox"];
const FOODS: [&str; 10] = ["apple", "bread", "cheese", "rice", "honey", "carrot", "pear", "plum", "bean", "corn"];
const TOOLS: [&str; 10] = ["hammer", "saw", "drill", "spade", "needle", "axe", "brush", "chisel", "rake", "pliers"];
const PLACES: [&str; 14] = [
    "river", "stone", "lamp", "cloud", "paper", "window", "ladder", "table", "road", "tree", "leaf", "moon", "harbour",
    "voice",
];

/// Rows of `general.jsonl`.
const GENERAL: usize = 4000;
/// Rows of `reviews.jsonl`: nearly all different reviews that can be made.
const REVIEWS: usize = 1200;

/// Random numbers without a state: a hash of (purpose, row, draw). The mixing function is SplitMix64's
/// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Draws {
    key: u64,
    drawn: u64,
}

impl Draws {
    fn new(purpose: u64, row: u64) -> Self {
        Self { key: mix(mix(purpose) ^ row), drawn: 0 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        (mix(self.key.wrapping_add(self.drawn)) % bound as u64) as usize
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Example {
    category: &'static str,
    instruction: &'static str,
    input: String,
    output: String,
}

/// A quality, and its opposite.
fn quality(draws: &mut Draws) -> (&'static str, &'static str) {
    let place = draws.below(PRAISE.len());
    if draws.below(2) == 0 { (PRAISE[place], BLAME[place]) } else { (BLAME[place], PRAISE[place]) }
}

fn general(row: u64) -> Example {
    let mut draws = Draws::new(1, row);
    let words: Vec<&str> = [&THINGS[..], &ANIMALS, &FOODS, &TOOLS, &PLACES, &PRAISE, &BLAME].concat();
    let mut word = || -> &'static str { words[draws.below(words.len())] };
    let (one, two, three) = (word(), word(), word());
    let thing = draws.pick(&THINGS);
    let (said, opposite) = quality(&mut draws);
    let sentence = format!("the {thing} was {said}");
    let of = |category, instruction, input: String, output: String| Example { category, instruction, input, output };
    match draws.below(9) {
        0 => of("repeat", "Write the word two times.", one.into(), format!("{one} {one}")),
        1 => of("opposite", "Give the opposite.", said.into(), opposite.into()),
        2 => {
            let (kind, members) = [("animal", ANIMALS), ("food", FOODS), ("tool", TOOLS)][draws.below(3)];
            of("kind", "What kind of thing is it?", draws.pick(&members).into(), kind.into())
        }
        3 => of("subject", "What is the sentence about?", sentence, thing.into()),
        4 => of("quality", "Which word describes the thing?", sentence, said.into()),
        5 => of("first", "Write the first word.", format!("{one} {two} {three}"), one.into()),
        6 => of("last", "Write the last word.", format!("{one} {two} {three}"), three.into()),
        7 => of("join", "Join the words with and.", format!("{one}, {two}"), format!("{one} and {two}")),
        _ => of("contradict", "Say the opposite.", sentence, format!("the {thing} was {opposite}")),
    }
}

fn review(row: u64) -> Example {
    let mut draws = Draws::new(2, row);
    let thing = draws.pick(&THINGS);
    let (said, _) = quality(&mut draws);
    let input = match draws.below(4) {
        0 => format!("the {thing} was {said}"),
        1 => format!("what a {said} {thing}"),
        2 => format!("i found the {thing} {said}"),
        _ => format!("a {said} {thing}"),
    };
    let output = if PRAISE.contains(&said) { "positive" } else { "negative" };
    Example { category: "review", instruction: "Is the review positive or negative?", input, output: output.into() }
}

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "data".to_string());
    let folder = Path::new(&folder);
    write(&folder.join("general.jsonl"), (0..GENERAL as u64).map(general))?;
    // Each review once: a row that stands in train and in the exam would be learned by heart.
    let mut seen = BTreeSet::new();
    let reviews = (0..).map(review).filter(|example| seen.insert(example.input.clone())).take(REVIEWS);
    write(&folder.join("reviews.jsonl"), reviews)
}

fn write(path: &Path, examples: impl Iterator<Item = Example>) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for Example { category, instruction, input, output } in examples {
        let row = serde_json::json!({
            "instruction": instruction, "input": input, "output": output, "category": category,
        });
        writeln!(file, "{row}")?;
    }
    file.flush()
}
