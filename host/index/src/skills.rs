//! The index of skills: what a skill can do, found by a clause of a goal.
//!
//! It knows every version and shows, of each name, only the newest that may be planned. It decides nothing about
//! versions: their state comes with them. Called by the registry (put, remove) and the planner and CLI (search).

use crate::corpus::{Blend, Corpus, DocId, Field};
use crate::embed::{Embedder, Embedding, LexicalHashing, Purpose, embed_one};
use async_trait::async_trait;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{PortError, SkillHit, SkillIndex};
use chimera_core::skill::{SkillName, SkillRef, SkillState, SkillVersion};
use semver::Version;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Skills in memory, searched by words and likeness.
pub struct LexicalIndex {
    embedder: Arc<dyn Embedder>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    corpus: Corpus,
    names: HashMap<SkillName, Entry>,
    docs: HashMap<DocId, SkillName>,
}

#[derive(Default)]
struct Entry {
    versions: BTreeMap<Version, Known>,
    /// The document that is searched, and the version it is of.
    shown: Option<(DocId, Version)>,
}

struct Known {
    version: SkillVersion,
    embedding: Option<Embedding>,
}

impl fmt::Debug for LexicalIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LexicalIndex").finish_non_exhaustive()
    }
}

impl Default for LexicalIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl LexicalIndex {
    /// An empty index that needs no model.
    pub fn new() -> Self {
        Self::with_embedder(Arc::new(LexicalHashing::default()))
    }

    /// An empty index with another source of embeddings.
    pub fn with_embedder(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder, state: RwLock::default() }
    }

    /// Number of skills that can be found.
    pub fn len(&self) -> usize {
        self.state.read().unwrap_or_else(PoisonError::into_inner).corpus.len()
    }

    /// Can nothing be found?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds or replaces many versions; their texts are embedded some at a time, which a model does faster.
    pub async fn put_all(&self, versions: &[SkillVersion]) {
        for some in versions.chunks(EMBEDDED_AT_ONCE) {
            let texts: Vec<String> = some.iter().map(|v| prose(&v.manifest, &v.skill.name)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let embeddings = self.embedder.embed(&texts, Purpose::Document).await;
            let mut embeddings = embeddings.unwrap_or_default().into_iter();
            for version in some {
                self.keep(version, embeddings.next());
            }
        }
    }

    /// The versions of a name that are known, in order.
    pub fn versions(&self, name: &SkillName) -> Vec<SkillVersion> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.names.get(name).into_iter().flat_map(|entry| entry.versions.values()).map(|k| k.version.clone()).collect()
    }

    /// Every name that is known.
    pub fn names(&self) -> Vec<SkillName> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).names.keys().cloned().collect()
    }

    /// Removes every version but these; returns how many that were.
    pub fn keep_only(&self, wanted: &HashSet<&SkillRef>) -> usize {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let known = state.names.values().flat_map(|entry| entry.versions.values());
        let gone: Vec<SkillRef> =
            known.map(|known| &known.version.skill).filter(|skill| !wanted.contains(skill)).cloned().collect();
        gone.iter().for_each(|skill| state.remove(skill));
        gone.len()
    }

    fn keep(&self, version: &SkillVersion, embedding: Option<Embedding>) {
        let known = Known { version: version.clone(), embedding };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let name = version.skill.name.clone();
        state.names.entry(name.clone()).or_default().versions.insert(version.skill.version.clone(), known);
        state.show_newest(&name, Some(&version.skill.version));
    }
}

/// Texts that are given to the embedder together.
const EMBEDDED_AT_ONCE: usize = 64;

#[async_trait]
impl SkillIndex for LexicalIndex {
    async fn put(&self, version: &SkillVersion) -> Result<(), PortError> {
        let text = prose(&version.manifest, &version.skill.name);
        let embedding = embed_one(self.embedder.as_ref(), &text, Purpose::Document).await;
        self.keep(version, embedding);
        Ok(())
    }

    async fn remove(&self, skill: &SkillRef) -> Result<(), PortError> {
        self.state.write().unwrap_or_else(PoisonError::into_inner).remove(skill);
        Ok(())
    }

