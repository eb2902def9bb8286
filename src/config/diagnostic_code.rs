//! The ids of everything that `validate` can find. They are public: scripts filter by them, so an id is never given to
//! something else and never reused.

use std::fmt;

use super::diagnostic::Severity;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal $title:literal,)+) => {
        /// What kind of finding it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DiagnosticCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DiagnosticCode {
            /// Every code, errors first.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The id: `E` or `W` and three digits.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// What the id means, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// Why it is found, and what to do.
            pub fn explanation(self) -> String {
                match self { $(Self::$name => concat!($($doc, "\n"),+),)+ }.trim().replace("\n ", "\n")
            }
        }
    };
}

codes! {
    /// The file is not there, can't be read, is not UTF-8, or is longer than 4 MiB.
    UnreadableConfig = "E001" "the config file can't be read",
    /// The text is not YAML 1.2, is nested too deeply, or uses tags or aliases in a way that has no meaning here.
    InvalidYaml = "E002" "the text is not YAML",
    /// No such key is known at this place. Unknown keys are never skipped: a policy that is misspelt would protect
    /// nothing.
    UnknownKey = "E003" "unknown key",
    /// The value has the wrong type or form, or does not go with what stands beside it.
    InvalidValue = "E004" "a value that can't be",
    /// A key that must be written is not there.
    MissingKey = "E005" "something is missing",
    /// The same key, name, address or policy stands twice where there can be one.
    Duplicate = "E006" "written twice",
    /// A name (of a gateway, listener, route, backend) that nothing has. A policy whose target does not exist would
    /// protect nothing.
    UnknownName = "E007" "a name that nothing has",
    /// A file that the config names is not there or can't be read. Relative paths start at the directory that the
    /// gateway runs in.
    UnreadableFile = "E008" "a file that the config names can't be read",
    /// The expression does not parse, names something that does not exist, compares what is never equal, or has a part
    /// that always fails, such as a date that is none.
    InvalidExpression = "E009" "a CEL expression that can't be",
    /// The key set has no key that could verify a token, or is no key set.
    NoUsableKeys = "E010" "no usable keys",
    /// `${NAME}` without a default, and the environment has no such variable. A literal `$` is written `$$`.
    UnsetVariable = "E011" "an environment variable is not set",
    /// The address is taken, not this machine's, or needs a right that the process lacks.
    CannotBind = "E012" "an address can't be listened on",
    /// Only with `--online`: the backend's name has no address, nobody answers there, or TLS does not come about. The
    /// gateway would start, and answer 502 or 503.
    UnreachableBackend = "E013" "a backend can't be reached",
    /// Only with `--online`: the key server or its discovery document can't be reached, or gives no usable keys. The
    /// gateway would start, and answer 503 to whoever brings a token of this provider.
    KeyFetchFailed = "E014" "keys can't be fetched",

    /// `jwtAuth` without `mode` is `optional`: a request without a token goes on as anonymous. Write the mode.
    MissingMode = "W001" "the mode is not written",
    /// Without `issuer`, a token of anybody whose key is in the set is accepted.
    MissingIssuer = "W002" "no issuer",
    /// Without `audiences`, a token that the issuer made for another service is accepted here as well.
    MissingAudiences = "W003" "no audiences",
    /// `insecure: true` accepts any certificate: whoever stands in between can sign tokens, or read and change requests.
    UnverifiedCertificate = "W004" "certificates are not checked",
    /// Keys over plain HTTP: whoever stands in between can replace them and sign any token.
    PlaintextKeyUrl = "W005" "keys come over plain HTTP",
    /// `rules: []` refuses nothing.
    EmptyRules = "W006" "no rules",
    /// A listener or route replaces a stricter `jwtAuth` of the level above it with a weaker one. That is how it works,
    /// but it is easily written by mistake.
    WeakerThanParent = "W007" "weaker than the level above",
    /// A deny that reads a claim without `has()` fails to evaluate for a token that lacks the claim, and a deny that
    /// fails refuses.
    DenyWithoutHas = "W008" "a deny that refuses whoever lacks a claim",
    /// The rule reads nothing of the request and is always true.
    AlwaysTrue = "W009" "a rule that is always true",
    /// The rule reads nothing of the request and is never true, or compares with a value that never comes: methods are
    /// upper case, hosts lower case, and a path begins with a slash.
    NeverTrue = "W010" "a condition that can never be true",
    /// One allow rule is enough, so an allow that is always true or stands there twice makes others useless.
    RedundantRule = "W011" "a rule that makes no difference",
    /// An earlier or more specific match takes every request that this one could take.
    UnreachableRoute = "W012" "a route that is never reached",
    /// With HS256, HS384 or HS512 whoever can check a token can also make one.
    SharedSecret = "W013" "a shared secret",
    /// A transformation writes a header from the token, but only `claimsToHeaders` and `payloadHeader` remove what
    /// clients send under that name: where the transformation does not run or fails, the client's own value passes.
    SpoofableHeader = "W014" "an identity header that clients can send",
    /// A key of the set can't be used and is left out.
    SkippedKey = "W015" "a key is left out",
    /// The policy judges and records, and refuses nobody.
    NeverRejects = "W016" "a policy that refuses nobody",
    /// The rule reads `jwt` on a route without `jwtAuth`, where no token is ever accepted.
    TokenNeverPresent = "W017" "a rule reads a token where none is accepted",
    /// Only with `--online`: by its `Date` header, the key server's clock differs from this machine's by more than half
    /// of the provider's `leeway`. New tokens are refused as not yet valid, or old ones accepted too long.
    ClockSkew = "W018" "clocks that differ",
    /// The rule calls `scopes(jwt)`, and the `jwtAuth` that holds there splits no claim, so the rule fails to evaluate:
    /// write `splitClaims: [scope]`, or whichever claim holds the words.
    ScopesNotSplit = "W019" "a rule reads scopes where no claim is split",
}

impl DiagnosticCode {
    /// Errors begin with `E`, warnings with `W`.
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
