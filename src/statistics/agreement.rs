//! How far raters agree beyond chance: kappas. Not defined where chance alone would have them agree always.

/// How bad it is to take one category for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// As bad as for any other.
    None,
    /// By how many categories they lie apart.
    Linear,
    /// By its square.
    Quadratic,
}

/// J. Cohen's kappa (1960; weighted, 1968) of two raters, as scikit-learn has it: pairs of numbers of categories, in the
/// order of the categories. None of no pairs, and where both raters know one category only.
pub fn cohen_kappa(pairs: &[(usize, usize)], weights: Weights) -> Option<f64> {
    let categories = pairs.iter().map(|(a, b)| a.max(b) + 1).max()?;
    let (mut a, mut b) = (vec![0.0; categories], vec![0.0; categories]);
    for (first, second) in pairs {
        a[*first] += 1.0;
        b[*second] += 1.0;
    }
    let badness = |first: usize, second: usize| -> f64 {
        let apart = first.abs_diff(second) as f64;
        match weights {
            Weights::None => f64::from(u8::from(first != second)),
            Weights::Linear => apart,
            Weights::Quadratic => apart * apart,
        }
    };
    let seen: f64 = pairs.iter().map(|(first, second)| badness(*first, *second)).sum();
    let each = |first: usize| (0..categories).map(move |second| (first, second));
    let expected = (0..categories).flat_map(each).map(|(first, second)| a[first] * b[second] * badness(first, second));
    let expected = expected.sum::<f64>() / pairs.len() as f64;
    (expected > 0.0).then(|| 1.0 - seen / expected)
}

/// J. L. Fleiss' kappa (1971), as statsmodels has it: of each item, how many raters chose each category. None of no items,
/// where the items differ in the number of raters or have fewer than two, and where all chose one category.
pub fn fleiss_kappa(items: &[Vec<usize>]) -> Option<f64> {
    let raters: usize = items.first()?.iter().sum();
    if raters < 2 || items.iter().any(|item| item.iter().sum::<usize>() != raters) {
        return None;
    }
    let pairs = |count: usize| (count * count.saturating_sub(1)) as f64;
    let agreeing: f64 = items.iter().flatten().map(|count| pairs(*count)).sum();
    let seen = agreeing / pairs(raters) / items.len() as f64;
    let part = |category: usize| -> f64 {
        let chosen: usize = items.iter().filter_map(|item| item.get(category)).sum();
        chosen as f64 / (raters * items.len()) as f64
    };
    let categories = items.iter().map(Vec::len).max().unwrap_or(0);
    let expected: f64 = (0..categories).map(|category| part(category).powi(2)).sum();
    (expected < 1.0).then(|| (seen - expected) / (1.0 - expected))
}
