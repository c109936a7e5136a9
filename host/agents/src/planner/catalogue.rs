//! What is installed, as the planner sees it: the active versions of skills, and which of them a part of a goal fits.
//!
//! A snapshot of the truth, read once for each plan; it loads no component and writes nothing. The semantic index only
//! helps to rank: nothing is chosen that the truth does not say is active. Called by the decomposer, the replanner and
//! `assign`.

use super::campaign_file::parse_skill;
use super::words::{identifier_stems, stem, stems, words};
use chimera_core::manifest::World;
use chimera_core::ports::{PortError, SkillHit, Truth};
use chimera_core::route::{Choices, Route};
use chimera_core::skill::{SkillName, SkillState, SkillVersion};
use semver::VersionReq;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Below this a skill is not chosen for an instruction: the human is asked.
pub(crate) const CHOOSE_AT: f64 = 0.3;
/// Below this a skill is not chosen for a sentence that is no instruction.
pub(crate) const CHOOSE_STATEMENT_AT: f64 = 0.5;
/// Below this a skill that changes the outside world is not chosen for anything.
pub(crate) const CHOOSE_EFFECT_AT: f64 = 0.5;
/// The index alone is believed from here on, even when no word matches.
const TRUST_INDEX_AT: f64 = 0.6;
/// How much the index counts beside the words.
const INDEX_WEIGHT: f64 = 0.3;
/// What it adds that the skill's own vocabulary has the instruction's verb.
const VERB_BONUS: f64 = 0.35;
/// What is left when it has not.
const FOREIGN_VERB: f64 = 0.45;

/// Verbs that fit any skill: nothing follows from a skill not knowing them.
const GENERAL_VERBS: &[&str] = &[
    "create", "do", "generate", "get", "give", "have", "look", "make", "prepare", "produce", "run", "see", "show",
    "tell",
];

/// Versions of skills that may be chosen, by name, in the order in which they are taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    by_name: BTreeMap<SkillName, Choices>,
}

/// A skill that fits a part of a goal.
#[derive(Debug, Clone)]
pub(crate) struct Choice<'c> {
    /// The version.
    pub(crate) version: &'c SkillVersion,
    /// How well it fits, 0 to 1.
    pub(crate) score: f64,
    /// The words that made it fit.
    pub(crate) matched: Vec<String>,
}

/// Whether what is chosen depends on the lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trials {
    /// It does not.
    None,
    /// It may: a version is on trial.
    Some,
}

impl Catalogue {
    /// Reads what may be chosen for work of this lineage; none when it is only looked at.
    pub(crate) async fn read(truth: &dyn Truth, lineage: Option<Uuid>) -> Result<Self, PortError> {
        Ok(Self::of(truth.skills(None).await?, &truth.routes(None).await?, lineage))
    }

    /// Reads what may be chosen for work of this lineage that names its skill. Everything else is read only if the skill is
    /// not there, to say what is.
    pub(crate) async fn read_for(truth: &dyn Truth, skill: &str, lineage: Uuid) -> Result<(Self, Trials), PortError> {
        if let Ok((name, _)) = parse_skill(skill) {
            let (versions, routes) = (truth.skills(Some(&name)).await?, truth.routes(Some(&name)).await?);
            let trials = if routes.iter().any(|route| route.canary.is_some()) { Trials::Some } else { Trials::None };
            let named = Self::of(versions, &routes, Some(lineage));
            if named.require(skill).is_ok() {
                return Ok((named, trials));
            }
        }
        Ok((Self::read(truth, Some(lineage)).await?, Trials::Some))
    }

    /// A catalogue of the skills among these versions that may be chosen; judges are none.
    pub(crate) fn of(versions: Vec<SkillVersion>, routes: &[Route], lineage: Option<Uuid>) -> Self {
        let mut named: BTreeMap<SkillName, Vec<SkillVersion>> = BTreeMap::new();
        for version in versions {
            if version.state == SkillState::Active && version.manifest.skill.world == World::Skill {
                named.entry(version.skill.name.clone()).or_default().push(version);
            }
        }
        let routes: BTreeMap<&SkillName, &Route> = routes.iter().map(|route| (&route.name, route)).collect();
        let routed = |(name, versions): (SkillName, Vec<SkillVersion>)| {
            let choices = Choices::of(versions, routes.get(&name).copied(), lineage);
            (name, choices)
        };
        Self { by_name: named.into_iter().map(routed).collect() }
    }

