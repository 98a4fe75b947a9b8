//! DeBERTa, the first and the second (whose third has other weights only): attention over vectors of distances.

use super::{
    Activation, BERT_LAYOUT, Block, Config, Convolution, Disentangled, Distances, Head, Layout, POSITIONS, Positions,
    Qkv, Relative, Result, Settings, Shape, TYPES, bail, ensure, labels,
};

/// The first: one layer for queries, keys and values.
pub(super) fn read_1(json: Settings<'_>) -> Result<Config> {
    json.refuse("talking_head")?;
    let mut config = read(json, shape(json)?)?;
    config.layout.block = Block {
        qkv: Qkv::Fused {
            all: "attention.self.in_proj",
            q_bias: "attention.self.q_bias",
            v_bias: "attention.self.v_bias",
        },
        ..BERT_LAYOUT.block
    };
    let kinds = Kinds::read(json)?;
    config.scale = kinds.scale(&config.shape);
    if json.flag("relative_attention", false)? {
        config.relative = Relative::Disentangled(Disentangled {
            name: "encoder.rel_embeddings",
            span: max_distance(json)?,
            buckets: None,
            norm: None,
            keys: kinds.keys.then_some(Distances::Own("attention.self.pos_proj", false)),
            queries: kinds.queries.then_some(Distances::Own("attention.self.pos_q_proj", true)),
        });
    }
    Ok(config)
}

/// The second and the third: far distances share rows, and layers may be shared with those of the tokens.
pub(super) fn read_2(json: Settings<'_>) -> Result<Config> {
    let mut shape = shape(json)?;
    shape.head_dim = json.number_or(&["attention_head_size"], shape.head_dim)?;
    let mut config = read(json, shape)?;
    config.layout.block = Block {
        qkv: Qkv::Apart {
            q: "attention.self.query_proj",
            k: "attention.self.key_proj",
            v: "attention.self.value_proj",
        },
        ..BERT_LAYOUT.block
    };
    let kinds = Kinds::read(json)?;
    config.scale = kinds.scale(&config.shape);
    if json.flag("relative_attention", false)? {
        let max_distance = max_distance(json)?;
        // -1 says none.
        let buckets = positive(json, "position_buckets")?;
        let of = |name| match json.flag("share_att_key", false) {
            Ok(true) => Ok(Distances::Shared),
            Ok(false) => Ok(Distances::Own(name, true)),
            Err(error) => Err(error),
        };
        let norms = json.optional_text("norm_rel_ebd")?.unwrap_or("none").to_lowercase();
        config.relative = Relative::Disentangled(Disentangled {
            name: "encoder.rel_embeddings",
            span: buckets.unwrap_or(max_distance),
            buckets: buckets.map(|_| max_distance),
            norm: norms.split('|').any(|norm| norm.trim() == "layer_norm").then_some("encoder.LayerNorm"),
            keys: if kinds.keys { Some(of("attention.self.pos_key_proj")?) } else { None },
            queries: if kinds.queries { Some(of("attention.self.pos_query_proj")?) } else { None },
        });
    }
    config.convolution = convolution(json)?;
    Ok(config)
}

/// What both have.
fn read(json: Settings<'_>, shape: Shape) -> Result<Config> {
    let positions = match json.flag("position_biased_input", true)? {
        false => None,
        true => {
            let rows = json.number_or(&["max_position_embeddings"], 512)?;
            Some(Positions { name: POSITIONS, rows, first: 0, padding: None })
        }
    };
    let layout = Layout {
        prefix: "deberta.",
        positions,
        types: positive(json, "type_vocab_size")?.map(|rows| (TYPES, rows)),
        ..BERT_LAYOUT
    };
    let width = json.number_or(&["pooler_hidden_size"], shape.hidden_size)?;
    ensure!(
        width == shape.hidden_size,
        "`pooler_hidden_size` is {width}, not {}: that is not supported",
        shape.hidden_size
    );
    let head = Head {
        dense: "pooler.dense",
        inside: false,
        activation: Activation::read(json.optional_text("pooler_hidden_act")?.unwrap_or("gelu"))?,
        out: "classifier",
        labels: labels(json)?,
    };
    Config::new(json, shape, layout, head, 1e-7)
}

fn shape(json: Settings<'_>) -> Result<Shape> {
    let shape = Shape::read(json)?;
    Ok(Shape { embedding_size: json.number_or(&["embedding_size"], shape.hidden_size)?, ..shape })
}

/// A number that is nothing where it is missing, zero or below.
fn positive(json: Settings<'_>, name: &str) -> Result<Option<usize>> {
    if json.get(name).as_i64().is_some_and(|number| number < 1) { Ok(None) } else { json.optional_number(name) }
}

/// The greatest distance that has a row of its own, or where rows are shared, that counts.
fn max_distance(json: Settings<'_>) -> Result<usize> {
    match positive(json, "max_relative_positions")? {
        Some(distance) => Ok(distance),
        None => json.number_or(&["max_position_embeddings"], 512),
    }
}

/// Which products with distances there are: `["c2p", "p2c"]`, in old files `c2p|p2c`.
struct Kinds {
    keys: bool,
    queries: bool,
}

impl Kinds {
    fn read(json: Settings<'_>) -> Result<Self> {
        let value = json.get("pos_att_type");
        let named: Vec<&str> = match value {
            serde_json::Value::Null => Vec::new(),
            serde_json::Value::String(text) => text.split('|').map(str::trim).collect(),
            serde_json::Value::Array(items) => items.iter().map(|item| item.as_str().unwrap_or("?")).collect(),
            _ => bail!("`pos_att_type` is `{value}`: expected a list"),
        };
        if let Some(other) = named.iter().find(|name| !matches!(**name, "c2p" | "p2c")) {
            bail!("`pos_att_type` names `{other}`: known are c2p and p2c");
        }
        Ok(Self { keys: named.contains(&"c2p"), queries: named.contains(&"p2c") })
    }

    /// Every product adds to the variance of the scores.
    #[expect(clippy::cast_precision_loss, reason = "a head is far narrower than 2^24")]
    fn scale(&self, shape: &Shape) -> f32 {
        let products = 1 + usize::from(self.keys) + usize::from(self.queries);
        1.0 / ((shape.head_dim * products) as f32).sqrt()
    }
}

fn convolution(json: Settings<'_>) -> Result<Option<Convolution>> {
    let Some(taps) = positive(json, "conv_kernel_size")? else { return Ok(None) };
    let groups = json.number_or(&["conv_groups"], 1)?;
    ensure!(groups == 1, "`conv_groups` is {groups}, which is not supported");
    ensure!(taps % 2 == 1, "`conv_kernel_size` is {taps}: an even one is not supported");
    Ok(Some(Convolution {
        name: "encoder.conv.conv",
        norm: "encoder.conv.LayerNorm",
        taps,
        activation: Activation::read(json.optional_text("conv_act")?.unwrap_or("tanh"))?,
    }))
}
