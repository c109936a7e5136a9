//! What the human says to what waits: by flag, or at the terminal.
//!
//! At the terminal the exact arguments are shown before anything is asked. A flag answers effects and verdicts only; what
//! needs thought (a suspended skill, an unknown effect) is never approved by a flag. Called by [`super::drive`].

use crate::cli::approvals::exact;
use crate::cli::args::DemoArgs;
use crate::cli::error::{CliError, CliResult};
use crate::cli::output::Style;
use chimera_core::approval::{Answer, Approval, ApprovalKind, HumanDecision};
use serde_json::{Value, json};
use std::io::IsTerminal as _;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decide {
    /// A person at the terminal.
    Ask,
    /// `--approve`
    Approve,
    /// `--reject`
    Reject,
}

impl Decide {
    pub(super) fn from_args(args: &DemoArgs) -> CliResult<Self> {
        let has_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Self::choose(args.approve, args.reject, has_terminal)
    }

    fn choose(approve: bool, reject: bool, has_terminal: bool) -> CliResult<Self> {
        match (approve, reject) {
            (true, _) => Ok(Self::Approve),
            (false, true) => Ok(Self::Reject),
            (false, false) if has_terminal => Ok(Self::Ask),
            (false, false) => Err(CliError::usage(
                "the demo asks a human before it publishes, and there is no terminal to ask at",
                "add --approve or --reject",
            )),
        }
    }

    /// The answer to one question.
    pub(super) async fn answer(self, approval: &Approval) -> CliResult<Answer> {
        let by_flag = |decision| Answer { decision, edited: None, note: Some("chimera demo".to_owned()) };
        let can_be_flagged = matches!(approval.kind, ApprovalKind::Effect | ApprovalKind::Verdict);
        match self {
            Self::Approve if can_be_flagged => Ok(by_flag(HumanDecision::Approve)),
            Self::Approve => Err(CliError::refused(
                format!("a question came that --approve does not answer: {} ({})", approval.title, approval.reason),
                "run the demo at a terminal to answer it yourself",
            )),
            Self::Reject => Ok(by_flag(HumanDecision::Reject)),
            Self::Ask => ask(approval).await,
        }
    }
}

/// Asks at the terminal, off the runtime's threads: a person may take a quarter of an hour.
async fn ask(approval: &Approval) -> CliResult<Answer> {
    let approval = approval.clone();
    let (send, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nobody waits any more when the demo was stopped meanwhile.
        let _ = send.send(converse(&approval, &mut std::io::stdin().lock(), &mut std::io::stderr(), Style::stderr()));
    });
    match answer.await {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) => {
            Err(CliError::failed("the terminal was closed before an answer came", "add --approve or --reject"))
        }
        Ok(Err(error)) => {
            Err(CliError::failed(format!("the terminal cannot be read: {error}"), "add --approve or --reject"))
        }
        Err(_) => Err(CliError::failed("the question could not be asked", "add --approve or --reject")),
    }
}

fn converse(
    approval: &Approval,
    input: &mut dyn std::io::BufRead,
    output: &mut dyn std::io::Write,
    style: Style,
) -> std::io::Result<Option<Answer>> {
    writeln!(output)?;
    for line in exact(approval, style) {
        writeln!(output, "{line}")?;
    }
    let answer = |decision, edited| Some(Answer { decision, edited, note: None });
    let is_question = approval.kind == ApprovalKind::Question;
    let choices = if is_question { "[a]nswer / [r]eject" } else { "[a]pprove / [e]dit / [r]eject" };
    loop {
        let Some(said) = prompt(&format!("{choices}: "), input, output)? else { return Ok(None) };
        match said.to_lowercase().as_str() {
            "a" | "approve" | "y" | "yes" if !is_question => return Ok(answer(HumanDecision::Approve, None)),
            "r" | "reject" | "n" | "no" => return Ok(answer(HumanDecision::Reject, None)),
            "a" | "answer" => match edited(approval, input, output)? {
                Some(value) => return Ok(answer(HumanDecision::Approve, Some(value))),
                None => writeln!(output, "nothing was answered")?,
            },
            "e" | "edit" if !is_question => match edited(approval, input, output)? {
                Some(value) => return Ok(answer(HumanDecision::Approve, Some(value))),
                None => writeln!(output, "nothing was changed")?,
            },
            _ => writeln!(output, "please type a letter in brackets")?,
        }
    }
}

fn prompt(
    text: &str,
    input: &mut dyn std::io::BufRead,
    output: &mut dyn std::io::Write,
) -> std::io::Result<Option<String>> {
    write!(output, "{text}")?;
    output.flush()?;
    let mut line = String::new();
    Ok((input.read_line(&mut line)? > 0).then(|| line.trim().to_owned()))
}