    /// The version of a name to take: where its route leads, or what the requirement asks for.
    pub(crate) fn newest(&self, name: &SkillName, requirement: Option<&VersionReq>) -> Option<&SkillVersion> {
        self.by_name.get(name)?.first(requirement)
    }

    /// The versions of a name that are taken without being asked for, the best first.
    pub(crate) fn versions(&self, name: &SkillName) -> &[SkillVersion] {
        self.by_name.get(name).map_or(&[], Choices::routed)
    }

    /// The version of each name to take.
    pub(crate) fn all(&self) -> impl Iterator<Item = &SkillVersion> {
        self.by_name.values().filter_map(|choices| choices.first(None))
    }

    /// The version that `namespace/name[@requirement]` means.
    ///
    /// # Errors
    /// A sentence that names what is wrong, the nearest installed names, and the mend.
    pub(crate) fn require(&self, text: &str) -> Result<&SkillVersion, String> {
        let (name, requirement) = parse_skill(text)?;
        if let Some(version) = self.newest(&name, requirement.as_ref()) {
            return Ok(version);
        }
        let known = self.versions(&name);
        if !known.is_empty() {
            let list: Vec<String> = known.iter().take(5).map(|version| version.skill.version.to_string()).collect();
            return Err(format!("no active version of `{name}` meets `{text}`; new work gets {}", list.join(", ")));
        }
        let near = nearest_names(name.as_str(), self.by_name.keys());
        let hint = if near.is_empty() {
            "no skill is installed and active: install one with `chimera skill install FILE`".to_owned()
        } else {
            format!("did you mean {}? Or install it with `chimera skill install FILE`", list_names(&near))
        };
        Err(format!("no skill `{name}` is installed and active; {hint}"))
    }

    /// First words of names and example phrases: verbs that begin an instruction.
    pub(crate) fn verbs(&self) -> BTreeSet<String> {
        let first = |text: &str| words(text).into_iter().next();
        self.all()
            .flat_map(|version| {
                let examples = version.manifest.skill.examples.iter().filter_map(|example| first(example));
                first(version.skill.name.name()).into_iter().chain(examples).collect::<Vec<_>>()
            })
            .filter(|word| word.len() > 2)
            .collect()
    }

    /// The skills that fit a part of a goal, best first.
    pub(crate) fn rank(&self, text: &str, hits: &[SkillHit]) -> Vec<Choice<'_>> {
        let all: Vec<&SkillVersion> = self.all().collect();
        let profiles: Vec<Profile> = all.iter().map(|version| Profile::of(version)).collect();
        let rarity = Rarity::of(&profiles);
        let mut choices: Vec<Choice<'_>> = all
            .into_iter()
            .zip(&profiles)
            .map(|(version, profile)| {
                let hit = hits.iter().find(|hit| hit.skill.name == version.skill.name);
                let (words_fit, mut matched) = profile.fit(text, &rarity);
                let from_index = hit.map_or(0.0, |hit| hit.score.clamp(0.0, 1.0));
                let mut score = (1.0 - INDEX_WEIGHT).mul_add(words_fit, INDEX_WEIGHT * from_index);
                if from_index >= TRUST_INDEX_AT {
                    score = score.max(from_index * 0.9);
                } else if matched.is_empty() {
                    score = 0.0;
                }
                if matched.is_empty() {
                    matched = hit.map(|hit| hit.matched.clone()).unwrap_or_default();
                }
                Choice { version, score, matched }
            })
            .filter(|choice| choice.score > 0.0)
            .collect();
        choices
            .sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.version.skill.name.cmp(&b.version.skill.name)));
        choices
    }
}

/// `a`, `b` or `c`, each in backticks.
pub fn list_names(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [some @ .., last] => format!("{} or {last}", some.join(", ")),
    }
}

