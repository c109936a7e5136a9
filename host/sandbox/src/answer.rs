//! Answers a host call: from the journal if an earlier run made it, else from a port, recorded before the guest sees it.
//!
//! This is the only way from a guest to a port, and it takes a [`Pass`] of the gate. It does not know what a call means.
//! Called by every host function of the contract.

use crate::contract::Told;
use crate::gate::Pass;
use crate::recorder::{MAX_RECORDED, Room};
use crate::run::RunEnd;
use crate::state::Host;
use chimera_core::digest::Digest;
use chimera_core::failure::{Failure, FailureKind, LimitName, codes};
use chimera_core::journal::{AnswerText, Divergence, JournalEntry};
use chimera_core::ports::HostError;
use chimera_core::text::{printable, truncated};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::future::Future;

/// Most that is shown of the arguments of a call, in bytes.
const MAX_QUOTED: usize = 400;

/// Whether something leaves the guest with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It only reads the host's own data: what was held back may become durable together with the answer.
    Reads,
    /// It may change something or be seen outside: what was held back is durable before it is dispatched.
    Acts,
}

/// A call that has its number and is not dispatched yet.
pub(crate) struct Asked {
    pub(crate) ordinal: u32,
    call: &'static str,
    request: Digest,
}

/// How a call ended, before it is recorded.
pub(crate) enum Answered<T> {
    /// The guest is told this, and it goes into the journal.
    Told(Result<T, Failure>, JournalEntry),
    /// The run ends with it; nothing goes into the journal, so the next run asks again.
    Ends(RunEnd),
}

impl Host {
    /// Answers one call. `dispatch` is given the call's number.
    ///
    /// # Errors
    /// The run has ended: divergence, suspension, a security failure, or the journal could not be kept.
    pub(crate) async fn answer<T, F>(
        &mut self,
        pass: Pass,
        reach: Reach,
        call: &'static str,
        request: &Value,
        dispatch: impl FnOnce(u32) -> F,
    ) -> wasmtime::Result<Told<T>>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, HostError>>,
    {
        let (asked, recorded) = self.ask(&pass, self.recorder.room(), call, request)?;
        if let Some(answer) = recorded {
            return self.replay(answer);
        }
        if reach == Reach::Acts {
            self.flush().await?;
        }
        let result = dispatch(asked.ordinal).await;
        match self.settle(asked, result) {
            Answered::Told(told, entry) => {
                self.keep(vec![entry]).await?;
                Ok(told.map_err(|failure| self.said.tell(failure)))
            }
            Answered::Ends(end) => Err(self.end_durably(end).await),
        }
    }

    /// Numbers a call and looks it up in the journal. `room` is what there was before the call, or before the first of
    /// several at once: a replayed run, which is told some of them, must find the same.
    ///
    /// # Errors
    /// The run has ended: it diverged, or has been answered all that it may be.
    pub(crate) fn ask(
        &mut self,
        _: &Pass,
        room: Room,
        call: &'static str,
        request: &Value,
    ) -> wasmtime::Result<(Asked, Option<Value>)> {
        let asked = Asked { ordinal: self.recorder.next_ordinal(), call, request: Digest::of_json(request) };
        if room == Room::None && !self.recorder.has(asked.ordinal) {
            let most = MAX_RECORDED >> 20;
            let message = format!(
                "the skill was answered more than the {most} MiB that are recorded of one run: ask for less, or do less \
                 in one task"
            );
            let failure = Failure::new(FailureKind::Permanent, codes::CALL_LIMIT, message);
            let (max, used) = (MAX_RECORDED as u64, self.recorder.weight() as u64);
            return Err(self.end(RunEnd::Failed(failure.limit(LimitName::Journal, max, used))));
        }
        let recorded = self.recorder.recall(asked.ordinal, call, &asked.request).map_err(|divergence| {
            let asked = format!("{call} {}", quoted(request));
            self.end(RunEnd::Diverged(Divergence { asked, ..divergence }))
        })?;
        self.tell_audience();
        Ok((asked, recorded))
    }

    /// What the journal says, as the guest is told it.
    ///
    /// # Errors
    /// The run has ended: the journal cannot be read.
    pub(crate) fn replay<T: DeserializeOwned>(&mut self, answer: Value) -> wasmtime::Result<Told<T>> {
        let told = self.decode(answer)?;
        Ok(told.map_err(|failure| self.said.tell(failure)))
    }

