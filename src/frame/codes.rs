//! Values → small numbers in the order of the values, and rows → groups of equal values.

use super::Type;
use crate::report::table::Cell;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array as _, ArrayRef};

/// Whole numbers that lie so near each other are counted in a table instead of sorted.
const NEAR: i128 = 1 << 20;

/// The values of a column as numbers: equal values have equal numbers, greater ones greater.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Per row, the number of its value.
    pub codes: Vec<u32>,
    /// The values, in the order of [`Cell`]s; all of them occur.
    pub levels: Vec<Cell>,
}

impl Codes {
    /// The codes of an array of this room.
    pub fn of(array: &ArrayRef) -> Self {
        match Type::of(array) {
            Type::Null => {
                Self { codes: vec![0; array.len()], levels: vec![Cell::Null; usize::from(!array.is_empty())] }
            }
            Type::Text => Self::of_texts(array),
            Type::Int => {
                let ints = array.as_primitive::<Int64Type>();
                Self::of_ints(ints.iter()).unwrap_or_else(|| Self::of_sorted(ints.iter(), |value| Cell::Int(*value)))
            }
            Type::Float => {
                // The bits of numbers as sorted by `total_cmp`; −0 is 0, NaN is null.
                let key = |value: f64| {
                    let bits = (value + 0.0).to_bits() as i64;
                    bits ^ (((bits >> 63) as u64) >> 1) as i64
                };
                let value = |key: &i64| f64::from_bits((key ^ (((key >> 63) as u64) >> 1) as i64) as u64);
                let floats = array.as_primitive::<Float64Type>().iter();
                Self::of_sorted(floats.map(|v| v.filter(|v| !v.is_nan()).map(key)), |key| Cell::Float(value(key)))
            }
            Type::Bool => Self::of_sorted(array.as_boolean().iter(), |value| Cell::Bool(*value)),
        }
    }

    /// Of whole numbers that lie near each other.
    fn of_ints(values: impl Iterator<Item = Option<i64>> + Clone) -> Option<Self> {
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        for value in values.clone().flatten() {
            (low, high) = (low.min(value), high.max(value));
        }
        let span = i128::from(high) - i128::from(low) + 1;
        if !(1..=NEAR).contains(&span) {
            return None;
        }
        // Place 0 is null's.
        let place = |value: Option<i64>| value.map_or(0, |value| (value - low) as usize + 1);
        let mut is_there = vec![false; span as usize + 1];
        values.clone().for_each(|value| is_there[place(value)] = true);
        let (numbers, found) = number(&is_there);
        let level = |place: &usize| if *place == 0 { Cell::Null } else { Cell::Int(low + *place as i64 - 1) };
        Some(Self {
            codes: values.map(|value| numbers[place(value)]).collect(),
            levels: found.iter().map(level).collect(),
        })
    }

    fn of_sorted<T: Ord + Copy>(values: impl Iterator<Item = Option<T>> + Clone, level: impl Fn(&T) -> Cell) -> Self {
        let mut sorted: Vec<Option<T>> = values.clone().collect();
        sorted.sort_unstable();
        sorted.dedup();
        // Each value is among them.
        let codes = values.map(|value| sorted.binary_search(&value).unwrap_or(0) as u32).collect();
        Self { codes, levels: sorted.iter().map(|value| value.as_ref().map_or(Cell::Null, &level)).collect() }
    }

