//! What jobs need of a machine and what it has: processors, memory, graphics cards by name, network slots.
//!
//! Pure bookkeeping for [`crate::schedule`]; what a machine has is found out by [`crate::cli`].

use crate::diagnostic::Problems;
use crate::settings::{Bytes, Decode, Schema, Value, ValueKind, schema};
use crate::stage::{Demands, Device, Kind, Recipe};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::num::NonZeroU32;

crate::settings! {
    /// `[limits]` of a manifest: what its jobs may use at once, all together. Cannot change a result.
    #[derive(Default)]
    pub struct Limits {
        /// Processors. By default all.
        cpus: Option<NonZeroU32> = None,
        /// Memory. By default all that the machine has.
        memory: Option<Bytes> = None,
        /// Graphics cards, as `CUDA_VISIBLE_DEVICES` names them. By default those of titer's own
        /// `CUDA_VISIBLE_DEVICES`, else all. Of those named here, a run uses what that variable has, if it is set.
        gpus: Option<Cards> = None,
        /// Network slots, for work that calls an API.
        network: Option<NonZeroU32> = None,
        /// Requests to APIs per second; every network slot gets an equal share.
        requests_per_second: Option<Rate> = None,
        /// What all calls of a run to APIs may cost together, by the prices that their models state.
        max_cost: Option<f64> = None => 0.0..=1e9,
        /// Mixes at once.
        mix: Option<NonZeroU32> = None,
        /// Trainings at once.
        train: Option<NonZeroU32> = None,
        /// Predictions at once.
        predict: Option<NonZeroU32> = None,
        /// Scorings at once.
        score: Option<NonZeroU32> = None,
        /// Aggregations at once.
        aggregate: Option<NonZeroU32> = None,
    }
}

impl Limits {
    /// How many jobs of a kind may run at once.
    fn at_once(&self, kind: Kind) -> usize {
        let limit = match kind {
            Kind::Mix => self.mix,
            Kind::Train => self.train,
            Kind::Predict => self.predict,
            Kind::Score => self.score,
            Kind::Aggregate => self.aggregate,
        };
        limit.map_or(usize::MAX, |limit| limit.get() as usize)
    }

    /// Whether there are graphics cards to give to jobs.
    pub fn has_gpus(&self) -> bool {
        self.gpus.as_ref().is_some_and(|cards| !cards.0.is_empty())
    }

    /// Requests per second of a job with so many network slots.
    pub fn rate(&self, slots: u32) -> Option<f64> {
        let share = f64::from(slots.max(1)) / f64::from(self.network.map_or(1, NonZeroU32::get).max(slots.max(1)));
        self.requests_per_second.map(|rate| rate.0 * share)
    }
}

/// Graphics cards: a list of numbers or names, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cards(pub Vec<String>);

impl Cards {
    /// Reads a list as `CUDA_VISIBLE_DEVICES` has it: `0,2`, `GPU-8932f937,…`. As there, an empty text and `-1` name
    /// none, and what stands behind a `-1` does not count.
    pub fn parse(text: &str) -> Self {
        let names = text.split(',').map(str::trim).take_while(|name| *name != "-1").filter(|name| !name.is_empty());
        let mut cards: Vec<String> = Vec::new();
        for name in names.filter(|name| *name != "none") {
            if !cards.iter().any(|card| card == name) {
                cards.push(name.to_string());
            }
        }
        Self(cards)
    }
}

impl Decode for Cards {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let ValueKind::Array(items) = &value.kind else {
            problems.at(value.span, format!("expected a list of graphics cards, found {}", value.describe()));
            return None;
        };
        let text = |item: &Value| match &item.kind {
            ValueKind::Integer(number) if *number >= 0 => Some(number.to_string()),
            ValueKind::String(name) if !name.is_empty() && !name.contains(',') => Some(name.clone()),
            _ => {
                problems.at(item.span, "expected the number or the name of a graphics card");
                None
            }
        };
        let cards: Option<Vec<String>> = items.iter().map(text).collect();
        Some(Self::parse(&cards?.join(",")))
    }

    fn schema() -> Schema {
        let number = json!({ "type": "integer", "minimum": 0 });
        let name = json!({ "type": "string", "minLength": 1 });
        schema::list(&schema::any_of([number, name]))
    }
}

/// A rate above zero, per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub f64);

impl Decode for Rate {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let rate = f64::decode(value, problems)?;
        if rate <= 0.0 {
            problems.at(value.span, format!("`{rate}` is no rate: expected a number above 0"));
            return None;
        }
        Some(Self(rate))
    }

    fn schema() -> Schema {
        json!({ "type": "number", "minimum": 0, "exclusiveMinimum": true })
    }
}

