use super::*;
use chimera_skill::FailureKind;
use chimera_skill::testing::{Harness, Recorded};

fn post(id: usize, text: &str) -> Post {
    Post { id: id.to_string(), text: text.to_owned(), author: None, created_at: None, likes: None }
}

fn posts(texts: &[&str]) -> Vec<Post> {
    texts.iter().enumerate().map(|(id, text)| post(id, text)).collect()
}

fn run(posts: Vec<Post>, top: usize) -> (Output, f64) {
    let observed =
        (0..top).map(|_| Recorded::call("trends.observe", json!({"source": "chimera/find-trends"}))).collect();
    let run = Harness::new(observed).run(find_trends, Input { posts, top });
    let outcome = run.result.unwrap();
    (outcome.output, outcome.confidence)
}

const RIVER: [&str; 6] = [
    "The river cleanup on Saturday brought two hundred volunteers to the banks",
    "Proud of our town: the river cleanup filled nine trucks with rubbish",
    "After the river cleanup the otters may come back, says the ranger",
    "Who organised the river cleanup? I want to bring my class next time",
    "River cleanup photos are online, look at that pile of tyres",
    "More #RiverCleanup please, the fish will thank you",
];
const TRAINS: [&str; 5] = [
    "The night train to Vienna is back and it is fully booked until June",
    "Slept like a stone on the night train, woke up in the mountains",
    "A night train ticket costs less than a hotel room these days",
    "Politicians discover the night train, twenty years too late",
    "Why does the night train have no restaurant car?",
];
const NOISE: [&str; 5] = [
    "My bread did not rise again, what am I doing wrong",
    "Reading an old novel about lighthouses and loving it",
    "Does anyone have a spare guitar string for tonight?",
    "The new library opens at nine, bring a jumper",
    "Chess is harder than it looks when your opponent is six",
];

fn mixed() -> Vec<Post> {
    let texts: Vec<&str> = RIVER.iter().chain(&TRAINS).chain(&NOISE).copied().collect();
    posts(&texts)
}

#[test]
fn phrases_beat_words_and_hashtags_join_them() {
    let (output, confidence) = run(mixed(), 2);
    let names: Vec<String> = output.topics.iter().map(|topic| topic.to_lowercase()).collect();
    assert_eq!(names, ["river cleanup", "night train"]);
    assert_eq!(output.trends[0].post_count, 6, "the hashtag counts: {output:?}");
    assert_eq!(output.trends[0].score, 1.0);
    assert!(output.trends[1].score < 1.0);
    assert_eq!(output.texts.len(), 11);
    assert!(confidence > 0.8, "{confidence}");
}

#[test]
fn the_same_posts_give_the_same_answer() {
    let json = |output: &Output| chimera_skill::serde_json::to_string(output).unwrap();
    let (a, b) = (run(mixed(), 2), run(mixed(), 2));
    assert_eq!(json(&a.0), json(&b.0));
}

#[test]
fn copies_do_not_make_a_trend() {
    let mut all = mixed();
    for id in 0..40 {
        all.push(post(
            100 + id,
            &format!("Buy miracle pills now at the cheapest price ever, visit my profile, offer {id}"),
        ));
    }
    let (output, _) = run(all, 2);
    let names: Vec<String> = output.topics.iter().map(|topic| topic.to_lowercase()).collect();
    assert!(names.contains(&"river cleanup".to_owned()), "{names:?}");
    assert!(output.texts.iter().filter(|text| text.contains("pills")).count() <= 2, "{:?}", output.texts);
}

#[test]
fn a_loud_author_is_one_voice() {
    let mut all = mixed();
    for (id, text) in [
        "Zorbcoin will change banking",
        "Have you heard of Zorbcoin? It flies",
        "Zorbcoin beats gold and silver",
        "My cousin retired on Zorbcoin",
        "Zorbcoin again, never stop",
        "Only Zorbcoin matters in life",
        "Dreamt about Zorbcoin tonight",
    ]
    .iter()
    .enumerate()
    {
        all.push(Post { author: Some("shill".into()), ..post(200 + id, text) });
    }
    for (at, post) in all.iter_mut().enumerate().filter(|(_, post)| post.author.is_none()) {
        post.author = Some(format!("author {at}"));
    }
    let (output, _) = run(all, 3);
    assert_eq!(output.topics[0].to_lowercase(), "river cleanup", "{:?}", output.topics);
    assert_eq!(output.topics[1].to_lowercase(), "night train", "{:?}", output.topics);
}

