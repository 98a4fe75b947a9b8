//! How an encoder is made of the files of a folder, and what speaks against those.

use super::config::{Config, Convolution, Disentangled, Distances, Positions, Qkv, Relative, Shape};
use super::network::{Block, Convolve, Encoder, Heard, Layer, Sides, Table};
use super::rows::Norm;
use crate::engine::weights::{Misfits, Weights, transpose};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// Modules of an encoder; what is outside of them belongs to a head of some other task, and is passed over.
const MODULES: [&str; 2] = ["embeddings.", "encoder."];

/// Tensors that stand in files and are no weights, or that transformers passes over, too.
const SPARE: [&str; 3] =
    ["embeddings.position_ids", "embeddings.token_type_ids", "embeddings.position_embeddings.weight"];

/// How many of an encoder's blocks are wanted, and whether its head is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The first so many blocks; all of them, where there is no number.
    pub blocks: Option<usize>,
    /// Whether texts are judged.
    pub head: bool,
}

impl Encoder {
    /// Reads an encoder from a folder in HF layout.
    ///
    /// # Errors
    /// If it is none, if it has fewer blocks than are wanted, or if its files do not hold the tensors that its
    /// `config.json` describes.
    pub fn load(folder: &Path, wanted: Wanted) -> Result<Self> {
        let config = Config::read(folder)?;
        let mut weights = Weights::open_model(folder)?;
        config.check_weights(&weights, wanted, folder)?;
        let mut files = Files { left_out: weights.left_out(config.layout.prefix), weights: &mut weights };
        Self::make(config, wanted, &mut files)
    }

    fn make(mut config: Config, wanted: Wanted, source: &mut dyn Source) -> Result<Self> {
        let all = config.shape.blocks;
        config.shape.blocks = wanted.blocks.unwrap_or(all);
        if config.shape.blocks > all {
            bail!("the model has {all} blocks: there is no layer {}", config.shape.blocks);
        }
        let mut builder = Builder { config: &config, source, inside: config.layout.prefix, block: String::new() };
        let (embedding, positions, types) = builder.embeddings()?;
        let Shape { embedding_size, hidden_size, .. } = config.shape;
        let projection = match embedding_size == hidden_size {
            true => None,
            false => Some(builder.layer(config.layout.projection, (embedding_size, hidden_size), false)?),
        };
        let embedding_norm = builder.norm(config.layout.embedding_norm)?;
        let distances = builder.distances()?;
        let mut blocks = Vec::with_capacity(config.shape.blocks);
        for index in 0..config.shape.blocks {
            builder.block = format!("{}.{index}.", config.layout.blocks);
            blocks.push(builder.block(distances.as_deref())?);
        }
        builder.block.clear();
        let convolution = match config.convolution.filter(|_| config.shape.blocks > 0) {
            Some(convolution) => Some(builder.convolution(convolution)?),
            None => None,
        };
        let bias = match config.relative {
            Relative::Bias { name, rows } => builder.table(name, rows, config.shape.heads)?,
            _ => Vec::new(),
        };
        let head = if wanted.head { Some(builder.head()?) } else { None };
        Ok(Self { embedding, positions, types, projection, embedding_norm, blocks, convolution, bias, head, config })
    }
}

impl Config {
    /// Names and shapes of the tensors of such a model, as files have them, in order.
    fn tensors(&self, wanted: Wanted) -> Result<Vec<(String, Vec<usize>)>> {
        let mut list = List(Vec::new());
        Encoder::make(self.clone(), wanted, &mut list)?;
        Ok(list.0)
    }

    /// Fails where tensors are missing, have other shapes, or belong to another model.
    ///
    /// # Errors
    /// All of it at once, from headers alone.
    pub fn check_weights(&self, weights: &Weights, wanted: Wanted, folder: &Path) -> Result<()> {
        let prefix = self.layout.prefix;
        let left_out = weights.left_out(prefix);
        let found: Vec<(&str, &[usize])> = weights.rest().collect();
        let (mut misfits, mut known) = (Misfits::default(), BTreeSet::new());
        for (name, shape) in self.tensors(Wanted { blocks: None, ..wanted })? {
            let names = [Some(name.clone()), old_name(&name)].into_iter().flatten();
            let names: Vec<String> =
                names.map(|name| name.strip_prefix(left_out).map_or(name.clone(), str::to_string)).collect();
            match found.iter().find(|(found, _)| names.iter().any(|name| name == found)) {
                None => misfits.missing.push(format!("`{}` {shape:?}", names[0])),
                Some((found, of)) if *of != shape => {
                    misfits.of_other_shapes.push(format!("`{found}` is {of:?}, not {shape:?}"));
                }
                Some(_) => {}
            }
            known.extend(names);
        }
        let unknown = found.iter().filter(|(name, _)| {
            let inside = name.strip_prefix(if left_out.is_empty() { prefix } else { "" });
            let inside = inside.filter(|name| MODULES.iter().any(|module| name.starts_with(module)));
            !known.contains(*name) && inside.is_some_and(|name| !SPARE.contains(&name))
        });
        misfits.unknown = unknown.map(|(name, shape)| format!("`{name}` {shape:?}")).collect();
        misfits.refuse(folder)
    }
}

