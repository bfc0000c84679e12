//! What came of a run of the suite.

use std::fmt;
use std::time::Duration;

/// What came of every case of the suite.
#[derive(Debug)]
pub struct Report {
    pub(super) store: String,
    pub(super) cases: Vec<ReportedCase>,
}

/// What came of one case.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReportedCase {
    /// The name, which states the law in short.
    pub name: &'static str,
    /// The law.
    pub law: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took, with opening and closing the database.
    pub took: Duration,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The store keeps the law.
    Passed,
    /// The store breaks the law, in this way.
    Failed(String),
    /// The store cannot run the case, for this reason.
    Skipped(String),
}

impl Report {
    /// Returns all cases, in the order of the suite.
    pub fn cases(&self) -> &[ReportedCase] {
        &self.cases
    }

    /// Returns the names of the cases that failed.
    pub fn failures(&self) -> Vec<&'static str> {
        self.cases
            .iter()
            .filter(|case| matches!(case.verdict, Verdict::Failed(_)))
            .map(|case| case.name)
            .collect()
    }

    /// Returns the names of the cases that were skipped.
    pub fn skipped(&self) -> Vec<&'static str> {
        self.cases
            .iter()
            .filter(|case| matches!(case.verdict, Verdict::Skipped(_)))
            .map(|case| case.name)
            .collect()
    }

    /// Checks that no case failed and that at least one passed.
    ///
    /// # Panics
    ///
    /// With the whole report, if one did, or if nothing was tested.
    #[track_caller]
    pub fn assert(&self) {
        let passed = self.cases.iter().any(|case| case.verdict == Verdict::Passed);
        assert!(passed && self.failures().is_empty(), "the store breaks laws of conformance\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "conformance of {}", self.store)?;
        let width = self.cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
        for ReportedCase { name, law, verdict, took } in &self.cases {
            let millis = took.as_millis();
            match verdict {
                Verdict::Passed => writeln!(f, "  passed   {name:width$} {millis:>6} ms")?,
                Verdict::Skipped(why) => writeln!(f, "  skipped  {name:width$}           {why}")?,
                Verdict::Failed(why) => {
                    writeln!(f, "  FAILED   {name:width$} {millis:>6} ms")?;
                    writeln!(f, "           law: {law}")?;
                    writeln!(f, "           but: {why}")?;
                }
            }
        }
        let (failed, skipped) = (self.failures().len(), self.skipped().len());
        let passed = self.cases.len() - failed - skipped;
        let took: Duration = self.cases.iter().map(|case| case.took).sum();
        write!(f, "  {passed} passed, {failed} failed, {skipped} skipped in {:.1} s", took.as_secs_f64())
    }
}