#[test]
fn recent_topics_and_liked_posts_count_more() {
    let mut all = mixed();
    for (at, post) in all.iter_mut().enumerate() {
        let day = if (6..11).contains(&at) { 30 } else { 1 + at };
        post.created_at = Some(format!("2026-03-{day:02}T08:00:00Z"));
    }
    let (output, _) = run(all, 1);
    assert_eq!(output.topics[0].to_lowercase(), "night train");

    let mut all = mixed();
    all[9].likes = Some(5000.0);
    let (output, _) = run(all, 2);
    let trains = output.trends.iter().find(|trend| trend.topic.to_lowercase() == "night train").unwrap();
    assert_eq!(trains.post_ids[0], "9");
}

#[test]
fn few_posts_give_little_confidence() {
    let (_, confidence) = run(posts(&RIVER[..2]), 1);
    assert!(confidence < 0.35, "{confidence}");
}

#[test]
fn useless_input_is_refused() {
    let code = |posts: Vec<Post>, top: usize| {
        let run = Harness::new(vec![]).run(find_trends, Input { posts, top });
        let failure = run.failure().clone();
        assert_eq!(failure.kind, FailureKind::InvalidInput);
        failure.code
    };
    assert_eq!(code(vec![], 5), "no-posts");
    assert_eq!(code(posts(&["…", " ", "https://x.example"]), 5), "no-words");
    assert_eq!(code(mixed(), 0), "top");
}

#[test]
fn a_refused_observation_does_not_lose_the_result() {
    let refused = Recorded::call("trends.observe", json!({})).fails(Failure::denied("not-granted", "no"));
    let run = Harness::new(vec![refused]).run(find_trends, Input { posts: mixed(), top: 2 });
    assert_eq!(run.outcome().output.topics.len(), 2);
    assert_eq!(run.logs.len(), 1);
}

#[test]
fn other_languages_have_trends_too() {
    let german = posts(&[
        "Die neue Fahrradstraße in der Südstadt ist endlich fertig",
        "Auf der Fahrradstraße fahren jetzt auch Lastwagen, das ist nicht gut",
        "Eine Fahrradstraße reicht nicht, wir brauchen ein Netz",
        "Heute die Fahrradstraße ausprobiert und sehr zufrieden",
        "Wer hat den Schlüssel zum Gartenhaus gesehen?",
        "Im Garten blühen die ersten Tulpen",
    ]);
    assert_eq!(run(german, 1).0.topics, ["Fahrradstraße"]);
    let japanese = posts(&["東京の地下鉄は便利", "新しい地下鉄の路線", "地下鉄で寝てしまった", "猫が好き", "雨が降る"]);
    let topics = run(japanese, 1).0.topics;
    assert!(["地下", "下鉄"].contains(&topics[0].as_str()), "pairs of ideographs are phrases: {topics:?}");
}

#[test]
fn ten_thousand_posts_are_no_problem() {
    let words = ["river", "train", "garden", "music", "school", "market", "weather", "football", "bridge", "coffee"];
    let all: Vec<Post> = (0..10_000)
        .map(|at| {
            let pick = |n: usize| words[(at * 7919 + n * (at % 13 + 1)) % words.len()];
            post(at, &format!("{} and {} number{} near the {} of town{}", pick(0), pick(1), at % 977, pick(2), at % 53))
        })
        .collect();
    let (output, confidence) = run(all, 5);
    assert_eq!(output.post_count, 10_000);
    assert_eq!(output.texts.len(), MAX_TEXTS);
    assert!(confidence > 0.8);
}
