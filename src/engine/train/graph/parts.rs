//! The parts of a graph: norms, linear layers, tables, each frozen or learning.

use super::arithmetic::Arithmetic;
use crate::random::Random;
use candle_core::Tensor;

/// What is added to every row.
#[derive(Debug)]
pub enum Bias<S: Arithmetic> {
    /// Nothing.
    None,
    /// What does not learn.
    Frozen(S::Vector),
    /// What learns.
    Trained(Tensor),
}

/// A norm.
#[derive(Debug)]
pub struct Norm<S: Arithmetic> {
    /// What normalised rows are multiplied by.
    pub weight: NormWeight<S>,
    /// Added to them.
    pub bias: Bias<S>,
}

/// The weight of a norm.
#[derive(Debug)]
pub enum NormWeight<S: Arithmetic> {
    /// What normalised rows are multiplied by.
    Frozen(S::Vector),
    /// As files have it.
    Trained(Tensor),
}

/// A linear layer.
#[derive(Debug)]
pub struct Layer<S: Arithmetic> {
    /// Its matrix.
    pub weight: Weight<S>,
    /// Added to its product.
    pub bias: Bias<S>,
}

impl<S: Arithmetic> Layer<S> {
    /// The matrix, where nothing learns and nothing is added.
    pub fn frozen(&self) -> Option<&S::Matrix> {
        match (&self.weight, &self.bias) {
            (Weight::Frozen(weight), Bias::None) => Some(weight),
            _ => None,
        }
    }
}

/// The matrix of a linear layer.
#[derive(Debug)]
pub enum Weight<S: Arithmetic> {
    /// One that does not learn.
    Frozen(S::Matrix),
    /// One that does not learn, and an adapter that does.
    Lora(Lora<S>),
    /// One that learns.
    Trained {
        /// Its numbers.
        weight: Tensor,
        /// Whether it is `outputs × inputs`.
        transposed: bool,
    },
}

/// An adapter on a frozen matrix.
#[derive(Debug)]
pub struct Lora<S: Arithmetic> {
    /// The frozen matrix.
    pub weight: S::Matrix,
    /// `r × inputs`.
    pub a: Tensor,
    /// `outputs × r`.
    pub b: Tensor,
    /// Of DoRA.
    pub magnitude: Option<Tensor>,
    /// What the product of B and A is multiplied by.
    pub scale: f32,
    /// Share of the adapter's inputs that fall out.
    pub dropout: f64,
    /// What tells which.
    pub random: Random,
}

/// Makes the generators of dropout, if something is to be dropped.
pub type Tokens<'a> = &'a dyn Fn(&Random) -> Option<Vec<Random>>;

/// Vectors by number.
#[derive(Debug)]
pub enum Table<S: Arithmetic> {
    /// That do not learn.
    Frozen(S::Vector),
    /// That learn.
    Trained(Tensor),
}
