//! Records every host answer before the guest sees it, and replays what earlier runs were answered.
//!
//! Answers of ports are durable before the guest gets them. Clock readings and waits are not written one by one: they are
//! held back and become durable together with, or before, whatever follows them. That is equivalent, because a reading
//! matters to nobody but the guest until something leaves it: an effect, a question to a human, or a port's answer. All
//! of those flush first, so a run that comes after them always sees the same readings; and when the process dies before,
//! nothing had left, and a run with fresh readings is as good as the first. It never dispatches a call itself. Called by
//! the host functions of the contract and of WASI.

use chimera_core::digest::Digest;
use chimera_core::journal::{AnswerText, Divergence, JournalEntry, MAX_ENTRIES, Unanswered};
use chimera_core::json::Extent;
use chimera_core::ports::{Deny, Journal, PortError, PortErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Most clock readings and waits of one run.
pub(crate) const MAX_READINGS: u32 = 10_000;
/// Most calls of ports in one run: with the readings and the start they fit into one journal.
pub(crate) const MAX_CALLS: u32 = 9_000;
const _: () = assert!(MAX_READINGS + MAX_CALLS < MAX_ENTRIES);
/// Most that the answers of one run take, as [`weight`] counts it; the next call ends the run. A batch in flight may
/// go beyond it once.
pub(crate) const MAX_RECORDED: usize = 64 << 20;
/// Things to wait for that one reading covers: the answer to a longer list is as long as the list.
const WAITS_PER_READING: usize = 16;

/// Whether one more answer may be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It may.
    Left,
    /// The run has been answered all that it may be.
    None,
}

/// What a call gets that no earlier run made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// An answer of a port or a clock.
    Answered,
    /// None: the run diverges there.
    Refused,
}

/// What a run leaves behind that its journal does not have yet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Unwritten {
    start: Option<(Digest, Start)>,
    held: Vec<JournalEntry>,
    /// The first number that no host call was given.
    pub next: u32,
    /// Calls that got no answer, in order.
    pub unanswered: Vec<Unanswered>,
}

impl Unwritten {
    /// The start, readings and waits that nothing followed which had to make them durable, in order. They belong into the
    /// journal with the report of the run's end, so that the run can be replayed to it.
    pub fn entries(&self) -> Vec<JournalEntry> {
        let start = self.start.map(|(request, start)| start.entry(request));
        start.into_iter().chain(self.held.iter().cloned()).collect()
    }
}

/// How every run starts: what the guest is told and that is not the same on every run, journalled as host call 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Start {
    pub(crate) seed: u64,
    pub(crate) clock: i64,
    pub(crate) time_left_ms: u64,
}

impl Start {
    /// Its name in the journal.
    const CALL: &str = "run.start";
    /// What its entry takes: more than [`weight`] would say of any, and the same for all.
    const WEIGHT: usize = 256;
}

impl Start {
    fn entry(self, request: Digest) -> JournalEntry {
        // Three numbers have a JSON.
        let answer = AnswerText::ok(&self).unwrap_or_else(|_| (&Value::Null).into());
        JournalEntry { ordinal: 0, call: Self::CALL.into(), request, answer }
    }
}

/// The journal of one run.
pub(crate) struct Recorder {
    journal: Arc<dyn Journal>,
    beyond: Beyond,
    recorded: HashMap<u32, JournalEntry>,
    /// One more than the last recorded ordinal.
    recorded_until: u32,
    next: u32,
    /// The start, until it is durable. Most runs end without having written anything, so it is no entry before.
    start: Option<(Digest, Start)>,
    held: Vec<JournalEntry>,
    unanswered: Vec<Unanswered>,
    readings: u32,
    /// Of all answers so far, whether they were recorded now or by an earlier run.
    weight: usize,
}

impl Recorder {
    /// Loads what earlier runs were answered.
    pub(crate) async fn load(journal: Arc<dyn Journal>) -> Result<Self, PortError> {
        let entries = journal.load().await?;
        Self::of(journal, entries, Beyond::Answered)
    }

    /// Tells what is in these entries, and nothing else.
    pub(crate) fn closed(entries: Vec<JournalEntry>) -> Result<Self, PortError> {
        Self::of(Arc::new(Deny), entries, Beyond::Refused)
    }

    fn of(journal: Arc<dyn Journal>, mut entries: Vec<JournalEntry>, beyond: Beyond) -> Result<Self, PortError> {
        // The end of a run is no answer to anything.
        entries.retain(|entry| entry.call != JournalEntry::END);
        if entries.len() > MAX_ENTRIES as usize {
            let message = format!("the journal has {} entries; at most {MAX_ENTRIES} are read", entries.len());
            return Err(PortError::new(PortErrorKind::Corrupt, message));
        }
        let recorded_until = entries.iter().map(|entry| entry.ordinal.saturating_add(1)).max().unwrap_or(0);
        let recorded = entries.into_iter().map(|entry| (entry.ordinal, entry)).collect();
        Ok(Self {
            journal,
            beyond,
            recorded,
            recorded_until,
            next: 0,
            start: None,
            held: Vec::new(),
            unanswered: Vec::new(),
            readings: 0,
            weight: 0,
        })
    }

