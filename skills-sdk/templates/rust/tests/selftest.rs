//! Runs every `[[selftest]]` of skill.toml natively. The host runs them again, in its sandbox, before it admits the skill.

#[test]
fn selftests() {
    chimera_skill::testing::run_selftests!({{crate_name}}::run);
}