/// What a norm's tensor is called in files that were converted from TensorFlow.
fn old_name(name: &str) -> Option<String> {
    let weight = || name.strip_suffix("LayerNorm.weight").map(|rest| format!("{rest}LayerNorm.gamma"));
    weight().or_else(|| name.strip_suffix("LayerNorm.bias").map(|rest| format!("{rest}LayerNorm.beta")))
}

/// Where tensors come from.
trait Source {
    /// A tensor of a name and shape, as files have it.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;

    /// A linear layer's matrix, as the matrix product wants it.
    fn matrix(&mut self, name: &str, (inputs, outputs): (usize, usize)) -> Result<Vec<f32>> {
        Ok(transpose(&self.take(name, &[outputs, inputs])?, outputs, inputs))
    }
}

/// The files of a model.
struct Files<'a> {
    weights: &'a mut Weights,
    left_out: &'static str,
}

impl Source for Files<'_> {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = name.strip_prefix(self.left_out).unwrap_or(name);
        let is_there = |name: &str| self.weights.rest().any(|(there, _)| there == name);
        match old_name(name).filter(|old| !is_there(name) && is_there(old)) {
            Some(old) => self.weights.take(&old, shape),
            None => self.weights.take(name, shape),
        }
    }
}

/// Only a list of what is asked for.
struct List(Vec<(String, Vec<usize>)>);

impl Source for List {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.0.push((name.to_string(), shape.to_vec()));
        Ok(Vec::new())
    }

    fn matrix(&mut self, name: &str, (inputs, outputs): (usize, usize)) -> Result<Vec<f32>> {
        self.take(name, &[outputs, inputs])
    }
}

/// Makes parts of names.
struct Builder<'a> {
    config: &'a Config,
    source: &'a mut dyn Source,
    /// What stands before the names of all modules.
    inside: &'static str,
    /// What stands before the names of a block's modules.
    block: String,
}

