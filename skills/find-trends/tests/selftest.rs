//! Runs every `[[selftest]]` of skill.toml natively.

#[test]
fn selftests() {
    chimera_skill::testing::run_selftests!(find_trends::find_trends);
}
