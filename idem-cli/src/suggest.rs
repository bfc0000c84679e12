//! Did-you-mean: the job that is meant by a name that none has.

use strsim::osa_distance;

/// How many jobs are named at the most.
const NAMED: usize = 10;

/// Returns the ending of a message about an unknown job: the closest one, or those that there are.
pub(crate) fn instead_of(given: &str, known: &[&str]) -> String {
    // A third of the name may be wrong: more would suggest names that only share their length.
    let limit = (given.chars().count() / 3).max(1);
    let near = known.iter().map(|name| (osa_distance(given, name), name));
    match near.filter(|(distance, _)| *distance <= limit).min() {
        Some((_, name)) => format!("; did you mean {name}?"),
        None if known.is_empty() => String::from("; none has run there"),
        None => {
            let named = known[..known.len().min(NAMED)].join(", ");
            match known.len().saturating_sub(NAMED) {
                0 => format!("; there are {named}"),
                more => format!("; there are {named} and {more} more, which `idem jobs` shows"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_job() {
        assert_eq!(instead_of("fullfil", &["fulfil", "pay"]), "; did you mean fulfil?");
        assert_eq!(instead_of("apy", &["fulfil", "pay"]), "; did you mean pay?");
        assert_eq!(instead_of("payinvoice", &["pay", "pay_invoice"]), "; did you mean pay_invoice?");
    }

    #[test]
    fn another_name_finds_those_that_there_are() {
        assert_eq!(instead_of("refund", &["fulfil", "pay"]), "; there are fulfil, pay");
        assert_eq!(instead_of("refund", &[]), "; none has run there");
        let many: Vec<_> = (0..12).map(|number| format!("job_{number:02}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let said = instead_of("refund", &many);
        assert!(said.ends_with("job_09 and 2 more, which `idem jobs` shows"), "{said}");
    }
}
