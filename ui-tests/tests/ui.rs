//! Compiles every case and compares what the compiler says.

#[test]
fn every_mistake_is_explained_and_every_right_use_runs() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/pass/*.rs");
    cases.compile_fail("tests/fail/*.rs");
}
