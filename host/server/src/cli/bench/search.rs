//! `chimera bench search`: how fast search is among a hundred thousand skills, and how well it finds what people mean.
//!
//! Search by the graph is held against comparing all vectors, which is also what its recall is measured by; search by meaning
//! against search by words, on the labelled queries of the checkout's tests; search in Weaviate against the same request sent
//! bare. What is not there (a model, a Weaviate, the checkout) is left out and told. Called by [`super::run`].

use super::Effort;
use super::report::{Figure, checkout};
use crate::cli::error::{CliError, CliResult};
use crate::cli::output::tell;
use async_trait::async_trait;
use chimera_core::clock::Timestamp;
use chimera_core::digest::Digest;
use chimera_core::manifest::Manifest;
use chimera_core::ports::{PortError, SkillIndex};
use chimera_core::skill::{SkillRef, SkillState, SkillVersion};
use chimera_index::{
    Embedder, Embedding, HashedLexical, LexicalHashing, LexicalIndex, MiniLm, ModelName, Purpose, Remembering, Vector,
    WeaviateOptions, WeaviateSkills, ndcg,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Words that synthetic skills are made of, three a skill.
const VERBS: &str = "convert resize encrypt translate classify route measure archive deploy render parse merge sort filter \
                     schedule validate index sample compress annotate";
const NOUNS: &str = "invoice image video ticket contract recipe sensor playlist calendar ledger menu shipment genome podcast \
                     blueprint voucher glossary subtitle timesheet backup firmware portfolio petition survey itinerary";
const WAYS: &str = "weekly encrypted regional historic nightly bilingual anonymous seasonal redundant portable certified \
                    volatile layered mirrored provisional thermal acoustic municipal orbital ceramic";
/// Hits of one search.
const HITS: usize = 10;
/// Numbers of a synthetic vector: as many as MiniLM's.
const DIMENSIONS: usize = 384;

pub(super) async fn run(effort: Effort, model: Option<PathBuf>, weaviate: Option<String>) -> CliResult<Vec<Figure>> {
    let mut figures = speed(effort).await?;
    let folder = model.or_else(|| std::env::var_os("CHIMERA_TEST_MODEL").map(PathBuf::from));
    let model = folder.as_deref().map(open_model).transpose()?;
    if model.is_none() {
        tell("no model is named (--model): search by meaning is not measured");
    }
    figures.extend(quality(model.clone()).await?);
    let url = weaviate.or_else(|| std::env::var("CHIMERA_TEST_WEAVIATE").ok());
    match url {
        Some(url) => {
            let embedder = model.unwrap_or_else(|| Arc::new(HashedLexical::default()));
            figures.push(in_weaviate(&url, embedder, effort).await?);
        }
        None => tell("no Weaviate is named (--weaviate): it is not measured"),
    }
    Ok(figures)
}

fn open_model(folder: &Path) -> CliResult<Arc<dyn Embedder>> {
    let model =
        MiniLm::open(folder).map_err(|error| CliError::failed(error.to_string(), "name another with --model"))?;
    Ok(Arc::new(Remembering::in_memory(Arc::new(model))))
}

/// Vectors that follow from the words of a text: alike texts are near, as with a language model, at no cost.
struct Clustered {
    name: ModelName,
    share: f64,
}

impl Clustered {
    fn new(share: f64) -> Arc<Self> {
        Arc::new(Self { name: ModelName::new("clustered"), share })
    }

    fn vector(&self, text: &str) -> Vector {
        let mut values = vec![0.0_f32; DIMENSIONS];
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3).take(12);
        // The text itself at last: what it says besides its words, so that no two are quite the same.
        for (part, weight) in words.map(|word| (word, 1.0)).chain([(text, 0.7)]) {
            values.iter_mut().zip(direction(part)).for_each(|(value, part)| *value += weight * part);
        }
        Vector::new(self.name.clone(), values)
    }
}

/// Numbers that look random and follow from a text (xorshift, Marsaglia, 2003), in sums of four, which are nearly normal.
fn direction(text: &str) -> impl Iterator<Item = f32> {
    let digest = Digest::of(text.as_bytes());
    let mut state = digest.as_bytes()[..8].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte)) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    std::iter::repeat_with(move || (0..4).map(|_| next()).sum())
}

#[async_trait]
impl Embedder for Clustered {
    async fn embed(&self, texts: &[&str], _purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        Ok(texts.iter().map(|text| Embedding::Dense(self.vector(text))).collect())
    }

    fn model(&self) -> &ModelName {
        &self.name
    }

    fn share(&self) -> f64 {
        self.share
    }
}

