//! Label sets in the form in which the text format shows them.

use std::fmt::{self, Display, Write};

/// The labels of a series, with escaped values. No value may come from a claim or a raw path.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(String);

impl Labels {
    /// Creates a label set from names and unescaped values.
    pub fn new(labels: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (name, value) in labels {
            let comma = if text.is_empty() { "" } else { "," };
            // writing to a string does not fail
            let _ = write!(text, "{comma}{name}=\"{}\"", escape(value));
        }
        Self(text)
    }

    /// Returns this label set, followed by the labels of `other`.
    #[must_use]
    pub(super) fn with(&self, other: &Self) -> Self {
        let comma = if self.0.is_empty() || other.0.is_empty() { "" } else { "," };
        Self(format!("{}{comma}{}", self.0, other.0))
    }

    /// Returns the escaped value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut rest = self.0.as_str();
        while let Some((found, after)) = rest.split_once("=\"") {
            let end = closing_quote(after)?;
            let (value, after) = after.split_at_checked(end)?;
            if found == name {
                return Some(value);
            }
            rest = after.strip_prefix("\",")?;
        }
        None
    }
}

/// Formats the label set in braces, or as nothing when it is empty.
impl Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{{{}}}", self.0) }
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Returns the position of the quote that ends an escaped value.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_found_by_name() {
        let labels = Labels::new(&[("listener", "a\",route=\"x\\"), ("route", "b\n")]).with(&Labels::new(&[("z", "")]));
        assert_eq!(labels.to_string(), r#"{listener="a\",route=\"x\\",route="b\n",z=""}"#);
        assert_eq!(labels.get("listener"), Some(r#"a\",route=\"x\\"#));
        assert_eq!((labels.get("route"), labels.get("z"), labels.get("x")), (Some(r"b\n"), Some(""), None));
        assert_eq!((Labels::default().to_string(), Labels::default().get("a")), (String::new(), None));
        assert_eq!(Labels::default().with(&Labels::new(&[("a", "b")])), Labels::new(&[("a", "b")]));
    }
}
