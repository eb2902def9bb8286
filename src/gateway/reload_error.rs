//! Why a config is not put in force: for the log, which shows the lines that are wrong, and for probes and pages, which
//! anybody may ask and which do not.
//!
//! The log shows what the start would show. Other than a start's, its reader did not type the command, so a line that
//! looks like it holds a password or a key is left out there too.

use crate::config::{Diagnostic, Source};

/// Why it was refused.
#[derive(Debug)]
pub(crate) struct ReloadError {
    /// Without any text of the config.
    pub(crate) message: String,
    /// With the lines.
    pub(crate) message_with_source: String,
}

/// What keys, values and paths hold that are nobody's business.
const SECRET_MARKERS: [&str; 13] = [
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

impl ReloadError {
    /// The findings, with their lines when the config's text is there.
    pub(crate) fn new(findings: &[Diagnostic], source: Option<&Source>) -> Self {
        let all = |shown: &dyn Fn(&Diagnostic) -> String| findings.iter().map(shown).collect();
        Self {
            message: all(&|finding| finding.render(None)),
            message_with_source: all(&|finding| {
                finding.render(source.filter(|source| !may_contain_secret(finding, source)))
            }),
        }
    }
}

fn may_contain_secret(finding: &Diagnostic, source: &Source) -> bool {
    let line = source.line(finding.span.line).unwrap_or_default().to_lowercase();
    // a line inside a block of text says nothing of what the text is; its path does
    let path = finding.span.path.to_lowercase();
    // without a path it is not known what the line belongs to; a URL may hold a password
    path.is_empty()
        || line.contains("://") && line.contains('@')
        || SECRET_MARKERS.iter().any(|word| line.contains(word) || path.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> ReloadError {
        let source = Source::new("gw.yaml", text.to_owned());
        let errors = crate::config::load(source.clone(), &|_| None).unwrap_err();
        ReloadError::new(&errors, Some(&source))
    }

    #[test]
    fn the_log_shows_the_line_and_others_do_not() {
        let refused = refused("binds:\n- port: 1\n  lissteners: []\n");
        assert!(refused.message_with_source.contains(" 3 |   lissteners: []\n"), "{}", refused.message_with_source);
        assert!(refused.message_with_source.contains("did you mean `listeners`?"), "{}", refused.message_with_source);
        assert!(refused.message.contains("gw.yaml:3:3") && !refused.message.contains(" | "), "{}", refused.message);
    }

    #[test]
    fn the_name_of_a_key_file_is_shown() {
        let refused = refused("binds:\n- port: 1\n  listeners:\n  - policies: {jwtAuth: {jwks: {file: 7}}}\n");
        assert!(refused.message_with_source.contains("jwks: {file: 7}"), "{}", refused.message_with_source);
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
            assert!(
                !refused.message_with_source.is_empty() && !refused.message_with_source.contains("s3cret"),
                "{policy}: {}",
                refused.message_with_source
            );
        }
    }
}
