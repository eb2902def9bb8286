//! Path conditions of Istio: exact, prefix, suffix, or a URI template of Envoy.

use crate::import::condition::{Condition, Pattern, full_match, string_in};

/// The characters of a path segment that Envoy's wildcards match: RFC 3986's `pchar` without `*` and `=`.
const SEGMENT: &str = "a-zA-Z0-9._~%!$&'()+,;:@";

/// Matches if the path is one of the values. Returns `None` if a template is invalid in Envoy.
pub(super) fn path_condition(values: &[&str]) -> Option<Condition> {
    let (templates, plain): (Vec<&str>, Vec<&str>) =
        values.iter().copied().partition(|value| value.contains("{*}") || value.contains("{**}"));
    let plain: Vec<Pattern<'_>> = plain.into_iter().map(Pattern::parse).collect();
    let templates: Vec<Condition> = templates
        .into_iter()
        .map(|template| template_regex(template).and_then(|regex| full_match("request.path", &regex)))
        .collect::<Option<_>>()?;
    Some(Condition::any(std::iter::once(string_in("request.path", &plain)).chain(templates)))
}

/// Converts a template into a regular expression. A wildcard is a whole segment. Text may follow it only at the very
/// end, and no wildcard may follow `{**}`.
fn template_regex(template: &str) -> Option<String> {
    let template = template.replace("{**}", "**").replace("{*}", "*");
    let segments: Vec<&str> = template.strip_prefix('/')?.split('/').collect();
    let is_literal = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@".contains(c));
    let (mut regex, mut any_depth) = (String::new(), false);
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        let (wildcard, rest) = match (segment.strip_prefix("**"), segment.strip_prefix('*')) {
            (Some(rest), _) => (Some(format!("[{SEGMENT}/-]*")), rest),
            (None, Some(rest)) => (Some(format!("[{SEGMENT}-]+")), rest),
            (None, None) => (None, *segment),
        };
        let misplaced = wildcard.is_some() && (any_depth || (!is_last && !rest.is_empty()));
        if misplaced || !is_literal(rest) || (segment.is_empty() && !is_last) {
            return None;
        }
        any_depth |= segment.starts_with("**");
        regex.push('/');
        regex.push_str(&wildcard.unwrap_or_default());
        regex.push_str(&regex::escape(rest));
    }
    Some(regex)
}
