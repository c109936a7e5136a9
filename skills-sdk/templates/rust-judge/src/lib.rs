//! A judge for Chimera. Start here: change what it reads of a case, then its verdict, then the self-tests in skill.toml.

use chimera_skill::prelude::*;

/// Fewer characters say nothing.
const ENOUGH: usize = 20;

/// What it judges: the output of a skill that writes a text.
#[derive(Debug, Deserialize)]
struct Written {
    text: String,
}

/// Judges whether a text is long enough to say anything.
#[chimera_skill::judge]
pub fn evaluate(ctx: &mut JudgeContext, case: Case) -> Result<Verdict, Failure> {
    let Written { text } = case.output_as()?;
    let length = text.trim().chars().count();
    info!(ctx, "{length} characters by {}", case.skill);
    if length < ENOUGH {
        return Ok(Verdict::retry(format!("The text has {length} characters; fewer than {ENOUGH} say nothing.")));
    }
    if case.confidence < 0.5 {
        return Ok(Verdict::escalate("The skill itself doubts its text.").confidence(0.7));
    }
    Ok(Verdict::approve("The text is long enough to say something.").confidence(0.95))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_skill::testing::Harness;

    #[test]
    fn spaces_say_nothing() {
        let case = Case { output: json!({"text": " ".repeat(100)}), ..Case::default() };
        let run = Harness::new(vec![]).judge(evaluate, case);
        assert_eq!(run.outcome().output.decision, Decision::Retry);
    }
}
