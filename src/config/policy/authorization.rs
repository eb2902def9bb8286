//! `authorization`: sets of rules in CEL. Rejects a rule without exactly one of `allow`, `deny` and `require`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::serde_shapes::StringOr;
use crate::config::span::Spanned;

/// Rules in CEL.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The enforcement of rejections; default `enforce`.
    #[serde(default)]
    pub mode: AuthorizationMode,
    /// The rules. An empty list rejects nothing.
    pub rules: Vec<RuleConfig>,
}

/// The enforcement of rejections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthorizationMode {
    /// Rejects the request.
    #[default]
    #[serde(alias = "Enforce")]
    Enforce,
    /// Logs and counts the rejection, and lets the request continue.
    #[serde(alias = "Shadow")]
    Shadow,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Spanned<StringOr<RawRule>>")]
#[schemars(with = "Spanned<StringOr<RawRule>>")]
pub struct RuleConfig {
    /// The rule's name in logs and metrics.
    pub name: Option<String>,
    /// The effect of the rule when it is true.
    pub kind: RuleKind,
    /// The CEL expression.
    pub cel: Spanned<String>,
}

/// The effect of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// At least one of these must be true, if there are any.
    Allow,
    /// None of these may be true.
    Deny,
    /// All of these must be true.
    Require,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRule {
    /// The rule's name in logs and metrics; default: its kind and its index in the list, such as `allow[0]`.
    name: Option<String>,
    /// If there are allow rules, one must be true. A rule that is a bare string is an allow rule.
    allow: Option<Spanned<String>>,
    /// Rejects the request if it is true, and if it fails to evaluate.
    deny: Option<Spanned<String>>,
    /// Rejects the request unless it is true.
    require: Option<Spanned<String>>,
}

impl TryFrom<Spanned<StringOr<RawRule>>> for RuleConfig {
    type Error = &'static str;
    fn try_from(raw: Spanned<StringOr<RawRule>>) -> Result<Self, Self::Error> {
        let map = match raw.value {
            StringOr::Text(cel) => {
                return Ok(Self { name: None, kind: RuleKind::Allow, cel: Spanned { value: cel, span: raw.span } });
            }
            StringOr::Other(map) => map,
        };
        let (kind, cel) = match (map.allow, map.deny, map.require) {
            (Some(cel), None, None) => (RuleKind::Allow, cel),
            (None, Some(cel), None) => (RuleKind::Deny, cel),
            (None, None, Some(cel)) => (RuleKind::Require, cel),
            (None, None, None) => return Err("a rule needs one of `allow`, `deny` and `require`"),
            _ => return Err("a rule has exactly one of `allow`, `deny` and `require`; write several rules"),
        };
        Ok(Self { name: map.name, kind, cel })
    }
}
