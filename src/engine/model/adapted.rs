//! A model whose matrices never change, and stay as they are held, with an adapter beside them: `y = x W + scale · x Aᵀ Bᵀ`.
//!
//! That is what the adapter learned on where its base was held in few bits: merged into the weights, it would be rounded
//! with them. And the base can be shared by as many adapters as there are.

use super::adapter::{Adapter, Pair};
use super::load::read_adapter;
use super::{HeldLinear, Linear, Model};
use crate::engine::held::{Held, Precision};
use crate::engine::weights::transpose;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

/// A linear layer that never changes, and what stands beside it.
#[derive(Clone, Debug)]
pub struct Adapted {
    /// The layer.
    pub base: HeldLinear,
    /// What an adapter adds to it.
    pub beside: Option<Beside>,
}

/// The matrices of an adapter on one linear layer, as they are multiplied.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Their rank.
    pub r: usize,
    /// `inputs × r`, row-major.
    pub a: Vec<f32>,
    /// `r × outputs`, row-major.
    pub b: Vec<f32>,
    /// What their product is multiplied by.
    pub scale: f32,
    /// Of DoRA: what each output is multiplied by, the base's part too.
    pub factors: Option<Vec<f32>>,
}

impl Beside {
    fn new(pair: &Pair, scale: f32, weight: &Held) -> Self {
        let r = pair.r();
        let factors = pair.magnitude.as_ref().map(|magnitude| {
            let norms = weight.norms_with(&pair.a, &pair.b, r, scale);
            magnitude.iter().zip(&norms).map(|(magnitude, norm)| magnitude / norm).collect()
        });
        let (a, b) = (transpose(&pair.a, r, pair.inputs), transpose(&pair.b, pair.outputs, r));
        Self { r, a, b, scale, factors }
    }
}

/// With nothing beside it.
impl From<HeldLinear> for Adapted {
    fn from(base: HeldLinear) -> Self {
        Self { base, beside: None }
    }
}

/// The same numbers, with nothing beside them.
impl From<Linear> for Adapted {
    fn from(linear: Linear) -> Self {
        HeldLinear::new(linear, Precision::F32).into()
    }
}

impl Model<HeldLinear> {
    /// The same model, its memory shared, with an adapter beside it, if `folder` holds one: a layer that says that its
    /// training left the base unchanged adds nothing.
    ///
    /// # Errors
    /// The adapter cannot be read, or does not fit.
    pub fn with_adapter(&self, folder: Option<&Path>) -> Result<Model<Adapted>> {
        let adapter = folder.map(|folder| read_adapter(folder, &self.config)).transpose()?.flatten();
        let Some(adapter) = adapter else { return self.clone().map(|linear, _| Ok(linear.into())) };
        let conv1d = self.config.layout.conv1d;
        let mut model = self.clone().map(|linear, inner| adapter.beside(linear, conv1d && inner))?;
        adapter.merge_rest(&mut model);
        Ok(model)
    }
}

impl Adapter {
    /// A linear layer with what the adapter has for it; what it saved takes the layer's place, and is held as it is.
    fn beside(&self, mut base: HeldLinear, conv1d: bool) -> Result<Adapted> {
        let (inputs, outputs) = (base.weight.inputs(), base.weight.outputs());
        if let Some(weight) = self.saved_weight(&base.name, (inputs, outputs), conv1d) {
            base.weight = Arc::new(Held::new(Arc::new(weight), inputs, outputs, Precision::F32));
        }
        if let Some(bias) = self.saved_bias(&base.name) {
            base.bias = Some(Arc::new(bias));
        }
        let Some(pair) = self.pairs.get(&base.name) else { return Ok(base.into()) };
        let scale = self.config.selector()?.scale(&base.name);
        let beside = Beside::new(pair, scale, &base.weight);
        Ok(Adapted { base, beside: Some(beside) })
    }
}
