//! The workers: lease ready tasks, run their skills, report what came out.
//!
//! The pool takes tasks, the executor runs one, the reporter says what became of it; the scheduler alone writes. A worker
//! judges nothing. Started by the swarm; the reporter is also what `POST /report_result` calls.

pub mod executor;
pub mod pool;
pub mod ports;
pub mod replay;
pub mod reporter;

mod callee;
mod deferred;
