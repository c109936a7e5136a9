//! Server-sent events: hints that something was committed, or is going on.
//!
//! Hints only: whoever hears one reads the truth again, and one who was too slow is told that some were dropped. The
//! number of listeners is bounded, and their streams end with the server and with the session. Called by the dashboard and `campaign watch`.

use super::extract::Params;
use super::{AppState, Problem};
use crate::auth::bearer;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use chimera_core::ids::CampaignId;
use chimera_core::ports::Notice;
use chimera_core::ports::listen::{Heard, Receiver};
use futures::Stream;
use futures::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;

/// How soon a browser comes back after a broken stream.
const COME_BACK: Duration = Duration::from_secs(2);
/// How often a silent stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The query of `GET /api/v1/events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    campaign: Option<CampaignId>,
}

/// `GET /api/v1/events`
pub(super) async fn stream(
    State(state): State<AppState>,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Ok(place) = state.streams().try_acquire_owned() else {
        let detail = "too many listeners are connected; close one";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-listeners", detail));
    };
    let (closing, ended) = (state.closing(), state.auth().end_of_session(bearer(&headers)?, state.now()));
    let is_over = async move {
        match ended {
            Some(ended) => tokio::select! {
                () = closing.cancelled() => {}
                () = ended.cancelled() => {}
            },
            None => closing.cancelled().await,
        }
    };
    let hello = Event::default().comment("listening").retry(COME_BACK);
    let notices = stream::unfold((state.handles().news.listen(), place), move |(mut receiver, place)| async move {
        let event = next_event(&mut receiver, query.campaign).await?;
        Some((event, (receiver, place)))
    });
    let events = stream::once(async { hello }).chain(notices).take_until(is_over).map(Ok);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn next_event(receiver: &mut Receiver, campaign: Option<CampaignId>) -> Option<Event> {
    loop {
        match receiver.next().await {
            Heard::Notice(notice) => {
                if let Some(event) = event_of(&notice, campaign) {
                    return Some(event);
                }
            }
            Heard::Missed => return Some(missed()),
            Heard::Closed => return None,
        }
    }
}

/// The truth is to be read again.
fn missed() -> Event {
    Event::default().event("missed").data("{}")
}

fn event_of(notice: &Notice, wanted: Option<CampaignId>) -> Option<Event> {
    let is_wanted = |campaign: Option<CampaignId>| wanted.is_none() || campaign == wanted;
    match notice {
        Notice::Audited(event) if is_wanted(event.draft.campaign) => {
            Some(Event::default().event("audit").data(json!(event).to_string()))
        }
        Notice::Progress { campaign, task, fraction, message } if is_wanted(*campaign) => {
            let data = json!({ "campaign": campaign, "task": task, "fraction": fraction, "message": message });
            Some(Event::default().event("progress").data(data.to_string()))
        }
        Notice::Elsewhere => Some(missed()),
        Notice::Audited(_) | Notice::Progress { .. } | Notice::Outbox(_) | Notice::Queued | Notice::Skills(_) => None,
    }
}
