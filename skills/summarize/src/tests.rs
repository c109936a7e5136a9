use super::*;
use chimera_skill::FailureKind;
use chimera_skill::testing::Harness;

const ARTICLE: &str = "The city council voted on Tuesday to rebuild the old stone bridge over the Aller. \
The bridge was closed in March after Dr. K. Weber, the city's engineer, found cracks in two of its five arches. \
Rebuilding the bridge will take eighteen months and cost about 4.2 million euros. \
Half of the cost is paid by the state, and the city pays the rest over ten years. \
Until the bridge is open again, a free ferry carries cyclists and people on foot across the river. \
Shopkeepers near the bridge fear for their trade: fewer people walk past since it was closed. \
\"We need the bridge, but we need customers first,\" said one of them. \
The council also discussed a new playground. \
It was raining.";

fn run(texts: &[&str], max_sentences: usize, focus: &[&str]) -> (Output, f64) {
    let input = Input {
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        max_sentences,
        focus: focus.iter().map(|topic| (*topic).to_owned()).collect(),
    };
    let outcome = Harness::new(vec![]).run(summarize, input).result.unwrap();
    (outcome.output, outcome.confidence)
}

#[test]
fn central_sentences_are_chosen_in_their_order() {
    let (output, confidence) = run(&[ARTICLE], 3, &[]);
    assert_eq!(output.sentences.len(), 3);
    assert!(output.summary.contains("bridge"), "{}", output.summary);
    assert!(!output.summary.contains("raining") && !output.summary.contains("playground"), "{}", output.summary);
    let places: Vec<usize> = output.sentences.iter().map(|it| ARTICLE.find(&it.text).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(output.keywords.iter().any(|word| word == "bridge"), "{:?}", output.keywords);
    assert!(confidence >= 0.8, "{confidence}");
}

#[test]
fn the_focus_decides() {
    let (output, confidence) = run(&[ARTICLE], 1, &["ferry for cyclists"]);
    assert!(output.summary.contains("ferry"), "{}", output.summary);
    assert!(confidence > 0.7);
    let (_, absent) = run(&[ARTICLE], 1, &["quantum physics"]);
    assert!(absent < 0.6, "{absent}");
    let (output, _) = run(&[ARTICLE], 1, &["#FreeFerry"]);
    assert!(output.summary.contains("ferry"), "{}", output.summary);
}

#[test]
fn nothing_is_said_twice() {
    let texts = [
        "The museum opens its new wing on Friday with free entry for all.",
        "RT @museum: The museum opens its new wing on Friday with free entry for all! https://x.example/1 #museum #free",
        "On Friday the museum opens the new wing, and entry is free for all.",
        "The new wing shows four hundred photographs of the harbour.",
        "The harbour photographs were found in an attic in 1987.",
    ];
    let (output, _) = run(&texts, 2, &[]);
    let openings = output.sentences.iter().filter(|it| it.text.contains("opens")).count();
    assert_eq!(openings, 1, "{}", output.summary);
    assert!(!output.summary.contains("https") && !output.summary.contains("RT @"), "{}", output.summary);
}

#[test]
fn sources_and_ends_are_right() {
    let texts = ["Bees dance to show where flowers grow", "Wasps do not dance, but wasps remember faces"];
    let (output, confidence) = run(&texts, 5, &[]);
    assert_eq!(output.sentences.iter().map(|it| it.source).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(output.summary, "Bees dance to show where flowers grow. Wasps do not dance, but wasps remember faces.");
    assert!(confidence > 0.7 && confidence < 0.95, "{confidence}");
}

#[test]
fn one_word_is_no_sure_summary() {
    let (output, confidence) = run(&["Hooray!"], 3, &[]);
    assert_eq!(output.summary, "Hooray!");
    assert!(confidence < 0.3, "{confidence}");
}

#[test]
fn useless_input_is_refused() {
    for (texts, most, code) in [
        (vec![], 3, "no-texts"),
        (vec![" "], 3, "no-texts"),
        (vec!["!!! 123"], 3, "no-sentences"),
        (vec!["a b"], 0, "max-sentences"),
    ] {
        let input = Input { texts: texts.into_iter().map(str::to_owned).collect(), max_sentences: most, focus: vec![] };
        let run = Harness::new(vec![]).run(summarize, input);
        assert_eq!(run.failure().kind, FailureKind::InvalidInput);
        assert_eq!(run.failure().code, code);
    }
}

#[test]
fn other_languages_are_summarised_too() {
    let text = "Der Stadtrat hat beschlossen, die alte Brücke zu erneuern. Die Brücke ist seit März gesperrt, weil die Bögen Risse haben. Die Arbeiten an der Brücke dauern z. B. achtzehn Monate. Es regnete.";
    let (output, _) = run(&[text], 2, &[]);
    assert!(output.summary.contains("Brücke") && !output.summary.contains("regnete"), "{}", output.summary);
    let japanese = "東京の桜が咲いた。桜の花見に多くの人が来た。花見の人は弁当を食べた。猫がいる。";
    assert_eq!(run(&[japanese], 2, &[]).0.sentences.len(), 2);
}

#[test]
fn a_megabyte_is_no_problem() {
    let nouns = ["river", "train", "garden", "music", "school", "market", "weather", "football", "bridge", "coffee"];
    let texts: Vec<String> = (0..9_000)
        .map(|at| {
            let pick = |n: usize| nouns[(at * 31 + n * (at % 17 + 3)) % nouns.len()];
            format!("The {} of district {} has a {} near the {} since year {}.", pick(0), at % 91, pick(1), pick(2), at)
        })
        .collect();
    let input = Input { texts, max_sentences: 5, focus: vec!["coffee".into()] };
    let run = Harness::new(vec![]).run(summarize, input);
    assert_eq!(run.outcome().output.sentences.len(), 5);
    assert!(run.outcome().output.summary.contains("coffee"));
}
