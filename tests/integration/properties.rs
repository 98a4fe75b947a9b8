//! What holds for every input, tried on many that are drawn at random from fixed seeds.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use titer::diagnostic::Sources;
use titer::key::canonical;
use titer::manifest::edit::{Edit, edit};
use titer::manifest::{Overrides, Selector, load};
use titer::stage::{Pins, Reference};

/// Random numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn text(&mut self) -> String {
        let parts = [
            "a", "Z", "0", ",", "]", "[", "=", "\"", "'", "\\", " ", "\n", "\t", "/", "..", "é", "e\u{301}",
            "\u{202e}", "日", "{", "}", "%2c", "#", "\u{7f}",
        ];
        (0..self.below(6)).map(|_| self.one(&parts)).collect()
    }

    fn json(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => (self.below(2) == 0).into(),
            2 => self.next().cast_signed().into(),
            3 => f64::from_bits(self.next()).into(),
            4 => self.text().into(),
            5 => (0..self.below(4)).map(|_| self.json(depth - 1)).collect(),
            _ => Value::Object((0..self.below(5)).map(|_| (self.text(), self.json(depth - 1))).collect()),
        }
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The same value, with the keys of all its maps in another order.
fn reordered(value: &Value, dice: &mut Dice) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> =
                map.iter().map(|(name, value)| (name.clone(), reordered(value, dice))).collect();
            dice.shuffle(&mut entries);
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| reordered(item, dice)).collect(),
        other => other.clone(),
    }
}

#[test]
fn canonical_json_says_the_same_in_one_way_only() {
    let mut dice = Dice(1);
    let mut texts: BTreeSet<String> = BTreeSet::new();
    let mut values: BTreeSet<String> = BTreeSet::new();
    for _ in 0..3_000 {
        let value = dice.json(3);
        let text = canonical(&value);
        assert_eq!(canonical(&reordered(&value, &mut dice)), text, "the order of keys does not matter");
        let read: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(read, without_nulls(&value), "nothing is lost but what is not set");
        assert_eq!(canonical(&read), text, "and it is its own form");
        texts.insert(text);
        // `BTreeMap`s sort; so this is one text for each value too, made in another way.
        values.insert(format!("{:?}", sorted(&without_nulls(&value))));
    }
    assert_eq!(texts.len(), values.len(), "different values have different texts");
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let set = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> =
                map.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[test]
fn what_stands_in_brackets_is_read_as_it_was_written() {
    let mut dice = Dice(2);
    for _ in 0..5_000 {
        let axes = ["n", "t", "run"];
        let pins = Pins((0..=dice.below(3)).map(|_| (dice.one(&axes).to_string(), dice.text())).collect());
        let name = format!("mix.a{pins}");
        let selector = Selector::parse(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(selector.to_string(), name);
        for text in [name.clone(), format!("{name}.test")] {
            let reference = Reference::parse(&text).unwrap().unwrap_or_else(|| panic!("{text} is a path"));
            assert_eq!((&reference.pins, reference.to_string()), (&pins, text));
        }
    }
}

#[test]
fn set_changes_the_value_and_no_other_byte() {
    let mut dice = Dice(3);
    for _ in 0..300 {
        let eol = dice.one(&["\n", "\r\n"]);
        let comment = |dice: &mut Dice| dice.one(&["", " # why", "\t#  = [\"", "  "]).to_string();
        let (mut text, mut places) =
            (format!("titer = 1{}{eol}{eol}# é 日{eol}[params]{eol}", comment(&mut dice)), Vec::new());
        for number in 0..1 + dice.below(6) {
            text += dice.one(&["", "\n", "# between\n", "  "]).replace('\n', eol).as_str();
            text += &format!("p{number}{}={}", dice.one(&["", " ", "   "]), dice.one(&["", " ", "\t"]));
            let value =
                dice.one(&["1", "0x1F", "1_000", "'lit'", "\"b\\u00e9\"", "[ 1,2 , 3 ]", "true", "1e-3", "{ a = 1 }"]);
            places.push((number, text.len()..text.len() + value.len()));
            text += &format!("{value}{}{eol}", comment(&mut dice));
        }
        text += &format!("[mix.a]{eol}command   = ['x']{}{}", comment(&mut dice), dice.one(&["", eol]));
        let (number, place) = dice.one(&places);
        let value = dice.one(&["7", "[4, 5]", "false", "\"x, y\"", "2.5"]);
        let read = |_: &str| Ok(text.clone());
        let edits = [Edit::Set(format!("params.p{number}={value}"))];
        let edited = edit("m.toml", &read, &edits, &mut Sources::default())
            .unwrap_or_else(|problems| panic!("{text}{problems:?}"));
        let expected = format!("{}{value}{}", &text[..place.start], &text[place.end..]);
        assert_eq!(edited.new, expected, "in {text:?}");
    }
}

#[test]
fn expansion_is_the_product_of_what_is_named() {
    let mut dice = Dice(4);
    for _ in 0..200 {
        let axes = ["a", "b", "c", "d"];
        let levels: Vec<Vec<usize>> = axes.iter().map(|_| (0..1 + dice.below(4)).collect()).collect();
        let list = |levels: &[usize]| json!(levels).to_string();
        let mut text = "titer = 1\n[axes]\n".to_string();
        axes.iter().zip(&levels).for_each(|(axis, levels)| text += &format!("{axis} = {}\n", list(levels)));
        // A chain of stages, each of which names some axes and reads the one before.
        let mut named: BTreeSet<usize> = BTreeSet::new();
        let mut kept = levels.clone();
        let mut expected: BTreeSet<String> = BTreeSet::new();
        for stage in 0..3 {
            let own: Vec<usize> = (0..axes.len()).filter(|_| dice.below(3) == 0).collect();
            named.extend(&own);
            let words: String = own.iter().map(|axis| format!(", '{{{}}}'", axes[*axis])).collect();
            text += &format!("[mix.s{stage}]\ncommand = ['x'{words}]\n");
            if stage > 0 {
                text += &format!("inputs = {{ before = \"mix.s{}\" }}\n", stage - 1);
            }
            // Narrowed here, an axis is narrow in all that follows.
            if let Some(axis) = named.iter().copied().find(|_| dice.below(3) == 0) {
                let only = dice.one(&kept[axis]);
                text += &format!("only = {{ {} = {only} }}\n", axes[axis]);
                kept[axis] = vec![only];
            }
            expected.extend(product(&named, &axes, &kept).into_iter().map(|pins| format!("mix.s{stage}{pins}")));
        }
        let read = |_: &str| Ok(text.clone());
        let pipeline = load("m.toml", &read, &Overrides::default(), &mut Sources::default())
            .unwrap_or_else(|problems| panic!("{text}{problems:?}"));
        let names: Vec<String> = pipeline.instances.iter().map(|instance| instance.id.to_string()).collect();
        assert_eq!(names.iter().cloned().collect::<BTreeSet<_>>(), expected, "{text}");
        assert_eq!(names.len(), expected.len(), "none twice");
    }
}

/// All combinations, the slow way.
fn product(named: &BTreeSet<usize>, axes: &[&str], levels: &[Vec<usize>]) -> Vec<Pins> {
    let mut all = vec![Pins::default()];
    for axis in named {
        let with = |pins: &Pins, level: &usize| {
            let mut pins = pins.clone();
            pins.0.push((axes[*axis].to_string(), level.to_string()));
            pins
        };
        all = all.iter().flat_map(|pins| levels[*axis].iter().map(move |level| with(pins, level))).collect();
    }
    all
}
