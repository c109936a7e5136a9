//! How well search finds what people mean: nDCG@10 over labelled queries, by words alone, by MiniLM alone and by both.
//!
//! `CHIMERA_TEST_MODEL` names the folder of the model; `cargo xtask test` fetches it and sets the variable.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{PortError, SkillIndex};
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_index::{
    Embedder, Embedding, HashedLexical, LexicalHashing, LexicalIndex, MINILM_DIMENSIONS, MiniLm, ModelName, Purpose,
    Remembering, WeaviateOptions, WeaviateSkills, ndcg,
};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Tune,
    Test,
}

struct Query {
    text: String,
    half: Half,
    wanted: Vec<(String, f64)>,
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn skills() -> Vec<SkillVersion> {
    let all = lines(include_str!("labelled/skills.jsonl"));
    all.map(|line| {
        let name = format!("acme/{}", line["name"].as_str().unwrap());
        let manifest = Manifest::from_value(json!({
            "manifest": 1,
            "skill": { "name": name, "version": "1.0.0", "license": "MIT", "effects": "none", "summary": line["summary"],
                       "keywords": line["keywords"], "examples": line["examples"] },
            "io": { "input": {}, "output": {} },
        }));
        SkillVersion {
            skill: SkillRef {
                digest: Digest::of(name.as_bytes()),
                name: name.parse().unwrap(),
                version: "1.0.0".parse().unwrap(),
            },
            manifest: Arc::new(manifest.unwrap()),
            state: SkillState::Active,
            size: 1,
            installed_at: Timestamp::EPOCH,
        }
    })
    .collect()
}

fn queries() -> Vec<Query> {
    let all = lines(include_str!("labelled/queries.jsonl"));
    all.map(|line| Query {
        text: line["query"].as_str().unwrap().to_owned(),
        half: if line["split"] == "tune" { Half::Tune } else { Half::Test },
        wanted: line["wanted"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, gain)| (name.clone(), gain.as_f64().unwrap()))
            .collect(),
    })
    .collect()
}

/// An embedder with other weights.
struct Weighted {
    inner: Arc<dyn Embedder>,
    share: f64,
    unrelated: f32,
}

#[async_trait]
impl Embedder for Weighted {
    async fn embed(&self, texts: &[&str], purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        self.inner.embed(texts, purpose).await
    }

    fn model(&self) -> &ModelName {
        self.inner.model()
    }

    fn share(&self) -> f64 {
        self.share
    }

    fn unrelated(&self) -> f32 {
        self.unrelated
    }
}

/// Mean nDCG@10 of both halves.
async fn measure(index: &dyn SkillIndex) -> [f64; 2] {
    let mut sums = [(0.0, 0.0); 2];
    for query in queries() {
        let hits = index.search(&query.text, 10).await.unwrap();
        let gain = |name: &str| query.wanted.iter().find(|(wanted, _)| wanted == name).map_or(0.0, |(_, gain)| *gain);
        let found: Vec<f64> = hits.iter().map(|hit| gain(hit.skill.name.name())).collect();
        let wanted: Vec<f64> = query.wanted.iter().map(|(_, gain)| *gain).collect();
        let sum = &mut sums[usize::from(query.half == Half::Test)];
        sum.0 += ndcg(&found, &wanted, 10);
        sum.1 += 1.0;
    }
    sums.map(|(sum, count)| sum / count)
}

async fn embedded(embedder: Arc<dyn Embedder>) -> [f64; 2] {
    let index = LexicalIndex::with_embedder(embedder);
    index.put_all(&skills()).await;
    measure(&index).await
}

async fn in_weaviate(embedder: Arc<dyn Embedder>) -> Option<[f64; 2]> {
    let url = std::env::var("CHIMERA_TEST_WEAVIATE").ok()?;
    let prefix = format!("L{}", Uuid::now_v7().simple());
    let options = WeaviateOptions { prefix, ..WeaviateOptions::new(&url).unwrap() };
    let index = WeaviateSkills::open(options, embedder).await.unwrap();
    for version in skills() {
        index.put(&version).await.unwrap();
    }
    let found = measure(&index).await;
    index.destroy().await.unwrap();
    Some(found)
}