    async fn search(&self, text: &str, limit: usize) -> Result<Vec<SkillHit>, PortError> {
        let text = chimera_core::text::truncated(text.to_owned(), crate::MAX_QUERY_BYTES);
        let embedding = embed_one(self.embedder.as_ref(), &text, Purpose::Query).await;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let hits = state.corpus.search(&text, embedding.as_ref(), Blend::of(self.embedder.as_ref()), limit);
        Ok(hits
            .into_iter()
            .filter_map(|hit| {
                let entry = state.names.get(state.docs.get(&hit.doc)?)?;
                let known = entry.versions.get(&entry.shown.as_ref()?.1)?;
                Some(SkillHit {
                    skill: known.version.skill.clone(),
                    summary: known.version.manifest.skill.summary.clone(),
                    score: hit.score,
                    matched: hit.matched,
                })
            })
            .collect())
    }
}

impl State {
    fn remove(&mut self, skill: &SkillRef) {
        if let Some(entry) = self.names.get_mut(&skill.name) {
            entry.versions.remove(&skill.version);
            self.show_newest(&skill.name, Some(&skill.version));
        }
    }

    /// Makes the newest version that may be planned the one that is found; `changed` is shown anew in any case.
    fn show_newest(&mut self, name: &SkillName, changed: Option<&Version>) {
        let Self { corpus, names, docs } = self;
        let Some(entry) = names.get_mut(name) else { return };
        let newest = newest_active(entry.versions.values().map(|known| &known.version)).cloned();
        let is_same = entry.shown.as_ref().map(|(_, version)| version) == newest.as_ref();
        if is_same && changed != newest.as_ref() {
            return;
        }
        if let Some((doc, _)) = entry.shown.take() {
            corpus.remove(doc);
            docs.remove(&doc);
        }
        match newest.and_then(|version| entry.versions.get(&version).map(|known| (version, known))) {
            Some((version, known)) => {
                let doc = corpus.add(&fields(&known.version.manifest, name), known.embedding.clone());
                docs.insert(doc, name.clone());
                entry.shown = Some((doc, version));
            }
            None if entry.versions.is_empty() => {
                names.remove(name);
            }
            None => {}
        }
    }
}

/// Which of a name's versions is found: the newest that may be planned; one before its release only if there is no other.
pub(crate) fn newest_active<'v>(versions: impl Iterator<Item = &'v SkillVersion>) -> Option<&'v Version> {
    let active = versions.filter(|version| version.state == SkillState::Active);
    active.map(|version| &version.skill.version).max_by_key(|version| (version.pre.is_empty(), *version))
}

/// What an embedder is given: what the author wrote for people.
pub(crate) fn prose(manifest: &Manifest, name: &SkillName) -> String {
    let skill = &manifest.skill;
    format!("{}. {}. {}. {}", name.name(), skill.keywords.join(", "), skill.summary, skill.examples.join(". "))
}

pub(crate) fn fields(manifest: &Manifest, name: &SkillName) -> Vec<Field> {
    let skill = &manifest.skill;
    let mut names = String::new();
    schema_words(&manifest.io.input, &mut names, 0);
    schema_words(&manifest.io.output, &mut names, 0);
    let field = |weight, usual, text: String| Field { weight, usual, text };
    vec![
        field(3.0, 2.0, name.name().to_owned()),
        field(0.3, 1.0, name.namespace().to_owned()),
        field(2.0, 6.0, skill.keywords.join(" ")),
        field(1.5, 15.0, skill.examples.join(" \n ")),
        field(1.2, 10.0, skill.summary.clone()),
        field(0.4, 20.0, names),
    ]
}

/// Names and descriptions of a schema's properties.
fn schema_words(schema: &Value, out: &mut String, depth: u32) {
    if depth > 32 || out.len() > 8192 {
        return;
    }
    let Value::Object(map) = schema else { return };
    if let Some(Value::Object(properties)) = map.get("properties") {
        for (name, property) in properties {
            out.push_str(&chimera_core::text::truncated(name.clone(), 256));
            out.push(' ');
            schema_words(property, out, depth + 1);
        }
    }
    if let Some(Value::String(text)) = map.get("description") {
        out.push_str(&chimera_core::text::truncated(text.clone(), 512));
        out.push(' ');
    }
    if let Some(items) = map.get("items") {
        schema_words(items, out, depth + 1);
    }
    for group in ["$defs", "definitions"] {
        if let Some(Value::Object(definitions)) = map.get(group) {
            definitions.values().for_each(|definition| schema_words(definition, out, depth + 1));
        }
    }
}
