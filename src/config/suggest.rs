//! Suggestions for misspelled names.

/// Returns the candidate that `word` is probably a misspelling of.
pub(crate) fn nearest<'k>(word: &str, candidates: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| {
            let lowered = candidate.to_lowercase();
            let bare = |text: &str| text.replace(['_', '-'], "");
            // other case, other separators, or singular and plural count as equal
            let equivalent =
                bare(&lowered) == bare(&lower) || is_plural(&lower, &lowered) || is_plural(&lowered, &lower);
            (if equivalent { 0 } else { edit_distance(&lower, &lowered) }, candidate)
        })
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn is_plural(singular: &str, plural: &str) -> bool {
    let stem = singular.strip_suffix('y').map(|stem| format!("{stem}ies"));
    plural.strip_suffix('s') == Some(singular)
        || plural.strip_suffix("es") == Some(singular)
        || stem.as_deref() == Some(plural)
}

/// Returns the number of letters to add, remove, change or swap with their neighbor.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row_before_last: Vec<usize> = Vec::new();
    let mut last_row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last_row, j) + usize::from(x != y)).min(at(&last_row, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&row_before_last, j - 1).saturating_add(1));
            }
            row.push(best);
        }
        row_before_last = std::mem::replace(&mut last_row, row);
    }
    last_row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn similar_names_are_suggested() {
        let known = ["port", "listeners", "hostname", "jwtAuth", "policies", "minTLSVersion"];
        for (word, want) in [
            ("prot", Some("port")),
            ("listener", Some("listeners")),
            ("jwt_auth", Some("jwtAuth")),
            ("JWTAuth", Some("jwtAuth")),
            ("policy", Some("policies")),
            ("hostnames", Some("hostname")),
            ("min-tls-version", Some("minTLSVersion")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }
}