/// Where a word stands in a manifest, as a weight.
struct Profile {
    weights: BTreeMap<String, f64>,
    verbs: BTreeSet<String>,
}

impl Profile {
    fn of(version: &SkillVersion) -> Self {
        let manifest = &version.manifest;
        let mut weights: BTreeMap<String, f64> = BTreeMap::new();
        let mut put = |stem: String, weight: f64| {
            let held = weights.entry(stem).or_insert(0.0);
            *held = held.max(weight);
        };
        let name = identifier_stems(version.skill.name.name());
        name.iter().for_each(|stem| put(stem.clone(), 1.0));
        manifest.skill.keywords.iter().flat_map(|text| stems(text)).for_each(|stem| put(stem, 0.9));
        manifest.skill.examples.iter().flat_map(|text| stems(text)).for_each(|stem| put(stem, 0.7));
        stems(&manifest.skill.summary).into_iter().for_each(|stem| put(stem, 0.5));
        for schema in [&manifest.io.input, &manifest.io.output] {
            for property in super::schema::properties(schema) {
                identifier_stems(property.name).into_iter().for_each(|stem| put(stem, 0.3));
            }
        }
        let first = |text: &str| words(text).first().map(|word| stem(word));
        let verbs = name
            .first()
            .cloned()
            .into_iter()
            .chain(manifest.skill.keywords.iter().flat_map(|text| stems(text)))
            .chain(manifest.skill.examples.iter().filter_map(|text| first(text)))
            .chain(first(&manifest.skill.summary))
            .collect();
        Self { weights, verbs }
    }

    /// How much of what a text says is in this skill's vocabulary, 0 to 1, and the words that are.
    fn fit(&self, text: &str, rarity: &Rarity) -> (f64, Vec<String>) {
        let mut matched = Vec::new();
        let (mut found, mut whole) = (0.0, 0.0);
        let mut seen = BTreeSet::new();
        for word in words(text).into_iter().filter(|word| super::words::is_content(word)) {
            let stem = stem(&word);
            if !seen.insert(stem.clone()) {
                continue;
            }
            let weight = rarity.of_stem(&stem);
            whole += weight;
            if let Some(place) = self.weights.get(&stem) {
                found += weight * place;
                matched.push(word);
            }
        }
        if matched.is_empty() || whole <= 0.0 {
            return (0.0, matched);
        }
        let share = found / whole;
        let verb = words(text).into_iter().next().unwrap_or_default();
        let fit = if self.verbs.contains(&stem(&verb)) {
            share + VERB_BONUS
        } else if GENERAL_VERBS.contains(&verb.as_str()) {
            share
        } else {
            share * FOREIGN_VERB
        };
        (fit.min(1.0), matched)
    }
}

/// How rare a word is among the installed skills: rare words tell more.
struct Rarity {
    skills: f64,
    holders: BTreeMap<String, f64>,
}

impl Rarity {
    fn of(profiles: &[Profile]) -> Self {
        let mut holders: BTreeMap<String, f64> = BTreeMap::new();
        for stem in profiles.iter().flat_map(|profile| profile.weights.keys()) {
            *holders.entry(stem.clone()).or_insert(0.0) += 1.0;
        }
        let skills = f64::from(u32::try_from(profiles.len()).unwrap_or(u32::MAX));
        Self { skills, holders }
    }

    fn of_stem(&self, stem: &str) -> f64 {
        match self.holders.get(stem) {
            Some(holders) => (1.0 + self.skills / holders).ln(),
            // A word that no skill knows cannot tell one from another, but it shows that something else may be meant.
            None => 0.35,
        }
    }
}

/// Up to three of these names, nearest first.
pub fn nearest_names<'n>(wanted: &str, names: impl Iterator<Item = &'n SkillName>) -> Vec<String> {
    let own = wanted.rsplit('/').next().unwrap_or_default();
    let mut names: Vec<(usize, &str)> = names
        .map(|name| {
            let whole = distance(wanted, name.as_str());
            (whole.min(distance(own, name.name()) + 1), name.as_str())
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein distance, for texts of at most 140 bytes.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(140).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(140).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
