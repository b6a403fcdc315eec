//! "Did you mean …?"

/// The candidate nearest to a word, if one is near enough to be a slip of the keyboard.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word: Vec<char> = word.chars().take(WORD_CHARS_MAX).collect();
    let near_enough = (word.len() / 3).max(1);
    let letters = Letters::of(word.iter().copied());
    candidates
        .into_iter()
        .filter(|candidate| letters.may_be_near(candidate, near_enough))
        .take(CANDIDATES_MAX)
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= near_enough)
        // The text decides between equally near ones, so that the order of candidates does not.
        .min()
        .map(|(_, candidate)| candidate)
}

/// Candidates with nearly the same letters that are compared letter by letter.
const CANDIDATES_MAX: usize = 256;

/// How often each letter is in a word: a quick way to see that two words are not near each other.
struct Letters([i16; 32]);

impl Letters {
    fn of(word: impl Iterator<Item = char>) -> Self {
        let mut counts = [0; 32];
        for letter in word {
            counts[(u32::from(letter) % 32) as usize] += 1;
        }
        Self(counts)
    }

    /// One slip changes at most two of the counts by one.
    fn may_be_near(&self, other: &str, slips: usize) -> bool {
        let other = Self::of(other.chars().take(WORD_CHARS_MAX));
        let pairs = self.0.iter().zip(&other.0);
        let differing: usize = pairs.map(|(a, b)| usize::from(a.abs_diff(*b))).sum();
        differing <= 2 * slips
    }
}

/// Longer words are compared by their beginning: the table below grows with the product.
const WORD_CHARS_MAX: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().take(WORD_CHARS_MAX).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && from[i - 1] == *b && to[j - 1] == *a {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slips_are_taken_for_a_word() {
        let words = ["timeout", "retry", "route", "to"];
        assert_eq!(nearest("tiemout", words), Some("timeout"));
        assert_eq!(nearest("retrys", words), Some("retry"));
        assert_eq!(nearest("routes", words), Some("route"));
        assert_eq!(nearest("timeuot", words), Some("timeout"));
        assert_eq!(nearest("gateway", words), None);
        assert_eq!(nearest("", words), None);
    }
}
