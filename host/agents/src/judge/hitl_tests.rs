use super::*;
use crate::testkit::{House, operator};

fn yes() -> Answer {
    Answer { decision: HumanDecision::Approve, edited: None, note: None }
}

/// The worker parks the task between the look at it and the decision: the answer must be made anew, or the task would
/// wait for a question that is closed.
#[tokio::test]
async fn an_answer_that_meets_the_parking_of_its_task_is_made_anew() {
    let (house, leased) = House::publishing().await;
    let asked = house.ask_about_effect(&leased.task, 0).await;
    let seen = house.scheduler.task(leased.task.id).await.expect("there");
    assert_eq!(seen.state, TaskState::Running);
    house.park(&leased, &asked).await;
    let decided = house.hitl.record_only(&asked, Some(&seen), &yes(), operator()).await.expect("tried");
    assert!(matches!(decided, Decided::Stale), "what was seen of the task is not so any more");
    assert_eq!(house.open_questions().await.len(), 1, "nothing was written");

    house.answer(&asked, HumanDecision::Approve, None).await;
    assert_eq!(house.scheduler.task(leased.task.id).await.expect("there").state, TaskState::Queued, "it is woken");
    assert!(house.open_questions().await.is_empty());
}

#[tokio::test]
async fn an_answer_that_could_not_be_read_again_is_refused() {
    let (house, leased) = House::publishing().await;
    let asked = house.ask_about_effect(&leased.task, 0).await;
    let deep = (0..MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
    let answer = Answer { edited: Some(json!({ "text": deep })), ..yes() };
    let error = house.hitl.decide(asked.id, answer, operator()).await.expect_err("deep");
    assert_eq!(error.kind(), AgentErrorKind::Invalid);
    assert!(error.to_string().contains("nested deeper than 64"), "{error}");
    assert_eq!(house.open_questions().await.len(), 1);
}