fn version(name: &str, summary: &str, keywords: &Value, examples: &Value) -> CliResult<SkillVersion> {
    let name = format!("bench/{name}");
    let damaged = |what: String| CliError::failed(what, "this is a fault of the benchmark's own");
    let manifest = Manifest::from_value(json!({
        "manifest": 1,
        "skill": { "name": name, "version": "1.0.0", "license": "MIT", "effects": "none", "summary": summary,
                   "keywords": keywords, "examples": examples },
        "io": { "input": {}, "output": {} },
    }));
    Ok(SkillVersion {
        skill: SkillRef {
            digest: Digest::of(name.as_bytes()),
            name: name.parse().map_err(|error| damaged(format!("{name}: {error}")))?,
            version: semver::Version::new(1, 0, 0),
        },
        manifest: Arc::new(manifest.map_err(|error| damaged(format!("{name}: {error}")))?),
        state: SkillState::Active,
        size: 1,
        installed_at: Timestamp::EPOCH,
    })
}

fn word(words: &str, number: usize) -> &str {
    let count = words.split_whitespace().count();
    words.split_whitespace().nth(number % count).unwrap_or("thing")
}

fn synthetic(number: usize) -> CliResult<SkillVersion> {
    let (verb, noun, way) = (word(VERBS, number), word(NOUNS, number / 20), word(WAYS, number / 500));
    let summary = format!("Can {verb} a {way} {noun} and tell what was done with it, step by step.");
    let name = format!("{verb}-{way}-{noun}-{}", number / 10_000);
    let examples = json!([format!("{verb} the {way} {noun}"), format!("please {verb} every {noun} of the {way} kind")]);
    version(&name, &summary, &json!([verb, noun, way]), &examples)
}

fn percentile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Hybrid search and search by vectors alone, among many synthetic skills, against comparing all vectors in turn.
async fn speed(effort: Effort) -> CliResult<Vec<Figure>> {
    let many = effort.of(20_000, 100_000);
    tell(&format!("putting {many} skills in"));
    let versions = (0..many).map(synthetic).collect::<CliResult<Vec<_>>>()?;
    let (hybrid, alone) = (Clustered::new(0.7), Clustered::new(1.0));
    let index = LexicalIndex::with_embedder(hybrid);
    let by_vectors = LexicalIndex::with_embedder(alone.clone());
    index.put_all(&versions).await;
    by_vectors.put_all(&versions).await;
    tell("searching");
    let known: Vec<Vector> = versions
        .iter()
        .map(|version| {
            let told = &version.manifest.skill;
            let name = version.skill.name.name();
            alone.vector(&format!(
                "{name}. {}. {}. {}",
                told.keywords.join(", "),
                told.summary,
                told.examples.join(". ")
            ))
        })
        .collect();
    let (mut whole, mut exact) = (Vec::new(), Vec::new());
    let (mut right, mut wanted) = (0_usize, 0_usize);
    for number in 0..effort.of(200, 1000) {
        let number = number * 7919 % 10_000;
        let (verb, noun, way) = (word(VERBS, number), word(NOUNS, number / 20), word(WAYS, number / 500));
        let query = format!("I would like to {verb} our {way} {noun} tonight");
        let vector = alone.vector(&query);
        let started = Instant::now();
        index.search(&query, HITS).await?;
        whole.push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        let mut cosines: Vec<f32> = known.iter().map(|known| dot(known.values(), vector.values())).collect();
        let (_, least, _) = cosines.select_nth_unstable_by(HITS - 1, |a, b| b.total_cmp(a));
        let least = f64::from(*least);
        exact.push(started.elapsed().as_secs_f64() * 1e3);
        // As near as the tenth is right, whichever of several alike it is.
        let found = by_vectors.search(&query, HITS).await?;
        right += found.iter().filter(|hit| hit.score >= least - 1e-5).count();
        wanted += HITS;
    }
    let name = "comparing all vectors";
    let (p99, base) = (percentile(&mut whole, 99), percentile(&mut exact, 99));
    Ok(vec![
        Figure::against("search_p50_ms", percentile(&mut whole, 50), "ms", percentile(&mut exact, 50), name),
        Figure::against("search_p99_ms", p99, "ms", base, name),
        Figure::alone("recall_at_10", right as f64 / wanted.max(1) as f64, "share"),
        Figure::alone("searched_skills", many as f64, "skills"),
    ])
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The labelled set of the checkout's tests; none if there is no checkout.
struct Labelled {
    skills: Vec<SkillVersion>,
    queries: Vec<(String, Vec<(String, f64)>)>,
}

impl Labelled {
    fn read() -> CliResult<Option<Self>> {
        let folder = checkout().join("host/index/tests/labelled");
        let lines = |name: &str| -> Option<Vec<Value>> {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            text.lines().map(|line| serde_json::from_str(line).ok()).collect()
        };
        let (Some(skills), Some(queries)) = (lines("skills.jsonl"), lines("queries.jsonl")) else { return Ok(None) };
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("").to_owned();
        let skills = skills
            .iter()
            .map(|line| version(&text(line, "name"), &text(line, "summary"), &line["keywords"], &line["examples"]));
        // Only the half that nothing was chosen by.
        let measured = queries.iter().filter(|line| line["split"] == "test");
        let queries = measured.map(|line| {
            let wanted = line["wanted"].as_object().into_iter().flatten();
            (text(line, "query"), wanted.map(|(name, gain)| (name.clone(), gain.as_f64().unwrap_or(0.0))).collect())
        });
        Ok(Some(Self { skills: skills.collect::<CliResult<_>>()?, queries: queries.collect() }))
    }

    async fn ndcg(&self, embedder: Arc<dyn Embedder>) -> CliResult<f64> {
        let index = LexicalIndex::with_embedder(embedder);
        index.put_all(&self.skills).await;
        let mut sum = 0.0;
        for (query, wanted) in &self.queries {
            let hits = index.search(query, HITS).await?;
            let gain = |name: &str| wanted.iter().find(|(known, _)| known == name).map_or(0.0, |(_, gain)| *gain);
            let found: Vec<f64> = hits.iter().map(|hit| gain(hit.skill.name.name())).collect();
            sum += ndcg(&found, &wanted.iter().map(|(_, gain)| *gain).collect::<Vec<_>>(), HITS);
        }
        Ok(sum / self.queries.len().max(1) as f64)
    }
}

async fn quality(model: Option<Arc<dyn Embedder>>) -> CliResult<Vec<Figure>> {
    let Some(labelled) = Labelled::read()? else {
        tell("the labelled queries are not there: quality is measured in a checkout only");
        return Ok(Vec::new());
    };
    tell("searching by labelled queries");
    let lexical = labelled.ndcg(Arc::new(LexicalHashing::default())).await?;
    let mut figures = vec![Figure::alone("ndcg_lexical", lexical, "ndcg@10")];
    if let Some(model) = model {
        let hybrid = labelled.ndcg(model).await?;
        figures.push(Figure::against("ndcg_hybrid", hybrid, "ndcg@10", lexical, "words and n-grams"));
    }
    Ok(figures)
}

/// Searches in Weaviate against bare requests for the same, in turn. The model has answered each query before: what is
/// measured is the search.
async fn in_weaviate(url: &str, embedder: Arc<dyn Embedder>, effort: Effort) -> CliResult<Figure> {
    tell("searching in Weaviate");
    let unusable = |error: chimera_index::WeaviateError| CliError::usage(error.to_string(), "see --weaviate");
    let options = WeaviateOptions::new(url).map_err(unusable)?;
    let prefix = format!("Bench{}", uuid_like());
    let options = WeaviateOptions { prefix: prefix.clone(), ..options };
    let index = WeaviateSkills::open(options.clone(), embedder.clone()).await?;
    let measured = ratio(&index, &options, &prefix, embedder.as_ref(), effort).await;
    let destroyed = index.destroy().await;
    let figure = measured?;
    destroyed?;
    Ok(figure)
}

/// Letters and digits that no other run has.
fn uuid_like() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{}x{}", now.map_or(0, |since| since.as_nanos()), std::process::id())
}

