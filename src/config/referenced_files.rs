//! The files that a config refers to, which are watched in addition to the config.
//!
//! They are collected from the config, not while they are read, so that missing files are watched as well.

use std::path::PathBuf;

use super::Config;
use super::policy::{ApiKeyAuth, BasicAuthConfig, JwksSource, JwtAuthConfig, PoliciesConfig};
use super::route::{BackendAuth, BackendConfig};
use super::serde_shapes::StringOr;
use super::span::Spanned;

/// Returns the referenced files in the order of the config, possibly with duplicates.
pub fn referenced_files(config: &Config) -> Vec<&Spanned<PathBuf>> {
    let mut files = Vec::new();
    for listener in config.binds.iter().flat_map(|bind| &bind.listeners) {
        if let Some(tls) = &listener.tls {
            files.extend([&tls.cert, &tls.key].into_iter().chain(&tls.root));
        }
        policy_files(&listener.gateway_policies, &mut files);
        policy_files(&listener.policies, &mut files);
        for route in &listener.routes {
            policy_files(&route.policies, &mut files);
            route.backends.iter().for_each(|backend| backend_files(backend, &mut files));
        }
    }
    files
}

fn policy_files<'c>(policies: &'c PoliciesConfig, files: &mut Vec<&'c Spanned<PathBuf>>) {
    if let Some(jwt) = &policies.jwt_auth {
        jwt_files(jwt, files);
    }
    if let Some(BasicAuthConfig { htpasswd, .. }) = policies.basic_auth.as_deref()
        && let StringOr::Other(file) = &htpasswd.value
    {
        files.push(&file.file);
    }
    if let Some(ApiKeyAuth { keys, .. }) = policies.api_key.as_deref() {
        for key in keys {
            if let Some(StringOr::Other(file)) = key.key.as_ref().map(|key| &key.value) {
                files.push(&file.file);
            }
        }
    }
}

fn jwt_files<'c>(jwt: &'c JwtAuthConfig, files: &mut Vec<&'c Spanned<PathBuf>>) {
    for provider in &jwt.providers {
        match &provider.jwks.value {
            JwksSource::File(path) => files.push(path),
            JwksSource::Url(remote) => {
                let tls = &remote.tls;
                files.extend([&tls.root, &tls.cert, &tls.key].into_iter().flatten());
            }
            JwksSource::Inline(_) | JwksSource::Discover => {}
        }
    }
}

fn backend_files<'c>(backend: &'c BackendConfig, files: &mut Vec<&'c Spanned<PathBuf>>) {
    if let Some(tls) = &backend.policies.backend_tls {
        files.extend([&tls.root, &tls.cert, &tls.key].into_iter().flatten());
    }
    if let Some(BackendAuth::Key(StringOr::Other(file))) = backend.policies.backend_auth.as_deref() {
        files.push(&file.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    #[test]
    fn all_kinds_of_files_are_collected() {
        let yaml = r#"
binds:
- port: 1
  listeners:
  - tls: {cert: c1.pem, key: k1.pem, root: r1.pem}
    protocol: HTTPS
    policies:
      jwtAuth:
        providers:
        - {name: a, issuer: a, jwks: {file: jwks.json}}
        - {name: b, issuer: b, jwks: {url: "https://b/", tls: {root: r2.pem, cert: c2.pem, key: k2.pem}}}
      basicAuth: {htpasswd: {file: users}}
    routes:
    - policies: {apiKey: {keys: [{key: {file: apikey}}]}}
      backends:
      - host: a:1
        policies: {backendTLS: {root: r3.pem, cert: c3.pem, key: k3.pem}, backendAuth: {key: {file: secret}}}
"#;
        let loaded = load(Source::new("test.yaml", yaml.to_owned()), &|_| None).unwrap();
        let files: Vec<_> =
            referenced_files(&loaded.config).iter().map(|file| file.value.to_str().unwrap().to_owned()).collect();
        let expected = "c1.pem k1.pem r1.pem jwks.json r2.pem c2.pem k2.pem users apikey r3.pem c3.pem k3.pem secret";
        assert_eq!(files.join(" "), expected);
    }
}
