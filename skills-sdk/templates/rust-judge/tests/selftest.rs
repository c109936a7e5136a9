//! Runs every `[[selftest]]` of skill.toml natively. The host runs them again, in its sandbox, before it admits the judge.

#[test]
fn selftests() {
    chimera_skill::testing::run_judge_selftests!({{crate_name}}::evaluate);
}