/// New arguments: only the new text where the arguments are one text, JSON everywhere else. None if nothing was typed.
fn edited(
    approval: &Approval,
    input: &mut dyn std::io::BufRead,
    output: &mut dyn std::io::Write,
) -> std::io::Result<Option<Value>> {
    let arguments = approval.payload.get("arguments").and_then(Value::as_object);
    let text_key = arguments.and_then(|map| match map.iter().next() {
        Some((key, Value::String(_))) if map.len() == 1 => Some(key.clone()),
        _ => None,
    });
    loop {
        let what =
            if text_key.is_some() { "new text (empty: no change): " } else { "new value as JSON (empty: no change): " };
        let Some(said) = prompt(what, input, output)?.filter(|said| !said.is_empty()) else { return Ok(None) };
        match &text_key {
            Some(key) => return Ok(Some(json!({ key: said }))),
            None => match serde_json::from_str(&said) {
                Ok(value) => return Ok(Some(value)),
                Err(error) => writeln!(output, "that is not JSON: {error}")?,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::Exit;
    use chimera_core::approval::ApprovalState;
    use chimera_core::clock::Timestamp;

    fn approval(kind: ApprovalKind, payload: Value) -> Approval {
        Approval {
            id: "0190f3c2-7b1e-7c3a-9f00-0123456789ab".parse().expect("an id"),
            campaign: None,
            task: None,
            kind,
            title: "Publish\u{1b}[2J?".to_owned(),
            reason: "it changes the world".to_owned(),
            payload,
            effect: None,
            state: ApprovalState::Open,
            escalations: 0,
            deadline: Timestamp::EPOCH,
            created_at: Timestamp::EPOCH,
            decided_by: None,
            decided_at: None,
            edited: None,
            note: None,
        }
    }

    fn effect() -> Approval {
        let payload = json!({ "server": "social", "tool": "publish_post", "arguments": { "text": "old text" } });
        approval(ApprovalKind::Effect, payload)
    }

    fn said(approval: &Approval, typed: &str) -> (Option<Answer>, String) {
        let mut shown = Vec::new();
        let answer = converse(approval, &mut typed.as_bytes(), &mut shown, Style::plain()).expect("a conversation");
        (answer, String::from_utf8(shown).expect("text"))
    }

    #[test]
    fn without_a_terminal_a_flag_is_needed() {
        assert_eq!(Decide::choose(false, false, false).expect_err("no terminal").exit, Exit::Usage);
        assert_eq!(Decide::choose(false, false, true), Ok(Decide::Ask));
        assert_eq!(Decide::choose(true, false, false), Ok(Decide::Approve));
        assert_eq!(Decide::choose(false, true, true), Ok(Decide::Reject));
    }

    #[test]
    fn the_exact_arguments_are_shown_before_the_question() {
        let (answer, shown) = said(&effect(), "nonsense\na\n");
        assert_eq!(answer.map(|answer| answer.decision), Some(HumanDecision::Approve));
        assert!(shown.find("old text") < shown.find("[a]pprove"), "{shown}");
        assert!(shown.contains("publish_post") && !shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn an_edit_keeps_the_shape_of_the_arguments() {
        let (answer, _) = said(&effect(), "e\nnew text\n");
        assert_eq!(answer.and_then(|answer| answer.edited), Some(json!({ "text": "new text" })));
        let (answer, shown) = said(&effect(), "e\n\nr\n");
        assert_eq!(answer.map(|answer| answer.decision), Some(HumanDecision::Reject));
        assert!(shown.contains("nothing was changed"));
        let two = approval(ApprovalKind::Effect, json!({ "arguments": { "a": 1, "b": 2 } }));
        let (answer, shown) = said(&two, "e\n{oops\n{\"a\": 3}\n");
        assert_eq!(answer.and_then(|answer| answer.edited), Some(json!({ "a": 3 })));
        assert!(shown.contains("not JSON"));
    }

    #[test]
    fn a_closed_terminal_is_no_answer() {
        assert_eq!(said(&effect(), "").0, None);
    }

    #[tokio::test]
    async fn a_flag_never_approves_what_needs_thought() {
        for kind in
            [ApprovalKind::Security, ApprovalKind::UnknownEffect, ApprovalKind::Divergence, ApprovalKind::Question]
        {
            let error = Decide::Approve.answer(&approval(kind, json!({}))).await.expect_err("not by a flag");
            assert_eq!(error.exit, Exit::Refused);
        }
        let answer = Decide::Approve.answer(&effect()).await.expect("an answer");
        assert_eq!(answer.decision, HumanDecision::Approve);
        let answer = Decide::Reject.answer(&approval(ApprovalKind::Security, json!({}))).await.expect("an answer");
        assert_eq!(answer.decision, HumanDecision::Reject);
    }
}