    /// The start as an earlier run made it, or `fresh`, which is then the journal's first entry. To be called first.
    ///
    /// # Errors
    /// Why the run cannot start: another skill or input was started before, or the entry cannot be read.
    pub(crate) fn start(&mut self, request: Digest, fresh: impl FnOnce() -> Start) -> Result<Start, NoStart> {
        let ordinal = self.next_ordinal();
        if let Some(mut answer) = self.recall(ordinal, Start::CALL, &request).map_err(NoStart::Diverged)? {
            self.weight = Start::WEIGHT;
            let start = answer.get_mut("ok").map(Value::take).unwrap_or_default();
            return serde_json::from_value(start).map_err(|e| NoStart::Unreadable(e.to_string()));
        }
        let start = fresh();
        self.unanswered.clear();
        self.weight += Start::WEIGHT;
        self.start = Some((request, start));
        Ok(start)
    }

    /// Gives the next host call its number; done before anything is dispatched.
    pub(crate) fn next_ordinal(&mut self) -> u32 {
        let ordinal = self.next;
        self.next += 1;
        ordinal
    }

    /// Is the next host call one that an earlier run made?
    pub(crate) fn is_replaying(&self) -> bool {
        self.next < self.recorded_until
    }

    /// Takes one reading from the run's budget, or more for a long list to wait for; false when none is left. What it
    /// takes comes from the call alone, so a replayed run takes the same.
    pub(crate) fn spend_reading(&mut self, waits: usize) -> bool {
        let cost = u32::try_from(1 + waits / WAITS_PER_READING).unwrap_or(u32::MAX);
        self.readings = self.readings.saturating_add(cost);
        self.readings <= MAX_READINGS
    }

    /// Readings so far, with what was asked for last.
    pub(crate) fn readings(&self) -> u32 {
        self.readings
    }

    /// What the answers so far take, as the limit [`MAX_RECORDED`] counts it.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// May one more answer be recorded? The same in a run and in its replay: it comes from the answers before.
    pub(crate) fn room(&self) -> Room {
        if self.weight < MAX_RECORDED { Room::Left } else { Room::None }
    }

    /// The recorded answer to this call, if an earlier run made it.
    ///
    /// # Errors
    /// [`Divergence`] when the earlier run made another call at this number, or none and nothing else is to be told.
    pub(crate) fn recall(
        &mut self,
        ordinal: u32,
        call: &'static str,
        request: &Digest,
    ) -> Result<Option<Value>, Divergence> {
        let Some(entry) = self.recorded.remove(&ordinal) else {
            self.unanswered.push(Unanswered { ordinal, call: call.into(), request: *request });
            return match self.beyond {
                Beyond::Answered => Ok(None),
                Beyond::Refused => {
                    Err(Divergence { ordinal, recorded: Divergence::NOTHING.to_owned(), asked: call.to_owned() })
                }
            };
        };
        if entry.call == call && entry.request == *request {
            self.weight = self.weight.saturating_add(weight(&entry.answer));
            return Ok(Some(entry.answer.value()));
        }
        let (recorded, asked) = if entry.call == call {
            (format!("{call} with arguments {}", entry.request), format!("{call} with arguments {request}"))
        } else {
            (entry.call.into_owned(), call.to_owned())
        };
        Err(Divergence { ordinal, recorded, asked })
    }

    /// Keeps an answer back until the next [`Recorder::flush`] or [`Recorder::keep`].
    pub(crate) fn hold(&mut self, entry: JournalEntry) {
        // At most a batch is unanswered at once.
        self.unanswered.retain(|call| call.ordinal != entry.ordinal);
        self.weight = self.weight.saturating_add(weight(&entry.answer));
        self.held.push(entry);
    }

    /// Makes everything held back durable.
    pub(crate) async fn flush(&mut self) -> Result<(), PortError> {
        self.keep(Vec::new()).await
    }

    /// Makes everything held back and these answers durable, in one append.
    pub(crate) async fn keep(&mut self, entries: Vec<JournalEntry>) -> Result<(), PortError> {
        entries.into_iter().for_each(|entry| self.hold(entry));
        let unwritten = self.take_unwritten();
        if unwritten.start.is_none() && unwritten.held.is_empty() {
            return Ok(());
        }
        self.journal.append(unwritten.entries()).await
    }

    /// Everything that is held back; it is no longer held then.
    pub(crate) fn take_unwritten(&mut self) -> Unwritten {
        Unwritten {
            start: self.start.take(),
            held: std::mem::take(&mut self.held),
            next: self.next,
            unanswered: self.unanswered.clone(),
        }
    }

    /// Has an earlier run made the call of this number?
    pub(crate) fn has(&self, ordinal: u32) -> bool {
        self.recorded.contains_key(&ordinal)
    }
}

