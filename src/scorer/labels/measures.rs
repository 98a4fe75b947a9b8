//! What can be said of a table of right and predicted classes, as scikit-learn says it (with zero_division 0).

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How often each class was predicted for each. The class behind the last label is that of no label.
#[derive(Debug)]
pub(super) struct Confusion {
    labels: Vec<Label>,
    cells: Vec<(usize, usize, f64)>,
    classes: Vec<Class>,
    total: f64,
}

/// A label as it is written and as it is compared.
type Label = (String, String);

/// The sums of a class.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    /// How often it was right.
    right: f64,
    /// How often it was predicted.
    predicted: f64,
    /// How often both.
    hits: f64,
}

impl Class {
    fn precision(self) -> f64 {
        divide(self.hits, self.predicted)
    }

    fn recall(self) -> f64 {
        divide(self.hits, self.right)
    }

    fn f1(self) -> f64 {
        divide(2.0 * self.hits, self.right + self.predicted)
    }

    /// The three in the order of their names below.
    fn values(self) -> [f64; 3] {
        [self.precision(), self.recall(), self.f1()]
    }
}

const NAMES: [&str; 3] = ["precision", "recall", "f1"];

/// 0 where there is nothing to divide by.
fn divide(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

impl Confusion {
    /// The table of `cells`: right class, predicted class, how often.
    pub(super) fn new(labels: Vec<Label>, cells: impl Iterator<Item = (usize, usize, f64)>) -> Self {
        let mut classes = vec![Class::default(); labels.len() + 1];
        let mut total = 0.0;
        let cells: Vec<(usize, usize, f64)> = cells.collect();
        for (right, predicted, count) in &cells {
            classes[*right].right += count;
            classes[*predicted].predicted += count;
            if right == predicted {
                classes[*right].hits += count;
            }
            total += count;
        }
        Self { labels, cells, classes, total }
    }

    /// All measures by name. Averages are over those labels, or over all classes that are there; `positive` is the label
    /// that is compared with the rest.
    pub(super) fn measures(
        &self,
        average_over: Option<&[String]>,
        positive: Option<&str>,
    ) -> BTreeMap<String, Option<f64>> {
        let mut measures = BTreeMap::new();
        if self.total == 0.0 {
            return measures;
        }
        let mut say = |name: String, value: Option<f64>| {
            measures.insert(name, value);
        };
        say("accuracy".into(), Some(self.hits() / self.total));
        say("balanced_accuracy".into(), Some(self.balanced_accuracy()));
        say("matthews".into(), Some(self.matthews()));
        say("kappa".into(), self.kappa());
        say("no_label".into(), self.classes.last().map(|none| none.predicted / self.total));
        let positive = positive.map(|positive| self.class(positive));
        let averaged: Vec<Class> = match average_over {
            Some(labels) => labels.iter().map(|label| self.class(label)).collect(),
            None => self.classes.iter().copied().filter(|class| class.right + class.predicted > 0.0).collect(),
        };
        for (number, name) in NAMES.into_iter().enumerate() {
            let (macro_average, weighted) = averages(&averaged, number);
            say(format!("{name}_micro"), Some(together(&averaged).values()[number]));
            say(format!("{name}_macro"), Some(macro_average));
            say(format!("{name}_weighted"), Some(weighted));
            say(name.into(), positive.map(|class| class.values()[number]));
        }
        measures
    }

    /// The class of a label, if it was met.
    fn class(&self, label: &str) -> Class {
        let class = self.labels.iter().position(|(_, other)| other == label);
        class.map_or(Class::default(), |class| self.classes[class])
    }

    fn hits(&self) -> f64 {
        self.classes.iter().map(|class| class.hits).sum()
    }

    /// The mean recall of the classes that were right at least once.
    fn balanced_accuracy(&self) -> f64 {
        let recalls: Vec<f64> =
            self.classes.iter().filter(|class| class.right > 0.0).map(|class| class.recall()).collect();
        divide(recalls.iter().sum(), recalls.len() as f64)
    }

    /// How often right and predicted would agree by chance, times the square of the number of rows.
    fn by_chance(&self) -> f64 {
        self.classes.iter().map(|class| class.right * class.predicted).sum()
    }

    /// Matthews' correlation coefficient, of any number of classes (J. Gorodkin 2004); 0 where one side never varies.
    fn matthews(&self) -> f64 {
        let square = self.total * self.total;
        let predicted: f64 = self.classes.iter().map(|class| class.predicted * class.predicted).sum();
        let right: f64 = self.classes.iter().map(|class| class.right * class.right).sum();
        let variances = (square - predicted) * (square - right);
        let covariance = self.hits() * self.total - self.by_chance();
        if variances == 0.0 { 0.0 } else { covariance / variances.sqrt() }
    }

    /// Cohen's kappa; `None` where chance alone would agree.
    fn kappa(&self) -> Option<f64> {
        let expected = self.total - self.by_chance() / self.total;
        (expected != 0.0).then(|| 1.0 - (self.total - self.hits()) / expected)
    }

    /// The table, and the values of each class.
    pub(super) fn details(&self) -> Value {
        let mut table = vec![vec![0.0; self.classes.len()]; self.classes.len()];
        for (right, predicted, count) in &self.cells {
            table[*right][*predicted] += count;
        }
        let name = |class: usize| self.labels.get(class).map(|(label, _)| label);
        let classes = self.classes.iter().enumerate().map(|(number, class)| {
            let [precision, recall, f1] = class.values();
            json!({
                "label": name(number),
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "right": class.right,
                "predicted": class.predicted,
            })
        });
        json!({ "classes": classes.collect::<Vec<_>>(), "confusion": table })
    }
}

/// The mean over classes of one of the values, and the mean weighted by how often each class was right.
fn averages(classes: &[Class], number: usize) -> (f64, f64) {
    let (mut sum, mut weighted, mut weights) = (0.0, 0.0, 0.0);
    for class in classes {
        let value = class.values()[number];
        sum += value;
        weighted += class.right * value;
        weights += class.right;
    }
    (divide(sum, classes.len() as f64), divide(weighted, weights))
}

/// All classes as one.
fn together(classes: &[Class]) -> Class {
    classes.iter().fold(Class::default(), |sum, class| Class {
        right: sum.right + class.right,
        predicted: sum.predicted + class.predicted,
        hits: sum.hits + class.hits,
    })
}
