//! The error of a reload, in two renderings: one for the log, which shows the affected lines of the config, and one for
//! probes and pages, which any client may request and which never show config text.
//!
//! The log shows what a start would show. Unlike the output of a start, its reader did not type the command, so a line
//! that may contain a password or a key is omitted there too.

use crate::config::{Diagnostic, Source};

/// The reason why a config was rejected.
#[derive(Debug)]
pub(crate) struct ReloadError {
    /// The findings without any text of the config.
    pub(crate) message: String,
    /// The findings with the affected lines.
    pub(crate) message_with_source: String,
}

/// Text of lines and paths that may contain a secret.
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
    /// Renders the findings, with their lines when the source is available.
    pub(crate) fn new(findings: &[Diagnostic], source: Option<&Source>) -> Self {
        let render_all = |render: &dyn Fn(&Diagnostic) -> String| findings.iter().map(render).collect();
        Self {
            message: render_all(&|finding| finding.render(None)),
            message_with_source: render_all(&|finding| {
                finding.render(source.filter(|source| !may_contain_secret(finding, source)))
            }),
        }
    }
}

fn may_contain_secret(finding: &Diagnostic, source: &Source) -> bool {
    let line = source.line(finding.span.line).unwrap_or_default().to_lowercase();
    // a line inside a block scalar does not show which key it belongs to; its path does
    let path = finding.span.path.to_lowercase();
    // without a path the key of the line is unknown; a URL may contain a password
    path.is_empty()
        || line.contains("://") && line.contains('@')
        || SECRET_MARKERS.iter().any(|word| line.contains(word) || path.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reload_error(text: &str) -> ReloadError {
        let source = Source::new("gw.yaml", text.to_owned());
        let errors = crate::config::load(source.clone(), &|_| None).unwrap_err();
        ReloadError::new(&errors, Some(&source))
    }

    #[test]
    fn only_the_log_shows_the_line() {
        let error = reload_error("binds:\n- port: 1\n  lissteners: []\n");
        assert!(error.message_with_source.contains(" 3 |   lissteners: []\n"), "{}", error.message_with_source);
        assert!(error.message_with_source.contains("did you mean `listeners`?"), "{}", error.message_with_source);
        assert!(error.message.contains("gw.yaml:3:3") && !error.message.contains(" | "), "{}", error.message);
    }

    #[test]
    fn the_name_of_a_key_file_is_shown() {
        let error = reload_error("binds:\n- port: 1\n  listeners:\n  - policies: {jwtAuth: {jwks: {file: 7}}}\n");
        assert!(error.message_with_source.contains("jwks: {file: 7}"), "{}", error.message_with_source);
    }

    #[test]
    fn a_line_that_may_contain_a_secret_is_not_shown() {
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
            let error = reload_error(&with(policy));
            assert!(
                !error.message_with_source.is_empty() && !error.message_with_source.contains("s3cret"),
                "{policy}: {}",
                error.message_with_source
            );
        }
    }
}
