//! Expansion of `${VAR}` and `${VAR:-default}` in string values. It runs after the YAML is parsed, so that a value of the
//! environment can never become structure. `$$` is a literal `$`; any other `$` is kept.

use std::borrow::Cow;

/// Returns the value of an environment variable.
pub type EnvLookup<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The content of the braces.
struct Variable<'t> {
    name: &'t str,
    default: Option<&'t str>,
}

impl<'t> Variable<'t> {
    /// Parses the content of the braces. Returns `None` if it is not a variable.
    fn parse(body: &'t str) -> Option<Self> {
        let (name, default) = match body.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (body, None),
        };
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let is_valid = first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_valid.then_some(Self { name, default })
    }
}

/// Returns the names of the variables in a text in which `$$` is not an escape.
pub(crate) fn variable_names(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|from| Some(Variable::parse(from.split_once('}')?.0)?.name))
}

/// Returns a text that expands to `text`, except for the variables that `retain` selects.
pub(crate) fn escape(text: &str, retain: impl Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after_dollar = from.get(1..).unwrap_or_default();
        let braces = after_dollar.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let retained = braces.filter(|(body, _)| Variable::parse(body).is_some_and(|variable| retain(variable.name)));
        rest = match retained {
            Some((body, after)) => {
                out.push_str("${");
                out.push_str(body);
                out.push('}');
                after
            }
            None => {
                out.push_str(if after_dollar.starts_with(['$', '{']) { "$$" } else { "$" });
                after_dollar
            }
        };
    }
    out.push_str(rest);
    out
}

/// Returns whether the text contains a variable.
pub(super) fn has_variable(text: &str) -> bool {
    text.contains("${")
}

/// Returns the text with its variables expanded.
pub(super) fn expand<'t>(text: &'t str, env: EnvLookup<'_>) -> Result<Cow<'t, str>, String> {
    if !text.contains("${") && !text.contains("$$") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(inner) = from.strip_prefix("${") {
            let (body, after) =
                inner.split_once('}').ok_or("`${` has no closing `}`; write `$${` for a literal `${`")?;
            let Some(Variable { name, default }) = Variable::parse(body) else {
                return Err(format!("`${{{body}}}` is not a variable; write `$${{…}}` for a literal"));
            };
            // As in a shell, `:-` also replaces an empty variable.
            match (env(name), default) {
                (Some(value), None) => out.push_str(&value),
                (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (None, None) => {
                    return Err(format!(
                        "the environment variable `{name}` is not set; `${{{name}:-…}}` gives a default"
                    ));
                }
            }
            rest = after;
        } else {
            out.push('$');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("a: [b]\nc: ${HOST}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_expanded() {
        for (text, want) in [
            ("${HOST}:1", "db:1"),
            ("${HOST}${HOST}", "dbdb"),
            ("${NONE:-x}", "x"),
            ("${NONE:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("$$$$", "$$"),
            ("$HOST ^a$ $1", "$HOST ^a$ $1"),
            ("a$", "a$"),
            ("${TRICK}", "a: [b]\nc: ${HOST}"),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn escape_retains_selected_variables() {
        for (text, want) in [
            ("${A}/x", "${A}/x"),
            ("${A:-b}", "${A:-b}"),
            ("${B}", "$${B}"),
            ("^/a$", "^/a$"),
            ("^a${2}$", "^a$${2}$"),
            ("$${A}", "$$${A}"),
            ("$A $1", "$A $1"),
            ("${A", "$${A"),
            ("$$", "$$$"),
        ] {
            assert_eq!(escape(text, |name| name == "A"), want, "{text}");
        }
        assert_eq!(variable_names("${A} $${B:-x} ${} ${1} ${C").collect::<Vec<_>>(), ["A", "B"]);
    }

    #[test]
    fn invalid_variables_are_errors() {
        for text in ["${NONE}", "${HOST", "${}", "${1}", "${a b}", "${HOST:x}", "${:-x}"] {
            assert!(expand(text, &env).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_without_dollars_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, &env).unwrap(), text.as_str());
        }

        #[test]
        fn an_escaped_text_comes_back(text in "\\PC*|[$${}A:-]*|(\\$\\{A\\}|\\$|\\{|x){0,9}") {
            let escaped = escape(&text, |_| false);
            prop_assert_eq!(expand(&escaped, &|_| None).unwrap(), &*text);
            // with each variable standing for itself, also when they are kept
            let itself = |name: &str| Some(format!("${{{name}}}"));
            if !text.contains(":-") {
                let kept = escape(&text, |_| true);
                prop_assert_eq!(expand(&kept, &itself).unwrap(), text);
            }
        }

        #[test]
        fn doubled_dollars_give_any_text_back(text in "\\PC*") {
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(expand(&doubled, &env).unwrap(), text);
        }
    }
}
