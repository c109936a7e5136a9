//! The planner: reads goals, makes plans, and keeps every campaign moving.
//!
//! The decomposer decides what is to be done, the scheduler turns every event into a change of the truth. No skill runs
//! here. Called by the API, the CLI, the workers and the judge.

pub mod campaign_file;
pub mod decomposer;
pub mod scheduler;

mod binder;
mod canaries;
mod catalogue;
mod clauses;
mod explicit;
mod loops;
mod replan;
mod schema;
mod standalone;
mod words;

pub use catalogue::{list_names, nearest_names};
pub(crate) use replan::stuck_step;
pub(crate) use schema::{Need, gates, properties};
pub(crate) use standalone::Taken;
pub use standalone::{ASSIGN_WAIT, AssignSpec, AssignStatus, Assigned, LeasedTask, NewTask};
