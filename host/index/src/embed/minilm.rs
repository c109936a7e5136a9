//! MiniLM-L6-v2 in process: a small language model that turns a text into 384 numbers, on the processor.
//!
//! It is the encoder of BERT (Devlin et al., 2018) as Sentence-BERT uses it (Reimers and Gurevych, 2019): the mean over all
//! tokens, brought to length 1. It reads three files once and never touches the network. The layers are written here on
//! candle's parts, because candle's own collection of models would have to be compiled whole for this one. Made by
//! [`crate::Indexes`] and the benchmark.

use super::{Embedder, Embedding, ModelName, Purpose, Vector, cut};
use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Embedding as Table, LayerNorm, Linear, Module as _, VarBuilder};
use chimera_core::digest::Digest;
use chimera_core::ports::{PortError, PortErrorKind};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::{Tokenizer, TruncationParams};

/// The files of a model, as they are named in its folder.
pub const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// Numbers of one vector.
pub const DIMENSIONS: usize = 384;
/// Most tokens of a text that are looked at, the two at its ends included: what the model was trained for.
const MAX_TOKENS: usize = 256;
/// Longest text that is cut into tokens, in bytes; 256 tokens of prose are a quarter of it.
const MAX_BYTES: usize = 8 * 1024;
/// Most texts that go through the model at once.
const MAX_BATCH: usize = 32;
/// Largest file of a model in bytes.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// A model that cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file is missing, unreadable or far too large.
    #[error("the model's file {} cannot be read: {problem}; run `chimera model fetch`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The files are there and are no MiniLM.
    #[error("the model in {} cannot be used: {problem}; run `chimera model fetch`", folder.display())]
    Unusable {
        /// The model's folder.
        folder: PathBuf,
        /// Why.
        problem: String,
    },
}

/// The model, in memory (90 MB); cheap to clone.
#[derive(Clone)]
pub struct MiniLm {
    parts: Arc<Parts>,
}

struct Parts {
    name: ModelName,
    tokenizer: Tokenizer,
    encoder: Encoder,
}

impl fmt::Debug for MiniLm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiniLm").field("name", &self.parts.name).finish_non_exhaustive()
    }
}

impl MiniLm {
    /// Reads a model's folder; takes about 0.2 s.
    ///
    /// # Errors
    /// [`ModelError`] when a file is missing or is not what it should be.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let unusable = |problem: String| ModelError::Unusable { folder: folder.to_path_buf(), problem };
        let config: Config = serde_json::from_slice(&read(folder, FILES[0])?).map_err(|e| unusable(e.to_string()))?;
        config.check().map_err(&unusable)?;
        let mut tokenizer = Tokenizer::from_bytes(read(folder, FILES[1])?).map_err(|e| unusable(e.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams { max_length: MAX_TOKENS, ..TruncationParams::default() }))
            .map_err(|e| unusable(e.to_string()))?;
        let weights = read(folder, FILES[2])?;
        // By its contents: two models in folders of one name must never be taken for each other.
        let name = ModelName::new(format!("minilm-l6-v2@{}", &Digest::of(&weights).hex()[..12]));
        let encoder = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .and_then(|weights| Encoder::load(&weights, &config))
            .map_err(|e| unusable(e.to_string()))?;
        if tokenizer.get_vocab_size(true) > config.vocab_size {
            return Err(unusable("its tokenizer knows more tokens than the model".to_owned()));
        }
        Ok(Self { parts: Arc::new(Parts { name, tokenizer, encoder }) })
    }

    /// The vectors of some texts, each of length 1. Blocks: about 10 ms of one processor a sentence.
    ///
    /// # Errors
    /// [`PortErrorKind::Permanent`] if the model fails on a text.
    pub fn embed_now(&self, texts: &[&str]) -> Result<Vec<Vector>, PortError> {
        let failed = |what: String| PortError::new(PortErrorKind::Permanent, format!("the model failed: {what}"));
        // Texts of one length go through together, so that none has to be filled up to another's.
        let mut by_length: BTreeMap<usize, Vec<(usize, Vec<u32>)>> = BTreeMap::new();
        for (at, text) in texts.iter().enumerate() {
            let encoding =
                self.parts.tokenizer.encode_fast(cut(text, MAX_BYTES), true).map_err(|e| failed(e.to_string()))?;
            let tokens = encoding.get_ids().to_vec();
            by_length.entry(tokens.len()).or_default().push((at, tokens));
        }
        let mut vectors: Vec<Option<Vector>> = vec![None; texts.len()];
        for (length, same) in by_length {
            for batch in same.chunks(MAX_BATCH) {
                let tokens: Vec<u32> = batch.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
                let found = self.parts.encoder.run(tokens, batch.len(), length).map_err(|e| failed(e.to_string()))?;
                for ((at, _), values) in batch.iter().zip(found) {
                    vectors[*at] = Some(Vector::new(self.parts.name.clone(), values));
                }
            }
        }
        vectors.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| failed("it left a text out".to_owned()))
    }
}

#[async_trait]
impl Embedder for MiniLm {
    async fn embed(&self, texts: &[&str], _purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        let owned: Vec<String> = texts.iter().map(|text| cut(text, MAX_BYTES).to_owned()).collect();
        let model = self.clone();
        let work = move || model.embed_now(&owned.iter().map(String::as_str).collect::<Vec<_>>());
        let vectors = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| PortError::new(PortErrorKind::Closed, format!("the model was stopped: {error}")))??;
        Ok(vectors.into_iter().map(Embedding::Dense).collect())
    }

    fn model(&self) -> &ModelName {
        &self.parts.name
    }

    fn share(&self) -> f64 {
        SHARE
    }

    fn unrelated(&self) -> f32 {
        UNRELATED
    }
}

