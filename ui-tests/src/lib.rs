//! UI tests of idem's macros: one file a case, named after the mistake, under `tests/fail` and `tests/pass`.
