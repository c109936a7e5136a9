use super::*;
use chimera_skill::FailureKind;
use chimera_skill::testing::Harness;

const SUMMARY: &str = "The city council voted on Tuesday to rebuild the old stone bridge over the Aller. \
Rebuilding the bridge (built in 1887) will take eighteen months, because two of its five arches have cracks. \
Until the bridge is open again, a free ferry carries cyclists and people on foot across the river. \
Shopkeepers near the bridge fear for their trade.";

fn input(max_chars: usize) -> Input {
    Input { summary: SUMMARY.into(), topics: vec![], brief: None, max_chars, hashtags: 2 }
}

fn run(input: Input) -> (Output, f64) {
    let outcome = Harness::new(vec![]).run(draft_post, input).result.unwrap();
    (outcome.output, outcome.confidence)
}

#[test]
fn the_limit_holds_and_words_stay_whole() {
    let known: BTreeSet<String> = tokens(SUMMARY).iter().map(|token| token.text.to_lowercase()).collect();
    for max_chars in 20..400 {
        let result = Harness::new(vec![]).run(draft_post, input(max_chars)).result;
        let Ok(outcome) = result else {
            assert!(max_chars < 40, "nothing fits into {max_chars}");
            continue;
        };
        let output = outcome.output;
        assert_eq!(output.chars, output.text.chars().count());
        assert!(output.chars <= max_chars, "{max_chars}: {}", output.text);
        for token in tokens(&output.text) {
            assert!(known.contains(&token.text.to_lowercase()), "{max_chars}: `{}` in {}", token.text, output.text);
        }
    }
}

#[test]
fn the_brief_decides_what_is_said() {
    let brief = Some("Write a short friendly post for cyclists about the ferry".to_owned());
    let (output, confidence) = run(Input { brief, ..input(120) });
    assert!(output.text.contains("ferry"), "{}", output.text);
    assert!(confidence >= 0.8, "{confidence}");
    let brief = Some("what shopkeepers say".to_owned());
    let (output, _) = run(Input { brief, ..input(60) });
    assert!(output.text.contains("Shopkeepers"), "{}", output.text);
}

#[test]
fn topics_become_hashtags_if_they_fit() {
    let topics = vec!["stone bridge".to_owned(), "Aller".to_owned(), "ferry".to_owned()];
    let (output, confidence) = run(Input { topics: topics.clone(), ..input(280) });
    assert!(output.text.ends_with("#StoneBridge #Aller"), "{}", output.text);
    assert!(confidence >= 0.8, "{confidence}");
    let (none, _) = run(Input { topics, hashtags: 0, ..input(280) });
    assert!(!none.text.contains('#'));
}

#[test]
fn a_tight_limit_costs_confidence() {
    let long =
        "Everybody who lives in the wide green valley between the two old mountains knows the song of the miller";
    let (output, confidence) = run(Input { summary: long.into(), ..input(40) });
    assert!(output.text.ends_with('…') && output.chars <= 40, "{}", output.text);
    assert!(confidence < 0.8, "{confidence}");
}

#[test]
fn a_brief_that_the_summary_cannot_serve_costs_confidence() {
    let (_, confidence) = run(Input { brief: Some("quantum chromodynamics for nurses".into()), ..input(280) });
    assert!(confidence < 0.75, "{confidence}");
}

#[test]
fn characters_are_counted_not_bytes() {
    let summary = "Übergrößenträger fühlen sich übergangen. Die Ämter prüfen das.".to_owned();
    let length = summary.chars().count();
    let (output, _) = run(Input { summary: summary.clone(), ..input(length) });
    assert_eq!(output.text, summary);
}

#[test]
fn useless_input_is_refused() {
    for (input, code) in [
        (Input { summary: " \n".into(), ..input(280) }, "empty-summary"),
        (Input { summary: "the of and".into(), ..input(280) }, "empty-summary"),
        (input(19), "limit-too-small"),
        (Input { summary: "Donaudampfschifffahrtsgesellschaftskapitän".repeat(3), ..input(30) }, "nothing-fits"),
    ] {
        let run = Harness::new(vec![]).run(draft_post, input);
        assert_eq!(run.failure().kind, FailureKind::InvalidInput);
        assert_eq!(run.failure().code, code);
    }
}

#[test]
fn a_megabyte_is_no_problem() {
    let summary: String =
        (0..12_000).map(|at| format!("Sentence number {at} speaks of the river, the bridge and the town. ")).collect();
    let (output, _) = run(Input { summary, ..input(280) });
    assert!(output.chars <= 280);
}
