//! Patterns for hosts and other values of requests.

use std::fmt;

/// A pattern for hosts: an exact name, or `*.suffix` for all names below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum HostPattern {
    /// This host only. Lower case, without a trailing dot.
    Exact(String),
    /// Every host below this name, which is kept without the `*.`.
    Suffix(String),
    /// Every host (`*`).
    Any,
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Ok(ip) = name.parse::<std::net::Ipv4Addr>() {
            return Ok(Self::Exact(ip.to_string()));
        }
        if let Some(Ok(ip)) =
            name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).map(str::parse::<std::net::Ipv6Addr>)
        {
            return Ok(Self::Exact(format!("[{ip}]")));
        }
        if name.contains("://") || name.contains('/') {
            return Err(format!("a hostname cannot contain a scheme or path: `{text}`"));
        }
        if name.contains(':') {
            return Err(format!("a hostname cannot contain a port here: `{text}`"));
        }
        let (suffix, labels) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        if labels.contains('*') {
            return Err(format!("`*` can replace only the first label, as in `*.example.com`: `{text}`"));
        }
        let label = |l: &str| {
            (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if labels.len() > 253 || !labels.split('.').all(label) {
            return Err(format!("not a hostname: `{text}`"));
        }
        Ok(if suffix { Self::Suffix(labels.to_owned()) } else { Self::Exact(labels.to_owned()) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A regular expression that must match a whole value. Its compiled size is bounded.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Regex {
    source: String,
    compiled: regex::Regex,
}

/// The maximum memory of a compiled expression.
const MAX_REGEX_SIZE: usize = 1 << 20;

impl Regex {
    /// Returns whether all of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// Returns the expression with its anchors.
    pub fn anchored(&self) -> &str {
        self.compiled.as_str()
    }

    /// Returns the expression of the config, without anchors.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl TryFrom<String> for Regex {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        let build = |text: &str| regex::RegexBuilder::new(text).size_limit(MAX_REGEX_SIZE).build();
        // without anchors first: `a)(b` would be valid between the anchors, and error messages would mention them
        let message = |error: regex::Error| match error {
            regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default().trim();
                format!("not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
            }
        };
        build(&source).map_err(message)?;
        // a comment at the end of a `(?x)` expression would include the closing bracket; a line break ends it
        let compiled = build(&format!("\\A(?:{source})\\z"))
            .or_else(|_| build(&format!("\\A(?:{source}\n)\\z")))
            .map_err(message)?;
        Ok(Self { source, compiled })
    }
}
