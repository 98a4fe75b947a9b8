//! What like work has cost before: the records of a pipeline's last runs.

use crate::manifest::InstanceId;
use crate::stage::Kind;
use crate::store::Store;
use std::collections::BTreeMap;

/// Wall times of the last runs of a pipeline, by instance and by stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    instances: BTreeMap<String, f64>,
    /// Sum and number of the instances of a stage.
    stages: BTreeMap<String, (f64, u32)>,
}

impl History {
    /// Reads what is known of a pipeline. What cannot be read is not known.
    pub fn read(store: &Store, pipeline: &str) -> Self {
        let mut history = Self::default();
        for (instance, key) in store.last_run(pipeline).unwrap_or_default() {
            // What was imported cost nothing here.
            if let Ok(Some(record)) = store.get(&key)
                && record.run.imported.is_none()
            {
                history.add(&instance, record.run.wall_seconds);
            }
        }
        history
    }

    fn add(&mut self, instance: &str, seconds: f64) {
        let stage = instance.split('[').next().unwrap_or(instance);
        let (sum, count) = self.stages.entry(stage.to_string()).or_default();
        *sum += seconds;
        *count += 1;
        self.instances.insert(instance.to_string(), seconds);
    }

    /// Expected wall seconds: what the instance took the last time, else the mean of its stage. `None` if there is
    /// neither.
    pub fn expect(&self, id: &InstanceId) -> Option<f64> {
        let own = self.instances.get(&id.to_string()).copied();
        own.or_else(|| self.stages.get(&id.stage()).map(|(sum, count)| sum / f64::from(*count)))
    }

    /// Expected milliseconds for the order of a schedule; without history a guess for the kind.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time that is not negative")]
    pub fn cost(&self, id: &InstanceId) -> u64 {
        self.expect(id).map_or_else(|| guess(id.kind), |seconds| (seconds * 1000.0) as u64)
    }
}

/// Milliseconds of work that nobody has done yet: what trains or predicts is far dearer than the rest.
fn guess(kind: Kind) -> u64 {
    match kind {
        Kind::Train => 60_000,
        Kind::Predict => 10_000,
        Kind::Mix | Kind::Score | Kind::Aggregate => 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::AxisValue;

    fn id(n: i64) -> InstanceId {
        let axes = [("n".to_string(), AxisValue::Integer(n))].into();
        InstanceId { kind: Kind::Train, name: "adapter".into(), axes }
    }

    #[test]
    fn an_instance_is_expected_to_take_what_it_took_or_what_its_like_did() {
        let mut history = History::default();
        assert_eq!((history.expect(&id(1)), history.cost(&id(1))), (None, 60_000));
        history.add("train.adapter[n=1]", 2.0);
        history.add("train.adapter[n=2]", 4.0);
        history.add("train.other", 100.0);
        assert_eq!(history.expect(&id(1)), Some(2.0));
        assert_eq!(history.expect(&id(7)), Some(3.0));
        assert_eq!(history.cost(&id(7)), 3000);
    }
}
