//! Compiles every case and compares what the compiler says.

// Two tests, since mistakes are checked all at once only where nothing has to run.

#[test]
fn every_mistake_is_explained() {
    trybuild::TestCases::new().compile_fail("tests/fail/*.rs");
}

#[test]
fn every_right_use_runs() {
    trybuild::TestCases::new().pass("tests/pass/*.rs");
}
