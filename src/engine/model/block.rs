//! What a block can be made of: one shape for its description (names), its weights, and what a graph makes of them.

use anyhow::Result;

/// One block: norms `N`, linear layers `L`.
#[derive(Clone, Debug, PartialEq)]
pub struct Block<N, L> {
    /// Before attention.
    pub attention_norm: Option<N>,
    /// Queries, keys and values.
    pub qkv: Qkv<N, L>,
    /// Attention's output.
    pub o: L,
    /// On attention's output, before it is added.
    pub attention_post_norm: Option<N>,
    /// Before the feed-forward layer.
    pub mlp_norm: Option<N>,
    /// The feed-forward layer.
    pub mlp: Mlp<L>,
    /// On the feed-forward layer's output, before it is added.
    pub mlp_post_norm: Option<N>,
}

/// Queries, keys and values.
#[derive(Clone, Debug, PartialEq)]
pub enum Qkv<N, L> {
    /// From three layers.
    Apart {
        /// Queries.
        q: L,
        /// Keys.
        k: L,
        /// Values.
        v: L,
        /// Norms of queries and keys.
        norms: Option<QkNorms<N>>,
    },
    /// From one layer.
    Fused(L, Order),
}

/// Norms of queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct QkNorms<N> {
    /// Of the queries.
    pub q: N,
    /// Of the keys.
    pub k: N,
    /// Whether every head is normalised by itself (by the same weight).
    pub per_head: bool,
}

/// How queries, keys and values stand in the output of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All queries, all keys, all values.
    Parts,
    /// Key head by key head: the queries that it serves, itself, its values.
    Groups,
}

impl Order {
    /// Which heads of the output hold the queries, then the keys, then the values.
    pub fn heads(self, heads: usize, kv_heads: usize) -> Vec<usize> {
        match self {
            Order::Parts => (0..heads + 2 * kv_heads).collect(),
            Order::Groups => {
                let group = heads / kv_heads;
                let queries = (0..heads).map(|head| head / group * (group + 2) + head % group);
                let of = |place| (0..kv_heads).map(move |head| head * (group + 2) + group + place);
                queries.chain(of(0)).chain(of(1)).collect()
            }
        }
    }
}

/// The feed-forward layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Mlp<L> {
    /// `down(activation(gate(x)) · up(x))`.
    Gated {
        /// What goes through the activation.
        gate: L,
        /// What the gate lets through.
        up: L,
        /// Back to the width of a token.
        down: L,
    },
    /// The same, from one layer: the gate, then as many numbers to multiply.
    GatedFused {
        /// Both.
        gate_up: L,
        /// Back to the width of a token.
        down: L,
    },
    /// `down(activation(up(x)))`.
    Plain {
        /// What goes through the activation.
        up: L,
        /// Back to the width of a token.
        down: L,
    },
}

/// What a linear layer of a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Queries.
    Q,
    /// Keys, or values.
    Kv,
    /// Queries, keys and values.
    Qkv,
    /// Attention's output.
    O,
    /// The gate, or what it lets through, or what goes through the activation.
    Up,
    /// The gate and what it lets through.
    GateUp,
    /// Back to the width of a token.
    Down,
}

/// What a norm of a block works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// A token's vector.
    Token,
    /// All queries of a token together.
    Queries,
    /// All keys of a token together.
    Keys,
    /// One head.
    Head,
}

/// Something that is made of every norm and every linear layer of a block, in order.
pub trait Walk<N, L> {
    /// What becomes of a norm.
    type Norm;
    /// What becomes of a linear layer.
    type Linear;
    /// Makes it of a norm.
    fn norm(&mut self, norm: N, place: NormPlace) -> Result<Self::Norm>;
    /// Makes it of a linear layer.
    fn linear(&mut self, linear: L, place: Place) -> Result<Self::Linear>;

    /// Makes it of a norm that need not be there.
    fn optional(&mut self, norm: Option<N>) -> Result<Option<Self::Norm>> {
        norm.map(|norm| self.norm(norm, NormPlace::Token)).transpose()
    }
}

impl<N, L> Block<N, L> {
    /// A block of the same shape, made part by part. The order is that of training's parameters.
    pub fn walk<W: Walk<N, L>>(self, walk: &mut W) -> Result<Block<W::Norm, W::Linear>> {
        // Fields are evaluated in the order in which they are written here.
        Ok(Block {
            attention_norm: walk.optional(self.attention_norm)?,
            qkv: self.qkv.walk(walk)?,
            o: walk.linear(self.o, Place::O)?,
            attention_post_norm: walk.optional(self.attention_post_norm)?,
            mlp_norm: walk.optional(self.mlp_norm)?,
            mlp: self.mlp.walk(walk)?,
            mlp_post_norm: walk.optional(self.mlp_post_norm)?,
        })
    }

    /// The same block, borrowed.
    pub fn as_ref(&self) -> Block<&N, &L> {
        let qkv = match &self.qkv {
            Qkv::Apart { q, k, v, norms } => {
                let norms = norms.as_ref().map(|QkNorms { q, k, per_head }| QkNorms { q, k, per_head: *per_head });
                Qkv::Apart { q, k, v, norms }
            }
            Qkv::Fused(linear, order) => Qkv::Fused(linear, *order),
        };
        let mlp = match &self.mlp {
            Mlp::Gated { gate, up, down } => Mlp::Gated { gate, up, down },
            Mlp::GatedFused { gate_up, down } => Mlp::GatedFused { gate_up, down },
            Mlp::Plain { up, down } => Mlp::Plain { up, down },
        };
        Block {
            attention_norm: self.attention_norm.as_ref(),
            qkv,
            o: &self.o,
            attention_post_norm: self.attention_post_norm.as_ref(),
            mlp_norm: self.mlp_norm.as_ref(),
            mlp,
            mlp_post_norm: self.mlp_post_norm.as_ref(),
        }
    }

