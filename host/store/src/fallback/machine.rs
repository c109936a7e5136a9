//! Which queue is in use, decided: a state machine over what the operations and the probes have shown.
//!
//! Pure: the present (as the time since the start) and chance are parameters, and nothing is asked or told. Called by
//! [`super`], which does both.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Which of the queues it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueRole {
    /// The one that is wanted.
    Primary,
    /// Used while the primary fails, if there is one.
    Backup,
    /// Used while every other one fails. It is never left for a worse one, because there is none.
    Last,
}

impl QueueRole {
    /// Its name, as in metrics and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::Last => "last",
        }
    }
}

impl fmt::Display for QueueRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a queue is left and when it is come back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackTerms {
    /// An operation that takes longer is slow.
    pub slow: Duration,
    /// So many slow operations in a row are as bad as one that fails; at least 1.
    pub slow_in_row: u32,
    /// An operation that takes longer is given up, and has failed.
    pub gives_up: Duration,
    /// So many good probes in a row bring a queue back; at least 1.
    pub good_probes: u32,
    /// The pause before the first probe, and between good ones. After each failure it is twice as long.
    pub probe_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A queue that was in use for so long without failing is trusted as if it never had failed.
    pub settled: Duration,
}

impl Default for FallbackTerms {
    /// Three operations over 100 ms or one that fails or takes 1.5 s; three good probes, 250 ms to 30 s apart; trusted after
    /// a minute.
    fn default() -> Self {
        Self {
            slow: Duration::from_millis(100),
            slow_in_row: 3,
            gives_up: Duration::from_millis(1500),
            good_probes: 3,
            probe_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
            settled: Duration::from_secs(60),
        }
    }
}

/// What an operation or a probe has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done within this time.
    Done(Duration),
    /// It was not done.
    Failed(String),
}

/// Why another queue is used now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why", content = "detail")]
pub enum SwitchReason {
    /// An operation failed; what it said, without secrets.
    Failed(String),
    /// So many operations in a row were slow.
    Slow(u32),
    /// So many probes in a row were good.
    Back(u32),
}

impl fmt::Display for SwitchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(what) => write!(f, "it failed: {what}"),
            Self::Slow(in_row) => write!(f, "{in_row} operations in a row were slow"),
            Self::Back(probes) => write!(f, "{probes} probes in a row were good"),
        }
    }
}

/// From one queue to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Switch {
    pub(super) from: QueueRole,
    pub(super) to: QueueRole,
    pub(super) why: SwitchReason,
}

/// The queues from the best to the last, which of them is in use, and what is known of those that are better.
#[derive(Debug)]
pub(super) struct Machine {
    terms: FallbackTerms,
    standings: Vec<Standing>,
    in_use: usize,
    /// Since when it is.
    since: Duration,
    slow_in_row: u32,
}

#[derive(Debug)]
struct Standing {
    role: QueueRole,
    /// Operations and probes that failed since it was last trusted.
    failures: u32,
    good_probes: u32,
    /// Only of those that are better than the one in use.
    next_probe: Option<Duration>,
}

impl Machine {
    /// Of these queues, from the best to the last; the best is in use.
    pub(super) fn new(roles: impl IntoIterator<Item = QueueRole>, terms: FallbackTerms) -> Self {
        let standing = |role| Standing { role, failures: 0, good_probes: 0, next_probe: None };
        let standings = roles.into_iter().map(standing).collect();
        Self { terms, standings, in_use: 0, since: Duration::ZERO, slow_in_row: 0 }
    }

    pub(super) fn in_use(&self) -> QueueRole {
        self.standings[self.in_use].role
    }

    /// Was it left because it failed?
    pub(super) fn was_left(&self, role: QueueRole) -> bool {
        role < self.in_use()
    }

    /// Hears of an operation.
    pub(super) fn done(&mut self, role: QueueRole, outcome: Outcome, now: Duration, chance: f64) -> Option<Switch> {
        // What was begun before a switch says nothing of the queue that is used now.
        if role != self.in_use() {
            return None;
        }
        let why = match outcome {
            Outcome::Failed(what) => SwitchReason::Failed(what),
            Outcome::Done(took) if took > self.terms.slow => {
                self.slow_in_row = self.slow_in_row.saturating_add(1);
                if self.slow_in_row < self.terms.slow_in_row {
                    return None;
                }
                SwitchReason::Slow(self.slow_in_row)
            }
            Outcome::Done(_) => {
                self.slow_in_row = 0;
                if now.saturating_sub(self.since) >= self.terms.settled {
                    self.standings[self.in_use].failures = 0;
                }
                return None;
            }
        };
        let from = self.in_use;
        if from + 1 == self.standings.len() {
            self.slow_in_row = 0;
            return None;
        }
        self.fail(from, now, chance);
        Some(self.switch(from + 1, why, now))
    }