/// What one job needs before it can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Its kind, of which there may be a limit.
    pub kind: Kind,
    /// Processors; by default a share of what is free.
    pub cpus: Option<usize>,
    /// Bytes of memory.
    pub memory: u64,
    /// Graphics cards.
    pub gpus: usize,
    /// Network slots.
    pub network: usize,
}

impl Needs {
    /// What an instance needs on a machine with or without graphics cards.
    pub fn of(recipe: &Recipe, demands: &Demands, has_gpus: bool) -> Self {
        let kind = recipe.kind();
        let on_card = match (&demands.require, recipe) {
            (Some(require), _) => require.device == Device::Cuda,
            (None, Recipe::Command(_)) => matches!(kind, Kind::Train | Kind::Predict) && has_gpus,
            (None, Recipe::Train(_) | Recipe::Predict(_)) => cfg!(feature = "cuda") && has_gpus,
            (None, _) => false,
        };
        Self {
            kind,
            cpus: demands.threads.map(|threads| threads.get() as usize),
            memory: demands.memory.map_or(0, |memory| memory.0),
            gpus: demands.gpus.map_or(usize::from(on_card), |gpus| gpus as usize),
            network: demands.network.map_or(usize::from(recipe.asks_an_api()), |slots| slots as usize),
        }
    }

    /// Why a job can never start, if so.
    pub fn too_much(&self, limits: &Limits) -> Option<String> {
        let memory = limits.memory.filter(|memory| self.memory > memory.0);
        let cards = limits.gpus.as_ref().map_or(0, |cards| cards.0.len());
        let network = limits.network.filter(|network| self.network > network.get() as usize);
        if let Some(memory) = memory {
            return Some(format!("needs {} of memory, and there are {memory}", Bytes(self.memory)));
        }
        if self.gpus > cards {
            let there = if cards == 0 { "there is none".to_string() } else { format!("there are {cards}") };
            return Some(format!("needs graphics cards: {}, and {there}", self.gpus));
        }
        network.map(|network| format!("needs {} network slots, and there are {network}", self.network))
    }
}

/// What a running job holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    kind: Kind,
    /// Processors.
    pub cpus: usize,
    memory: u64,
    /// Graphics cards by name.
    pub gpus: Vec<String>,
    network: usize,
}

/// What is free.
#[derive(Clone, Debug)]
pub struct Pool {
    cpus: usize,
    free_cpus: usize,
    memory: u64,
    gpus: Vec<String>,
    network: usize,
    /// Jobs that may still start, by kind.
    kinds: [usize; Kind::ALL.len()],
}

impl Pool {
    /// All that the limits allow; what they do not name has no limit, but there are no cards and one processor then.
    pub fn new(limits: &Limits) -> Self {
        let cpus = limits.cpus.map_or(1, |cpus| cpus.get() as usize);
        Self {
            cpus,
            free_cpus: cpus,
            memory: limits.memory.map_or(u64::MAX, |memory| memory.0),
            gpus: limits.gpus.clone().unwrap_or_default().0,
            network: limits.network.map_or(usize::MAX, |slots| slots.get() as usize),
            kinds: Kind::ALL.map(|kind| limits.at_once(kind)),
        }
    }

    /// Whether no processor is free: nothing can start.
    pub fn is_exhausted(&self) -> bool {
        self.free_cpus == 0
    }

    /// What a job would get now; `share` is the number of jobs that wait for processors. `None`: it has to wait.
    pub fn offer(&self, needs: &Needs, share: usize) -> Option<Grant> {
        let cpus = match needs.cpus {
            // More than there are cannot be had; the job runs on all, and its threads take turns.
            Some(cpus) => cpus.min(self.cpus),
            None => (self.free_cpus / share.max(1)).max(1),
        };
        let fits = cpus <= self.free_cpus
            && needs.memory <= self.memory
            && needs.gpus <= self.gpus.len()
            && needs.network <= self.network
            && self.kinds[needs.kind as usize] > 0;
        fits.then(|| Grant {
            kind: needs.kind,
            cpus,
            memory: needs.memory,
            gpus: self.gpus[..needs.gpus].to_vec(),
            network: needs.network,
        })
    }

    /// Keeps what a waiting job needs from those behind it, as far as it is free already: else small jobs could keep a
    /// large one waiting for ever.
    pub fn reserve(&mut self, needs: &Needs) {
        if self.kinds[needs.kind as usize] == 0 {
            // It waits for its like, not for what is free.
            return;
        }
        self.free_cpus = self.free_cpus.saturating_sub(needs.cpus.unwrap_or(1).min(self.cpus));
        self.memory = self.memory.saturating_sub(needs.memory);
        self.network = self.network.saturating_sub(needs.network);
        self.gpus.drain(..needs.gpus.min(self.gpus.len()));
    }

