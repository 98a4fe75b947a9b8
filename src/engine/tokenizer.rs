//! Text to token ids and back, over the `tokenizers` crate: reading a model folder's tokenizer, training a small one.
//!
//! What a tokenizer would do by itself to a length (truncation and padding settings inside `tokenizer.json`) is switched
//! off: lengths are decided where they are documented. Knows nothing of prompts or models.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, TokenizerImpl};

/// The file that holds the vocabulary.
pub const FILE: &str = "tokenizer.json";

/// Files of a folder in HF layout that say something about its tokenizer; the first must be there.
const FILES: [&str; 3] = [FILE, "tokenizer_config.json", "special_tokens_map.json"];

/// Special tokens of a tokenizer that is trained here; their ids are 0, 1, 2.
const PAD: &str = "<pad>";
const BOS: &str = "<s>";
const EOS: &str = "</s>";

/// Smallest vocabulary that can be trained: every byte, and the special tokens.
pub const MIN_VOCAB: usize = 256 + 3;

/// A tokenizer and what the folder around it says about its special tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What stands before every text: the beginning-of-text token, or nothing.
    prefix: Vec<u32>,
    eos: Vec<u32>,
    pad: Option<u32>,
    vocab_size: usize,
    clean_up: bool,
    /// The files that make this tokenizer, as they were read or made; saving writes them unchanged.
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Tokenizer {
    /// Reads the tokenizer of a folder in HF layout: `tokenizer.json`, and for the special tokens
    /// `generation_config.json`, `config.json`, `tokenizer_config.json` and `special_tokens_map.json` where they are.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        for name in FILES {
            let path = folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => _ = files.insert(name, bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && name != FILE => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
            }
        }
        let about = About::read(folder)?;
        Self::new(files, &about).with_context(|| format!("the tokenizer in `{}` cannot be used", folder.display()))
    }

    /// Trains a byte-level BPE tokenizer with the special tokens `<pad>`, `<s>` (put before every text) and `</s>`.
    /// The vocabulary is smaller than `vocab_size` where the texts do not give so many tokens. The same texts in any
    /// order give the same bytes.
    pub fn train_bpe<I>(texts: I, vocab_size: usize) -> anyhow::Result<Self>
    where
        I: Iterator + Send,
        I::Item: AsRef<str> + Send,
    {
        if vocab_size < MIN_VOCAB {
            bail!(
                "a vocabulary of `{vocab_size}` tokens is too small: all bytes and three special tokens need {MIN_VOCAB}"
            );
        }
        let mut trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .show_progress(false)
            .special_tokens([PAD, BOS, EOS].map(|token| AddedToken::from(token, true)).to_vec())
            .initial_alphabet(tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer: TokenizerImpl<BPE, tokenizers::NormalizerWrapper, ByteLevel, TemplateProcessing, ByteLevel> =
            TokenizerImpl::new(BPE::default());
        let bytes = ByteLevel::new(false, true, true);
        tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
        tokenizer
            .train(&mut trainer, texts)
            .map_err(|error| anyhow::anyhow!("no tokenizer could be trained: {error}"))?;
        let bos = tokenizer.token_to_id(BOS).context("the trained tokenizer lacks its special tokens")?;
        let template = TemplateProcessing::builder()
            .try_single(format!("{BOS} $A"))
            .and_then(|builder| builder.try_pair(format!("{BOS} $A {BOS} $B")))
            .map_err(anyhow::Error::msg)?
            .special_tokens(vec![(BOS, bos)])
            .build()?;
        tokenizer.with_post_processor(Some(template));
        let text = tokenizer.to_string(true).map_err(anyhow::Error::msg)?;
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "pad_token": PAD,
            "add_bos_token": true,
            "clean_up_tokenization_spaces": false,
        });
        let files = BTreeMap::from([
            (FILE, text.into_bytes()),
            (FILES[1], serde_json::to_string_pretty(&config)?.into_bytes()),
        ]);
        Self::new(files, &About { tokenizer: config, ..About::default() })
    }

    fn new(files: BTreeMap<&'static str, Vec<u8>>, about: &About) -> anyhow::Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(&files[FILE])
            .map_err(|error| anyhow::anyhow!("`{FILE}` is no tokenizer file: {error}"))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(anyhow::Error::msg)?;
        let largest = inner.get_vocab(true).into_values().max().context("its vocabulary is empty")?;
        let prefix = match about.tokenizer.get("add_bos_token").and_then(Value::as_bool) {
            Some(false) => Vec::new(),
            Some(true) => about.ids("bos", &inner),
            None => leading_special_tokens(&inner)?,
        };
        Ok(Self {
            prefix,
            eos: about.ids("eos", &inner),
            pad: about.ids("pad", &inner).first().copied(),
            vocab_size: largest as usize + 1,
            clean_up: about.tokenizer.get("clean_up_tokenization_spaces").and_then(Value::as_bool).unwrap_or(false),
            inner,
            files,
        })
    }

    /// Writes the files that make this tokenizer into a folder: `tokenizer.json` and what stood beside it.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(())
    }

    /// The tokens of a text, without any special token put before or behind it.
    pub fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| anyhow::anyhow!("a text cannot be tokenised: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// How many tokens a text has, without any special token put before or behind it.
    pub fn count(&self, text: &str) -> anyhow::Result<usize> {
        Ok(self.encode(text)?.len())
    }

    /// The text of tokens, without the special ones. Bytes that are no UTF-8 become `U+FFFD`; spaces before punctuation
    /// go where the tokenizer's settings ask for it (`clean_up_tokenization_spaces`).
    pub fn decode(&self, ids: &[u32]) -> anyhow::Result<String> {
        let text =
            self.inner.decode(ids, true).map_err(|error| anyhow::anyhow!("tokens cannot be decoded: {error}"))?;
        Ok(if self.clean_up { clean_up_spaces(text) } else { text })
    }

    /// What stands before every text that a model sees: the beginning-of-text token if this tokenizer puts one there.
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The tokens that end a text. The first is the one to train with; there may be none.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The beginning-of-text token, if this tokenizer puts one before every text.
    pub fn bos(&self) -> Option<u32> {
        self.prefix.first().copied()
    }

    /// The padding token, if there is one. titer never pads; model configurations name it.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Fails where a token id lies outside a model's embedding of `rows` rows.
    pub fn check_fits(&self, rows: usize) -> anyhow::Result<()> {
        if self.vocab_size > rows {
            bail!(
                "the tokenizer has {} tokens, but the model's embedding has {rows} rows: they do not belong together",
                self.vocab_size
            );
        }
        Ok(())
    }
}

