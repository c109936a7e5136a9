//! Keeps what an embedder has answered: the last few thousand vectors in memory, and those of documents in a file.
//!
//! A model takes milliseconds for a text, so a start with a hundred thousand skills would take half an hour without the
//! file. The file belongs to one model, whose name it begins with: another model's is set aside, and nothing of it is read.
//! Queries are never written. It holds no text, only digests; losing it costs time and nothing else. Owned by one process.

use super::{Embedder, Embedding, ModelName, Purpose, Vector};
use async_trait::async_trait;
use chimera_core::digest::Digest;
use chimera_core::ports::{PortError, PortErrorKind};
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Vectors in memory; 12 MB of 384 numbers each.
const IN_MEMORY: usize = 8192;
/// Most vectors in the file; it is begun anew when it is full.
const IN_FILE: u64 = 1 << 20;
/// What a file begins with; the model's name and the number of dimensions follow.
const MAGIC: &[u8; 16] = b"chimera-vectors1";
/// Bytes of a digest, and of a check of its record.
const DIGEST: usize = 32;
const CHECK: usize = 4;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the vectors' file {} cannot be used: {error}", path.display())]
pub struct RememberError {
    path: PathBuf,
    error: std::io::Error,
}

/// An embedder that asks another one only once for the same text.
pub struct Remembering {
    inner: Arc<dyn Embedder>,
    recent: Cache<Digest, Vector>,
    kept: Option<Arc<Mutex<Kept>>>,
}

impl fmt::Debug for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembering").field("model", self.inner.model()).finish_non_exhaustive()
    }
}

impl Remembering {
    /// Keeps vectors in memory only.
    pub fn in_memory(inner: Arc<dyn Embedder>) -> Self {
        Self { inner, recent: Cache::new(IN_MEMORY), kept: None }
    }

    /// Keeps those of documents in a file too, which is made if it is not there, and begun anew if it is another model's.
    ///
    /// # Errors
    /// [`RememberError`] when the file can be neither read nor made.
    pub fn in_file(inner: Arc<dyn Embedder>, path: &Path) -> Result<Self, RememberError> {
        let kept =
            Kept::open(path, inner.model()).map_err(|error| RememberError { path: path.to_path_buf(), error })?;
        Ok(Self { kept: Some(Arc::new(Mutex::new(kept))), ..Self::in_memory(inner) })
    }

    /// Forgets everything, on disk too: what is embedded next is embedded by the model.
    ///
    /// # Errors
    /// [`PortErrorKind::Unavailable`] when the file cannot be emptied.
    pub fn forget(&self) -> Result<(), PortError> {
        self.recent.clear();
        let Some(kept) = &self.kept else { return Ok(()) };
        kept.lock().unwrap_or_else(PoisonError::into_inner).begin().map_err(|error| unavailable(&error))
    }

    /// Looks texts up; what is found in the file is in memory afterwards.
    async fn look_up(&self, keys: Vec<Digest>) -> Vec<Option<Vector>> {
        let mut found: Vec<Option<Vector>> = keys.iter().map(|key| self.recent.get(key)).collect();
        let Some(kept) = self.kept.clone().filter(|_| found.iter().any(Option::is_none)) else { return found };
        let missing: Vec<(usize, Digest)> =
            keys.into_iter().enumerate().filter(|(at, _)| found[*at].is_none()).collect();
        let read = move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            missing.into_iter().map(|(at, key)| (at, key, kept.read(&key))).collect::<Vec<_>>()
        };
        for (at, key, vector) in tokio::task::spawn_blocking(read).await.unwrap_or_default() {
            if let Some(vector) = vector {
                self.recent.insert(key, vector.clone());
                found[at] = Some(vector);
            }
        }
        found
    }

    async fn keep(&self, new: Vec<(Digest, Vector)>) {
        for (key, vector) in &new {
            self.recent.insert(*key, vector.clone());
        }
        let Some(kept) = self.kept.clone() else { return };
        let write = move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            new.iter().try_for_each(|(key, vector)| kept.write(*key, vector))
        };
        // The vectors are there all the same; they will be computed again at the next start.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            tracing::warn!(%error, "vectors cannot be kept");
        }
    }
}

#[async_trait]
impl Embedder for Remembering {
    async fn embed(&self, texts: &[&str], purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        let tag: &[u8] = match purpose {
            Purpose::Document => b"document",
            Purpose::Query => b"query",
        };
        let keys: Vec<Digest> = texts.iter().map(|text| Digest::of_parts(&[tag, text.as_bytes()])).collect();
        let found = match purpose {
            Purpose::Document => self.look_up(keys.clone()).await,
            Purpose::Query => keys.iter().map(|key| self.recent.get(key)).collect(),
        };
        let mut answers: Vec<Option<Embedding>> = found.into_iter().map(|known| known.map(Embedding::Dense)).collect();
        let missing: Vec<usize> = (0..texts.len()).filter(|at| answers[*at].is_none()).collect();
        if !missing.is_empty() {
            let asked: Vec<&str> = missing.iter().map(|at| texts[*at]).collect();
            let new = self.inner.embed(&asked, purpose).await?;
            let mut kept = Vec::new();
            for (at, embedding) in missing.into_iter().zip(new) {
                if let Embedding::Dense(vector) = &embedding {
                    kept.push((keys[at], vector.clone()));
                }
                answers[at] = Some(embedding);
            }
            match purpose {
                Purpose::Document => self.keep(kept).await,
                Purpose::Query => kept.into_iter().for_each(|(key, vector)| self.recent.insert(key, vector)),
            }
        }
        let short = || PortError::new(PortErrorKind::Permanent, "the embedder left a text out");
        answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(short)
    }

