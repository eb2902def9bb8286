//! Did you mean …?

/// The word among `known` that `written` was probably meant to be.
pub(super) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = written.to_lowercase();
    let allowed = (written.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|word| {
            let candidate = word.to_lowercase();
            let bare = |text: &str| text.replace(['_', '-'], "");
            // Another case, other separators, or one and many: as good as the same word.
            let same = bare(&candidate) == bare(&lower) || plural(&lower, &candidate) || plural(&candidate, &lower);
            (if same { 0 } else { distance(&lower, &candidate) }, word)
        })
        .filter(|(distance, word)| *distance <= allowed && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn plural(one: &str, many: &str) -> bool {
    let stem = one.strip_suffix('y').map(|stem| format!("{stem}ies"));
    many.strip_suffix('s') == Some(one) || many.strip_suffix("es") == Some(one) || stem.as_deref() == Some(many)
}

/// How many letters have to be added, removed, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1).saturating_add(1));
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["port", "listeners", "hostname", "jwtAuth", "policies", "minTLSVersion"];
        for (written, want) in [
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
            assert_eq!(nearest(written, known), want, "{written}");
        }
    }
}
