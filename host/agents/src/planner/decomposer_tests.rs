use super::*;
use crate::planner::campaign_file::NewCampaign;
use crate::testkit::{DEMO_GOAL, House, bundled, campaign_of, version};
use chimera_core::campaign::{CampaignPolicy, CampaignState};
use chimera_core::clock::Timestamp;
use chimera_core::ids::{CampaignId, SystemIds};
use chimera_core::plan::PlannedStep;
use chimera_core::skill::SkillVersion;
use chimera_core::template::Template;

fn campaign(new: NewCampaign) -> Campaign {
    Campaign {
        id: CampaignId::new(&SystemIds),
        title: new.title(),
        explicit: new.explicit_value(),
        goal: new.goal,
        state: CampaignState::Planning,
        inputs: new.inputs,
        answers: Map::new(),
        questions: Vec::new(),
        policy: CampaignPolicy::default(),
        planner_id: "main".into(),
        plan_ms: None,
        failure: None,
        rev: 0,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        finished_at: None,
    }
}

async fn plan_with(skills: Vec<SkillVersion>, new: NewCampaign) -> Result<Plan, Failure> {
    let house = House::with(skills).await;
    house.scheduler.decomposer().plan(&campaign(new)).await
}

async fn plan(new: NewCampaign) -> Plan {
    plan_with(bundled(), new).await.expect("a plan")
}

fn keys(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.key.as_str()).collect()
}

fn step<'p>(plan: &'p Plan, key: &str) -> &'p PlannedStep {
    plan.steps.iter().find(|step| step.key == key).expect("the step")
}

#[tokio::test]
async fn the_demo_goal_becomes_a_chain_of_five() {
    let plan = plan(campaign_of(DEMO_GOAL)).await;
    assert_eq!(keys(&plan), ["find-trends", "summarize", "draft-post", "check-policy", "publish-post"]);
    assert!(plan.questions.is_empty(), "{:?}", plan.questions);
    let input = |key: &str| step(&plan, key).input.0.clone();
    assert_eq!(input("find-trends"), json!({ "posts": Template::input("posts", "") }));
    assert_eq!(input("summarize"), json!({ "texts": Template::step("find-trends", "/texts") }));
    assert_eq!(
        input("draft-post"),
        json!({
            "summary": Template::step("summarize", "/summary"),
            "topics": Template::step("find-trends", "/topics"),
            "max_chars": 280,
        })
    );
    assert_eq!(
        input("check-policy"),
        json!({ "text": Template::step("draft-post", "/text"), "policy": Template::input("policy", "") })
    );
    assert_eq!(input("publish-post"), json!({ "text": Template::step("check-policy", "/text") }));
    let publish = step(&plan, "publish-post");
    assert!(publish.depends_on.contains("check-policy"));
    for step in &plan.steps {
        assert!(step.reason.contains("score") && step.reason.contains("←"), "{}", step.reason);
    }
}

#[tokio::test]
async fn other_words_find_the_same_skills() {
    for (goal, expected) in [
        (
            "Identify the trending topics in the posts. Condense them into two sentences. Write a tweet of at most 200 characters for our followers, review the text for banned words, then share it.",
            &["find-trends", "summarize", "draft-post", "check-policy", "publish-post"][..],
        ),
        (
            "1. find trends in these posts\n2. give me a digest of the texts in four sentences",
            &["find-trends", "summarize"],
        ),
        ("I'd like you to analyse what is popular in the feed, the top three trends", &["find-trends"]),
    ] {
        let plan = plan(campaign_of(goal)).await;
        assert_eq!(keys(&plan), expected, "{goal}\n{:#?}", plan.questions);
    }
}

#[tokio::test]
async fn numbers_of_the_goal_reach_the_inputs_they_limit() {
    let goal = "Find the top three trends in these posts, summarise them in two sentences, draft a post. Keep it under 200 characters with one hashtag.";
    let plan = plan(campaign_of(goal)).await;
    assert_eq!(step(&plan, "find-trends").input.0["top"], json!(3));
    assert_eq!(step(&plan, "summarize").input.0["max_sentences"], json!(2));
    assert_eq!(step(&plan, "draft-post").input.0["max_chars"], json!(199));
    assert_eq!(step(&plan, "draft-post").input.0["hashtags"], json!(1));
}

