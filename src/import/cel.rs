//! The CEL that an import writes: conditions that never fail to evaluate where the source would not.
//!
//! A condition is put together as a value and simplified before it is written, so that what is settled while importing
//! (a listener's port, a selector) leaves no trace in the rules. The one thing that can fail is a header whose value is
//! not UTF-8; the rule then refuses.

use std::fmt;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cond {
    /// Holds for every request.
    Always,
    /// Holds for none.
    Never,
    /// An expression that needs no brackets beside `&&`, `||` and behind `!`.
    Test(String),
    /// All hold.
    All(Vec<Cond>),
    /// At least one holds.
    Any(Vec<Cond>),
    /// It does not hold.
    Not(Box<Cond>),
}

impl Cond {
    /// Whether all hold.
    pub(super) fn all(conds: impl IntoIterator<Item = Cond>) -> Cond {
        let mut kept = Vec::new();
        for cond in conds {
            match cond {
                Cond::Always => {}
                Cond::Never => return Cond::Never,
                Cond::All(more) => kept.extend(more),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Cond::Always,
            1 => kept.remove(0),
            _ => Cond::All(kept),
        }
    }

    /// Whether one holds; none at all never does.
    pub(super) fn any(conds: impl IntoIterator<Item = Cond>) -> Cond {
        let mut kept = Vec::new();
        for cond in conds {
            match cond {
                Cond::Never => {}
                Cond::Always => return Cond::Always,
                Cond::Any(more) => kept.extend(more),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Cond::Never,
            1 => kept.remove(0),
            _ => Cond::Any(kept),
        }
    }

    /// Whether it does not hold.
    #[must_use]
    pub(super) fn negated(self) -> Cond {
        match self {
            Cond::Always => Cond::Never,
            Cond::Never => Cond::Always,
            Cond::Not(inner) => *inner,
            other => Cond::Not(Box::new(other)),
        }
    }

    /// A comparison.
    pub(super) fn test(expression: impl Into<String>) -> Cond {
        Cond::Test(expression.into())
    }

    fn fmt_inner(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cond::All(_) | Cond::Any(_) => write!(f, "({self})"),
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, parts: &[Cond], between: &str| {
            for (at, part) in parts.iter().enumerate() {
                f.write_str(if at > 0 { between } else { "" })?;
                part.fmt_inner(f)?;
            }
            Ok(())
        };
        match self {
            Cond::Always => f.write_str("true"),
            Cond::Never => f.write_str("false"),
            Cond::Test(text) => f.write_str(text),
            Cond::All(parts) => join(f, parts, " && "),
            Cond::Any(parts) => join(f, parts, " || "),
            Cond::Not(inner) => write!(f, "!({inner})"),
        }
    }
}

/// A string as a CEL literal.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list<'v>(values: impl IntoIterator<Item = &'v str>) -> String {
    let quoted: Vec<String> = values.into_iter().map(quote).collect();
    format!("[{}]", quoted.join(", "))
}

/// How a wildcard value of Istio is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pattern<'v> {
    /// `*`: anything that is not empty.
    Some,
    /// `abc*`.
    Prefix(&'v str),
    /// `*abc`.
    Suffix(&'v str),
    /// The value itself.
    Exact(&'v str),
}

impl<'v> Pattern<'v> {
    /// Reads a value of Istio's.
    pub(super) fn of(value: &'v str) -> Self {
        // a star in front counts before one at the end, which then is a star
        match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
            ("*", ..) => Self::Some,
            (_, Some(suffix), _) => Self::Suffix(suffix),
            (_, _, Some(prefix)) => Self::Prefix(prefix),
            _ => Self::Exact(value),
        }
    }
}

/// Whether the string `expression` is one of the values. `expression` must be a string, or be compared only exactly.
pub(super) fn string_in(expression: &str, patterns: &[Pattern<'_>]) -> Cond {
    let exact: Vec<&str> =
        patterns.iter().filter_map(|p| if let Pattern::Exact(value) = p { Some(*value) } else { None }).collect();
    let exact = match exact.as_slice() {
        [] => Cond::Never,
        [one] => Cond::test(format!("{expression} == {}", quote(one))),
        many => Cond::test(format!("{expression} in {}", list(many.iter().copied()))),
    };
    let others = patterns.iter().filter_map(|pattern| match pattern {
        Pattern::Exact(_) => None,
        Pattern::Some => Some(Cond::test(format!("{expression} != \"\""))),
        Pattern::Prefix(prefix) => Some(Cond::test(format!("{expression}.startsWith({})", quote(prefix)))),
        Pattern::Suffix(suffix) => Some(Cond::test(format!("{expression}.endsWith({})", quote(suffix)))),
    });
    Cond::any(std::iter::once(exact).chain(others.collect::<Vec<_>>()))
}

/// A path into the claims, as an expression that is null when something is absent, also without a token.
pub(super) fn claim(path: &[&str]) -> String {
    format!("claim(jwt, {})", list(path.iter().copied()))
}

/// Whether a claim is a string, and one of the values.
pub(super) fn claim_string(path: &[&str], patterns: &[Pattern<'_>]) -> Cond {
    if patterns.iter().all(|pattern| matches!(pattern, Pattern::Exact(_))) {
        return string_in(&claim(path), patterns);
    }
    let inner = Cond::all([Cond::test("type(c) == string"), string_in("c", patterns)]);
    Cond::test(format!("[{}].exists(c, {inner})", claim(path)))
}

/// Whether a claim is a list, and holds a string that is one of the values.
pub(super) fn claim_list(path: &[&str], patterns: &[Pattern<'_>]) -> Cond {
    let element = Cond::all([Cond::test("type(e) == string"), string_in("e", patterns)]);
    Cond::test(format!("[{}].exists(c, type(c) == list && c.exists(e, {element}))", claim(path)))
}

/// Whether a claim is a string of words, or a list, that holds one of the values.
pub(super) fn claim_words(path: &[&str], patterns: &[Pattern<'_>]) -> Cond {
    let element = Cond::all([Cond::test("type(e) == string"), string_in("e", patterns)]);
    let words = "(type(c) == string ? c.split(\" \") : c)";
    let guard = "type(c) == string || type(c) == list";
    Cond::test(format!("[{}].exists(c, ({guard}) && {words}.exists(e, {element}))", claim(path)))
}

/// Whether a header is there and its value is one of the values; for `*` it may be empty.
pub(super) fn header(name: &str, patterns: &[Pattern<'_>]) -> Cond {
    let name = quote(&name.to_ascii_lowercase());
    let there = Cond::test(format!("{name} in request.headers"));
    match patterns.contains(&Pattern::Some) {
        true => there,
        false => Cond::all([there, string_in(&format!("request.headers[{name}]"), patterns)]),
    }
}

/// Whether a request is a preflight as Envoy sees it: `OPTIONS` with both headers, none of them empty.
pub(super) fn preflight() -> Cond {
    let names = ["origin", "access-control-request-method"];
    let headers = names.iter().flat_map(|name| {
        let name = quote(name);
        [format!("{name} in request.headers"), format!("request.headers[{name}] != \"\"")]
    });
    Cond::all(std::iter::once("request.method == \"OPTIONS\"".to_owned()).chain(headers).map(Cond::test))
}

/// Whether an expression with a network address lies in a range; `None` for what is no address or range.
pub(super) fn address_in(expression: &str, range: &str) -> Option<Cond> {
    let range = match range.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => format!("{ip}/32"),
        Ok(std::net::IpAddr::V6(ip)) => format!("{ip}/128"),
        Err(_) => {
            crate::config::value::Cidr::try_from(range.to_owned()).ok()?;
            range.to_owned()
        }
    };
    Some(Cond::test(format!("cidr({}).containsIP({expression})", quote(&range))))
}

/// Whether an expression matches a regular expression as a whole; `None` when it is none here.
pub(super) fn whole_match(expression: &str, regex: &str) -> Option<Cond> {
    crate::config::value::Regex::try_from(regex.to_owned()).ok()?;
    Some(Cond::test(format!("{expression}.matches({})", quote(&format!("^(?:{regex})$")))))
}
