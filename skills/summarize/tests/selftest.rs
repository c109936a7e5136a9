//! Runs every `[[selftest]]` of skill.toml natively.

#[test]
fn selftests() {
    chimera_skill::testing::run_selftests!(summarize::summarize);
}