/// The share of the likeness in a score, and the cosine of texts that have nothing in common: both chosen on one half of
/// the labelled set and tested on the other (`tests/labelled`).
const SHARE: f64 = 0.9;
const UNRELATED: f32 = 0.1;

fn read(folder: &Path, name: &str) -> Result<Vec<u8>, ModelError> {
    let path = folder.join(name);
    let problem = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => format!("it is larger than {MAX_FILE_BYTES} bytes"),
        Ok(_) => match std::fs::read(&path) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    Err(ModelError::Unreadable { path, problem })
}

/// What `config.json` says of the model's shape.
#[derive(Debug, Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Config {
    /// Only what this module was written for; the file is not trusted to name sizes.
    fn check(&self) -> Result<(), String> {
        let fits = self.hidden_size == DIMENSIONS
            && (1..=24).contains(&self.num_hidden_layers)
            && (1..=DIMENSIONS).contains(&self.num_attention_heads)
            && self.hidden_size.is_multiple_of(self.num_attention_heads)
            && self.intermediate_size <= 16 * DIMENSIONS
            && self.vocab_size <= 1 << 20
            && (MAX_TOKENS..=1 << 16).contains(&self.max_position_embeddings)
            && (1..=16).contains(&self.type_vocab_size)
            && self.hidden_act == "gelu";
        if fits { Ok(()) } else { Err("its config.json does not describe a MiniLM".to_owned()) }
    }
}

/// Tokens in, vectors out.
struct Encoder {
    words: Table,
    /// What the places 0 to [`MAX_TOKENS`] and the one kind of token add.
    places: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Encoder {
    fn load(weights: &VarBuilder<'_>, config: &Config) -> candle_core::Result<Self> {
        let embeddings = weights.pp("embeddings");
        let size = config.hidden_size;
        let places = embeddings.get((config.max_position_embeddings, size), "position_embeddings.weight")?;
        let kind = embeddings.get((config.type_vocab_size, size), "token_type_embeddings.weight")?;
        Ok(Self {
            words: candle_nn::embedding(config.vocab_size, size, embeddings.pp("word_embeddings"))?,
            places: places.narrow(0, 0, MAX_TOKENS)?.broadcast_add(&kind.narrow(0, 0, 1)?)?,
            norm: norm(&embeddings, config)?,
            layers: (0..config.num_hidden_layers)
                .map(|number| Layer::load(&weights.pp("encoder.layer").pp(number), config))
                .collect::<candle_core::Result<_>>()?,
        })
    }

    /// One vector of length 1 for each of `count` texts of `length` tokens.
    fn run(&self, tokens: Vec<u32>, count: usize, length: usize) -> candle_core::Result<Vec<Vec<f32>>> {
        let tokens = Tensor::from_vec(tokens, (count, length), &Device::Cpu)?;
        let places = self.places.narrow(0, 0, length)?;
        let mut hidden = self.norm.forward(&self.words.forward(&tokens)?.broadcast_add(&places)?)?;
        for layer in &self.layers {
            hidden = layer.run(&hidden)?;
        }
        let mean = hidden.mean(1)?;
        let length = mean.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?;
        mean.broadcast_div(&length)?.to_vec2()
    }
}

/// Attention, then two dense layers, each added to what went in.
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
    norm: LayerNorm,
    heads: usize,
}

impl Layer {
    fn load(weights: &VarBuilder<'_>, config: &Config) -> candle_core::Result<Self> {
        let (size, wide) = (config.hidden_size, config.intermediate_size);
        let attention = weights.pp("attention");
        let square = |name: &str| candle_nn::linear(size, size, attention.pp(name));
        Ok(Self {
            query: square("self.query")?,
            key: square("self.key")?,
            value: square("self.value")?,
            attended: square("output.dense")?,
            attended_norm: norm(&attention.pp("output"), config)?,
            wide: candle_nn::linear(size, wide, weights.pp("intermediate.dense"))?,
            narrow: candle_nn::linear(wide, size, weights.pp("output.dense"))?,
            norm: norm(&weights.pp("output"), config)?,
            heads: config.num_attention_heads,
        })
    }

    fn run(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        let (count, length, size) = hidden.dims3()?;
        let each = size / self.heads;
        let by_head = |values: Tensor| values.reshape((count, length, self.heads, each))?.transpose(1, 2)?.contiguous();
        let query = (by_head(self.query.forward(hidden)?)? * (each as f64).powf(-0.5))?;
        let key = by_head(self.key.forward(hidden)?)?;
        let value = by_head(self.value.forward(hidden)?)?;
        let weights = candle_nn::ops::softmax_last_dim(&query.matmul(&key.transpose(2, 3)?.contiguous()?)?)?;
        let seen = weights.matmul(&value)?.transpose(1, 2)?.reshape((count, length, size))?;
        let hidden = self.attended_norm.forward(&(self.attended.forward(&seen)? + hidden)?)?;
        let thought = self.narrow.forward(&self.wide.forward(&hidden)?.gelu_erf()?)?;
        self.norm.forward(&(thought + &hidden)?)
    }
}

fn norm(weights: &VarBuilder<'_>, config: &Config) -> candle_core::Result<LayerNorm> {
    candle_nn::layer_norm(config.hidden_size, config.layer_norm_eps, weights.pp("LayerNorm"))
}