    fn decode<T: DeserializeOwned>(&mut self, mut answer: Value) -> wasmtime::Result<Result<T, Failure>> {
        let decoded = if let Some(ok) = answer.get_mut("ok") {
            serde_json::from_value(ok.take()).map(Ok)
        } else {
            serde_json::from_value(answer.get_mut("err").map(Value::take).unwrap_or_default()).map(Err)
        };
        decoded.map_err(|e| {
            let message = format!("a journal entry cannot be read: {e}");
            self.end(RunEnd::Failed(Failure::new(FailureKind::Permanent, codes::HOST, message)))
        })
    }

    /// Turns what a port said into what the guest is told and what is recorded.
    pub(crate) fn settle<T: Serialize>(&self, asked: Asked, result: Result<T, HostError>) -> Answered<T> {
        let told = match result {
            Ok(value) => self.fits(asked.call, value),
            Err(HostError::Suspend(approval)) => return Answered::Ends(RunEnd::Suspended(approval)),
            Err(HostError::End(failure)) => return Answered::Ends(RunEnd::Failed(failure)),
            Err(HostError::Failure(failure)) if failure.kind == FailureKind::Security => {
                return Answered::Ends(RunEnd::Failed(failure));
            }
            Err(HostError::Failure(failure)) => Err(failure),
        };
        let (told, answer) = match told {
            Ok((value, recorded)) => (Ok(value), recorded),
            Err(failure) => {
                let answer = AnswerText::from(&json!({ "err": &failure }));
                (Err(failure), answer)
            }
        };
        let Asked { ordinal, call, request } = asked;
        Answered::Told(told, JournalEntry { ordinal, call: call.into(), request, answer })
    }

    fn fits<T: Serialize>(&self, call: &str, value: T) -> Result<(T, AnswerText), Failure> {
        let recorded = AnswerText::ok(&value).map_err(|e| {
            Failure::new(FailureKind::Permanent, codes::HOST, format!("the answer of {call} is not JSON: {e}"))
        })?;
        let size = recorded.as_str().len() - r#"{"ok":}"#.len();
        if size > self.payload_bytes {
            let message = format!(
                "the answer of {call} is {size} bytes; at most {} are passed to a skill: ask for less",
                self.payload_bytes
            );
            return Err(Failure::new(FailureKind::Permanent, crate::codes::ANSWER_SIZE, message));
        }
        Ok((value, recorded))
    }

    /// Makes everything held back durable.
    pub(crate) async fn flush(&mut self) -> wasmtime::Result<()> {
        self.recorder.flush().await.map_err(|error| self.end_without_journal(&error))
    }

    /// Makes everything held back and these answers durable.
    pub(crate) async fn keep(&mut self, entries: Vec<JournalEntry>) -> wasmtime::Result<()> {
        self.recorder.keep(entries).await.map_err(|error| self.end_without_journal(&error))
    }

    /// Ends the run after making everything held back durable: the run that follows must get to this call again.
    pub(crate) async fn end_durably(&mut self, end: RunEnd) -> wasmtime::Error {
        match self.flush().await {
            Ok(()) => self.end(end),
            Err(ended) => ended,
        }
    }

    /// What decides among the ends of calls that were made at once: a security failure, then a human's no, then a
    /// question, then any other.
    pub(crate) fn worst(ends: Vec<RunEnd>) -> Option<RunEnd> {
        ends.into_iter().min_by_key(|end| match end {
            RunEnd::Failed(failure) if failure.kind == FailureKind::Security => 0,
            RunEnd::Failed(failure) if failure.code == codes::REFUSED => 1,
            RunEnd::Suspended(_) => 2,
            _ => 3,
        })
    }
}

/// A value as people are shown it: one printable line, cut.
fn quoted(value: &Value) -> String {
    let text = value.to_string();
    let whole = text.len();
    let cut = printable(&truncated(text, MAX_QUOTED));
    if whole > MAX_QUOTED { format!("{cut}… ({whole} bytes)") } else { cut }
}

/// The length of a value's JSON text, without writing it.
pub(crate) fn json_size(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and neither can writing what has only strings for keys.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}