    /// Hears of a probe.
    pub(super) fn probed(&mut self, role: QueueRole, outcome: Outcome, now: Duration, chance: f64) -> Option<Switch> {
        let at = self.standings[..self.in_use].iter().position(|standing| standing.role == role)?;
        let is_good = matches!(outcome, Outcome::Done(took) if took <= self.terms.slow);
        if !is_good {
            self.fail(at, now, chance);
            return None;
        }
        let standing = &mut self.standings[at];
        standing.good_probes += 1;
        standing.next_probe = Some(now + self.terms.probe_pause);
        let probes = standing.good_probes;
        (probes >= self.terms.good_probes).then(|| self.switch(at, SwitchReason::Back(probes), now))
    }

    /// The queues to probe now, the best first.
    pub(super) fn due(&self, now: Duration) -> Vec<QueueRole> {
        let is_due = |standing: &&Standing| standing.next_probe.is_some_and(|at| at <= now);
        self.standings.iter().filter(is_due).map(|standing| standing.role).collect()
    }

    /// When the next probe is due; never while the best queue is in use.
    pub(super) fn next_probe(&self) -> Option<Duration> {
        self.standings.iter().filter_map(|standing| standing.next_probe).min()
    }

    fn fail(&mut self, at: usize, now: Duration, chance: f64) {
        let pause = self.pause(self.standings[at].failures, chance);
        let standing = &mut self.standings[at];
        standing.failures = standing.failures.saturating_add(1);
        standing.good_probes = 0;
        standing.next_probe = Some(now + pause);
    }

