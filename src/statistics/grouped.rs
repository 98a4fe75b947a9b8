//! One value out of many groups.

use super::describe::mean;

/// The mean of what is defined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Averaged {
    /// The mean; none where nothing is defined.
    pub mean: Option<f64>,
    /// How many values it is of.
    pub defined: usize,
    /// How many were not defined, and passed over.
    pub undefined: usize,
}

/// The mean of the values that are defined.
pub fn averaged(values: impl IntoIterator<Item = Option<f64>>) -> Averaged {
    let mut undefined = 0;
    let defined: Vec<f64> =
        values.into_iter().inspect(|value| undefined += usize::from(value.is_none())).flatten().collect();
    Averaged { mean: mean(&defined), defined: defined.len(), undefined }
}

/// The mean of each group's values that are not missing (NaN); NaN of a group that has none. A group is a list of row
/// numbers.
pub fn means(groups: &[Vec<usize>], values: &[f64]) -> Vec<f64> {
    let of_group = |rows: &Vec<usize>| {
        let present: Vec<f64> = rows.iter().map(|row| values[*row]).filter(|value| !value.is_nan()).collect();
        mean(&present).unwrap_or(f64::NAN)
    };
    groups.iter().map(of_group).collect()
}
