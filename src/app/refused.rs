//! Why a config is not put in force: for the log, which shows the lines that are wrong, and for probes and pages, which
//! anybody may ask and which do not.
//!
//! The log shows what the start would show. Other than a start's, its reader did not type the command, so a line that
//! looks like it holds a password or a key is left out there too.

use crate::config::{Diagnostic, Source};

/// Why it was refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// Without any text of the config.
    pub(super) told: String,
    /// With the lines.
    pub(super) shown: String,
}

/// What keys, values and paths hold that are nobody's business.
const SECRET: [&str; 13] = [
    "kty",
    "\"k\"",
    "'k'",
    "inline",
    "htpasswd",
    "apikey",
    "backendauth",
    "key:",
    "password",
    "secret",
    "bearer ",
    "basic ",
    "headers",
];

impl Refused {
    /// The findings, with their lines when the config's text is there.
    pub(super) fn new(findings: &[Diagnostic], source: Option<&Source>) -> Self {
        let all = |shown: &dyn Fn(&Diagnostic) -> String| findings.iter().map(shown).collect();
        Self {
            told: all(&|finding| finding.render(None)),
            shown: all(&|finding| finding.render(source.filter(|source| !may_be_secret(finding, source)))),
        }
    }
}

fn may_be_secret(finding: &Diagnostic, source: &Source) -> bool {
    let line = source.line(finding.place.line).unwrap_or_default().to_lowercase();
    // a line inside a block of text says nothing of what the text is; its path does
    let path = finding.place.path.to_lowercase();
    // without a path it is not known what the line belongs to; a URL may hold a password
    path.is_empty()
        || line.contains("://") && line.contains('@')
        || SECRET.iter().any(|word| line.contains(word) || path.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Refused {
        let source = Source::new("gw.yaml", text.to_owned());
        let errors = crate::config::load(source.clone(), &|_| None).unwrap_err();
        Refused::new(&errors, Some(&source))
    }

    #[test]
    fn the_log_shows_the_line_and_others_do_not() {
        let refused = refused("binds:\n- port: 1\n  lissteners: []\n");
        assert!(refused.shown.contains(" 3 |   lissteners: []\n"), "{}", refused.shown);
        assert!(refused.shown.contains("did you mean `listeners`?"), "{}", refused.shown);
        assert!(refused.told.contains("gw.yaml:3:3") && !refused.told.contains(" | "), "{}", refused.told);
    }

    #[test]
    fn the_name_of_a_key_file_is_shown() {
        let refused = refused("binds:\n- port: 1\n  listeners:\n  - policies: {jwtAuth: {jwks: {file: 7}}}\n");
        assert!(refused.shown.contains("jwks: {file: 7}"), "{}", refused.shown);
    }

    #[test]
    fn a_line_with_a_key_or_a_password_is_not_shown() {
        let with = |policy: &str| format!("binds:\n- port: 1\n  listeners:\n  - policies: {policy}\n");
        for policy in [
            "{jwtAuth: {issuer: a, jwks: {inline: 's3cret', fil: b}}}",
            "{jwtAuth: {issuer: a, jwks: \"{\\\"keys\\\":[{\\\"kty\\\":\\\"oct\\\",\\\"k\\\":\\\"s3cret\\\"}]}\", odd: 1}}",
            "\n      basicAuth:\n        htpasswd: |\n          a:s3cret\n          b\n        odd: 1",
            "{basicAuth: {htpasswd: 'a:s3cret', odd: 1}}",
            "{apiKey: {keys: [{key: s3cret, odd: 1}]}}",
            "\n      basicAuth:\n        htpasswd: |\n          b:c\n       a: [s3cret",
            "{jwtAuth: {jwks: {url: 'http://a:s3cret@b', odd: 1}}}",
            "{jwtAuth: {jwks: {url: 'http://a', headers: {authorization: s3cret}, odd: 1}}}",
            "\n      jwtAuth:\n        jwks: |\n          {\"keys\": [{\"k\": \"s3cret\"}]}\n      odd: {",
        ] {
            let refused = refused(&with(policy));
            assert!(!refused.shown.is_empty() && !refused.shown.contains("s3cret"), "{policy}: {}", refused.shown);
        }
    }
}
