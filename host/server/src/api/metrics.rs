//! What a supervisor and an autoscaler want to know, in Prometheus' text format (prometheus.io, "Exposition formats", version
//! 0.0.4).
//!
//! The figures are kept where they arise and are only written down here, so there is no registry to keep in step with them.
//! It changes nothing and names no campaign, task or skill. Asked by Prometheus and the like.

use super::{AppState, Problem};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use chimera_core::ports::listen::Heard;
use chimera_core::ports::{Notice, Truth};
use chimera_store::{LATENCY_BOUNDS_US, QueueFigures};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most kinds of events that are counted; the program has fewer.
const MOST_ACTIONS: usize = 256;

/// How often what has happened in this process since its start, by the action's name in the audit log.
#[derive(Debug, Default)]
pub struct EventCounts(Mutex<BTreeMap<String, u64>>);

impl EventCounts {
    /// Counts from now on, until the truth is closed.
    pub fn start(truth: &dyn Truth) -> Arc<Self> {
        let (counts, mut listener) = (Arc::new(Self::default()), truth.subscribe());
        let counting = counts.clone();
        tokio::spawn(async move {
            loop {
                match listener.next().await {
                    Heard::Notice(Notice::Audited(event)) => counting.count(&event.draft.action),
                    Heard::Notice(_) | Heard::Missed => {}
                    Heard::Closed => return,
                }
            }
        });
        counts
    }

    fn count(&self, action: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(action) {
            *count += 1;
        } else if counts.len() < MOST_ACTIONS {
            counts.insert(action.to_owned(), 1);
        }
    }
}

/// `GET /metrics`
pub(super) async fn show(State(state): State<AppState>) -> Result<impl IntoResponse, Problem> {
    let handles = state.handles();
    let planner = handles.config.planner_id.value.as_str();
    let depth = handles.queue.len(planner).await?;
    let oldest = state.truth().queued(None, 1).await?.first().map(|task| state.now().since(task.created_at));
    let mut page = Page::default();
    page.metric("chimera_queue_tasks", "gauge", "Tasks on the queue of this process's shard, claimed ones included");
    page.sample("chimera_queue_tasks", &[("planner", planner)], depth);
    page.metric(
        "chimera_queue_oldest_seconds",
        "gauge",
        "How long ago the oldest task that waits for a worker was made",
    );
    page.sample("chimera_queue_oldest_seconds", &[], oldest.unwrap_or(Duration::ZERO).as_secs_f64());
    page.metric("chimera_workers", "gauge", "Tasks that this process runs at once");
    let workers = if handles.works() { handles.config.workers.value } else { 0 };
    page.sample("chimera_workers", &[], workers);
    page.metric(
        "chimera_events_total",
        "counter",
        "What happened in this process, by the action's name in the audit log",
    );
    for (action, count) in &*handles.events.0.lock().unwrap_or_else(PoisonError::into_inner) {
        page.sample("chimera_events_total", &[("action", action)], count);
    }
    if let Some(stats) = handles.news.queue_stats() {
        page.metric("chimera_queue_in_use", "gauge", "Which queue is used: 1, and 0 for the others");
        for figures in &stats.queues {
            let is_used = u8::from(figures.role == stats.in_use);
            page.sample("chimera_queue_in_use", &[("queue", figures.role.as_str())], is_used);
        }
        page.metric("chimera_queue_switches_total", "counter", "How often another queue was used from then on");
        page.sample("chimera_queue_switches_total", &[], stats.switches);
        page.metric("chimera_queue_errors_total", "counter", "Operations on a queue that failed");
        for figures in &stats.queues {
            page.sample("chimera_queue_errors_total", &[("queue", figures.role.as_str())], figures.errors);
        }
        page.metric("chimera_queue_operation_seconds", "histogram", "What operations on a queue took");
        stats.queues.iter().for_each(|figures| page.histogram("chimera_queue_operation_seconds", figures));
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0))
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // What is written into a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram(&mut self, name: &str, figures: &QueueFigures) {
        let role = figures.role.as_str();
        let (mut below, bucket) = (0, format!("{name}_bucket"));
        let bounds = LATENCY_BOUNDS_US.iter().map(|bound| (*bound as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
        for (count, bound) in figures.buckets.iter().zip(bounds) {
            below += count;
            self.sample(&bucket, &[("queue", role), ("le", &bound)], below);
        }
        self.sample(&format!("{name}_sum"), &[("queue", role)], figures.total_us as f64 / 1e6);
        self.sample(&format!("{name}_count"), &[("queue", role)], below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_the_format() {
        let mut page = Page::default();
        page.metric("a_total", "counter", "What it is");
        page.sample("a_total", &[], 3);
        page.sample("a_total", &[("x", "one"), ("y", "a\"b\\c\nd")], 0.5);
        let expected = "# HELP a_total What it is\n# TYPE a_total counter\na_total 3\na_total{x=\"one\",y=\"a\\\"b\\\\c\\nd\"} 0.5\n";
        assert_eq!(page.0, expected);
    }
}
