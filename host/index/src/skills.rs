//! The index of skills: what a skill can do, found by a clause of a goal.
//!
//! It knows every version and shows, of each name, only the newest that may be planned. It decides nothing about
//! versions: their state comes with them. Called by the registry (put, remove) and the planner and CLI (search).

use crate::corpus::{Corpus, DocId, Field};
use crate::embed::{Embedder, Embedding, LexicalHashing};
use async_trait::async_trait;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{PortError, SkillHit, SkillIndex};
use chimera_core::skill::{SkillName, SkillRef, SkillState, SkillVersion};
use semver::Version;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
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
    skill: SkillRef,
    state: SkillState,
    manifest: Arc<Manifest>,
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
        Self::with_embedder(Arc::new(LexicalHashing))
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

    /// The embedding of a text, or none if the embedder cannot answer: then words alone must do.
    async fn embed(&self, text: &str) -> Option<Embedding> {
        self.embedder.embed(&[text]).await.ok()?.pop()
    }
}

#[async_trait]
impl SkillIndex for LexicalIndex {
    async fn put(&self, version: &SkillVersion) -> Result<(), PortError> {
        let embedding = self.embed(&prose(&version.manifest, &version.skill.name)).await;
        let known =
            Known { skill: version.skill.clone(), state: version.state, manifest: version.manifest.clone(), embedding };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let name = version.skill.name.clone();
        state.names.entry(name.clone()).or_default().versions.insert(version.skill.version.clone(), known);
        state.show_newest(&name, Some(&version.skill.version));
        Ok(())
    }

    async fn remove(&self, skill: &SkillRef) -> Result<(), PortError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = state.names.get_mut(&skill.name) {
            entry.versions.remove(&skill.version);
            state.show_newest(&skill.name, Some(&skill.version));
        }
        Ok(())
    }

    async fn search(&self, text: &str, limit: usize) -> Result<Vec<SkillHit>, PortError> {
        let embedding =
            self.embed(chimera_core::text::truncated(text.to_owned(), crate::MAX_QUERY_BYTES).as_str()).await;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let hits = state.corpus.search(text, embedding.as_ref(), self.embedder.share(), limit);
        Ok(hits
            .into_iter()
            .filter_map(|hit| {
                let entry = state.names.get(state.docs.get(&hit.doc)?)?;
                let known = entry.versions.get(&entry.shown.as_ref()?.1)?;
                Some(SkillHit {
                    skill: known.skill.clone(),
                    summary: known.manifest.skill.summary.clone(),
                    score: hit.score,
                    matched: hit.matched,
                })
            })
            .collect())
    }
}

impl State {
    /// Makes the newest version that may be planned the one that is found; `changed` is shown anew in any case.
    fn show_newest(&mut self, name: &SkillName, changed: Option<&Version>) {
        let Self { corpus, names, docs } = self;
        let Some(entry) = names.get_mut(name) else { return };
        let rank = |version: &&Version| (version.pre.is_empty(), (*version).clone());
        let active = entry.versions.iter().filter(|(_, known)| known.state == SkillState::Active);
        let newest = active.map(|(version, _)| version).max_by_key(rank).cloned();
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
                let doc = corpus.add(&fields(&known.manifest, name), known.embedding.clone());
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

/// What an embedder is given: what the author wrote for people.
fn prose(manifest: &Manifest, name: &SkillName) -> String {
    let skill = &manifest.skill;
    format!("{}. {}. {}. {}", name.name(), skill.keywords.join(", "), skill.summary, skill.examples.join(". "))
}

fn fields(manifest: &Manifest, name: &SkillName) -> Vec<Field> {
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
