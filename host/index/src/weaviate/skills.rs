//! The index of skills in Weaviate: the class `Skills`, an object a version.
//!
//! Every version is there, and of each name the one that may be found is marked `shown`, by the same rule as in the embedded
//! index. It never decides about versions. Called by [`crate::Indexes`].

use super::client::{Connection, id_for, id_of};
use super::graphql::Literal;
use super::schema::{self, SKILLS};
use super::{
    PortResult, Reconciled, WeaviateOptions, candidates, cosine, numbers, passed_over, score, text, vector_of,
    vectors_of,
};
use crate::corpus::{Blend, Terms, query_terms, score_found, terms_of};
use crate::embed::{Embedder, Purpose, Vector};
use crate::skills::{fields, newest_active, prose};
use async_trait::async_trait;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::digest::Digest;
use chimera_core::ports::{PortError, SkillHit, SkillIndex};
use chimera_core::skill::{SkillName, SkillRef, SkillState, SkillVersion};
use semver::Version;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Mutex;
use uuid::Uuid;
use weaviate_community::collections::objects::Object;
use weaviate_community::collections::query::GetQuery;

/// The searched properties, in the order of [`fields`], each with its weight there and its usual length.
const SEARCHED: [(&str, f32, f32); 6] = [
    ("in_name", 3.0, 2.0),
    ("in_namespace", 0.3, 1.0),
    ("in_keywords", 2.0, 6.0),
    ("in_examples", 1.5, 15.0),
    ("in_summary", 1.2, 10.0),
    ("in_schemas", 0.4, 20.0),
];
/// Versions that are embedded and written together.
const AT_ONCE: usize = 64;

/// Skills in Weaviate.
pub struct WeaviateSkills {
    connection: Arc<Connection>,
    embedder: Arc<dyn Embedder>,
    /// Held while a name's marks are read and written: two changes of one name must not pass each other.
    writing: Mutex<()>,
}

impl fmt::Debug for WeaviateSkills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeaviateSkills").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// What Weaviate knows of a version of a name.
struct Known {
    id: Uuid,
    version: Version,
    is_active: bool,
    is_shown: bool,
}

impl WeaviateSkills {
    /// The index in that Weaviate; its class is made if it is not there, and thrown away first if another model filled it.
    ///
    /// # Errors
    /// [`PortError`] when Weaviate cannot be reached, or the embedder has no vectors of one length.
    pub async fn open(options: WeaviateOptions, embedder: Arc<dyn Embedder>) -> PortResult<Self> {
        let index = Self::new(super::connect(options)?, embedder);
        index.prepare().await?;
        Ok(index)
    }

    /// Throws everything of it in Weaviate away.
    ///
    /// # Errors
    /// [`PortError`] when Weaviate cannot be reached.
    pub async fn destroy(self) -> PortResult<()> {
        self.connection.drop_class(SKILLS).await
    }

    pub(crate) fn new(connection: Arc<Connection>, embedder: Arc<dyn Embedder>) -> Self {
        Self { connection, embedder, writing: Mutex::new(()) }
    }

    /// Makes the class if it is not there; throws it away first if another model filled it.
    pub(crate) async fn prepare(&self) -> PortResult<bool> {
        let mut properties: Vec<_> = ["name", "version", "model", "state"].into_iter().map(schema::exact).collect();
        properties.extend(["digest", "summary", "mark"].into_iter().map(schema::kept));
        properties.push(schema::filtered("shown", "boolean"));
        properties.push(schema::moment("written_at"));
        properties.extend(SEARCHED.iter().map(|(name, _, _)| schema::searched(name)));
        let class = schema::class(&self.connection.class(SKILLS), properties);
        self.connection.ensure_class(class, self.embedder.model()).await
    }

