//! Has the crate rebuilt when a migration is added: `sqlx::migrate!` embeds the folder as it was at compile time.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/sqlite");
}