    fn model(&self) -> &ModelName {
        self.inner.model()
    }

    fn share(&self) -> f64 {
        self.inner.share()
    }

    fn unrelated(&self) -> f32 {
        self.inner.unrelated()
    }
}

fn unavailable(error: &std::io::Error) -> PortError {
    PortError::new(PortErrorKind::Unavailable, format!("vectors cannot be kept: {error}"))
}

/// The file: a head, then records of one size (digest, numbers, check), of which the last may be torn.
struct Kept {
    file: File,
    model: ModelName,
    /// None until the first vector comes.
    dimensions: Option<usize>,
    places: HashMap<Digest, u64>,
    /// Where the next record goes.
    end: u64,
}

impl Kept {
    fn open(path: &Path, model: &ModelName) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let mut kept = Self { file, model: model.clone(), dimensions: None, places: HashMap::new(), end: 0 };
        match kept.load() {
            Ok(true) => Ok(kept),
            Ok(false) => kept.begin().map(|()| kept),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => kept.begin().map(|()| kept),
            Err(error) => Err(error),
        }
    }

    /// Reads where everything is; false if this is not a file of this model.
    fn load(&mut self) -> std::io::Result<bool> {
        self.file.seek(SeekFrom::Start(0))?;
        let length = self.file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let mut magic = [0_u8; 16];
        reader.read_exact(&mut magic)?;
        let (name_bytes, dimensions) = (read_u32(&mut reader)? as usize, read_u32(&mut reader)? as usize);
        if magic != *MAGIC || name_bytes > ModelName::MAX_BYTES || !(1..=Vector::MAX_DIMENSIONS).contains(&dimensions) {
            return Ok(false);
        }
        let mut name = vec![0_u8; name_bytes];
        reader.read_exact(&mut name)?;
        if name != self.model.as_str().as_bytes() {
            return Ok(false);
        }
        let mut record = vec![0_u8; record_bytes(dimensions)];
        let mut at = head_bytes(&self.model);
        // A torn record at the end is written over by the next one.
        while at + record.len() as u64 <= length && (self.places.len() as u64) < IN_FILE {
            reader.read_exact(&mut record)?;
            if let Some(key) = checked_key(&record) {
                self.places.insert(key, at);
            }
            at += record.len() as u64;
        }
        self.dimensions = Some(dimensions);
        self.end = at;
        Ok(true)
    }

    fn begin(&mut self) -> std::io::Result<()> {
        self.places.clear();
        self.dimensions = None;
        self.end = 0;
        self.file.set_len(0)
    }

    fn read(&mut self, key: &Digest) -> Option<Vector> {
        let (at, dimensions) = (*self.places.get(key)?, self.dimensions?);
        let mut record = vec![0_u8; record_bytes(dimensions)];
        self.file.seek(SeekFrom::Start(at)).ok()?;
        self.file.read_exact(&mut record).ok()?;
        // What has changed since it was written is as good as lost.
        checked_key(&record).filter(|found| found == key)?;
        let numbers = record[DIGEST..record.len() - CHECK].chunks_exact(4);
        let values = numbers.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
        Some(Vector::new(self.model.clone(), values))
    }

    fn write(&mut self, key: Digest, vector: &Vector) -> std::io::Result<()> {
        let values = vector.values();
        if *vector.model() != self.model || values.is_empty() || self.places.contains_key(&key) {
            return Ok(());
        }
        if self.places.len() as u64 >= IN_FILE || self.dimensions.is_some_and(|known| known != values.len()) {
            self.begin()?;
        }
        if self.dimensions.is_none() {
            let name = self.model.as_str().as_bytes();
            let mut head = MAGIC.to_vec();
            head.extend_from_slice(&(name.len() as u32).to_le_bytes());
            head.extend_from_slice(&(values.len() as u32).to_le_bytes());
            head.extend_from_slice(name);
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&head)?;
            self.end = head.len() as u64;
            self.dimensions = Some(values.len());
        }
        let mut record = Vec::with_capacity(record_bytes(values.len()));
        record.extend_from_slice(key.as_bytes());
        values.iter().for_each(|value| record.extend_from_slice(&value.to_le_bytes()));
        let check = check_of(&record);
        record.extend_from_slice(&check);
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&record)?;
        self.places.insert(key, self.end);
        self.end += record.len() as u64;
        Ok(())
    }
}