/// Why a run cannot start.
#[derive(Debug)]
pub(crate) enum NoStart {
    /// The journal's run was of another skill or with another input.
    Diverged(Divergence),
    /// The journal's first entry makes no sense.
    Unreadable(String),
}

/// What an answer takes, as text and in memory while it is looked into: neither many small values nor letters that are
/// written as six count for less than they are.
fn weight(answer: &AnswerText) -> usize {
    const VALUE: usize = 32;
    VALUE * Extent::of(answer.as_str()).values + answer.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(ordinal: u32, call: &str, request: &Value) -> JournalEntry {
        JournalEntry {
            ordinal,
            call: call.to_owned().into(),
            request: Digest::of_json(request),
            answer: (&json!({"ok": 1})).into(),
        }
    }

    fn recorder(entries: Vec<JournalEntry>) -> Recorder {
        Recorder::of(Arc::new(Deny), entries, Beyond::Answered).unwrap()
    }

    #[test]
    fn beyond_a_closed_journal_is_nothing() {
        let end = JournalEntry { call: JournalEntry::END.into(), ..entry(1, "", &json!(1)) };
        let mut recorder = Recorder::closed(vec![entry(0, "a.b", &json!(1)), end]).unwrap();
        let digest = Digest::of_json(&json!(1));
        let (first, second) = (recorder.next_ordinal(), recorder.next_ordinal());
        assert!(recorder.recall(first, "a.b", &digest).unwrap().is_some());
        let divergence = recorder.recall(second, "a.b", &digest).unwrap_err();
        assert_eq!((divergence.ordinal, divergence.recorded.as_str()), (1, Divergence::NOTHING));
        let unwritten = recorder.take_unwritten();
        assert_eq!(unwritten.next, 2);
        assert_eq!(unwritten.unanswered, [Unanswered { ordinal: 1, call: "a.b".into(), request: digest }]);
    }

    #[test]
    fn a_start_weighs_the_same_when_it_is_told_again() {
        let (request, start) = (Digest::of(b"x"), Start { seed: u64::MAX, clock: -1, time_left_ms: 7 });
        let mut live = recorder(Vec::new());
        assert_eq!(live.start(request, || start).unwrap(), start);
        let entries = live.take_unwritten().entries();
        assert!(live.weight >= weight(&entries[0].answer));
        assert!(live.take_unwritten().entries().is_empty());
        let mut again = recorder(entries);
        assert_eq!(again.start(request, || unreachable!()).unwrap(), start);
        assert_eq!(again.weight, live.weight);
    }

    #[test]
    fn the_same_call_is_answered_and_another_diverges() {
        let mut recorder =
            recorder(vec![entry(0, "a.b", &json!(1)), entry(1, "a.b", &json!(1)), entry(2, "c", &json!(1))]);
        let digest = Digest::of_json(&json!(1));
        assert!(recorder.is_replaying());
        assert_eq!(recorder.recall(0, "a.b", &digest).unwrap(), Some(json!({"ok": 1})));
        let other = Digest::of_json(&json!(2));
        let divergence = recorder.recall(1, "a.b", &other).unwrap_err();
        assert_ne!(divergence.recorded, divergence.asked);
        assert_eq!(recorder.recall(2, "a.b", &digest).unwrap_err().recorded, "c");
        assert_eq!(recorder.recall(3, "a.b", &digest).unwrap(), None);
    }

    #[test]
    fn a_long_list_costs_as_many_readings_as_it_is_long() {
        let mut recorder = recorder(Vec::new());
        assert!((0..MAX_READINGS).all(|_| recorder.spend_reading(0)));
        assert!(!recorder.spend_reading(0));
        recorder.readings = 0;
        assert!((0..15).all(|_| recorder.spend_reading(9_990)));
        assert!(recorder.spend_reading(9_900) && !recorder.spend_reading(9_990));
        assert!(!recorder.spend_reading(usize::MAX) && !recorder.spend_reading(usize::MAX));
    }

    #[tokio::test]
    async fn an_answer_weighs_the_same_when_it_is_told_again() {
        let answers = [json!({ "ok": "x".repeat(100) }), json!({ "ok": [0, 0.1, null, { "k": "\u{1}" }] }), json!({})];
        let entries: Vec<JournalEntry> = answers
            .into_iter()
            .zip(0..)
            .map(|(answer, ordinal)| JournalEntry { answer: (&answer).into(), ..entry(ordinal, "a.b", &json!(1)) })
            .collect();
        let mut live = recorder(Vec::new());
        live.hold(entries[0].clone());
        live.keep(entries[1..].to_vec()).await.unwrap();
        let as_text: usize = entries.iter().map(|entry| entry.answer.as_str().len()).sum();
        assert!(live.weight > as_text);
        let mut again = recorder(entries);
        for ordinal in 0..3 {
            assert_eq!(again.room(), Room::Left);
            let _ = again.recall(ordinal, "a.b", &Digest::of_json(&json!(1))).unwrap().unwrap();
        }
        assert_eq!(live.weight, again.weight);
        again.weight = MAX_RECORDED;
        assert_eq!(again.room(), Room::None);
    }
}