#[tokio::test]
async fn a_brief_is_bound_when_it_says_something() {
    let plan = plan(campaign_of(
        "Find trends in these posts, summarise them and draft a post about recycling for young parents",
    ))
    .await;
    let brief = step(&plan, "draft-post").input.0["brief"].as_str().expect("a brief").to_owned();
    assert!(brief.contains("recycling for young parents"), "{brief}");
}

#[tokio::test]
async fn missing_producers_are_put_in_with_a_reason_but_effects_never() {
    let plan = plan(campaign_of("Draft a post")).await;
    assert_eq!(keys(&plan), ["find-trends", "summarize", "draft-post"]);
    assert!(step(&plan, "summarize").reason.contains("although the goal does not name it"));
    assert!(plan.questions.is_empty());
    let publish_only = super::tests::plan(campaign_of("Publish a post")).await;
    assert!(!keys(&publish_only).is_empty());
    let effects = publish_only.steps.iter().filter(|step| step.skill.name.as_str() == "chimera/publish-post").count();
    assert_eq!(effects, 1);
}

#[tokio::test]
async fn data_flow_orders_steps_that_were_said_the_other_way_round() {
    let goal = "Draft a post of the summary. Summarise the texts. Find trends in these posts.";
    let plan = plan(campaign_of(goal)).await;
    assert_eq!(keys(&plan), ["find-trends", "summarize", "draft-post"]);
}

#[tokio::test]
async fn what_fits_nothing_is_asked_and_the_answer_is_used() {
    let goal = "Find trends in these posts and translate them to French";
    let house = House::with(bundled()).await;
    let mut campaign = campaign(campaign_of(goal));
    let asked = house.scheduler.decomposer().plan(&campaign).await.expect("questions");
    assert!(asked.steps.is_empty());
    assert_eq!(asked.questions.len(), 1);
    let question = &asked.questions[0];
    assert!(
        question.text.contains("translate them to French") && question.text.contains("chimera/summarize"),
        "{}",
        question.text
    );
    chimera_core::json::check_schema(&question.schema, &json!("chimera/summarize")).expect("a name is an answer");
    assert!(chimera_core::json::check_schema(&question.schema, &json!("acme/unknown")).is_err());
    campaign.answers.insert(question.key.clone(), json!("chimera/summarize"));
    let planned = house.scheduler.decomposer().plan(&campaign).await.expect("a plan");
    assert_eq!(keys(&planned), ["find-trends", "summarize"]);
    campaign.answers.insert(question.key.clone(), json!(SKIP));
    let planned = house.scheduler.decomposer().plan(&campaign).await.expect("a plan");
    assert_eq!(keys(&planned), ["find-trends"]);
}

#[tokio::test]
async fn what_cannot_be_bound_becomes_a_question_with_its_schema() {
    let mut new =
        campaign_of("Find trends in these posts, summarise them, draft a post and check it against our policy");
    new.inputs.remove("policy");
    let asked = plan(new).await;
    assert_eq!(asked.questions.len(), 1);
    assert_eq!(asked.questions[0].step.as_deref(), Some("check-policy"));
    assert_eq!(asked.questions[0].schema["type"], json!("object"));
    assert_eq!(step(&asked, "check-policy").input.0["policy"], Template::answer("check-policy-policy"));

    let mut new = campaign_of("Find trends in these posts");
    new.inputs.insert("posts".into(), json!("not a list"));
    let asked = plan(new).await;
    assert!(asked.questions[0].text.contains("does not fit"), "{}", asked.questions[0].text);
    chimera_core::json::check_schema(&asked.questions[0].schema, &json!([{ "id": "1", "text": "x" }])).expect("fits");
}

#[tokio::test]
async fn a_weak_likeness_never_picks_a_skill_that_changes_the_world() {
    let plan = plan(campaign_of("Tell our followers what customers complain about")).await;
    assert!(!keys(&plan).contains(&"publish-post"), "{plan:#?}");
}

#[tokio::test]
async fn a_goal_of_background_alone_is_a_question() {
    let asked = plan(campaign_of("Bakery Meier, Lyon, since 1921.")).await;
    assert!(asked.steps.is_empty());
    assert_eq!(asked.questions.len(), 1);
}