fn head_bytes(model: &ModelName) -> u64 {
    (MAGIC.len() + 8 + model.as_str().len()) as u64
}

const fn record_bytes(dimensions: usize) -> usize {
    DIGEST + 4 * dimensions + CHECK
}

fn check_of(record: &[u8]) -> [u8; CHECK] {
    let digest = Digest::of(record);
    let bytes = digest.as_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

/// A record's digest, if the record is whole.
fn checked_key(record: &[u8]) -> Option<Digest> {
    let (told, check) = record.split_at(record.len() - CHECK);
    if check_of(told) != *check {
        return None;
    }
    format!("sha256:{}", hex(&told[..DIGEST])).parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_u32(reader: &mut impl Read) -> std::io::Result<u32> {
    let mut bytes = [0_u8; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts what it is asked; its vectors tell the model and the text.
    struct Counting {
        name: ModelName,
        mark: f32,
        asked: AtomicUsize,
    }

    impl Counting {
        fn new(name: &str, mark: f32) -> Arc<Self> {
            Arc::new(Self { name: ModelName::new(name), mark, asked: AtomicUsize::new(0) })
        }

        fn asked(&self) -> usize {
            self.asked.swap(0, Ordering::Relaxed)
        }
    }

    #[async_trait]
    impl Embedder for Counting {
        async fn embed(&self, texts: &[&str], _purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
            self.asked.fetch_add(texts.len(), Ordering::Relaxed);
            let vector = |text: &&str| Vector::new(self.name.clone(), vec![self.mark, text.len() as f32]);
            Ok(texts.iter().map(vector).map(Embedding::Dense).collect())
        }

        fn model(&self) -> &ModelName {
            &self.name
        }

        fn share(&self) -> f64 {
            0.5
        }
    }

    #[tokio::test]
    async fn documents_outlive_the_process_and_queries_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/vectors");
        let model = Counting::new("a", 1.0);
        let first = Remembering::in_file(model.clone(), &path).unwrap();
        let told = first.embed(&["one", "three"], Purpose::Document).await.unwrap();
        first.embed(&["asked"], Purpose::Query).await.unwrap();
        assert_eq!(model.asked(), 3);
        first.embed(&["asked"], Purpose::Query).await.unwrap();
        first.embed(&["three", "one"], Purpose::Document).await.unwrap();
        assert_eq!(model.asked(), 0);
        drop(first);
        let again = Remembering::in_file(model.clone(), &path).unwrap();
        assert_eq!(again.embed(&["one", "three"], Purpose::Document).await.unwrap(), told);
        assert_eq!(model.asked(), 0, "the file knew them");
        again.embed(&["asked"], Purpose::Query).await.unwrap();
        assert_eq!(model.asked(), 1, "a query was written down");
        again.forget().unwrap();
        again.embed(&["one"], Purpose::Document).await.unwrap();
        assert_eq!(model.asked(), 1);
    }

    #[tokio::test]
    async fn another_model_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors");
        let (old, new) = (Counting::new("a", 1.0), Counting::new("b", -1.0));
        let text = ["one"];
        Remembering::in_file(old.clone(), &path).unwrap().embed(&text, Purpose::Document).await.unwrap();
        let found = Remembering::in_file(new.clone(), &path).unwrap().embed(&text, Purpose::Document).await.unwrap();
        let Embedding::Dense(vector) = &found[0] else { panic!("not dense") };
        assert!(vector.model() == new.model() && vector.values()[0] < 0.0 && new.asked() == 1);
        Remembering::in_file(old.clone(), &path).unwrap().embed(&text, Purpose::Document).await.unwrap();
        assert_eq!(old.asked(), 2, "the other model's file was set aside");
    }

    #[tokio::test]
    async fn a_damaged_file_costs_time_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vectors");
        let model = Counting::new("a", 1.0);
        let texts = ["one", "seven", "fourteen"];
        let told = Remembering::in_file(model.clone(), &path).unwrap().embed(&texts, Purpose::Document).await.unwrap();
        let whole = fs::read(&path).unwrap();
        model.asked();
        // Cut anywhere, or with any byte turned: the answers are always the model's.
        for at in 0..whole.len() {
            let mut turned = whole.clone();
            turned[at] ^= 0x40;
            for damaged in [&whole[..at], &turned[..]] {
                fs::write(&path, damaged).unwrap();
                let again = Remembering::in_file(model.clone(), &path).unwrap();
                assert_eq!(again.embed(&texts, Purpose::Document).await.unwrap(), told, "at {at}");
                drop(again);
                model.asked();
                let third = Remembering::in_file(model.clone(), &path).unwrap();
                assert_eq!(third.embed(&texts, Purpose::Document).await.unwrap(), told, "at {at}");
                assert_eq!(model.asked(), 0, "it was mended, at {at}");
            }
        }
    }
}
