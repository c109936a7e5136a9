//! Finds personal data: e-mail addresses, phone numbers, payment card numbers (with a valid check digit).
//! What it reports is masked, because findings are stored and shown. Called when the policy forbids personal data.

use textkit::chars;

use crate::Finding;

const RULE: &str = "no_personal_data";

/// Every piece of personal data in a text.
pub(crate) fn find(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    emails(text, &mut findings);
    numbers(text, &mut findings);
    findings
}

fn emails(text: &str, findings: &mut Vec<Finding>) {
    for (at, _) in text.match_indices('@') {
        let name_length: usize = text[..at]
            .chars()
            .rev()
            .take_while(|c| c.is_alphanumeric() || "._%+-".contains(*c))
            .map(char::len_utf8)
            .sum();
        let host_length: usize =
            text[at + 1..].chars().take_while(|c| c.is_alphanumeric() || ".-".contains(*c)).map(char::len_utf8).sum();
        let host = text[at + 1..at + 1 + host_length].trim_end_matches(['.', '-']);
        let name = &text[at - name_length..at];
        let Some((_, ending)) = host.rsplit_once('.') else { continue };
        if name.is_empty() || chars(ending) < 2 || !ending.chars().all(char::is_alphabetic) {
            continue;
        }
        let start = chars(&text[..at - name_length]);
        let length = chars(name) + 1 + chars(host);
        let first: String = name.chars().take(1).collect();
        findings.push(Finding::error(RULE, format!("e-mail address {first}…@…{ending}")).at(start, start + length));
    }
}

/// A run of digits with the separators that people put between them.
struct Run {
    digits: Vec<u8>,
    start: usize,
    end: usize,
    plus: bool,
    /// Lengths of the groups between separators.
    groups: Vec<usize>,
    /// Something that numbers of other kinds have: a decimal point, a date's slash, a letter before or after.
    other: bool,
}

fn numbers(text: &str, findings: &mut Vec<Finding>) {
    for run in runs(text) {
        let shown: String = run.digits.iter().rev().take(2).rev().map(|digit| char::from(b'0' + digit)).collect();
        if !run.plus && (13..=19).contains(&run.digits.len()) && luhn(&run.digits) {
            findings.push(Finding::error(RULE, format!("card number ending in {shown}")).at(run.start, run.end));
        } else if is_phone(&run) {
            findings.push(Finding::error(RULE, format!("phone number ending in {shown}")).at(run.start, run.end));
        }
    }
}

/// An international number, or one that is written in the groups of a phone number.
fn is_phone(run: &Run) -> bool {
    let count = run.digits.len();
    if run.other || is_date(run) {
        return false;
    }
    if run.plus {
        return (8..=15).contains(&count);
    }
    let trunk = run.digits.first() == Some(&0);
    let grouped = run.groups.len() >= 2 && run.groups.iter().all(|length| (2..=8).contains(length));
    match run.groups.len() {
        1 => trunk && (9..=13).contains(&count),
        2 => grouped && trunk && (7..=13).contains(&count),
        _ => grouped && (9..=13).contains(&count) && (trunk || count == 10 || count == 11),
    }
}

/// `2026-01-31` and `31-01-2026`.
fn is_date(run: &Run) -> bool {
    matches!(run.groups.as_slice(), [4, 2, 2] | [2, 2, 4] | [4, 4])
}

fn runs(text: &str) -> Vec<Run> {
    let all: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if !all[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let run = run_at(&all, at);
        at = run.end;
        found.push(run);
    }
    found
}

fn run_at(all: &[char], start: usize) -> Run {
    let before = |back: usize| start.checked_sub(back).and_then(|at| all.get(at)).copied();
    let opened = before(1) == Some('(');
    let plus = before(1) == Some('+') || (opened && before(2) == Some('+'));
    let mut run = Run { digits: Vec::new(), start, end: start, plus, groups: vec![0], other: false };
    run.other = before(1).is_some_and(|c| c.is_alphabetic() || "#$€£_.,/:=".contains(c));
    let mut at = start;
    while let Some(c) = all.get(at) {
        if let Some(digit) = c.to_digit(10) {
            run.digits.push(u8::try_from(digit).unwrap_or(0));
            if let Some(last) = run.groups.last_mut() {
                *last += 1;
            }
            at += 1;
            run.end = at;
            continue;
        }
        // At most two separators stand between groups: "(030) 1234", "030 - 1234" has three and is a range.
        let separators = all[at..].iter().take(3).take_while(|c| " -./()\u{a0}".contains(**c)).count();
        let goes_on = all.get(at + separators).is_some_and(char::is_ascii_digit);
        if separators == 0 || separators > 2 || !goes_on {
            break;
        }
        run.groups.push(0);
        at += separators;
    }
    let after = all.get(run.end).copied();
    let more = all.get(run.end + 1).copied();
    run.other |= after.is_some_and(|c| c.is_alphabetic() || "%€$£_".contains(c))
        || (after.is_some_and(|c| ",:".contains(c)) && more.is_some_and(|c| c.is_ascii_digit()));
    run
}

/// The check digit of payment cards.
fn luhn(digits: &[u8]) -> bool {
    if digits.iter().all(|digit| digit == &digits[0]) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(*digit);
            match (at % 2, digit * 2) {
                (0, _) => digit,
                (_, double) if double > 9 => double - 9,
                (_, double) => double,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<String> {
        find(text).into_iter().map(|finding| finding.evidence.split(' ').next().unwrap_or("").to_owned()).collect()
    }

    #[test]
    fn personal_data_is_found_and_masked() {
        assert_eq!(kinds("Write to ada.lovelace+x@mail.example.com."), ["e-mail"]);
        assert_eq!(kinds("Call +49 30 1234567 or (030) 123-4567 or 0171 2345678"), ["phone", "phone", "phone"]);
        assert_eq!(kinds("555-123-4567"), ["phone"]);
        assert_eq!(kinds("Card 4111 1111 1111 1111 ok"), ["card"]);
        assert_eq!(kinds("4111111111111111"), ["card"]);
        let finding = &find("🦀 ada@mail.example")[0];
        assert_eq!((finding.start, finding.end), (Some(2), Some(18)));
        assert!(!finding.evidence.contains("ada"), "{}", finding.evidence);
    }

    #[test]
    fn ordinary_numbers_are_left_alone() {
        for text in [
            "in 2024 and 2025",
            "2026-01-31",
            "31.01.2026",
            "1,234,567 people",
            "version 1.2.3",
            "3.14159265",
            "192.168.0.1",
            "4111 1111 1111 1112",
            "0000 0000 0000 0000",
            "@ada and a@b",
            "€12000000",
            "10 000 000 euros",
            "#20260131",
        ] {
            assert!(find(text).is_empty(), "{text}: {:?}", find(text));
        }
    }
}
