//! `chimera bench`: what is measured, and against what.
//!
//! Called by the dispatcher.

#[allow(dead_code, reason = "measured by `bench sandbox`")]
pub(crate) mod cold_start;
