//! Suggestions for misspelled words: "did you mean".

/// Longer words get no suggestion.
const LONGEST: usize = 64;

/// The value of the known word that is most similar to a misspelled one, if one is similar.
pub(super) fn nearest<'a, T>(word: &str, known: impl Iterator<Item = (&'a str, T)>) -> Option<T> {
    if word.len() > LONGEST {
        return None;
    }
    known
        .map(|(near, what)| (strsim::damerau_levenshtein(word, near), near, what))
        .filter(|(distance, near, _)| *distance <= near.len().div_ceil(3).min(3))
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., what)| what)
}
