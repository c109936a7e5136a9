//! Between nouns and rows, whatever the database: JSON bodies, names of states, numbers.
//!
//! What cannot be read back as what it should be is [`PortErrorKind::Corrupt`] and names table and row. Called by the
//! writers and the reads of every database.

use chimera_core::json::{Extent, MAX_READABLE_DEPTH};
use chimera_core::ports::{PortError, PortErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Display;

pub(crate) type PortResult<T> = Result<T, PortError>;

/// The row of a noun: what names it, and its body.
pub(crate) type BodyRow = (String, String);

/// Reads a noun's body.
pub(crate) fn noun<T: DeserializeOwned>(table: &'static str, id: &str, body: &str) -> PortResult<T> {
    serde_json::from_str(body).map_err(|error| corrupt(table, id, error))
}

/// The error for a row that cannot be read.
pub(crate) fn corrupt(table: &'static str, id: impl Display, cause: impl Display) -> PortError {
    PortError::new(PortErrorKind::Corrupt, format!("row `{id}` of table `{table}` cannot be read: {cause}"))
}

/// Writes a noun's body. The writer of JSON takes any depth and the reader does not: what could be stored and never read
/// again would make every list it is part of unreadable.
pub(crate) fn body<T: Serialize>(noun: &T) -> PortResult<String> {
    let text = serde_json::to_string(noun).map_err(|error| permanent(format!("cannot be written as JSON: {error}")))?;
    readable_again(&text)?;
    Ok(text)
}

/// Checks a text that is a body already.
pub(crate) fn readable_again(text: &str) -> PortResult<()> {
    // Hardly any text has so many brackets, and to count them is quicker than to follow them.
    let opened = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opened > MAX_READABLE_DEPTH && Extent::of(text).depth > MAX_READABLE_DEPTH {
        return Err(permanent(format!("is nested deeper than {MAX_READABLE_DEPTH} and could not be read again")));
    }
    Ok(())
}

/// The name of a state or kind as it is on the wire.
pub(crate) fn name<T: Serialize>(value: &T) -> PortResult<String> {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => Ok(name),
        _ => Err(permanent("a state has no name")),
    }
}

/// A counter as SQL keeps it.
pub(crate) fn int(number: u64) -> PortResult<i64> {
    i64::try_from(number).map_err(|_| permanent(format!("{number} is too large to be stored")))
}

/// A size as SQL keeps it.
pub(crate) fn size(number: usize) -> PortResult<i64> {
    int(number as u64)
}

/// An optional id as SQL keeps it.
pub(crate) fn text<T: Display>(id: Option<T>) -> Option<String> {
    id.map(|id| id.to_string())
}

/// An error that no repetition cures.
pub(crate) fn permanent(message: impl Into<String>) -> PortError {
    PortError::new(PortErrorKind::Permanent, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use chimera_core::ports::PortErrorKind;

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let deepest = body(&nested(MAX_READABLE_DEPTH)).unwrap();
        assert_eq!(noun::<Value>("t", "1", &deepest).unwrap(), nested(MAX_READABLE_DEPTH));
        let error = body(&nested(MAX_READABLE_DEPTH + 1)).unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Permanent);
        assert!(error.message.contains("nested deeper than 127"), "{error}");
        let unreadable = serde_json::to_string(&nested(MAX_READABLE_DEPTH + 1)).unwrap();
        assert_eq!(noun::<Value>("t", "1", &unreadable).unwrap_err().kind, PortErrorKind::Corrupt);
    }
}
