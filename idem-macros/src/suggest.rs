//! Did-you-mean: the known word that a misspelt one is closest to.

/// Returns the ending of a message about an unknown word: the closest known one, or all of them.
pub(crate) fn instead_of(given: &str, known: &[&str]) -> String {
    match closest(given, known) {
        Some(word) => format!("; did you mean `{word}`?"),
        None => match known {
            [] => String::new(),
            [only] => format!("; write `{only}`"),
            [init @ .., last] => format!("; write `{}` or `{last}`", init.join("`, `")),
        },
    }
}

/// Returns the known word that is within a few typing mistakes of `given`.
pub(crate) fn closest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // A third of the word may be wrong: more would suggest words that only share their length.
    let limit = (given.chars().count() / 3).max(1);
    known
        .iter()
        .map(|word| (distance(given, word), *word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Counts the insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    rows[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                replaced.min(swapped).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_word() {
        assert_eq!(closest("rwo", &["row", "none"]), Some("row"));
        assert_eq!(closest("retian", &["retain", "replay"]), Some("retain"));
        assert_eq!(closest("paymentid", &["payment_id", "order_id"]), Some("payment_id"));
    }

    #[test]
    fn another_word_finds_nothing() {
        assert_eq!(closest("ttl", &["key", "retain"]), None);
        assert_eq!(closest("x", &["order_id"]), None);
    }
}
