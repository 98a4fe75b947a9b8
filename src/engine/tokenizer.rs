//! Text to token ids and back, over the `tokenizers` crate: reading a model folder's tokenizer, training a small one.
//!
//! What a tokenizer would do by itself to a length (truncation and padding settings inside `tokenizer.json`) is switched
//! off: lengths are decided where they are documented. Knows nothing of prompts or models.

use crate::prompt::chat::Dialect;
use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessor as _, TokenizerImpl};

/// The file that holds the vocabulary.
pub const FILE: &str = "tokenizer.json";

/// Files of a folder in HF layout that say something about its tokenizer; the first must be there.
const FILES: [&str; 3] = [FILE, "tokenizer_config.json", "special_tokens_map.json"];

const PAD: &str = "<pad>";
const BOS: &str = "<s>";
const EOS: &str = "</s>";

/// Special tokens of a tokenizer that is trained here, in order of their ids.
const SPECIAL: [&str; 3] = [PAD, BOS, EOS];
const BOS_ID: u32 = 1;

/// A pair of tokens that occurs less often is not merged: a token seen once teaches nothing.
const MIN_FREQUENCY: u64 = 2;

/// Smallest vocabulary that can be trained: every byte, and the special tokens.
pub const MIN_VOCAB: usize = 256 + SPECIAL.len();

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
    /// Most tokens of a text and class of the tokenizer, as its settings have them.
    longest: Option<usize>,
    class: Option<String>,
    /// What its files say of conversations.
    dialect: Dialect,
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
        let (about, dialect) = (About::read(folder)?, Dialect::read(folder)?);
        Self::new(files, &about, dialect)
            .with_context(|| format!("the tokenizer in `{}` cannot be used", folder.display()))
    }

    /// Trains a byte-level BPE tokenizer with the special tokens `<pad>`, `<s>` (put before every text) and `</s>`.
    /// The vocabulary is smaller than `vocab_size` where the texts do not give so many tokens. The same texts in any
    /// order give the same bytes.
    pub fn train_bpe<I>(texts: I, vocab_size: usize) -> anyhow::Result<Self>
    where
        I: Iterator<Item: AsRef<str> + Send> + Send,
    {
        if vocab_size < MIN_VOCAB {
            bail!(
                "a vocabulary of `{vocab_size}` tokens is too small: all bytes and three special tokens need {MIN_VOCAB}"
            );
        }
        let mut trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(MIN_FREQUENCY)
            .show_progress(false)
            .special_tokens(SPECIAL.map(|token| AddedToken::from(token, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let bytes = ByteLevel::new(false, true, true);
        let mut trained: TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, TemplateProcessing, ByteLevel> =
            TokenizerImpl::new(BPE::default());
        trained.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes)).with_post_processor(Some(bos_first()?));
        trained
            .train(&mut trainer, texts)
            .map_err(|error| anyhow::anyhow!("no tokenizer could be trained: {error}"))?;
        let text = trained.to_string(true).map_err(anyhow::Error::msg)? + "\n";
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": PAD,
            "bos_token": BOS,
            "eos_token": EOS,
            "add_bos_token": true,
            "clean_up_tokenization_spaces": false,
        });
        let files = BTreeMap::from([
            (FILE, text.into_bytes()),
            (FILES[1], serde_json::to_string_pretty(&config)?.into_bytes()),
        ]);
        Self::new(files, &About { tokenizer: config, ..About::default() }, Self::dialect_of_new())
    }

    /// The special tokens of one that is trained here.
    pub fn dialect_of_new() -> Dialect {
        let names = [("bos_token", BOS), ("eos_token", EOS), ("pad_token", PAD)];
        Dialect::of_tokens(names.map(|(name, token)| (name.to_string(), token.to_string())).into())
    }

    fn new(files: BTreeMap<&'static str, Vec<u8>>, about: &About, dialect: Dialect) -> anyhow::Result<Self> {
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
            longest: about.longest(),
            class: about.tokenizer.get("tokenizer_class").and_then(Value::as_str).map(String::from),
            clean_up: about.tokenizer.get("clean_up_tokenization_spaces").and_then(Value::as_bool).unwrap_or(false),
            inner,
            dialect,
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

    /// The tokens of a text, or of two, with the special ones that the tokenizer puts around them, and of which text each is.
    /// Of what is too long the end is cut, of two texts first that of the longer one, so that at most `most` tokens remain.
    pub fn encode_marked(
        &self,
        text: &str,
        second: Option<&str>,
        most: Option<usize>,
    ) -> anyhow::Result<(Vec<u32>, Vec<u32>)> {
        let encode = |text: &str| self.inner.encode_fast(text, false);
        let marked = || -> tokenizers::Result<tokenizers::Encoding> {
            let (mut first, mut second) = (encode(text)?, second.map(encode).transpose()?);
            if let Some(most) = most {
                let added = self.inner.get_post_processor().map_or(0, |added| added.added_tokens(second.is_some()));
                let max_length = most.saturating_sub(added);
                let how = TruncationParams { max_length, ..TruncationParams::default() };
                (first, second) = truncate_encodings(first, second, &how)?;
            }
            self.inner.post_process(first, second, true)
        };
        let marked = marked().map_err(|error| anyhow::anyhow!("a text cannot be tokenised: {error}"))?;
        Ok((marked.get_ids().to_vec(), marked.get_type_ids().to_vec()))
    }

    /// The special tokens that stand before and behind every text.
    pub fn around(&self) -> anyhow::Result<Vec<u32>> {
        Ok(self.encode_marked("", None, None)?.0)
    }

    /// Most tokens of a text, where the settings beside the tokenizer say so.
    pub fn longest(&self) -> Option<usize> {
        self.longest
    }

    /// The class of the tokenizer in transformers, where the settings beside it name one.
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
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

    /// The id of a token as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
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

    /// Lets one more token end a text.
    pub fn also_ends_with(&mut self, id: u32) {
        if !self.eos.contains(&id) {
            self.eos.push(id);
        }
    }

    /// Whether a token is one that decoding leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// What its files say of conversations.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
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

/// A post-processor that puts the beginning-of-text token before every text.
fn bos_first() -> anyhow::Result<TemplateProcessing> {
    let template = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .and_then(|builder| builder.try_pair(format!("{BOS} $A {BOS}:1 $B:1")))
        .map_err(anyhow::Error::msg)?
        .special_tokens(vec![(BOS, BOS_ID)])
        .build()?;
    Ok(template)
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

    /// Most tokens of a text; transformers writes an enormous number where it does not know.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and a million")]
    fn longest(&self) -> Option<usize> {
        let number = self.tokenizer.get("model_max_length")?.as_f64()?;
        (1.0..=1e6).contains(&number).then_some(number as usize)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const TEXTS: [&str; 4] = [
        "### Instruction:\nGive the opposite of the word.\n\n### Input:\nlovely\n\n### Response:\nawful",
        "### Instruction:\nRepeat the word two times.\n\n### Input:\nstone\n\n### Response:\nstone stone",
        "the soup was awful, the soup was cold; the bread was lovely and the bread was warm",
        "Ein Gruß, 你好, and 🦀: bytes of all kinds",
    ];

    fn write(folder: &Path, name: &str, text: &str) {
        fs::write(folder.join(name), text).unwrap();
    }

    fn small() -> Tokenizer {
        Tokenizer::train_bpe(TEXTS.iter(), 300).unwrap()
    }

    #[test]
    fn a_trained_tokenizer_gives_every_text_back() {
        let tokenizer = small();
        assert_eq!(tokenizer.vocab_size(), 300);
        assert_eq!((tokenizer.pad(), tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1), [2].as_slice()));
        for text in TEXTS.into_iter().chain(["\u{0}\t Ünseen ✗ text\r\n", "", " "]) {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        assert!(tokenizer.count(TEXTS[2]).unwrap() < TEXTS[2].len() / 2, "merges are used");
    }

    #[test]
    fn training_depends_on_the_texts_alone() {
        let reversed = Tokenizer::train_bpe(TEXTS.iter().rev(), 300).unwrap();
        assert_eq!(small().files, reversed.files);
        // The crate counts in hash maps that are seeded anew in every process: pinned, so that it shows if they matter.
        let digest = blake3::hash(&small().files[FILE]).to_hex();
        assert_eq!(digest.as_str(), "bd537b7e3c5f613953b5a2f986b3cbfe790a97624d2dbdef611e6a68882e8541");
    }

    #[test]
    fn a_saved_tokenizer_is_read_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = small();
        tokenizer.save(folder.path()).unwrap();
        let again = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(again.files, tokenizer.files);
        assert_eq!((again.prefix(), again.eos(), again.pad()), (tokenizer.prefix(), tokenizer.eos(), tokenizer.pad()));
        assert_eq!(again.encode(TEXTS[0]).unwrap(), tokenizer.encode(TEXTS[0]).unwrap());
    }

    #[test]
    fn special_tokens_are_found_wherever_a_folder_names_them() {
        let folder = tempfile::tempdir().unwrap();
        small().save(folder.path()).unwrap();
        // Text in the tokenizer's own configuration, as an object; the prefix by the flag.
        write(folder.path(), FILES[1], r#"{"eos_token": {"content": "</s>"}, "add_bos_token": false}"#);
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        assert_eq!((tokenizer.eos(), tokenizer.bos(), tokenizer.pad()), ([2].as_slice(), None, None));
        // Without the flag the post-processor decides.
        write(folder.path(), FILES[1], "{}");
        assert_eq!(Tokenizer::load(folder.path()).unwrap().prefix(), [1]);
        // The model's configuration goes before it, the generation's before that; ids may be lists.
        write(folder.path(), FILES[1], r#"{"eos_token": "<pad>"}"#);
        assert_eq!(Tokenizer::load(folder.path()).unwrap().eos(), [0]);
        write(folder.path(), "config.json", r#"{"eos_token_id": 7, "pad_token_id": 9}"#);
        assert_eq!(Tokenizer::load(folder.path()).unwrap().eos(), [7]);
        write(folder.path(), "generation_config.json", r#"{"eos_token_id": [5, 6]}"#);
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        assert_eq!((tokenizer.eos(), tokenizer.pad()), ([5, 6].as_slice(), Some(9)));
    }

    #[test]
    fn truncation_and_padding_inside_the_file_are_switched_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut tokenizer = small().inner;
        tokenizer.with_padding(Some(tokenizers::PaddingParams {
            strategy: tokenizers::PaddingStrategy::Fixed(64),
            ..Default::default()
        }));
        let truncation = tokenizers::TruncationParams { max_length: 3, ..Default::default() };
        tokenizer.with_truncation(Some(truncation)).unwrap();
        write(folder.path(), FILE, &tokenizer.to_string(false).unwrap());
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(tokenizer.encode(TEXTS[0]).unwrap(), small().encode(TEXTS[0]).unwrap());
    }

    #[test]
    fn spaces_are_cleaned_up_only_where_the_tokenizer_asks_for_it() {
        let folder = tempfile::tempdir().unwrap();
        small().save(folder.path()).unwrap();
        write(folder.path(), FILES[1], r#"{"clean_up_tokenization_spaces": true}"#);
        let text = "it 's fine , is n't it ?";
        let cleaned = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(cleaned.decode(&cleaned.encode(text).unwrap()).unwrap(), "it's fine, isn't it?");
        assert_eq!(small().decode(&small().encode(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |folder: &Path| format!("{:#}", Tokenizer::load(folder).unwrap_err());
        let missing = error(folder.path());
        assert!(missing.contains("cannot read") && missing.contains("tokenizer.json"), "{missing}");
        write(folder.path(), FILE, "{\"version\": \"1.0\", ");
        assert!(error(folder.path()).contains("no tokenizer file"), "{}", error(folder.path()));
        small().save(folder.path()).unwrap();
        write(folder.path(), "config.json", "[]");
        assert!(error(folder.path()).contains("no JSON object"), "{}", error(folder.path()));
        let size = Tokenizer::train_bpe(TEXTS.iter(), 200).unwrap_err().to_string();
        assert!(size.contains("`200`") && size.contains("259"), "{size}");
        let fit = small().check_fits(299).unwrap_err().to_string();
        assert!(fit.contains("300 tokens") && fit.contains("299 rows"), "{fit}");
        small().check_fits(300).unwrap();
    }

    #[test]
    fn a_llama_tokenizer_puts_its_own_beginning_before_texts() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine/llama");
        let plain = Tokenizer::load(&folder).unwrap();
        assert_eq!((plain.bos(), plain.eos(), plain.pad(), plain.vocab_size()), (None, [2].as_slice(), Some(0), 320));
    }
}
