//! Live progress of one campaign: bars on a terminal, plain lines elsewhere.
//!
//! It is shown snapshots of the truth and prints what changed since the last one; it reads nothing by itself and prints
//! to standard error only, so that standard output stays the command's result. Fed by `campaign watch` and `demo`.

use super::output::{Style, millis, one_line, tell};
use chimera_core::campaign::{CampaignState, CampaignView};
use chimera_core::ids::{StepId, TaskId};
use chimera_core::plan::{Step, StepState};
use chimera_core::task::{Task, TaskState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// Steps of a bar.
const BAR_STEPS: u64 = 1000;

/// What has been shown so far.
pub(crate) struct Live {
    surface: Surface,
    style: Style,
    shown: BTreeMap<StepId, Shown>,
    by_task: BTreeMap<TaskId, StepId>,
    was_planned: bool,
}

enum Surface {
    Bars(MultiProgress),
    Lines,
}

struct Shown {
    key: String,
    state: String,
    bar: Option<ProgressBar>,
}

impl Live {
    /// Bars if standard error is a terminal, lines if not.
    pub(crate) fn new() -> Self {
        let surface =
            if std::io::stderr().is_terminal() { Surface::Bars(MultiProgress::new()) } else { Surface::Lines };
        Self { surface, style: Style::stderr(), shown: BTreeMap::new(), by_task: BTreeMap::new(), was_planned: false }
    }

    /// A line of its own, above the bars.
    pub(crate) fn note(&self, line: &str) {
        match &self.surface {
            // A terminal that went away is nobody to tell.
            Surface::Bars(bars) => drop(bars.println(line)),
            Surface::Lines => tell(line),
        }
    }

    /// Draws nothing until [`Live::resume`]: something else uses the terminal, such as a question.
    pub(crate) fn pause(&self) {
        if let Surface::Bars(bars) = &self.surface {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Draws again.
    pub(crate) fn resume(&self) {
        if let Surface::Bars(bars) = &self.surface {
            bars.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Shows what changed.
    pub(crate) fn update(&mut self, view: &CampaignView) {
        if !self.was_planned && view.campaign.state != CampaignState::Planning {
            self.was_planned = true;
            let took = view.campaign.plan_ms.map_or(String::new(), |ms| format!(" in {}", millis(ms)));
            self.note(&format!("planned {} steps{took}", view.steps.len()));
        }
        for step in &view.steps {
            let task = step.task.and_then(|id| view.task(id));
            if let Some(task) = task {
                self.by_task.insert(task.id, step.id);
            }
            self.show(step, task);
        }
    }

    fn show(&mut self, step: &Step, task: Option<&Task>) {
        let state = state_of(step, task).to_owned();
        let is_over =
            matches!(step.state, StepState::Done | StepState::Failed | StepState::Superseded | StepState::Cancelled);
        let known = self.shown.get(&step.id).map(|shown| shown.state.clone());
        if known.as_deref() == Some(&state) {
            return;
        }
        let key = one_line(&step.planned.key, 28);
        let more = match task {
            Some(task) if is_over => outcome_of(task),
            _ => String::new(),
        };
        let line = format!("{} {}{more}", self.style.state(&state), step.planned.skill);
        let fresh = known.is_none().then(|| self.new_bar(&key)).flatten();
        let shown = self.shown.entry(step.id).or_insert_with(|| Shown { key, state: String::new(), bar: fresh });
        shown.state = state;
        match &shown.bar {
            // Finishing draws at once and for good: a message alone may wait for the next tick, which never comes.
            Some(bar) if step.state == StepState::Done => bar.finish_with_message(line),
            Some(bar) if is_over => bar.abandon_with_message(line),
            Some(bar) => {
                bar.set_message(line);
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            None => tell(&format!("{:<28} {line}", shown.key)),
        }
    }

    fn new_bar(&self, key: &str) -> Option<ProgressBar> {
        let Surface::Bars(bars) = &self.surface else { return None };
        let bar = bars.add(ProgressBar::new(BAR_STEPS));
        if let Ok(style) = ProgressStyle::with_template("{prefix:28} {bar:16} {msg}") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(key.to_owned());
        Some(bar)
    }

    /// Shows how far along a running task is.
    pub(crate) fn progress(&mut self, task: TaskId, fraction: f64, message: &str) {
        let Some(shown) = self.by_task.get(&task).and_then(|step| self.shown.get(step)) else { return };
        // Hints may come late: what is no longer running makes no progress.
        if shown.state != TaskState::Running.as_str() {
            return;
        }
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        let message = one_line(message, 80);
        match &shown.bar {
            Some(bar) => {
                bar.set_position((fraction * BAR_STEPS as f64) as u64);
                bar.set_message(format!("running {message}"));
            }
            None => tell(&format!("{:<28} {:>3.0} % {message}", shown.key, fraction * 100.0)),
        }
    }

    /// Leaves the bars as they are; nothing is drawn afterwards.
    pub(crate) fn finish(&self) {
        for bar in self.shown.values().filter_map(|shown| shown.bar.as_ref()).filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}

/// The state worth showing: the task's while it is being worked on, the step's otherwise.
pub(crate) fn state_of(step: &Step, task: Option<&Task>) -> &'static str {
    match (step.state, task.map(|task| task.state)) {
        (StepState::Active | StepState::Done, Some(state)) => state.as_str(),
        (StepState::Failed, Some(state @ (TaskState::Rejected | TaskState::Failed))) => state.as_str(),
        (StepState::Waiting, _) => "waiting",
        (StepState::Active, None) => "pending",
        (StepState::Done, None) => "done",
        (StepState::Failed, _) => "failed",
        (StepState::Superseded, _) => "superseded",
        (StepState::Cancelled, _) => "cancelled",
    }
}

fn outcome_of(task: &Task) -> String {
    let confidence = task.confidence().map_or(String::new(), |value| format!(", confidence {value:.2}"));
    let failure =
        task.failure.as_ref().map_or(String::new(), |failure| format!(": {}", one_line(&failure.message, 120)));
    format!(" ({}{confidence}){failure}", millis(task.usage.wall_ms))
}
