//! A skill for Chimera. Start here: change the types, then the function, then the self-tests in skill.toml.

use chimera_skill::prelude::*;

/// What the skill works on. These comments become the descriptions in the JSON Schema, and the planner reads them
/// to find out what to pass in: say what a value means, not what type it has.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The text whose words are counted.
    pub text: String,
    /// How many of the most frequent words to return; 3 if absent.
    #[serde(default = "three")]
    pub top: usize,
}

/// What the skill makes of it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// How many words the text has.
    pub words: usize,
    /// The most frequent words, the most frequent first.
    pub top: Vec<String>,
}

fn three() -> usize {
    3
}

/// Counts the words of a text and names the most frequent ones.
#[chimera_skill::skill]
pub fn run(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    let words: Vec<String> = input
        .text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.is_empty() {
        return Err(Failure::invalid_input("no-words", "The text has no words to count."));
    }
    info!(ctx, "counting {} words", words.len());

    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for word in &words {
        *counts.entry(word).or_default() += 1;
    }
    let mut ranked: Vec<(&str, usize)> = counts.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));

    // Few words make a poor ranking: the confidence says so, and the judge decides by it.
    let confidence = if words.len() < 5 { 0.6 } else { 0.95 };
    let top = ranked.iter().take(input.top).map(|(word, _)| (*word).to_owned()).collect();
    Ok(Outcome::new(Output { words: words.len(), top })
        .confidence(confidence)
        .evidence(format!("{} different words", ranked.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chimera_skill::testing::Harness;

    #[test]
    fn the_most_frequent_word_comes_first() {
        let input = Input { text: "to be or not to be, to".into(), top: 2 };
        let run = Harness::new(vec![]).run(run, input);
        assert_eq!(run.outcome().output.top, ["to", "be"]);
    }
}
