//! The one place where values become GraphQL: every argument of a query is written here and nowhere else.
//!
//! `weaviate-community` puts arguments into a query as they are, and Weaviate's own schema takes no variables there. So a value
//! is a [`Literal`], which can only be made by functions that escape what they are given; a text of a skill's, an agent's
//! or a human's therefore always stays within its quotes. Nothing here does I/O. Called by the two indexes.

use chimera_core::ids::AgentId;
use std::fmt::{self, Write as _};

/// A finished piece of GraphQL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Literal(String);

impl Literal {
    /// A string: what is not plain ASCII text is written as `\uXXXX`, in halves beyond the basic plane, as GraphQL's
    /// grammar (October 2021, 2.9.4) has it.
    pub(crate) fn text(text: &str) -> Self {
        let mut out = String::with_capacity(text.len() + 2);
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                // The parser of the server's knows these whatever stands around them; and no line of a query ends early.
                ' '..='~' => out.push(c),
                '\u{FFFE}' | '\u{FFFF}' => out.push(' '),
                _ if (c as u32) < 0x20 || c == '\u{7f}' => out.push(' '),
                _ => {
                    let mut halves = [0_u16; 2];
                    for half in c.encode_utf16(&mut halves) {
                        let _ = write!(out, "\\u{half:04X}");
                    }
                }
            }
        }
        out.push('"');
        Self(out)
    }

    /// An agent's id: hex digits and dashes, and still a string.
    pub(crate) fn agent(agent: AgentId) -> Self {
        Self::text(&agent.to_string())
    }

    /// A share from 0 to 1; what is no number is 0.
    pub(crate) fn share(share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        Self(format!("{share:.4}"))
    }

    /// A truth value.
    pub(crate) fn truth(is_true: bool) -> Self {
        Self(is_true.to_string())
    }

    /// A vector; what is no number is 0.
    pub(crate) fn vector(values: &[f32]) -> Self {
        let mut out = String::with_capacity(values.len() * 12 + 2);
        out.push('[');
        for (at, value) in values.iter().enumerate() {
            let value = if value.is_finite() { *value } else { 0.0 };
            let _ = write!(out, "{}{value}", if at > 0 { "," } else { "" });
        }
        out.push(']');
        Self(out)
    }

    /// A list.
    pub(crate) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        let items: Vec<String> = items.into_iter().map(|item| item.0).collect();
        Self(format!("[{}]", items.join(",")))
    }

    /// A name that the grammar knows, such as an operator. Only what is written in this program can be one.
    pub(crate) fn keyword(word: &'static str) -> Self {
        Self(word.to_owned())
    }

    /// An input object; the members' names are written in this program.
    pub(crate) fn object(members: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{name}:{}", value.0)).collect();
        Self(format!("{{{}}}", members.join(",")))
    }

    /// `property = value`, as a filter.
    pub(crate) fn equals(property: &'static str, kind: &'static str, value: Self) -> Self {
        let path = Self::list([Self::text(property)]);
        Self::object([("path", path), ("operator", Self::keyword("Equal")), (kind, value)])
    }

    /// Filters of which all must hold.
    pub(crate) fn all(filters: impl IntoIterator<Item = Self>) -> Self {
        Self::object([("operator", Self::keyword("And")), ("operands", Self::list(filters))])
    }

    /// As it goes into a query.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use proptest::prelude::*;

    /// Reads a GraphQL string back by the grammar; none if the quotes end before the text does.
    fn read(literal: &str) -> Option<String> {
        let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
        let mut units: Vec<u16> = Vec::new();
        let mut rest = inner.chars();
        while let Some(c) = rest.next() {
            match c {
                '"' | '\n' | '\r' => return None,
                '\\' => match rest.next()? {
                    'u' => {
                        let digits: String = rest.by_ref().take(4).collect();
                        units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)?);
                    }
                    c @ ('"' | '\\') => units.push(c as u16),
                    _ => return None,
                },
                c => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
            }
        }
        String::from_utf16(&units).ok()
    }

    #[test]
    fn what_tries_to_get_out_stays_in() {
        for text in [
            "\"",
            "\\",
            "\\\"",
            "\"}) { Get { Skills { name } } } #",
            "\u{2028}\n\r\t\0",
            "\\u0022",
            "\"\"\"",
            "😀\u{FFFF}",
        ] {
            let read = read(Literal::text(text).as_str());
            assert_eq!(read.map(|read| read.len()), Some(replaced(text).len()), "{text:?}");
        }
        let filter = Literal::equals("agent", "valueText", Literal::text("x\", operator: NotEqual, a: \""));
        let wanted = r#"{path:["agent"],operator:Equal,valueText:"x\", operator: NotEqual, a: \""}"#;
        assert_eq!(filter.as_str(), wanted);
        assert_eq!(Literal::vector(&[1.5, f32::NAN, -0.25, f32::INFINITY]).as_str(), "[1.5,0,-0.25,0]");
    }

    /// What cannot be in a query becomes a space.
    fn replaced(text: &str) -> String {
        let is_out = |c: char| (c as u32) < 0x20 || matches!(c, '\u{7f}' | '\u{FFFE}' | '\u{FFFF}');
        text.chars().map(|c| if is_out(c) { ' ' } else { c }).collect()
    }

    proptest! {
        #[test]
        fn every_text_is_read_back_as_it_was(text in any::<String>()) {
            let literal = Literal::text(&text);
            prop_assert!(literal.as_str().is_ascii());
            prop_assert_eq!(read(literal.as_str()), Some(replaced(&text)));
        }

        #[test]
        fn a_vector_is_numbers_and_commas(values in prop::collection::vec(any::<f32>(), 0..20)) {
            let text = Literal::vector(&values).as_str().to_owned();
            let read: Vec<f32> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.len(), values.len());
        }
    }
}