    /// Makes Weaviate hold these versions: writes what is missing or different. If they are all that the truth held at some
    /// moment, what is too much and was written before then is removed; what is newer, another process has written.
    ///
    /// # Errors
    /// [`PortError`] when Weaviate cannot be reached or refuses; some may be written then.
    pub(crate) async fn reconcile(
        &self,
        versions: &[SkillVersion],
        truth_as_of: Option<Timestamp>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> PortResult<Reconciled> {
        let _writing = self.writing.lock().await;
        let mut known = self.connection.marks(SKILLS).await?;
        let shown = shown_of(versions);
        let mut done = Reconciled::default();
        let mut missing = Vec::new();
        for version in versions {
            let is_shown = shown.contains(&version.skill);
            if known
                .remove(&id_of_version(&version.skill))
                .is_some_and(|known| known.mark == self.mark(version, is_shown))
            {
                done.kept += 1;
            } else {
                missing.push((version, is_shown));
            }
        }
        progress(done.kept);
        for some in missing.chunks(AT_ONCE) {
            self.write(some).await?;
            done.written += some.len() as u64;
            progress(done.kept + done.written);
        }
        for (id, known) in known {
            if truth_as_of.is_some_and(|moment| known.written_at < moment.as_millis()) {
                self.connection.remove(SKILLS, id).await?;
                done.removed += 1;
            }
        }
        Ok(done)
    }

    /// Makes Weaviate hold exactly these versions of a name.
    pub(crate) async fn put_name(&self, name: &SkillName, versions: &[SkillVersion]) -> PortResult<()> {
        let _writing = self.writing.lock().await;
        let shown = shown_of(versions);
        let all: Vec<_> = versions.iter().map(|version| (version, shown.contains(&version.skill))).collect();
        let wanted: HashSet<Uuid> = versions.iter().map(|version| id_of_version(&version.skill)).collect();
        for known in self.known(name).await?.into_iter().filter(|known| !wanted.contains(&known.id)) {
            self.connection.remove(SKILLS, known.id).await?;
        }
        self.write(&all).await
    }

    async fn write(&self, versions: &[(&SkillVersion, bool)]) -> PortResult<()> {
        let texts: Vec<String> = versions.iter().map(|(v, _)| prose(&v.manifest, &v.skill.name)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = vectors_of(self.embedder.as_ref(), &texts, Purpose::Document).await;
        let objects = versions.iter().zip(vectors);
        let objects =
            objects.map(|((version, is_shown), vector)| self.object(version, *is_shown, vector.as_ref())).collect();
        self.connection.upsert(objects).await
    }

    fn object(&self, version: &SkillVersion, is_shown: bool, vector: Option<&Vector>) -> Object {
        let skill = &version.skill;
        let mut properties = json!({
            "name": skill.name.as_str(),
            "version": skill.version.to_string(),
            "digest": skill.digest.to_string(),
            "summary": version.manifest.skill.summary,
            "state": state_name(version.state),
            "shown": is_shown,
            "model": self.embedder.model().as_str(),
            "mark": self.mark(version, is_shown),
            "written_at": SystemClock.now().as_millis(),
        });
        for ((name, _, _), field) in SEARCHED.iter().zip(fields(&version.manifest, &skill.name)) {
            properties[*name] = terms_of(&field.text).join(" ").into();
        }
        let class = self.connection.class(SKILLS);
        let mut object = Object::builder(&class, properties).with_id(id_of_version(skill)).build();
        object.vector = numbers(vector);
        object
    }

    /// Changes whenever anything of the object would.
    fn mark(&self, version: &SkillVersion, is_shown: bool) -> String {
        let manifest = json!(*version.manifest).to_string();
        let parts = [
            self.embedder.model().as_str(),
            &version.skill.to_string(),
            state_name(version.state),
            if is_shown { "shown" } else { "hidden" },
            &manifest,
        ];
        Digest::of_parts(&parts.map(str::as_bytes)).hex()
    }

    async fn known(&self, name: &SkillName) -> PortResult<Vec<Known>> {
        let query = GetQuery::builder(&self.connection.class(SKILLS), vec!["version", "state", "shown"])
            .with_where(Literal::equals("name", "valueText", Literal::text(name.as_str())).as_str())
            .with_limit(10_000)
            .with_additional(vec!["id"]);
        let mut known = Vec::new();
        for object in self.connection.get(SKILLS, query).await? {
            match Version::parse(text(&object, "version")) {
                Ok(version) => known.push(Known {
                    id: id_of(&object)?,
                    version,
                    is_active: text(&object, "state") == state_name(SkillState::Active),
                    is_shown: object["shown"] == json!(true),
                }),
                Err(error) => passed_over("version", error),
            }
        }
        Ok(known)
    }

    /// Marks the version that may be found, of those that are there.
    async fn show_newest(&self, known: &[Known]) -> PortResult<()> {
        let active = known.iter().filter(|known| known.is_active);
        let newest = active.max_by_key(|known| (known.version.pre.is_empty(), &known.version)).map(|known| known.id);
        // First the new one, so that the name can be found at any moment.
        let mut changed: Vec<&Known> = known.iter().filter(|k| k.is_shown != (Some(k.id) == newest)).collect();
        changed.sort_by_key(|known| known.is_shown);
        for known in changed {
            // The mark no longer fits, so that a reconciliation writes the whole object anew.
            let properties = json!({ "shown": !known.is_shown, "mark": "" });
            self.connection.patch(SKILLS, known.id, properties).await?;
        }
        Ok(())
    }
}

/// Of each name the version that may be found.
fn shown_of(versions: &[SkillVersion]) -> HashSet<&SkillRef> {
    let mut by_name: HashMap<&SkillName, Vec<&SkillVersion>> = HashMap::new();
    for version in versions {
        by_name.entry(&version.skill.name).or_default().push(version);
    }
    let newest = |versions: Vec<&'_ SkillVersion>| newest_active(versions.into_iter()).cloned();
    let names: HashMap<SkillName, Version> =
        by_name.into_iter().filter_map(|(name, all)| Some((name.clone(), newest(all)?))).collect();
    let is_newest = |version: &&SkillVersion| names.get(&version.skill.name) == Some(&version.skill.version);
    versions.iter().filter(is_newest).map(|version| &version.skill).collect()
}

fn id_of_version(skill: &SkillRef) -> Uuid {
    id_for(&[SKILLS, skill.name.as_str(), &skill.version.to_string()])
}

fn state_name(state: SkillState) -> &'static str {
    if state == SkillState::Active { "active" } else { "inactive" }
}

#[async_trait]
impl SkillIndex for WeaviateSkills {
    async fn put(&self, version: &SkillVersion) -> Result<(), PortError> {
        let _writing = self.writing.lock().await;
        let id = id_of_version(&version.skill);
        let mut known = self.known(&version.skill.name).await?;
        known.retain(|known| known.id != id);
        let is_active = version.state == SkillState::Active;
        known.push(Known { id, version: version.skill.version.clone(), is_active, is_shown: false });
        // Written hidden, and then shown if it is the newest: so that two are never shown for longer than that takes.
        let active = known.iter().filter(|known| known.is_active);
        let newest = active.max_by_key(|known| (known.version.pre.is_empty(), &known.version)).map(|known| known.id);
        let is_shown = newest == Some(id);
        self.write(&[(version, is_shown)]).await?;
        if let Some(own) = known.last_mut() {
            own.is_shown = is_shown;
        }
        self.show_newest(&known).await
    }

