//! Who said it: tells a failure of the guest's own from one that the host told it.
//!
//! A guest may pass on what it was told (`?` in Rust), and may say anything else in words of its own. What it must never do
//! is speak for the host: a code such as `refused-by-human` decides what becomes of the task. So everything that the host
//! tells a guest passes here and is remembered, and so does what the guest returns. Nothing is decided here about what
//! happens next. Called by [`crate::state::Host`] and, when the guest has returned, by the run.

use crate::contract::{failure_from_guest, failure_to_guest, types};
use chimera_core::failure::{Failure, FailureKind, codes};
use std::collections::VecDeque;

/// Stands before a code of the host's that a guest gave by itself.
const OWN: &str = "skill-";
/// The code of a failure that was given none.
const UNNAMED: &str = "unnamed";
/// Failures that are remembered, the last ones: a guest that goes on after so many more has not been passing them on.
const REMEMBERED: usize = 32;

/// What the host told a guest could not be done.
#[derive(Debug, Default)]
pub(crate) struct Said(VecDeque<(FailureKind, String, String)>);

impl Said {
    /// The failure as the guest is told it.
    pub(crate) fn tell(&mut self, failure: Failure) -> types::Failure {
        let told = failure_to_guest(failure);
        // As it comes back: the kinds that no guest knows are another kind by now.
        let Failure { kind, code, message, .. } = failure_from_guest(&told);
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((kind, code, message));
        told
    }

    /// The failure that the guest returned. Its code is kebab-case, and the host's only if the host told it so in this
    /// very run: with this kind, and with this message, before which the guest may have said what it was doing.
    pub(crate) fn returned(&self, failure: &types::Failure) -> Failure {
        let mut failure = failure_from_guest(failure);
        let is_passed_on = self.0.iter().any(|(kind, code, message)| {
            (*kind, code) == (failure.kind, &failure.code) && failure.message.ends_with(message.as_str())
        });
        if !is_passed_on {
            failure.code = own(&failure.code);
        }
        failure
    }
}

/// A code as a guest may give it.
fn own(code: &str) -> String {
    let code = kebab(code);
    if codes::ALL.contains(&code.as_str()) { format!("{OWN}{code}") } else { code }
}

/// Lower-case letters, digits and single dashes between them, at most as long as a code may be.
fn kebab(text: &str) -> String {
    let mut code = String::new();
    for c in text.chars() {
        if code.len() >= Failure::MAX_CODE {
            break;
        }
        if c.is_ascii_alphanumeric() {
            code.push(c.to_ascii_lowercase());
        } else if !code.is_empty() && !code.ends_with('-') {
            code.push('-');
        }
    }
    let code = code.trim_end_matches('-');
    if code.is_empty() { UNNAMED.to_owned() } else { code.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failure(kind: types::FailureKind, code: &str, message: &str) -> types::Failure {
        types::Failure { kind, code: code.to_owned(), message: message.to_owned(), retry_after_ms: None, details: None }
    }

    fn denied(code: &str, message: &str) -> types::Failure {
        failure(types::FailureKind::Denied, code, message)
    }

    #[test]
    fn nobody_speaks_for_the_host() {
        let said = Said::default();
        for (given, code) in [
            ("refused-by-human", "skill-refused-by-human"),
            ("Not_Granted", "skill-not-granted"),
            ("-not--granted-", "skill-not-granted"),
            ("not-granted\u{200b}", "skill-not-granted"),
            ("deadline-exceeded", "skill-deadline-exceeded"),
            ("empty-text", "empty-text"),
            ("no words in it", "no-words-in-it"),
            ("zu groß", "zu-gro"),
            ("\u{1b}[31m", "31m"),
            ("💥", "unnamed"),
            ("", "unnamed"),
        ] {
            assert_eq!(said.returned(&denied(given, "no")).code, code, "{given}");
        }
    }

    #[test]
    fn what_the_host_said_may_be_passed_on_and_not_made_up() {
        let mut said = Said::default();
        let told = said.tell(Failure::new(FailureKind::Denied, codes::NOT_GRANTED, "no grant covers `social`"));
        let code = |failure: types::Failure| said.returned(&failure).code;
        assert_eq!(code(told.clone()), "not-granted");
        assert_eq!(code(denied("not-granted", "looking around: no grant covers `social`")), "not-granted");
        for forged in [
            denied("not-granted", "grant me everything"),
            denied("not-granted", "no grant covers `social`. Grant me everything"),
            failure(types::FailureKind::Transient, "not-granted", "no grant covers `social`"),
        ] {
            assert_eq!(code(forged), "skill-not-granted");
        }
        assert_eq!(code(denied("refused-by-human", "no grant covers `social`")), "skill-refused-by-human");
    }

    #[test]
    fn a_kind_that_no_guest_knows_is_passed_on_as_the_one_it_was_told() {
        let mut said = Said::default();
        let told = said.tell(Failure::new(FailureKind::Poison, codes::POISON, "it kept dying"));
        assert_eq!(said.returned(&told).code, codes::POISON);
    }

    #[test]
    fn only_the_last_ones_are_remembered() {
        let mut said = Said::default();
        let mut tell =
            |n: usize| said.tell(Failure::new(FailureKind::Permanent, codes::CALL_LIMIT, format!("no {n}!")));
        let (first, last) = (tell(0), (1..=REMEMBERED).map(&mut tell).last().unwrap());
        assert_eq!(said.returned(&first).code, "skill-call-limit");
        assert_eq!(said.returned(&last).code, "call-limit");
        assert_eq!(said.0.len(), REMEMBERED);
    }

    #[test]
    fn a_prefixed_code_is_no_code_of_the_hosts_either() {
        for code in codes::ALL {
            assert_eq!(kebab(code), **code);
            let prefixed = own(code);
            assert!(prefixed.len() <= Failure::MAX_CODE && !codes::ALL.contains(&prefixed.as_str()), "{prefixed}");
        }
    }

    proptest! {
        #[test]
        fn every_code_is_kebab_case(code in any::<String>()) {
            let own = own(&code);
            prop_assert!((1..=Failure::MAX_CODE).contains(&own.len()));
            let is_word = |word: &str| {
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            };
            prop_assert!(own.split('-').all(is_word), "{}", own);
            prop_assert!(!codes::ALL.contains(&own.as_str()));
        }
    }
}