fn model() -> Arc<dyn Embedder> {
    let folder = std::env::var("CHIMERA_TEST_MODEL").expect(
        "CHIMERA_TEST_MODEL is not set: run `cargo xtask test`, or `chimera model fetch DIR` and name the folder",
    );
    Arc::new(Remembering::in_memory(Arc::new(MiniLm::open(Path::new(&folder)).unwrap())))
}

fn print(what: &str, [tune, test]: [f64; 2]) {
    println!("{what:36} tune {tune:.3}  test {test:.3}");
}

#[tokio::test]
async fn meaning_beats_words() {
    let inner = model();
    let lexical = embedded(Arc::new(LexicalHashing::default())).await;
    let alone = embedded(Arc::new(Weighted { inner: inner.clone(), share: 1.0, unrelated: 0.0 })).await;
    let hybrid = embedded(inner.clone()).await;
    print("words and n-grams", lexical);
    print("MiniLM alone", alone);
    print("both", hybrid);
    if std::env::var_os("CHIMERA_TUNE").is_some() {
        for share in [0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95] {
            for unrelated in [0.0, 0.05, 0.1, 0.15, 0.2] {
                let [tune, _] = embedded(Arc::new(Weighted { inner: inner.clone(), share, unrelated })).await;
                println!("share {share:.2} unrelated {unrelated:.2}: tune {tune:.3}");
            }
        }
    }
    // On the half that nothing was chosen by.
    assert!(hybrid[1] > lexical[1] + 0.1, "{hybrid:?} is not far enough above {lexical:?}");
    assert!(hybrid[1] >= alone[1] - 0.02, "{hybrid:?} is below {alone:?}");
    if let Some(there) = in_weaviate(inner).await {
        print("both, in Weaviate", there);
        assert!(there[1] > hybrid[1] - 0.03, "{there:?} is far below {hybrid:?}");
    }
}

#[tokio::test]
async fn without_a_model_hashed_n_grams_are_better_than_words_alone() {
    let lexical = embedded(Arc::new(LexicalHashing::default())).await;
    print("words and n-grams", lexical);
    print("words and hashed n-grams", embedded(Arc::new(HashedLexical::default())).await);
    let words_alone = Arc::new(Weighted { inner: Arc::new(HashedLexical::default()), share: 0.0, unrelated: 0.0 });
    print("words alone", embedded(words_alone.clone()).await);
    let Some(hashed) = in_weaviate(Arc::new(HashedLexical::default())).await else { return };
    let Some(bm25) = in_weaviate(words_alone).await else { return };
    print("hashed n-grams, in Weaviate", hashed);
    print("words alone, in Weaviate", bm25);
    assert!(hashed[0] + hashed[1] >= bm25[0] + bm25[1] - 0.02, "{hashed:?} {bm25:?}");
}

/// Vectors as the reference implementation (sentence-transformers) makes them: alike texts are near, others are not.
#[tokio::test]
async fn the_model_says_what_it_should() {
    let model = model();
    let texts =
        ["A man is eating food.", "A man is eating a piece of bread.", "A woman is playing violin.", "", "日本語 🦀"];
    let vectors: Vec<Vec<f32>> = model
        .embed(&texts, Purpose::Document)
        .await
        .unwrap()
        .into_iter()
        .map(|embedding| match embedding {
            Embedding::Dense(vector) => vector.values().to_vec(),
            Embedding::Sparse(_) => panic!("not dense"),
        })
        .collect();
    let cosine = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    println!("{} {} {}", cosine(0, 1), cosine(0, 2), cosine(1, 2));
    assert!(vectors.iter().all(|vector| vector.len() == MINILM_DIMENSIONS));
    assert!((0..texts.len()).all(|at| (cosine(at, at) - 1.0).abs() < 1e-4));
    assert!((cosine(0, 1) - 0.755).abs() < 0.01, "{}", cosine(0, 1));
    assert!(cosine(0, 2) < 0.1 && cosine(1, 2) < 0.1);
    // However long a text is, it is bounded; and a text is the same vector in any company.
    let long = "word ".repeat(100_000);
    let again = model.embed(&[&long, texts[0]], Purpose::Query).await.unwrap();
    let Embedding::Dense(first) = &again[1] else { panic!("not dense") };
    assert!(first.values().iter().zip(&vectors[0]).all(|(a, b)| (a - b).abs() < 1e-4));
}