    async fn remove(&self, skill: &SkillRef) -> Result<(), PortError> {
        let _writing = self.writing.lock().await;
        let id = id_of_version(skill);
        self.connection.remove(SKILLS, id).await?;
        let mut known = self.known(&skill.name).await?;
        known.retain(|known| known.id != id);
        self.show_newest(&known).await
    }

    async fn search(&self, query: &str, limit: usize) -> Result<Vec<SkillHit>, PortError> {
        let query = chimera_core::text::truncated(query.to_owned(), crate::MAX_QUERY_BYTES);
        let terms = query_terms(&query);
        let limit = limit.min(crate::MAX_HITS);
        if terms.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let vector = vector_of(self.embedder.as_ref(), &query, Purpose::Query).await;
        let blend = Blend::of(self.embedder.as_ref());
        let mut wanted = vec!["name", "version", "digest", "summary"];
        wanted.extend(SEARCHED.iter().map(|(name, _, _)| *name));
        let weighted = SEARCHED.iter().map(|(name, weight, _)| Literal::text(&format!("{name}^{weight}")));
        let properties = Literal::list(weighted);
        let words = Literal::text(&terms.join(" "));
        let filter = Literal::all([
            Literal::equals("shown", "valueBoolean", Literal::truth(true)),
            Literal::equals("model", "valueText", Literal::text(self.embedder.model().as_str())),
        ]);
        let get = GetQuery::builder(&self.connection.class(SKILLS), wanted)
            .with_where(filter.as_str())
            .with_limit(candidates(limit));
        let get = match &vector {
            Some(vector) => get
                .with_hybrid(
                    Literal::object([
                        ("query", words),
                        ("vector", Literal::vector(vector.values())),
                        ("alpha", Literal::share(blend.share)),
                        ("fusionType", Literal::keyword("relativeScoreFusion")),
                        ("properties", properties),
                    ])
                    .as_str(),
                )
                .with_additional(vec!["vector"]),
            None => get.with_bm25(Literal::object([("query", words), ("properties", properties)]).as_str()),
        };
        let found = self.connection.get(SKILLS, get).await?;
        let fields: Vec<Vec<Terms<'_>>> = found
            .iter()
            .map(|object| {
                let field = |(name, weight, usual): &(&str, f32, f32)| Terms {
                    weight: *weight,
                    usual: *usual,
                    terms: text(object, name),
                };
                SEARCHED.iter().map(field).collect()
            })
            .collect();
        let scored = score_found(&query, &fields);
        let mut hits: Vec<SkillHit> = found
            .iter()
            .zip(scored)
            .filter_map(|(object, (words, matched))| {
                let skill = read_ref(object)?;
                let score = score(blend, words, cosine(vector.as_ref(), object));
                Some(SkillHit { skill, summary: text(object, "summary").to_owned(), score, matched })
            })
            .filter(|hit| hit.score > 0.0)
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.skill.name.cmp(&b.skill.name)));
        hits.truncate(limit);
        Ok(hits)
    }
}

fn read_ref(object: &Value) -> Option<SkillRef> {
    let name = text(object, "name").parse().inspect_err(|error| passed_over("name", error)).ok()?;
    let version = Version::parse(text(object, "version")).inspect_err(|error| passed_over("version", error)).ok()?;
    let digest = text(object, "digest").parse().inspect_err(|error| passed_over("digest", error)).ok()?;
    Some(SkillRef { name, version, digest })
}
