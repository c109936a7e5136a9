//! Small schemas as they were looked at and compiled last.
//!
//! Every task holds its values against the same two schemas several times, and to look at a schema and to compile it takes
//! a hundred times longer than to hold a small value against it. Only small schemas are asked for, and of those with
//! patterns, whose programs may be large, nothing is compiled here; so what is kept is bounded. Only a cache: it decides
//! nothing. Asked by [`super`].

use super::budget::{self, Patterns};
use super::{Engine, build};
use jsonschema::Validator;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};

/// Schemas that are kept; when there are more, all are forgotten.
const MOST: usize = 256;

static KEPT: LazyLock<RwLock<HashMap<Value, Arc<Kept>>>> = LazyLock::new(RwLock::default);

/// What is known of a schema.
#[derive(Debug)]
pub(super) struct Kept {
    budget: Result<Patterns, String>,
    compiled: OnceLock<Result<(Validator, Engine), String>>,
}

impl Kept {
    /// Is it within its budget?
    pub(super) fn budget(&self) -> Result<Patterns, &str> {
        self.budget.as_ref().copied().map_err(String::as_str)
    }

    /// The schema compiled, which must be the one that was asked for; none if it has patterns.
    pub(super) fn compiled(&self, schema: &Value) -> Result<Option<&(Validator, Engine)>, String> {
        match &self.budget {
            Err(problem) => Err(problem.clone()),
            Ok(Patterns::Some) => Ok(None),
            Ok(Patterns::None) => {
                let built = self.compiled.get_or_init(|| build(schema, Patterns::None));
                built.as_ref().map(Some).map_err(String::clone)
            }
        }
    }
}

/// What is known of this schema, which must be small.
pub(super) fn of(schema: &Value) -> Arc<Kept> {
    if let Some(kept) = KEPT.read().unwrap_or_else(PoisonError::into_inner).get(schema) {
        return kept.clone();
    }
    let kept = Arc::new(Kept { budget: budget::check(schema), compiled: OnceLock::new() });
    let mut all = KEPT.write().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= MOST {
        all.clear();
    }
    all.insert(schema.clone(), kept.clone());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_is_what_was_asked_for_and_no_more_than_some() {
        let first = json!({ "type": "string" });
        assert!(Arc::ptr_eq(&of(&first), &of(&first.clone())));
        for number in 0..2 * MOST {
            let schema = json!({ "const": number });
            let kept = of(&schema);
            let (validator, _) = kept.compiled(&schema).expect("usable").expect("without patterns");
            assert!(validator.is_valid(&json!(number)) && !validator.is_valid(&json!("other")));
            assert!(KEPT.read().expect("readable").len() <= MOST);
        }
    }
}
