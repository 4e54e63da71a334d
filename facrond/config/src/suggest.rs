//! "did you mean".

/// Longer words are compared with nothing.
const LONGEST: usize = 64;

/// What belongs to the known word that is nearest to a misspelled one, if one is near at all.
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
