//! The audit log: a hash chain per campaign, and one for the system.
//!
//! Each event's hash covers the event and the hash before it, so nothing can be changed, removed from the middle or
//! reordered without [`verify`] naming the place; what is removed from the end is found by the [`Head`] that the store
//! keeps beside the events. This module only links and checks; the store appends inside the same transaction as the
//! change that the event tells of.

use crate::clock::Timestamp;
use crate::digest::{Digest, write_canonical, write_text};
use crate::ids::{AgentId, CampaignId, TaskId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::str::FromStr;

/// Who did it. Written `system`, `planner`, `judge`, `worker:<id>`, `agent:<id>` or `operator:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The platform itself: sweepers, start-up.
    System,
    /// The planner.
    Planner,
    /// The judge.
    Judge,
    /// A worker.
    Worker(AgentId),
    /// Another agent that came in through the API.
    Agent(AgentId),
    /// A human, by the name of their token.
    Operator(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Planner => f.write_str("planner"),
            Self::Judge => f.write_str("judge"),
            Self::Worker(id) => write!(f, "worker:{id}"),
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::Operator(name) => write!(f, "operator:{name}"),
        }
    }
}

impl FromStr for Actor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let id = |text: &str| text.parse::<AgentId>().map_err(|e| e.to_string());
        match text.split_once(':') {
            None => match text {
                "system" => Ok(Self::System),
                "planner" => Ok(Self::Planner),
                "judge" => Ok(Self::Judge),
                other => Err(format!("`{other}` is not an actor")),
            },
            Some(("worker", rest)) => Ok(Self::Worker(id(rest)?)),
            Some(("agent", rest)) => Ok(Self::Agent(id(rest)?)),
            Some(("operator", rest)) => Ok(Self::Operator(rest.to_owned())),
            Some((other, _)) => Err(format!("`{other}:` is not an actor")),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Whether a human has looked, or must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewStatus {
    /// Nobody needs to look.
    #[default]
    None,
    /// A human must decide.
    Pending,
    /// A human approved.
    Approved,
    /// A human rejected.
    Rejected,
    /// The human did not answer in time.
    Expired,
}

impl ReviewStatus {
    /// The status's name on the wire and in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// An event before the store has given it its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditDraft {
    /// The chain: a campaign's, or the system's if none.
    pub campaign: Option<CampaignId>,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// `noun.verb`, such as `task.leased`.
    pub action: Cow<'static, str>,
    /// Who did it.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// Whether a human has looked, or must.
    pub review: ReviewStatus,
    /// More, as a small JSON object without secrets.
    pub detail: Value,
}

impl AuditDraft {
    /// An event of the system's chain, about no task, that nobody needs to look at and that says no more than its action.
    pub fn new(action: impl Into<Cow<'static, str>>, actor: Actor, at: Timestamp) -> Self {
        let (action, review) = (action.into(), ReviewStatus::None);
        Self { campaign: None, task: None, action, actor, at, review, detail: Value::Null }
    }

    /// In the chain of a campaign, if any, and about a task, if any.
    pub fn about(mut self, campaign: Option<CampaignId>, task: Option<TaskId>) -> Self {
        (self.campaign, self.task) = (campaign, task);
        self
    }

    /// Whether a human has looked, or must.
    pub fn review(mut self, review: ReviewStatus) -> Self {
        self.review = review;
        self
    }

    /// More, as a small JSON object without secrets.
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

/// An event in its chain (a row of `audit_logs`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Position in its chain, from 1.
    pub seq: u64,
    /// Hash of the event before it; [`genesis`] for the first.
    pub prev_hash: Digest,
    /// Hash of this event.
    pub hash: Digest,
    /// The event itself.
    #[serde(flatten)]
    pub draft: AuditDraft,
}

/// What the first event of a chain points to: a digest of the chain's name, so chains cannot be swapped.
pub fn genesis(chain: Option<CampaignId>) -> Digest {
    let name = chain.map_or_else(|| "system".to_owned(), |id| id.to_string());
    Digest::of(format!("chimera audit chain {name}").as_bytes())
}

/// Gives a draft its place after `prev_hash`.
pub fn link(seq: u64, prev_hash: Digest, draft: AuditDraft) -> AuditEvent {
    Unlinked::of(&draft).link(seq, prev_hash, draft)
}

/// What the hash of an event covers, but for its place: made before the place is known, so that whoever appends, and lets
/// others wait meanwhile, has little left to do.
///
/// It is the event's canonical JSON, written directly: its keys are in their order, and only `detail` is a value of its own.
/// The hash is what [`Digest::of_json`] says of the same object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlinked {
    /// Up to the hash of the event before.
    head: String,
    /// Where in it the detail is.
    detail: Range<usize>,
    /// Behind that, up to its number.
    review: ReviewStatus,
    /// Behind its number.
    tail: String,
}