    /// The same block, borrowed to be changed.
    pub fn as_mut(&mut self) -> Block<&mut N, &mut L> {
        let qkv = match &mut self.qkv {
            Qkv::Apart { q, k, v, norms } => {
                let norms = norms.as_mut().map(|QkNorms { q, k, per_head }| QkNorms { q, k, per_head: *per_head });
                Qkv::Apart { q, k, v, norms }
            }
            Qkv::Fused(linear, order) => Qkv::Fused(linear, *order),
        };
        let mlp = match &mut self.mlp {
            Mlp::Gated { gate, up, down } => Mlp::Gated { gate, up, down },
            Mlp::GatedFused { gate_up, down } => Mlp::GatedFused { gate_up, down },
            Mlp::Plain { up, down } => Mlp::Plain { up, down },
        };
        Block {
            attention_norm: self.attention_norm.as_mut(),
            qkv,
            o: &mut self.o,
            attention_post_norm: self.attention_post_norm.as_mut(),
            mlp_norm: self.mlp_norm.as_mut(),
            mlp,
            mlp_post_norm: self.mlp_post_norm.as_mut(),
        }
    }

    /// Its norms and linear layers, in order, each with what it is for.
    pub fn parts(self) -> Vec<Part<N, L>> {
        let mut parts = Parts(Vec::new());
        // A list takes everything.
        self.walk(&mut parts).map_or_else(|_| Vec::new(), |_| parts.0)
    }
}

/// A norm or a linear layer.
#[derive(Debug)]
pub enum Part<N, L> {
    /// A norm.
    Norm(N),
    /// A linear layer.
    Linear(L, Place),
}

impl<N, L> Part<N, L> {
    /// The norm, if it is one.
    pub fn norm(self) -> Option<N> {
        match self {
            Part::Norm(norm) => Some(norm),
            Part::Linear(..) => None,
        }
    }

    /// The linear layer, if it is one.
    pub fn linear(self) -> Option<L> {
        match self {
            Part::Linear(linear, _) => Some(linear),
            Part::Norm(_) => None,
        }
    }
}

struct Parts<N, L>(Vec<Part<N, L>>);

impl<N, L> Walk<N, L> for Parts<N, L> {
    type Norm = ();
    type Linear = ();

    fn norm(&mut self, norm: N, _: NormPlace) -> Result<()> {
        self.0.push(Part::Norm(norm));
        Ok(())
    }

    fn linear(&mut self, linear: L, place: Place) -> Result<()> {
        self.0.push(Part::Linear(linear, place));
        Ok(())
    }
}

impl<N, L> Qkv<N, L> {
    fn walk<W: Walk<N, L>>(self, walk: &mut W) -> Result<Qkv<W::Norm, W::Linear>> {
        Ok(match self {
            Qkv::Apart { q, k, v, norms } => {
                let (q, k) = (walk.linear(q, Place::Q)?, walk.linear(k, Place::Kv)?);
                let v = walk.linear(v, Place::Kv)?;
                let norms = match norms {
                    None => None,
                    Some(QkNorms { q, k, per_head }) => {
                        let place = |whole| if per_head { NormPlace::Head } else { whole };
                        let q = walk.norm(q, place(NormPlace::Queries))?;
                        Some(QkNorms { q, k: walk.norm(k, place(NormPlace::Keys))?, per_head })
                    }
                };
                Qkv::Apart { q, k, v, norms }
            }
            Qkv::Fused(linear, order) => Qkv::Fused(walk.linear(linear, Place::Qkv)?, order),
        })
    }
}

impl<L> Mlp<L> {
    fn walk<N, W: Walk<N, L>>(self, walk: &mut W) -> Result<Mlp<W::Linear>> {
        Ok(match self {
            Mlp::Gated { gate, up, down } => Mlp::Gated {
                gate: walk.linear(gate, Place::Up)?,
                up: walk.linear(up, Place::Up)?,
                down: walk.linear(down, Place::Down)?,
            },
            Mlp::GatedFused { gate_up, down } => {
                Mlp::GatedFused { gate_up: walk.linear(gate_up, Place::GateUp)?, down: walk.linear(down, Place::Down)? }
            }
            Mlp::Plain { up, down } => {
                Mlp::Plain { up: walk.linear(up, Place::Up)?, down: walk.linear(down, Place::Down)? }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_in_both_orders() {
        assert_eq!(Order::Parts.heads(4, 1), [0, 1, 2, 3, 4, 5]);
        // gpt_neox and bloom: q k v, q k v.
        assert_eq!(Order::Groups.heads(2, 2), [0, 3, 1, 4, 2, 5]);
        // falcon 40B: q q k v, q q k v.
        assert_eq!(Order::Groups.heads(4, 2), [0, 1, 4, 5, 2, 6, 3, 7]);
        assert_eq!(Order::Groups.heads(4, 1), Order::Parts.heads(4, 1));
    }
}
