//! `docs/benchmarks.md` is written from `docs/benchmarks.json`, which a run of the benches wrote: no figure in it is by hand.

use idem_bench_page::{Run, page};
use idem_checks::{generated, read};

#[test]
fn benchmarks_md_says_what_was_measured() {
    let run: Run =
        serde_json::from_str(&read("docs/benchmarks.json")).expect("a run of the benches wrote it");
    generated::check("docs/benchmarks.md", &page(&run), "benchmarks");
}
