//! Holds values against schemas of strangers without keeping the runtime's threads.
//!
//! What is more than a moment's work is done apart, a few at a time, and waited for no longer than the caller has time;
//! how much work there can be is bounded by [`chimera_core::schema`]. It decides nothing about what does not fit. Called
//! by the self-tests, the workers, the planner and the judge.

use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::schema::Schema;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Why a value is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not fit, or the schema cannot be used: up to three violations in one sentence.
    #[error("{0}")]
    Misfit(String),
    /// Nobody knows: the machine had no time for it.
    #[error("to hold it against the schema took too long")]
    Late,
}

impl Unfit {
    /// As the failure of a task: of this kind and code if the value is to blame.
    pub fn into_failure(self, kind: FailureKind, code: &str, about: &str) -> Failure {
        let message = format!("{about}: {self}");
        match self {
            Self::Misfit(_) => Failure::new(kind, code, message),
            Self::Late => Failure::new(FailureKind::Transient, codes::HOST, message),
        }
    }
}

/// Longest time that one check is waited for by a caller without a deadline of its own.
pub const FITTING_TIME: Duration = Duration::from_secs(2);
/// How many checks run apart at once.
static PLACES: Semaphore = Semaphore::const_new(4);

/// Validates a value against a schema before the deadline.
///
/// # Errors
/// [`Unfit`].
pub async fn check_value(schema: &Schema, value: &Value, deadline: Instant) -> Result<(), Unfit> {
    if let Some(checked) = schema.check_in_passing(value) {
        return checked.map_err(Unfit::Misfit);
    }
    tokio::time::timeout_at(deadline.into(), check_apart(schema, value)).await.unwrap_or(Err(Unfit::Late))
}

async fn check_apart(schema: &Schema, value: &Value) -> Result<(), Unfit> {
    let place = PLACES.acquire().await.map_err(|_| Unfit::Late)?;
    let (schema, value) = (schema.clone(), value.clone());
    let checked = tokio::task::spawn_blocking(move || {
        // A check that nobody waits for any more still has its place.
        let _place = place;
        schema.check(&value)
    });
    checked.await.map_err(|_| Unfit::Late)?.map_err(Unfit::Misfit)
}

/// As [`check_value`], within [`FITTING_TIME`].
///
/// # Errors
/// [`Unfit`].
pub async fn check_value_soon(schema: &Schema, value: &Value) -> Result<(), Unfit> {
    check_value(schema, value, Instant::now() + FITTING_TIME).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn heavy_checks_keep_no_thread_of_the_runtime_and_all_end() {
        let branch = json!({ "properties": { "x": { "$ref": "#" } } });
        let schema = Schema::from(json!({ "anyOf": [branch, branch, branch], "required": ["y"] }));
        let mut value = json!({});
        for _ in 0..40 {
            value = json!({ "x": value });
        }
        let many = async {
            for checked in futures_of(&schema, &value).await {
                let told = checked.expect_err("too much").to_string();
                assert!(told.contains("too much work") || told.contains("took too long"), "{told}");
            }
        };
        // This test has one thread: were it kept, the clock beside it would not go.
        let mut ticks = 0_u32;
        let clock = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticks += 1;
            }
        };
        tokio::select! { () = many => {}, () = clock => {} }
        assert!(ticks > 0);
        check_value_soon(&json!({ "pattern": "^a$" }).into(), &json!("a")).await.expect("the places are free again");
    }

    async fn futures_of(schema: &Schema, value: &Value) -> Vec<Result<(), Unfit>> {
        let mut checks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (schema, value) = (schema.clone(), value.clone());
            checks.spawn(async move { check_value_soon(&schema, &value).await });
        }
        checks.join_all().await
    }

    #[tokio::test]
    async fn a_passed_deadline_is_told() {
        let told =
            check_value(&json!({ "pattern": "a" }).into(), &json!("a"), Instant::now() - Duration::from_millis(1))
                .await;
        let failure = told.expect_err("late").into_failure(FailureKind::InvalidInput, "input-invalid", "the input");
        assert_eq!(failure.kind, FailureKind::Transient, "the value is not to blame: {failure:?}");
    }
}