impl Builder<'_> {
    fn name(&self, module: &str) -> String {
        format!("{}{}{module}", self.inside, self.block)
    }

    fn table(&mut self, module: &str, rows: usize, width: usize) -> Result<Vec<f32>> {
        self.source.take(&format!("{}.weight", self.name(module)), &[rows, width])
    }

    fn layer(&mut self, module: &str, widths: (usize, usize), bias: bool) -> Result<Layer> {
        let name = self.name(module);
        let weight = self.source.matrix(&format!("{name}.weight"), widths)?;
        let bias = if bias { self.source.take(&format!("{name}.bias"), &[widths.1])? } else { vec![0.0; widths.1] };
        Ok(Layer { inputs: widths.0, outputs: widths.1, weight, bias })
    }

    fn norm(&mut self, module: &str) -> Result<Norm> {
        let (name, width) = (self.name(module), self.config.shape.hidden_size);
        let weight = self.source.take(&format!("{name}.weight"), &[width])?;
        let bias = self.source.take(&format!("{name}.bias"), &[width])?;
        Ok(Norm { weight, bias, eps: self.config.norm_eps })
    }

    fn embeddings(&mut self) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
        let (layout, Shape { vocab_size, embedding_size: width, .. }) = (&self.config.layout, self.config.shape);
        let embedding = self.table(layout.embedding, vocab_size, width)?;
        let positions = match layout.positions {
            Some(Positions { name, rows, .. }) => self.table(name, rows, width)?,
            None => Vec::new(),
        };
        let types = match layout.types {
            Some((name, rows)) => self.table(name, rows, width)?,
            None => Vec::new(),
        };
        Ok((embedding, positions, types))
    }

    /// The vectors of distances, normalised.
    fn distances(&mut self) -> Result<Option<Vec<f32>>> {
        let Relative::Disentangled(table) = self.config.relative else { return Ok(None) };
        let mut vectors = self.table(table.name, 2 * table.span, self.config.shape.hidden_size)?;
        if let Some(norm) = table.norm {
            let norm = self.norm(norm)?;
            // A list has no numbers.
            if !vectors.is_empty() {
                super::rows::normalize(&mut vectors, &[], &norm);
            }
        }
        Ok(Some(vectors))
    }

    fn block(&mut self, distances: Option<&[f32]>) -> Result<Block> {
        let names = self.config.layout.block;
        let Shape { hidden_size: hidden, intermediate_size: inner, .. } = self.config.shape;
        let heads = self.config.shape.all_heads();
        let qkv = match names.qkv {
            Qkv::Apart { q, k, v } => {
                let [q, k, v] = [q, k, v].map(|name| self.layer(name, (hidden, heads), true));
                [q?, k?, v?]
            }
            Qkv::Fused { all, q_bias, v_bias } => {
                let all = self.layer(all, (hidden, 3 * heads), false)?;
                let [q_bias, v_bias] = [q_bias, v_bias].map(|name| self.source.take(&self.name(name), &[heads]));
                self.apart(&all, [q_bias?, vec![0.0; heads], v_bias?])
            }
        };
        let sides = match (self.config.relative, distances) {
            (Relative::Disentangled(table), Some(vectors)) => Some(self.sides(table, vectors, &qkv)?),
            _ => None,
        };
        Ok(Block {
            heard: Heard { qkv: Layer::side_by_side(&qkv), sides },
            o: self.layer(names.o, (heads, hidden), true)?,
            attention_norm: self.norm(names.attention_norm)?,
            up: self.layer(names.up, (hidden, inner), true)?,
            down: self.layer(names.down, (inner, hidden), true)?,
            norm: self.norm(names.norm)?,
        })
    }

    /// Takes a layer whose outputs stand head by head apart.
    fn apart(&self, all: &Layer, biases: [Vec<f32>; 3]) -> [Layer; 3] {
        let Shape { head_dim, .. } = self.config.shape;
        let mut part = 0;
        biases.map(|bias| {
            let row = |row: &[f32]| -> Vec<f32> {
                row.chunks_exact(3 * head_dim).flat_map(|head| &head[part * head_dim..][..head_dim]).copied().collect()
            };
            let weight = all.weight.chunks_exact(all.outputs).flat_map(row).collect();
            part += 1;
            Layer { inputs: all.inputs, outputs: bias.len(), weight, bias }
        })
    }

    /// Keys and queries of distances, which are the same for all texts.
    fn sides(&mut self, table: Disentangled, vectors: &[f32], qkv: &[Layer; 3]) -> Result<Sides> {
        let widths = (self.config.shape.hidden_size, self.config.shape.all_heads());
        let mut of = |how: Option<Distances>, shared: &Layer| -> Result<Option<Table>> {
            Ok(match how {
                None => None,
                Some(Distances::Shared) => Some(Table::of(shared, vectors)),
                Some(Distances::Own(name, bias)) => Some(Table::of(&self.layer(name, widths, bias)?, vectors)),
            })
        };
        Ok(Sides { keys: of(table.keys, &qkv[1])?, queries: of(table.queries, &qkv[0])? })
    }

    /// With its matrix as one of all taps' inputs.
    fn convolution(&mut self, convolution: Convolution) -> Result<Convolve> {
        let (name, hidden, taps) = (self.name(convolution.name), self.config.shape.hidden_size, convolution.taps);
        let kernel = self.source.take(&format!("{name}.weight"), &[hidden, hidden, taps])?;
        let mut weight = vec![0.0; kernel.len()];
        for (index, value) in kernel.iter().enumerate() {
            let (output, input, tap) = (index / taps / hidden, index / taps % hidden, index % taps);
            weight[(tap * hidden + input) * hidden + output] = *value;
        }
        let bias = self.source.take(&format!("{name}.bias"), &[hidden])?;
        let norm = self.norm(convolution.norm)?;
        Ok(Convolve { layer: Layer { inputs: taps * hidden, outputs: hidden, weight, bias }, norm })
    }

    fn head(&mut self) -> Result<[Layer; 2]> {
        let (head, hidden) = (self.config.head, self.config.shape.hidden_size);
        self.inside = if head.inside { self.inside } else { "" };
        let dense = self.layer(head.dense, (hidden, hidden), true)?;
        self.inside = "";
        Ok([dense, self.layer(head.out, (hidden, head.labels), true)?])
    }
}
