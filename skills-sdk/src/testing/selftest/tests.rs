use super::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
struct Input {
    n: i64,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    n: i64,
    year: u64,
}

fn double(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> {
    if input.n < 0 {
        return Err(Failure::invalid_input("negative", "n is negative"));
    }
    let seconds = ctx.now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let year = 1970 + seconds / 31_556_952;
    ctx.scratch().put("last", input.n)?;
    Ok(Outcome::new(Output { n: input.n * 2, year }).confidence(0.7))
}

fn run(tests: &str) -> Result<Vec<String>, SelftestError> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("chimera-selftest-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let head = "manifest = 1\n[skill]\nname = \"a/double\"\nversion = \"0.1.0\"\n[capabilities]\nscratch = true\n";
    std::fs::write(folder.join("skill.toml"), format!("{head}{tests}")).unwrap();
    let result = selftests(&folder, Some("0.1.0"), double);
    std::fs::remove_dir_all(&folder).unwrap();
    result
}

const PUT: &str = "answers = [{ call = \"scratch.put\", args = { key = \"last\" } }]";

#[test]
fn good_self_tests_pass() {
    let names = run(&format!(
        r#"
        [[selftest]]
        name = "doubles"
        input = {{ n = 4 }}
        clock = "2030-06-01T00:00:00Z"
        seed = 9
        {PUT}
        expect = {{ n = 8, year = 2030 }}
        min_confidence = 0.7
        [[selftest]]
        name = "refuses"
        input = {{ n = -1 }}
        expect_failure = {{ kind = "invalid-input", code = "negative" }}
        [[selftest]]
        name = "mismatch"
        input = {{ n = "x" }}
        expect_failure = {{ kind = "invalid-input", code = "input-mismatch" }}
        "#
    ))
    .unwrap();
    assert_eq!(names, ["doubles", "refuses", "mismatch"]);
}

#[test]
fn each_way_to_fail_is_told_apart() {
    let cases = [
        (format!("input = {{ n = 1 }}\n{PUT}\nexpect = {{ n = 3 }}"), "$.n: expected 3, found 2"),
        (format!("input = {{ n = 1 }}\n{PUT}\nmin_confidence = 0.8"), "confidence 0.7 is below 0.8"),
        (
            format!("input = {{ n = 1 }}\n{PUT}\nexpect_failure = {{ kind = \"denied\" }}"),
            "expected the failure denied, got the output",
        ),
        ("input = { n = -1 }".to_owned(), "the skill failed: invalid-input (negative)"),
        (
            "input = { n = -1 }\nexpect_failure = { kind = \"invalid-input\", code = \"other\" }".to_owned(),
            "got invalid-input (negative)",
        ),
        ("input = { n = 1 }".to_owned(), "no answer is recorded"),
        (format!("input = {{ n = -1 }}\n{PUT}\nexpect_failure = {{ kind = \"invalid-input\" }}"), "never asked for"),
        ("input = { n = 1 }\nclock = \"yesterday\"".to_owned(), "not RFC 3339"),
    ];
    for (test, part) in cases {
        let error = run(&format!("[[selftest]]\nname = \"it\"\n{test}\n")).unwrap_err().to_string();
        assert!(error.contains("1 of 1 self-tests of a/double failed") && error.contains(part), "{test}\n{error}");
    }
}

#[test]
fn the_manifest_itself_is_checked() {
    assert!(run("").unwrap_err().to_string().contains("no [[selftest]]"));
    let folder = std::env::temp_dir().join("chimera-selftest-not-there");
    assert!(matches!(selftests(folder, None, double), Err(SelftestError::Read { .. })));
}