async fn ratio(
    index: &WeaviateSkills,
    options: &WeaviateOptions,
    prefix: &str,
    embedder: &dyn Embedder,
    effort: Effort,
) -> CliResult<Figure> {
    for number in 0..effort.of(200, 2_000) {
        index.put(&synthetic(number)?).await?;
    }
    let client = reqwest::Client::new();
    let endpoint = format!("{}v1/graphql", options.url);
    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    for number in 0..effort.of(100, 500) {
        let number = number * 7919 % 10_000;
        let (verb, noun, way) = (word(VERBS, number), word(NOUNS, number / 20), word(WAYS, number / 500));
        let query = format!("{verb} our {way} {noun} tonight");
        let vector = match embedder.embed(&[&query], Purpose::Query).await?.pop() {
            Some(Embedding::Dense(vector)) => json!(vector.values()).to_string(),
            _ => "[]".to_owned(),
        };
        let started = Instant::now();
        index.search(&query, HITS).await?;
        whole.push(started.elapsed().as_secs_f64() * 1e3);
        // The query has letters and spaces only.
        let graphql = format!(
            "{{Get{{{prefix}Skills(limit:20,where:{{path:[\"shown\"],operator:Equal,valueBoolean:true}},\
             hybrid:{{query:\"{verb} {way} {noun} tonight\",vector:{vector},alpha:0.9}}){{name version digest summary in_name \
             in_namespace in_keywords in_examples in_summary in_schemas _additional{{vector}}}}}}}}"
        );
        let mut request = client.post(&endpoint).json(&json!({ "query": graphql }));
        if let Some(key) = &options.key {
            request = request.bearer_auth(key);
        }
        let started = Instant::now();
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let unreachable = |error: reqwest::Error| {
            CliError::failed(format!("Weaviate does not answer: {}", error.without_url()), "see whether it runs")
        };
        answer.map_err(unreachable)?.bytes().await.map_err(unreachable)?;
        bare.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let (whole, bare) = (percentile(&mut whole, 50), percentile(&mut bare, 50));
    Ok(Figure::against("weaviate_search_ratio", whole / bare.max(f64::MIN_POSITIVE), "x", 1.0, "a bare HTTP query"))
}