    /// Takes what was offered.
    pub fn take(&mut self, grant: &Grant) {
        self.free_cpus -= grant.cpus;
        self.memory -= grant.memory;
        self.network -= grant.network;
        self.gpus.retain(|card| !grant.gpus.contains(card));
        self.kinds[grant.kind as usize] -= 1;
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, grant: Grant) {
        self.free_cpus += grant.cpus;
        self.memory += grant.memory;
        self.network += grant.network;
        self.kinds[grant.kind as usize] += 1;
        self.gpus.extend(grant.gpus);
        // The same cards in the same order, so that a lone job always gets the first.
        self.gpus.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            cpus: NonZeroU32::new(4),
            memory: Some(Bytes(100)),
            gpus: Some(Cards::parse("0,1")),
            train: NonZeroU32::new(3),
            ..Limits::default()
        }
    }

    const NEEDS: Needs = Needs { kind: Kind::Train, cpus: Some(1), memory: 0, gpus: 0, network: 0 };

    #[test]
    fn cards_are_given_by_name_and_come_back() {
        let mut pool = Pool::new(&limits());
        let one = Needs { gpus: 1, ..NEEDS };
        let first = pool.offer(&one, 1).unwrap();
        pool.take(&first);
        let second = pool.offer(&one, 1).unwrap();
        pool.take(&second);
        assert_eq!((first.gpus.as_slice(), second.gpus.as_slice()), (&["0".to_string()][..], &["1".to_string()][..]));
        assert_eq!(pool.offer(&one, 1), None);
        pool.give_back(second);
        pool.give_back(first);
        assert_eq!(pool.offer(&one, 1).unwrap().gpus, ["0"]);
    }

    #[test]
    fn memory_kinds_and_processors_are_limited() {
        let mut pool = Pool::new(&limits());
        let large = Needs { memory: 60, ..NEEDS };
        pool.take(&pool.offer(&large, 1).unwrap());
        assert_eq!(pool.offer(&large, 1), None, "memory");
        pool.take(&pool.offer(&NEEDS, 1).unwrap());
        let last = pool.offer(&NEEDS, 1).unwrap();
        pool.take(&last);
        assert_eq!(pool.offer(&NEEDS, 1), None, "three trainings at once");
        let mix = Needs { kind: Kind::Mix, cpus: None, ..NEEDS };
        assert_eq!(pool.offer(&mix, 1).unwrap().cpus, 1);
        assert_eq!(pool.offer(&Needs { cpus: Some(2), ..mix }, 1), None, "processors");
        pool.give_back(last);
        assert_eq!(pool.offer(&mix, 1).unwrap().cpus, 2);
        assert_eq!(pool.offer(&mix, 2).unwrap().cpus, 1, "a share of what is free");
    }

    #[test]
    fn what_a_large_job_waits_for_is_kept_for_it() {
        let mut pool = Pool::new(&limits());
        pool.take(&pool.offer(&Needs { gpus: 1, ..NEEDS }, 1).unwrap());
        let two = Needs { gpus: 2, ..NEEDS };
        assert_eq!(pool.offer(&two, 1), None);
        pool.reserve(&two);
        assert_eq!(pool.offer(&Needs { gpus: 1, ..NEEDS }, 1), None, "the free card is kept");
        assert!(pool.offer(&NEEDS, 1).is_some());
    }

    #[test]
    fn what_can_never_start_is_known_before() {
        let why = |needs: Needs| needs.too_much(&limits()).unwrap_or_default();
        assert!(why(Needs { memory: 101, ..NEEDS }).contains("101 bytes"));
        assert!(why(Needs { gpus: 3, ..NEEDS }).contains("there are 2"));
        assert_eq!(why(Needs { cpus: Some(99), network: 7, ..NEEDS }), "");
    }

    #[test]
    fn cards_are_read_as_cuda_reads_them() {
        assert_eq!(Cards::parse(" 2,0,2").0, ["2", "0"]);
        assert_eq!(Cards::parse("0,-1,1").0, ["0"]);
        assert!(Cards::parse("").0.is_empty() && Cards::parse("none").0.is_empty());
    }

    #[test]
    fn a_job_has_its_share_of_the_requests() {
        let limits = Limits { network: NonZeroU32::new(4), requests_per_second: Some(Rate(8.0)), ..Limits::default() };
        assert_eq!((limits.rate(1), limits.rate(2)), (Some(2.0), Some(4.0)));
        assert_eq!(Limits::default().rate(1), None);
    }
}
