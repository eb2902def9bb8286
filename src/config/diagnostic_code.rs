//! The ids of all findings. They are public: scripts filter by them, so an id never changes its meaning and is never reused.

use std::fmt;

use super::diagnostic::Severity;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal $title:literal,)+) => {
        /// The id of a kind of finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DiagnosticCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DiagnosticCode {
            /// All codes, errors first.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the id: `E` or `W` and three digits.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// Returns a short title.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// Returns the explanation: why the finding is reported, and what to do.
            pub fn explanation(self) -> String {
                match self { $(Self::$name => concat!($($doc, "\n"),+),)+ }.trim().replace("\n ", "\n")
            }
        }
    };
}

codes! {
    /// The file does not exist, cannot be read, is not UTF-8, or is longer than 4 MiB.
    UnreadableConfig = "E001" "the config file cannot be read",
    /// The text is not YAML 1.2, is nested too deeply, or uses tags or aliases that a config does not support.
    InvalidYaml = "E002" "invalid YAML",
    /// The key is not valid here. Unknown keys are never ignored, because a misspelled policy would protect nothing.
    UnknownKey = "E003" "unknown key",
    /// The value has the wrong type or format, or conflicts with other values.
    InvalidValue = "E004" "invalid value",
    /// A required key is missing.
    MissingKey = "E005" "missing key",
    /// The same key, name, address or policy is configured twice where only one is allowed.
    Duplicate = "E006" "duplicate",
    /// A reference to a gateway, listener, route or backend that does not exist. A policy whose target does not exist would
    /// protect nothing.
    UnknownName = "E007" "unknown name",
    /// A file that the config refers to does not exist or cannot be read. Relative paths are resolved against the working
    /// directory of the gateway.
    UnreadableFile = "E008" "a referenced file cannot be read",
    /// The expression does not parse, refers to something that does not exist, compares types that are never equal, or
    /// contains a part that always fails, such as an invalid date.
    InvalidExpression = "E009" "invalid CEL expression",
    /// The document is not a key set, or contains no key that can verify a token.
    NoUsableKeys = "E010" "no usable keys",
    /// `${NAME}` has no default, and the environment variable is not set. Write `$$` for a literal `$`.
    UnsetVariable = "E011" "environment variable is not set",
    /// The address is in use, does not belong to this machine, or requires a privilege that the process does not have.
    CannotBind = "E012" "cannot bind address",
    /// Only with `--online`: the host name of the backend does not resolve, the connection is refused, or the TLS handshake
    /// fails. The gateway would start, and respond with 502 or 503.
    UnreachableBackend = "E013" "backend is unreachable",
    /// Only with `--online`: the key server or its discovery document is unreachable, or returns no usable keys. The gateway
    /// would start, and reject tokens of this provider with 503.
    KeyFetchFailed = "E014" "cannot fetch keys",

    /// `jwtAuth` without `mode` is `optional`: requests without a token continue as anonymous. Set the mode explicitly.
    MissingMode = "W001" "mode is not set",
    /// Without `issuer`, tokens of any issuer are accepted if their key is in the key set.
    MissingIssuer = "W002" "no issuer",
    /// Without `audiences`, tokens that the issuer created for other services are accepted.
    MissingAudiences = "W003" "no audiences",
    /// `insecure: true` accepts any certificate: anyone on the network path can sign tokens, or read and modify requests.
    UnverifiedCertificate = "W004" "certificates are not verified",
    /// Keys are fetched over plain HTTP: anyone on the network path can replace them and sign any token.
    PlaintextKeyUrl = "W005" "keys are fetched over plain HTTP",
    /// `rules: []` rejects nothing.
    EmptyRules = "W006" "no rules",
    /// A listener or route replaces a stricter `jwtAuth` of a broader level with a weaker one. This is supported, but is
    /// easily done by mistake.
    WeakerThanParent = "W007" "weaker than a broader level",
    /// A deny rule that reads a claim without `has()` fails to evaluate for tokens without the claim, and a deny rule that
    /// fails rejects the request.
    DenyWithoutHas = "W008" "deny rule also rejects tokens without the claim",
    /// The rule reads nothing from the request and is always true.
    AlwaysTrue = "W009" "rule is always true",
    /// The rule reads nothing from the request and is never true, or compares with a value that never occurs: methods are
    /// upper case, hosts lower case, and paths start with a slash.
    NeverTrue = "W010" "condition is never true",
    /// One allow rule is enough, so an allow rule that is always true or a duplicate makes other rules redundant.
    RedundantRule = "W011" "rule has no effect",
    /// An earlier or more specific match takes every request that this route could match.
    UnreachableRoute = "W012" "route is unreachable",
    /// With HS256, HS384 or HS512, anyone who can verify a token can also create one.
    SharedSecret = "W013" "shared secret",
    /// A transformation sets a header from the token, but only `claimsToHeaders` and `payloadHeader` remove values that
    /// clients send. Where the transformation does not run or fails, the client's value reaches the backend.
    SpoofableHeader = "W014" "clients can send this identity header",
    /// A key of the key set cannot be used and is skipped.
    SkippedKey = "W015" "key is skipped",
    /// The policy is evaluated and logged, but never rejects a request.
    NeverRejects = "W016" "policy never rejects",
    /// The rule reads `jwt` on a route without `jwtAuth`, where no token is ever accepted.
    TokenNeverPresent = "W017" "rule reads a token where none is accepted",
    /// Only with `--online`: according to its `Date` header, the clock of the key server differs from the local clock by more
    /// than half of the provider's `leeway`. New tokens may be rejected as not yet valid, or old ones accepted for too long.
    ClockSkew = "W018" "clock difference",
    /// The rule calls `scopes(jwt)`, but the effective `jwtAuth` splits no claim, so the rule fails to evaluate. Set
    /// `splitClaims: [scope]`, or the claim that contains the words.
    ScopesNotSplit = "W019" "rule reads scopes, but no claim is split",
}

impl DiagnosticCode {
    /// Returns the severity: ids of errors start with `E`, those of warnings with `W`.
    pub fn severity(self) -> Severity {
        if self.as_str().starts_with('E') { Severity::Error } else { Severity::Warning }
    }
}

impl fmt::Display for DiagnosticCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_in_order() {
        let ids: Vec<_> = DiagnosticCode::ALL.iter().map(|code| code.as_str()).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
        assert!(ids.iter().all(|id| id.len() == 4));
    }

    #[test]
    fn explanations_are_plain_text() {
        for code in DiagnosticCode::ALL {
            let text = code.explanation();
            assert!(text.ends_with('.') && !text.starts_with(' '), "{code}: {text:?}");
        }
    }
}