    /// Twice as long after each failure, and of that a half to all: hosts that lost one queue do not probe it together.
    fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doubled = self.terms.probe_pause.saturating_mul(1 << failures.min(20));
        doubled.min(self.terms.longest_pause).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    fn switch(&mut self, to: usize, why: SwitchReason, now: Duration) -> Switch {
        let switch = Switch { from: self.in_use(), to: self.standings[to].role, why };
        self.in_use = to;
        self.since = now;
        self.slow_in_row = 0;
        for standing in &mut self.standings[to..] {
            standing.good_probes = 0;
            standing.next_probe = None;
        }
        switch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [QueueRole; 3] = [QueueRole::Primary, QueueRole::Backup, QueueRole::Last];
    const GOOD: Outcome = Outcome::Done(Duration::from_millis(1));
    const SLOW: Outcome = Outcome::Done(Duration::from_millis(101));

    fn bad() -> Outcome {
        Outcome::Failed("no".to_owned())
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn machine() -> Machine {
        Machine::new(ALL, FallbackTerms::default())
    }

    #[test]
    fn one_failure_moves_on_and_good_probes_move_back() {
        let mut machine = machine();
        let switch = machine.done(QueueRole::Primary, bad(), at(0), 1.0).expect("a switch");
        assert_eq!((switch.from, switch.to), (QueueRole::Primary, QueueRole::Backup));
        assert_eq!(machine.next_probe(), Some(at(250)));
        assert_eq!(machine.due(at(249)), []);
        assert_eq!(machine.due(at(250)), [QueueRole::Primary]);
        assert_eq!(machine.probed(QueueRole::Primary, GOOD, at(250), 1.0), None);
        assert_eq!(machine.probed(QueueRole::Primary, SLOW, at(500), 1.0), None, "slow is not good");
        assert_eq!(machine.next_probe(), Some(at(1000)), "twice the pause");
        for probe in [1000, 1250] {
            assert_eq!(machine.probed(QueueRole::Primary, GOOD, at(probe), 1.0), None);
        }
        let switch = machine.probed(QueueRole::Primary, GOOD, at(1500), 1.0).expect("a switch");
        assert_eq!((switch.to, switch.why), (QueueRole::Primary, SwitchReason::Back(3)));
        assert_eq!(machine.next_probe(), None);
    }

    #[test]
    fn three_slow_ones_in_a_row_move_on() {
        let mut machine = machine();
        for outcome in [SLOW, SLOW, GOOD, SLOW, SLOW] {
            assert_eq!(machine.done(QueueRole::Primary, outcome, at(0), 0.0), None);
        }
        let switch = machine.done(QueueRole::Primary, SLOW, at(0), 0.0).expect("a switch");
        assert_eq!(switch.why, SwitchReason::Slow(3));
        assert_eq!(machine.done(QueueRole::Primary, bad(), at(0), 0.0), None, "it was left before");
    }

    #[test]
    fn a_queue_that_fails_whenever_it_is_back_is_come_back_to_more_seldom() {
        let mut machine = Machine::new([QueueRole::Primary, QueueRole::Last], FallbackTerms::default());
        let (mut now, mut pauses) = (at(0), Vec::new());
        for _ in 0..10 {
            machine.done(QueueRole::Primary, bad(), now, 1.0).expect("left");
            let first = machine.next_probe().expect("a probe");
            pauses.push(first - now);
            now = first;
            while machine.in_use() == QueueRole::Last {
                now = machine.next_probe().expect("a probe");
                machine.probed(QueueRole::Primary, GOOD, now, 1.0);
            }
        }
        assert!(pauses.is_sorted() && pauses[0] == at(250) && pauses[9] == at(30_000), "{pauses:?}");
        now += at(60_000);
        assert_eq!(machine.done(QueueRole::Primary, GOOD, now, 1.0), None);
        machine.done(QueueRole::Primary, bad(), now, 1.0).expect("left");
        assert_eq!(machine.next_probe(), Some(now + at(250)), "it was trusted again");
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![Just(GOOD), Just(SLOW), Just(bad())]
    }

    #[derive(Debug, Clone)]
    enum Event {
        Done(usize, Outcome),
        Probed(usize, Outcome),
        Wait(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..3_usize, outcome()).prop_map(|(role, outcome)| Event::Done(role, outcome)),
            (0..3_usize, outcome()).prop_map(|(role, outcome)| Event::Probed(role, outcome)),
            (0..100_000_u64).prop_map(Event::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_happens_the_rules_hold(events in proptest::collection::vec(event(), 0..200), chance in 0.0..1.0) {
            let mut machine = machine();
            let terms = FallbackTerms::default();
            let mut now = Duration::ZERO;
            // A naive account of the same: good probes in a row of each, slow operations in a row of the one in use.
            let (mut good, mut slow) = ([0; 3], 0);
            for event in events {
                let before = machine.in_use();
                let switch = match event {
                    Event::Wait(millis) => { now += at(millis); None }
                    Event::Done(role, outcome) => {
                        let role = ALL[role];
                        if role == before {
                            slow = if outcome == SLOW { slow + 1 } else { 0 };
                        }
                        let must = role == before && before != QueueRole::Last && (outcome == bad() || slow == 3);
                        let switch = machine.done(role, outcome, now, chance);
                        prop_assert_eq!(switch.is_some(), must);
                        prop_assert!(switch.as_ref().is_none_or(|switch| switch.to > switch.from));
                        if before == QueueRole::Last && slow == 3 { slow = 0; }
                        switch
                    }
                    Event::Probed(role, outcome) => {
                        let is_better = ALL[role] < before;
                        good[role] = if outcome == GOOD { good[role] + 1 } else { 0 };
                        let must = is_better && good[role] >= 3;
                        let switch = machine.probed(ALL[role], outcome, now, chance);
                        if !is_better { good[role] = 0; }
                        prop_assert_eq!(switch.is_some(), must);
                        prop_assert!(switch.as_ref().is_none_or(|switch| switch.to == ALL[role]));
                        switch
                    }
                };
                if let Some(switch) = switch {
                    prop_assert_eq!((switch.from, switch.to), (before, machine.in_use()));
                    slow = 0;
                    good[switch.to as usize..].fill(0);
                    // The one that was left starts anew too.
                    if switch.to > switch.from { good[switch.from as usize] = 0; }
                } else {
                    prop_assert_eq!(machine.in_use(), before);
                }
                // Every better queue is probed, none else, and none is waited for longer than the longest pause.
                let awaited = machine.standings.iter().filter(|standing| standing.next_probe.is_some()).count();
                prop_assert_eq!(awaited, machine.in_use);
                let latest = machine.standings.iter().filter_map(|standing| standing.next_probe).max();
                prop_assert!(latest.is_none_or(|at| at <= now + terms.longest_pause));
            }
            // Once everything is good again, the best one is back soon.
            let mut probes = 0;
            while machine.in_use() != QueueRole::Primary {
                now = now.max(machine.next_probe().expect("a probe"));
                for role in machine.due(now) {
                    probes += 1;
                    machine.probed(role, GOOD, now, chance);
                }
                prop_assert!(probes < 20 && !machine.due(now).contains(&QueueRole::Last));
            }
        }
    }
}
