//! Rows of two frames that belong together.

use super::{Codes, Frame, Grouping, list};
use anyhow::{Context as _, bail};
use arrow_array::{Array as _, UInt32Array};

/// What rows are joined on: columns that both frames have.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a>(pub &'a [&'a str]);

/// What a join of two frames gives.
#[derive(Debug)]
pub struct Joined {
    /// The rows.
    pub frame: Frame,
    /// Rows of the left that met none of the right, and of the right that met none of the left.
    pub alone: (usize, usize),
}

impl Keys<'_> {
    /// Every row of `left` with the columns of the row of `right` that has the same keys; nulls where there is none. Of
    /// columns that both have, those of `left` stay.
    ///
    /// # Errors
    /// Two rows of `right` have the same keys; a key is no column of one of them.
    pub fn left(self, left: &Frame, right: &Frame, right_name: &str) -> anyhow::Result<Joined> {
        let (lefts, rights) = self.groups(left, right)?;
        let mut partner: Vec<Option<u32>> = vec![None; lefts.count];
        for (row, group) in rights.iter().enumerate() {
            if let Some(first) = partner[*group as usize].replace(row as u32) {
                let values: Vec<String> = self.0.iter().map(|name| cell_text(right, name, row)).collect();
                let rows = format!("rows {} and {}", first + 1, row + 1);
                bail!("{right_name}: {rows} both have {}: which one is to be joined?", values.join(", "));
            }
        }
        let rows: Vec<Option<u32>> = lefts.groups.iter().map(|group| partner[*group as usize]).collect();
        let mut is_met = vec![false; right.rows()];
        rows.iter().flatten().for_each(|row| is_met[*row as usize] = true);
        let alone = (rows.iter().filter(|row| row.is_none()).count(), is_met.iter().filter(|met| !**met).count());
        let mut frame = left.clone();
        let mut found = right.clone();
        found.retain(|name| left.column(name).is_none());
        for (name, array) in found.take(&UInt32Array::from(rows))?.columns {
            frame.set(&name, array);
        }
        Ok(Joined { frame, alone })
    }

    /// The groups of the left's rows by their keys, and those that the right's rows have, in the same numbers.
    fn groups(self, left: &Frame, right: &Frame) -> anyhow::Result<(Grouping, Vec<u32>)> {
        let mut all = Grouping::whole(left.rows + right.rows);
        for name in self.0 {
            let pick = |frame: &Frame, side: &str| {
                let known = || list(frame.names());
                let array = frame.column(name);
                let array = array.with_context(|| format!("{side} has no column `{name}`: it has {}", known()))?;
                anyhow::Ok(Frame::new(vec![((*name).to_string(), array.clone())], frame.rows))
            };
            let both = [pick(left, "the left side of the join")?, pick(right, "the right side of the join")?];
            let (both, _) = Frame::stack(&both)?;
            all = all.split(&Codes::of(&both.columns[0].1));
        }
        let rights = all.groups.split_off(left.rows);
        Ok((all, rights))
    }
}

/// Rows of all frames that are the same in `keys` made one: frames that each say something else of the same rows. A row that
/// is in one of them only has nulls for the rest; what several say, is taken of the first that says anything. Rows stay in
/// the order in which they are met first.
///
/// # Errors
/// A key is no column of a frame.
pub fn outer(frames: &[Frame], keys: &[&str]) -> anyhow::Result<Frame> {
    let only = |frame: &Frame, is_wanted: &dyn Fn(&str) -> bool| {
        let mut frame = frame.clone();
        frame.retain(is_wanted);
        frame
    };
    let parts: Vec<Frame> = frames.iter().map(|frame| only(frame, &|name| keys.contains(&name))).collect();
    let (stacked, _) = Frame::stack(&parts)?;
    let grouping = stacked.group(keys)?;
    let mut firsts = grouping.firsts();
    firsts.sort_unstable();
    let mut joined = stacked.take(&UInt32Array::from_iter_values(firsts.iter().map(|row| *row as u32)))?;
    // Where each group stands in the result.
    let mut places = vec![0usize; grouping.count];
    firsts.iter().enumerate().for_each(|(place, row)| places[grouping.groups[*row] as usize] = place);

    let begins: Vec<usize> =
        frames.iter().scan(0, |next, frame| Some(std::mem::replace(next, *next + frame.rows))).collect();
    let mut names: Vec<&str> = Vec::new();
    for name in frames.iter().flat_map(Frame::names) {
        if !keys.contains(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let having = || frames.iter().zip(&begins).filter(|(frame, _)| frame.column(name).is_some());
        let parts: Vec<Frame> = having().map(|(frame, _)| only(frame, &|known| known == name)).collect();
        let (values, _) = Frame::stack(&parts)?;
        let (name, array) = &values.columns[0];
        let groups = having().flat_map(|(frame, begin)| &grouping.groups[*begin..begin + frame.rows]);
        let mut rows: Vec<Option<u32>> = vec![None; joined.rows];
        for (row, group) in groups.enumerate().filter(|(row, _)| array.is_valid(*row)) {
            rows[places[*group as usize]].get_or_insert(row as u32);
        }
        joined.set(name, arrow_select::take::take(array, &UInt32Array::from(rows), None)?);
    }
    Ok(joined)
}

fn cell_text(frame: &Frame, name: &str, row: usize) -> String {
    let place = frame.names().position(|known| known == name);
    place.map_or(String::new(), |place| format!("{name} = {}", frame.cell(place, row).text()))
}