    fn of_texts(array: &ArrayRef) -> Self {
        let texts = array.as_dictionary::<Int32Type>();
        let values = texts.values().as_string::<i32>();
        // The texts in their order; a dictionary may hold one twice, and some that no row has. Place 0 is null's.
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_unstable_by_key(|place| values.value(*place));
        let mut places = vec![0usize; values.len()];
        let mut distinct: Vec<&str> = Vec::new();
        for place in order {
            if distinct.last() != Some(&values.value(place)) {
                distinct.push(values.value(place));
            }
            places[place] = distinct.len();
        }
        let place = |key: Option<i32>| key.map_or(0, |key| places[key as usize]);
        let mut is_there = vec![false; distinct.len() + 1];
        texts.keys().iter().for_each(|key| is_there[place(key)] = true);
        let (numbers, found) = number(&is_there);
        let level = |place: &usize| if *place == 0 { Cell::Null } else { Cell::Text(distinct[place - 1].to_string()) };
        let codes = texts.keys().iter().map(|key| numbers[place(key)]).collect();
        Self { codes, levels: found.iter().map(level).collect() }
    }
}

/// Numbers the places that are there, from 0; and those places.
fn number(is_there: &[bool]) -> (Vec<u32>, Vec<usize>) {
    let (mut numbers, mut found) = (vec![0; is_there.len()], Vec::new());
    for (place, _) in is_there.iter().enumerate().filter(|(_, is_there)| **is_there) {
        numbers[place] = found.len() as u32;
        found.push(place);
    }
    (numbers, found)
}

/// Rows in groups of equal values.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// Per row, the number of its group: in the order of the groups' values.
    pub groups: Vec<u32>,
    /// How many groups there are.
    pub count: usize,
}

impl Grouping {
    /// All rows in one group.
    pub fn whole(rows: usize) -> Self {
        Self { groups: vec![0; rows], count: usize::from(rows > 0) }
    }

    /// Each group split by further values: ordered as before, then by these.
    #[must_use]
    pub fn split(self, by: &Codes) -> Self {
        let (codes, levels) = (&by.codes, by.levels.len());
        if self.count <= 1 {
            return Self { groups: codes.clone(), count: levels };
        }
        let key = |(group, code): (&u32, &u32)| u64::from(*group) * levels as u64 + u64::from(*code);
        let keys = || self.groups.iter().zip(codes).map(key);
        let most = self.count as u64 * levels as u64;
        if most <= (4 * codes.len() as u64).max(1 << 16) {
            let mut is_there = vec![false; most as usize];
            keys().for_each(|key| is_there[key as usize] = true);
            let (numbers, found) = number(&is_there);
            return Self { groups: keys().map(|key| numbers[key as usize]).collect(), count: found.len() };
        }
        let mut sorted: Vec<u64> = keys().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let groups = keys().map(|key| sorted.binary_search(&key).unwrap_or(0) as u32).collect();
        Self { groups, count: sorted.len() }
    }

    /// A row of each group: its first.
    pub fn firsts(&self) -> Vec<usize> {
        let mut firsts = vec![usize::MAX; self.count];
        for (row, group) in self.groups.iter().enumerate().rev() {
            firsts[*group as usize] = row;
        }
        firsts
    }

    /// Where each group begins in a list of the rows ordered by group, and where the last ends.
    pub fn offsets(&self) -> Vec<usize> {
        let mut offsets = vec![0; self.count + 1];
        self.groups.iter().for_each(|group| offsets[*group as usize + 1] += 1);
        for group in 0..self.count {
            offsets[group + 1] += offsets[group];
        }
        offsets
    }

    /// Values of the rows, group after group, in the order of the rows, without those that are NaN; and where each group
    /// begins and the last ends.
    pub fn gather(&self, values: &[f64]) -> (Vec<f64>, Vec<usize>) {
        let mut offsets = vec![0usize; self.count + 1];
        for (group, value) in self.groups.iter().zip(values) {
            offsets[*group as usize + 1] += usize::from(!value.is_nan());
        }
        for group in 0..self.count {
            offsets[group + 1] += offsets[group];
        }
        let mut next = offsets.clone();
        let mut gathered = vec![0.0; offsets[self.count]];
        for (group, value) in self.groups.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
            let place = &mut next[*group as usize];
            gathered[*place] = *value;
            *place += 1;
        }
        (gathered, offsets)
    }
}