/// The special tokens that the tokenizer's own post-processor puts before a text.
fn leading_special_tokens(inner: &tokenizers::Tokenizer) -> anyhow::Result<Vec<u32>> {
    let encoding = inner.encode("a", true).map_err(anyhow::Error::msg)?;
    let special = encoding.get_special_tokens_mask().iter().take_while(|special| **special == 1).count();
    Ok(encoding.get_ids()[..special].to_vec())
}

/// What stands in the files beside `tokenizer.json`; an absent file is `null`.
#[derive(Debug, Default)]
struct About {
    tokenizer: Value,
    special: Value,
    model: Value,
    generation: Value,
}

impl About {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| -> anyhow::Result<Value> {
            let path = folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes)
                    .map(Value::Object)
                    .with_context(|| format!("`{}` is no JSON object", path.display())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
                Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
            }
        };
        Ok(Self {
            tokenizer: read(FILES[1])?,
            special: read(FILES[2])?,
            model: read("config.json")?,
            generation: read("generation_config.json")?,
        })
    }

    /// The ids of a special token (`bos`, `eos`, `pad`): as ids in the generation's or the model's configuration, where
    /// they may be lists, else as text in the tokenizer's. The first file that names it decides.
    fn ids(&self, kind: &str, inner: &tokenizers::Tokenizer) -> Vec<u32> {
        let ids = |value: &Value| -> Option<Vec<u32>> {
            let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
            match value {
                Value::Array(list) => list.iter().map(id).collect(),
                value => id(value).map(|id| vec![id]),
            }
        };
        let text = |value: &Value| -> Option<Vec<u32>> {
            let token = value.as_str().or_else(|| value.get("content")?.as_str())?;
            inner.token_to_id(token).map(|id| vec![id])
        };
        let (as_id, as_text) = (format!("{kind}_token_id"), format!("{kind}_token"));
        let by_id = [&self.generation, &self.model].into_iter().filter_map(|file| ids(file.get(&as_id)?));
        let by_text = [&self.tokenizer, &self.special].into_iter().filter_map(|file| text(file.get(&as_text)?));
        by_id.chain(by_text).next().unwrap_or_default()
    }
}

/// transformers' `clean_up_tokenization`: the spaces that word-wise decoding leaves before punctuation and in English
/// contractions.
fn clean_up_spaces(text: String) -> String {
    const SPACED: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    SPACED.iter().fold(text, |text, (from, to)| text.replace(from, to))
}
