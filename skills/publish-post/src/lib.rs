//! Publishes one text through the operator's social server and returns where it ended up.
//! It never retries by itself and never changes the text: a second post is worse than a failure.
//! The host runs it after a human approved the exact text.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

use std::time::Duration;

use chimera_skill::prelude::*;
use chimera_skill::serde_json::Value;

/// What to publish.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The exact text of the post to publish.
    #[schemars(length(min = 1))]
    pub text: String,
}

/// The published post.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The id that the server gave to the published post.
    pub id: String,
    /// The address of the published post, when the server tells one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Publishes a text as a post on the social network.
#[chimera_skill::skill]
pub fn publish_post(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    if input.text.trim().is_empty() {
        return Err(Failure::invalid_input("empty-text", "The text of the post is empty."));
    }
    ctx.progress(0.1, "publishing");
    let answer = ctx.mcp("social").call("publish_post", json!({"text": input.text}))?;
    if answer.is_error {
        return Err(refusal(&answer.text));
    }
    let (output, confidence) = read(&answer)?;
    ctx.progress(1.0, format!("published as {}", output.id));
    Ok(Outcome::new(output).confidence(confidence).evidence("the server confirmed the post"))
}

/// Reads id and address. Structured content is a server's word; text is our reading of it, so it counts less.
fn read(answer: &Answer) -> Result<(Output, f64), Failure> {
    let structured = answer.structured.clone();
    let from_text = || chimera_skill::serde_json::from_str::<Value>(&answer.text).ok();
    let (value, confidence) = match structured {
        Some(value) => (value, 0.99),
        None => match from_text() {
            Some(value) => (value, 0.9),
            None => (Value::Null, 0.0),
        },
    };
    // Servers wrap their answers differently: the post itself, or an object with the post in it.
    let post = value.get("post").or_else(|| value.get("result")).filter(|inner| inner.is_object()).unwrap_or(&value);
    let text_of = |key: &str| match post.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let Some(id) = text_of("id").or_else(|| text_of("post_id")) else {
        // The post is most likely out: this must reach a human, not a retry.
        return Err(Failure::permanent(
            "no-post-id",
            "The server accepted the post but its answer has no id; look at the server before publishing again.",
        ));
    };
    let url = text_of("url").or_else(|| text_of("link"));
    Ok((Output { id, url }, confidence))
}

/// What a tool's own error means for the task, read from its words.
fn refusal(text: &str) -> Failure {
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let message = format!("The server did not publish the post: {text}");
    if says(&["rate limit", "rate-limit", "ratelimit", "too many requests", "429", "slow down"]) {
        return Failure::transient("rate-limited", message)
            .retry_after(retry_after(&lower).unwrap_or(Duration::from_secs(60)));
    }
    if says(&["timeout", "timed out", "unavailable", "try again", "overloaded", "502", "503", "504"]) {
        return Failure::transient("server-unavailable", message);
    }
    if says(&["unauthorized", "unauthorised", "forbidden", "not allowed", "permission", "401", "403"]) {
        return Failure::denied("refused-by-server", message);
    }
    if says(&["too long", "character limit", "characters", "empty", "duplicate", "invalid"]) {
        return Failure::invalid_input("post-rejected", message);
    }
    Failure::permanent("tool-error", message)
}

/// The first number of seconds or minutes that follows "after" or "in", at most an hour.
fn retry_after(lower: &str) -> Option<Duration> {
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let (at, number) = words.iter().enumerate().find_map(|(at, word)| {
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let after = at > 0 && ["after", "in", "wait"].contains(&words[at - 1]);
        after.then(|| digits.parse::<u64>().ok()).flatten().map(|n| (at, n))
    })?;
    let unit = words[at].trim_start_matches(|c: char| c.is_ascii_digit());
    let unit = if unit.is_empty() { words.get(at + 1).copied().unwrap_or("s") } else { unit };
    let seconds = if unit.starts_with("min") || unit == "m" { number.saturating_mul(60) } else { number };
    Some(Duration::from_secs(seconds.clamp(1, 3600)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_skill::FailureKind;

    #[test]
    fn errors_of_the_server_have_the_right_kind() {
        let kind = |text: &str| refusal(text).kind;
        assert_eq!(kind("Rate limit exceeded"), FailureKind::Transient);
        assert_eq!(kind("503 Service Unavailable"), FailureKind::Transient);
        assert_eq!(kind("Forbidden"), FailureKind::Denied);
        assert_eq!(kind("text is too long: 300 characters"), FailureKind::InvalidInput);
        assert_eq!(kind("boom"), FailureKind::Permanent);
    }

    #[test]
    fn the_pause_is_read_from_the_text() {
        let pause = |text: &str| refusal(text).retry_after;
        assert_eq!(pause("Rate limit: retry after 30 seconds"), Some(Duration::from_secs(30)));
        assert_eq!(pause("Too many requests, retry in 2 minutes"), Some(Duration::from_secs(120)));
        assert_eq!(pause("rate limit, wait 5s"), Some(Duration::from_secs(5)));
        assert_eq!(pause("429"), Some(Duration::from_secs(60)));
        assert_eq!(pause("rate limit, retry after 999999999999 minutes"), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn an_id_is_found_in_every_usual_shape() {
        let read_structured = |value: Value| read(&Answer { structured: Some(value), ..Answer::default() });
        assert_eq!(read_structured(json!({"id": "p1"})).unwrap().0.id, "p1");
        assert_eq!(read_structured(json!({"post": {"id": 7, "url": "https://x.example/7"}})).unwrap().0.id, "7");
        assert_eq!(read_structured(json!({"post_id": "z"})).unwrap().0.id, "z");
        let text = Answer { text: r#"{"id":"t"}"#.into(), ..Answer::default() };
        assert_eq!(read(&text).unwrap().0.id, "t");
        let nothing = Answer { text: "ok".into(), ..Answer::default() };
        assert_eq!(read(&nothing).unwrap_err().code, "no-post-id");
    }
}
