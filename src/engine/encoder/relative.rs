//! Distances between tokens, and the rows of tables that they have.

use super::config::Disentangled;

/// Classes of distances in MPNet's table, whatever its settings say.
pub(super) const CLASSES: usize = 32;

/// From this distance on all are of one class in MPNet.
const FAR: f32 = 128.0;

/// The rows of a table that distances between tokens have, from a distance of `-reach` to one of `reach`.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    reach: usize,
    rows: Vec<usize>,
}

impl Rows {
    /// Those of texts of up to so many tokens; `row` gives the row of query position minus key position.
    fn new(tokens: usize, row: impl Fn(isize) -> usize) -> Self {
        let reach = tokens.saturating_sub(1);
        let far = isize::try_from(reach).unwrap_or(isize::MAX);
        Self { reach, rows: (-far..=far).map(row).collect() }
    }

    /// MPNet's classes.
    pub(super) fn of_bias(tokens: usize) -> Self {
        Self::new(tokens, class)
    }

    /// DeBERTa's rows, which never fall with the distance.
    pub(super) fn of_table(tokens: usize, table: &Disentangled) -> Self {
        let span = isize::try_from(table.span).unwrap_or(isize::MAX);
        Self::new(tokens, |distance| {
            let distance = table.buckets.map_or(distance, |reach| bucket(distance, table.span, reach));
            usize::try_from((distance + span).clamp(0, 2 * span - 1)).unwrap_or(0)
        })
    }

    /// The rows from which query `position` of a text of `tokens` looks at its keys: those of the last key first.
    pub(super) fn of_query(&self, position: usize, tokens: usize) -> &[usize] {
        // The distance to the last key is the least one.
        let begin = self.reach + position + 1 - tokens;
        &self.rows[begin..begin + tokens]
    }

    /// The first and the last row that a text of so many tokens needs.
    pub(super) fn range(&self, tokens: usize) -> std::ops::RangeInclusive<usize> {
        self.rows[self.reach + 1 - tokens]..=self.rows[self.reach + tokens - 1]
    }
}

/// DeBERTa v2: near distances as they are, far ones by their logarithm. In f32, as transformers does it.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "distances are far below 2^24")]
fn bucket(distance: isize, span: usize, reach: usize) -> isize {
    let middle = span / 2;
    let far = distance.unsigned_abs();
    if far <= middle || middle == 0 {
        return distance;
    }
    let (middle, last) = (middle as f32, (reach as f64 - 1.0) / middle as f64);
    let log = (far as f32 / middle).ln() / (last as f32).ln() * (middle - 1.0);
    distance.signum() * (log.ceil() + middle) as isize
}

/// MPNet's class of a distance: half of them for keys behind the query; near ones alone, far ones by their logarithm.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "distances are far below 2^24"
)]
fn class(distance: isize) -> usize {
    let (half, exact) = (CLASSES / 2, CLASSES / 4);
    let (first, far) = (if distance < 0 { half } else { 0 }, distance.unsigned_abs());
    if far < exact {
        return first + far;
    }
    let log = (far as f32 / exact as f32).ln() / (FAR / exact as f32).ln() * (half - exact) as f32;
    first + (exact + log as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // make_log_bucket_position(x, 256, 512) and (x, 16, 64).
        let of_256 = [(0, 0), (127, 127), (128, 128), (129, 129), (200, 169), (511, 255), (600, 270), (-300, -207)];
        for (distance, expected) in of_256 {
            assert_eq!(bucket(distance, 256, 512), expected, "{distance}");
            assert_eq!(bucket(-distance, 256, 512), -expected, "{distance}");
        }
        let of_16 = [(7, 7), (8, 8), (9, 9), (12, 10), (20, 12), (40, 14), (63, 15), (64, 16)];
        for (distance, expected) in of_16 {
            assert_eq!(bucket(distance, 16, 64), expected, "{distance}");
        }
    }

    #[test]
    fn classes_are_those_of_transformers() {
        // MPNetEncoder.relative_position_bucket of minus the distance.
        let expected =
            [(0, 0), (7, 7), (8, 8), (15, 9), (16, 10), (64, 14), (127, 15), (1000, 15), (-1, 17), (-40, 28)];
        for (distance, expected) in expected {
            assert_eq!(class(distance), expected, "{distance}");
        }
    }

    #[test]
    fn rows_of_a_query_begin_with_its_last_key() {
        let table = Disentangled { name: "", span: 3, buckets: None, norm: None, keys: None, queries: None };
        let rows = Rows::of_table(6, &table);
        assert_eq!(rows.of_query(0, 2), [2, 3], "distances -1, 0");
        assert_eq!(rows.of_query(1, 2), [3, 4]);
        assert_eq!(rows.range(2), 2..=4);
        assert_eq!(rows.of_query(5, 6), [3, 4, 5, 5, 5, 5], "far ones share the last row");
    }
}