impl Unlinked {
    /// What there is to be said of a draft.
    pub fn of(draft: &AuditDraft) -> Self {
        let (mut head, mut tail) = (String::with_capacity(320), String::with_capacity(96));
        // What is written into a text cannot fail.
        head.push_str("{\"action\":");
        write_text(&draft.action, &mut head);
        head.push_str(",\"agent_id\":");
        match &draft.actor {
            Actor::Operator(_) => write_text(&draft.actor.to_string(), &mut head),
            // Of the others nothing has to be escaped.
            actor => _ = write!(head, "\"{actor}\""),
        }
        head.push_str(",\"campaign\":");
        write_id(draft.campaign.as_ref(), &mut head);
        head.push_str(",\"detail\":");
        let begin = head.len();
        write_canonical(&draft.detail, &mut head);
        let detail = begin..head.len();
        head.push_str(",\"prev_hash\":\"");
        tail.push_str(",\"task_id\":");
        write_id(draft.task.as_ref(), &mut tail);
        let _ = write!(tail, ",\"timestamp\":\"{}\"}}", draft.at);
        Self { head, detail, review: draft.review, tail }
    }

    /// The event's detail as JSON, with the keys of its objects in their order.
    pub fn detail(&self) -> &str {
        &self.head[self.detail.clone()]
    }

    /// The hash of the event at this place.
    pub fn hash(&self, seq: u64, prev_hash: &Digest) -> Digest {
        let mut middle = String::with_capacity(160);
        let _ = write!(middle, "{prev_hash}\",\"review_status\":\"{}\",\"seq\":{seq}", self.review.as_str());
        Digest::of_pieces([self.head.as_bytes(), middle.as_bytes(), self.tail.as_bytes()])
    }

    /// The event at this place; the draft is the one that this was made of.
    fn link(&self, seq: u64, prev_hash: Digest, draft: AuditDraft) -> AuditEvent {
        AuditEvent { seq, prev_hash, hash: self.hash(seq, &prev_hash), draft }
    }
}

fn write_id(id: Option<&impl fmt::Display>, out: &mut String) {
    match id {
        Some(id) => _ = write!(out, "\"{id}\""),
        None => out.push_str("null"),
    }
}

/// A place where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit chain broken at event {seq}: {problem}")]
pub struct ChainBreak {
    /// Position of the first event that does not fit.
    pub seq: u64,
    /// What does not fit.
    pub problem: String,
}

/// Checks a whole chain in order and returns its head (the genesis if it is empty).
///
/// # Errors
/// [`ChainBreak`] at the first event that does not fit.
pub fn verify(chain: Option<CampaignId>, events: &[AuditEvent]) -> Result<Digest, ChainBreak> {
    let mut head = genesis(chain);
    for (index, event) in events.iter().enumerate() {
        let expected_seq = index as u64 + 1;
        let problem = if event.seq != expected_seq {
            Some(format!("expected event {expected_seq} here; one was removed or reordered"))
        } else if event.draft.campaign != chain {
            Some("it belongs to another chain".to_owned())
        } else if event.prev_hash != head {
            Some("it does not point to the event before it".to_owned())
        } else if event.hash != Unlinked::of(&event.draft).hash(event.seq, &event.prev_hash) {
            Some("its content does not match its hash".to_owned())
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(ChainBreak { seq: event.seq, problem });
        }
        head = event.hash;
    }
    Ok(head)
}

/// Where a chain ended when its last event was appended, kept beside the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Position of the last event.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// Checks a whole chain as [`verify`] does, and that it still reaches the head that was read *before* the events: they
/// may have grown meanwhile, but never shrunk.
///
/// # Errors
/// [`ChainBreak`] at the first event that does not fit, is missing, or has no head where there are events.
pub fn verify_through(
    chain: Option<CampaignId>,
    events: &[AuditEvent],
    head: Option<Head>,
) -> Result<Digest, ChainBreak> {
    let found = verify(chain, events)?;
    let last = events.len() as u64;
    let problem = match head {
        None if events.is_empty() => return Ok(found),
        None => (last, "nothing says that the chain ends here: its head was removed".to_owned()),
        Some(head) if head.seq > last => {
            (last + 1, format!("events were removed from its end: the last one was event {}", head.seq))
        }
        Some(head) => match head.seq.checked_sub(1).and_then(|at| events.get(usize::try_from(at).ok()?)) {
            Some(event) if event.hash == head.hash => return Ok(found),
            _ => (head.seq, "it is not the event that was appended here: the chain was written anew".to_owned()),
        },
    };
    let (seq, problem) = problem;
    Err(ChainBreak { seq, problem })
}
