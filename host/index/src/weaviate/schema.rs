//! The classes' layout: which properties they have, and how each is indexed.
//!
//! Properties that are compared for being equal are one token and in no text index; properties that are searched hold terms
//! that are cut at spaces; all others are only kept. Nothing here does I/O. Called by the indexes.

use weaviate_community::collections::schema::{
    Class, DistanceMetric, InvertedIndexConfig, Properties, Property, StopwordPreset, StopwordsConfig, Tokenization,
    VectorIndexConfig, VectorIndexType,
};

/// The class of skills.
pub(super) const SKILLS: &str = "Skills";
/// The class of what agents remember.
pub(super) const MEMORY: &str = "AgentMemory";
/// The class of what is talked about.
pub(super) const TRENDS: &str = "ContentTrend";

/// A class with vectors of our own, compared by their angle.
pub(super) fn class(name: &str, properties: Vec<Property>) -> Class {
    let stopwords = StopwordsConfig::builder().with_preset(StopwordPreset::NONE).build();
    Class::builder(name)
        .with_vectorizer("none")
        .with_vector_index_type(VectorIndexType::HNSW)
        .with_vector_index_config(VectorIndexConfig::builder().with_distance(DistanceMetric::COSINE).build())
        // Stop words are taken out here already, and by the same list as in the embedded index.
        .with_inverted_index_config(InvertedIndexConfig::builder().with_stopwords(stopwords).build())
        .with_properties(Properties::new(properties))
        .build()
}

/// A text that is compared for being equal.
pub(super) fn exact(name: &str) -> Property {
    Property::builder(name, vec!["text"])
        .with_tokenization(Tokenization::FIELD)
        .with_index_filterable(true)
        .with_index_searchable(false)
        .build()
}

/// Terms that are searched.
pub(super) fn searched(name: &str) -> Property {
    Property::builder(name, vec!["text"])
        .with_tokenization(Tokenization::WHITESPACE)
        .with_index_filterable(false)
        .with_index_searchable(true)
        .build()
}

/// A text that is only kept.
pub(super) fn kept(name: &str) -> Property {
    Property::builder(name, vec!["text"]).with_index_filterable(false).with_index_searchable(false).build()
}

/// A number or truth value that is filtered by.
pub(super) fn filtered(name: &str, kind: &str) -> Property {
    Property::builder(name, vec![kind]).with_index_filterable(true).build()
}

/// Milliseconds since 1970. As `number` (a double), because what is `int` cannot be read back: GraphQL's has 32 bits, and the
/// server answers null beyond them.
pub(super) fn moment(name: &str) -> Property {
    filtered(name, "number")
}
