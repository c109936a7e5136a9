//! What every implementation of `Truth`, `Queue`, `Scratch` and `RateLimits` must do.
//!
//! Each function takes an empty store and asserts; none knows what it runs on. Called by one test file an
//! implementation through [`truth_contract!`] and [`queue_contract!`].
#![allow(unreachable_pub, missing_docs, reason = "the names of the tests say what they are for")]
#![allow(clippy::cloned_ref_to_slice_refs, reason = "the values compared read better")]
#![allow(dead_code, reason = "not every implementation is both a truth and a queue")]
#![allow(async_fn_in_trait, reason = "only tests implement them")]

pub mod audit;
pub mod commits;
pub mod fixtures;
pub mod model;
pub mod pace;
pub mod queue;
pub mod rates;
pub mod reads;
pub mod scratch;
pub mod transport;

/// Makes a test of every function of the truth's contract; `$open` gives `(Arc<dyn Truth>, guard)`.
#[macro_export]
macro_rules! truth_contract {
    ($open:path) => {
        truth_contract!(@tests $open,
            commits::a_long_change_is_kept_whole_or_not_at_all,
            commits::every_guard_holds_or_makes_the_change_stale,
            commits::the_first_broken_guard_is_named,
            commits::neighbours_of_stale_and_failing_changes_are_applied,
            commits::a_failing_write_leaves_nothing,
            commits::of_two_changes_from_the_same_revision_one_is_stale,
            commits::writes_are_applied_whatever_their_order,
            commits::listeners_hear_what_was_committed,
            commits::changes_handed_over_together_are_each_by_themselves,
            commits::a_view_is_one_moment,
            audit::the_events_of_a_task_are_found_among_others,
            audit::chains_hold_after_concurrent_commits_from_fifty_tasks,
            audit::details_keep_their_hash,
            audit::pages_of_a_chain_fit_together,
            audit::each_chain_has_the_head_of_its_last_event,
            reads::every_noun_reads_back_as_written,
            reads::putting_again_replaces,
            reads::runs_of_a_version_on_trial_are_counted_and_no_others,
            reads::tasks_are_filtered_and_newest_first,
            reads::waiting_tasks_come_oldest_first_page_by_page,
            reads::a_refused_change_is_not_read,
            reads::campaigns_are_filtered_and_newest_first,
            reads::approvals_are_filtered_and_oldest_first,
            reads::leases_and_retries_come_due,
            reads::what_does_not_exist_is_none,
            reads::scratch_expires,
            reads::trends_are_summed_within_the_window,
            reads::of_an_agents_observations_the_newest_are_kept,
            reads::weights_that_cannot_be_added_up_are_refused,
            reads::full_memory_forgets_the_oldest,
            reads::memory_stays_within_its_limits_whoever_writes,
            reads::scratch_has_room_for_so_much,
            reads::hostile_text_is_only_text,
            transport::the_journal_takes_an_entry_once,
            transport::an_effect_is_in_the_ledger_once,
            transport::a_skill_version_is_immutable,
            transport::due_outbox_rows_are_claimed_by_priority,
            transport::an_outbox_row_is_claimed_by_one,
            transport::an_unfinished_outbox_claim_is_claimed_again,
        );
    };
    (@tests $open:path, $($module:ident :: $name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _guard) = $open().await;
                contract::$module::$name(store).await;
            }
        )*
    };
}

/// Makes a test of every function of the queue's contract; `$open` gives `(Arc<dyn Queue>, impl Pace, guard)`.
#[macro_export]
macro_rules! queue_contract {
    ($open:path) => {
        paced_contract!(
            queue,
            $open,
            tasks_come_by_priority_then_age,
            every_priority_has_its_place,
            more_tasks_than_go_at_once_are_all_put_on,
            a_task_is_on_the_queue_once,
            a_claimed_task_is_hidden_until_its_time,
            each_claim_lasts_as_long_as_it_said,
            a_late_receipt_does_not_take_a_newer_claim_away,
            a_receipt_is_worth_nothing_after_the_task_was_queued_anew,
            released_claims_come_back,
            a_task_is_claimed_by_one,
            shards_do_not_see_each_other,
            a_foreign_receipt_is_refused
        );
    };
}

/// Makes a test of every function of the contract of ephemeral memory; `$open` gives `(scratch::Setup, impl Pace, guard)`.
#[macro_export]
macro_rules! scratch_contract {
    ($open:path) => {
        paced_contract!(
            scratch,
            $open,
            a_value_reads_back_until_it_is_replaced_or_deleted,
            hostile_keys_are_only_keys,
            a_value_is_forgotten_at_its_time,
            there_is_room_for_so_many_bytes,
            there_is_room_for_so_many_keys_whoever_writes,
            a_run_that_was_fenced_off_changes_nothing
        );
    };
}

/// Makes a test of every function of the contract of rate limits; `$open` gives `(Arc<dyn RateLimits>, impl Pace, guard)`.
#[macro_export]
macro_rules! rates_contract {
    ($open:path) => {
        paced_contract!(
            rates,
            $open,
            so_many_calls_are_allowed_within_a_window,
            calls_are_forgotten_one_after_the_other,
            agents_have_windows_of_their_own,
            a_limit_of_no_calls_allows_none,
            of_many_at_once_only_so_many_are_allowed
        );
    };
}

/// The tests of a contract by which time goes.
#[macro_export]
macro_rules! paced_contract {
    ($module:ident, $open:path, $($name:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (subject, pace, _guard) = $open().await;
                $crate::contract::$module::$name(subject, &pace).await;
            }
        )*
    };
}