#[tokio::test]
async fn nothing_installed_is_a_question_that_says_so() {
    let asked = plan_with(Vec::new(), campaign_of("Find trends in these posts")).await.expect("questions");
    assert!(asked.questions[0].text.contains("chimera skill install"), "{}", asked.questions[0].text);
}

fn explicit(yaml: &str) -> NewCampaign {
    let mut new = NewCampaign::from_yaml(yaml).expect("readable");
    new.inputs = campaign_of("").inputs;
    new
}

#[tokio::test]
async fn explicit_steps_are_bound_as_written() {
    let plan = plan(explicit(
        r#"
goal: explicit
steps:
  - { id: sum, skill: chimera/summarize, input: { texts: "${steps.trends.output.texts}", max_sentences: 2 }, limits: { time_ms: 99999, fuel: 5 } }
  - { id: trends, skill: "chimera/find-trends@^0.1", input: { posts: "${inputs.posts}" }, expect: { post_count: 1 } }
"#,
    ))
    .await;
    assert_eq!(keys(&plan), ["trends", "sum"]);
    assert_eq!(step(&plan, "sum").limits.time_ms, 10_000, "never more than the skill's own");
    assert_eq!(step(&plan, "sum").limits.fuel, 5);
    assert_eq!(step(&plan, "trends").expect, Some(json!({ "post_count": 1 })));
}

#[tokio::test]
async fn mistakes_in_explicit_steps_are_named_with_their_mend() {
    for (steps, needles) in [
        ("[{id: a, skill: chimera/find-trend, input: {}}]", &["step `a`", "chimera/find-trends", "did you mean"][..]),
        ("[{id: a, skill: \"chimera/summarize@^9\", input: {}}]", &["^9", "0.1.0"]),
        ("[{id: a, skill: chimera/find-trends, input: {}}]", &["needs `posts`", "${inputs.posts}"]),
        ("[{id: a, skill: chimera/summarize, input: {texts: 5}}]", &["input.texts", "does not fit"]),
        (
            "[{id: a, skill: chimera/summarize, input: {texts: \"${steps.b.output.words}\"}}, {id: b, skill: chimera/find-trends, input: {posts: \"${inputs.posts}\"}}]",
            &["step `b` gives no `words`", "texts"],
        ),
        (
            "[{id: a, skill: chimera/summarize, input: {texts: \"${steps.b.output.keywords}\"}}, {id: b, skill: chimera/summarize, input: {texts: \"${steps.a.output.keywords}\"}}]",
            &["circle", "a", "b"],
        ),
        ("[{id: a, skill: chimera/summarize, input: {texts: \"${nope}\"}}]", &["${nope}", "not a reference"]),
        ("[{id: a, skill: chimera/summarize, input: {texts: \"${inputs.nope}\"}}]", &["nope"]),
    ] {
        let failure =
            plan_with(bundled(), explicit(&format!("goal: x\nsteps: {steps}\n"))).await.expect_err("a mistake");
        assert_eq!(failure.kind, FailureKind::InvalidInput);
        for needle in needles {
            assert!(failure.message.contains(needle), "`{}` does not say `{needle}`", failure.message);
        }
    }
}

#[tokio::test]
async fn an_inactive_version_is_not_planned() {
    let mut newer = version(
        "chimera/find-trends",
        "0.2.0",
        "none",
        json!({ "summary": "Finds trends." }),
        json!({ "type": "object" }),
        json!({ "type": "object" }),
    );
    newer.state = chimera_core::skill::SkillState::AwaitingConsent;
    let mut skills = bundled();
    skills.push(newer);
    let plan = plan_with(skills, campaign_of("Find trends in these posts")).await.expect("a plan");
    assert_eq!(step(&plan, "find-trends").skill.version.to_string(), "0.1.0");
}

#[tokio::test]
async fn a_large_goal_is_planned_in_time() {
    let goal = format!("Find trends in these posts. {}", "background words without end ".repeat(2000));
    let started = std::time::Instant::now();
    let planned = plan(campaign_of(&goal)).await;
    assert!(started.elapsed() < PLAN_CAP);
    assert_eq!(keys(&planned)[0], "find-trends");
}
