//! `basicAuth`, `apiKey` and `extAuthz`, compiled.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::uri::PathAndQuery;

use super::policy;
use crate::auth::Location;
use crate::auth::{self, BasicAuth, CredentialPolicies};
use crate::authz::{Expression, Scope};
use crate::compile::{Compiler, carry_over, jwt_auth};
use crate::config::Effective;
use crate::config::policy::{
    ApiKeyAuth, AuthMode, BasicAuthConfig, ExtAuthzConfig, ExtAuthzProtocol, FailureMode, GrpcAuthz, HttpAuthz,
};
use crate::config::route::{BackendConfig, BackendPolicies, CredentialFile};
use crate::config::serde_shapes::StringOr;
use crate::config::span::Spanned;
use crate::digest::sha256;
use crate::policy::ext_authz::{BodyOptions, CheckTarget, ExtAuthz, HttpCheck, OnFailure, Protocol};
use crate::policy::header_modifier::protected_reason;
use crate::upstream::{self, Endpoint};

/// What the policy's own expressions see.
const REQUEST_SCOPE: Scope<'_> = Scope::Value { extra: &[] };
/// How long the deciding service may take, when the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);
/// How much of a body it sees, when the policy asks for the body and does not say.
const DEFAULT_BODY_LIMIT: usize = 8 << 10;

impl Compiler<'_> {
    /// What a request must show besides a bearer token; made once for all routes with the same policies.
    pub(in crate::compile) fn credentials(&mut self, effective: &Effective<'_>) -> Option<Arc<CredentialPolicies>> {
        let basic = policy(&effective.basic_auth);
        let keys = policy(&effective.api_key);
        let key = [basic.map(|p| p.span.start), keys.map(|p| p.span.start)];
        if key == [None, None] {
            return None;
        }
        if let Some(cached) = self.policy_cache.credentials.get(&key) {
            return Some(Arc::clone(cached));
        }
        let compiled = Arc::new(CredentialPolicies {
            basic: basic.and_then(|config| self.basic_auth(config)),
            api_key: keys.and_then(|config| self.api_keys(config)).map(Arc::new),
        });
        self.policy_cache.credentials.insert(key, Arc::clone(&compiled));
        Some(compiled)
    }

    /// Users with the same passwords, which an earlier config may have found good.
    fn basic_auth(&mut self, config: &Spanned<BasicAuthConfig>) -> Option<Arc<BasicAuth>> {
        let text = self.text_or_file(&config.htpasswd)?;
        let realm = config.realm.as_deref().unwrap_or("portcullis");
        let fingerprint =
            carry_over::fingerprint(&[text.as_bytes(), realm.as_bytes(), format!("{:?}", config.mode).as_bytes()]);
        match self
            .carry_over
            .basic_auths
            .get_or_build(fingerprint, || BasicAuth::new(&text, realm, mode(config.mode)).map(Arc::new))
        {
            Ok((policy, _)) => Some(policy),
            Err(message) => {
                self.error(&config.htpasswd.span, message);
                None
            }
        }
    }

    fn api_keys(&mut self, config: &Spanned<ApiKeyAuth>) -> Option<auth::ApiKeyAuth> {
        let mut keys = Vec::new();
        for entry in &config.keys {
            let digest = match (&entry.key, &entry.key_hash) {
                (Some(key_config), None) => {
                    let key = self.text_or_file(key_config)?;
                    if key.trim().is_empty() {
                        self.error(&key_config.span, "the key is empty");
                    }
                    sha256(&[key.trim().as_bytes()])
                }
                (None, Some(key_hash)) => match digest(key_hash) {
                    Some(digest) => digest,
                    None => {
                        self.error(
                            &key_hash.span,
                            "not `sha256:` and 64 hexadecimal digits; make one with `printf %s KEY | sha256sum`",
                        );
                        return None;
                    }
                },
                _ => {
                    self.error(&config.span, "each of `keys` has either `key` or `keyHash`");
                    return None;
                }
            };
            keys.push((digest, entry.metadata.clone()));
        }
        if keys.is_empty() {
            self.error(&config.span, "there is no key in `keys`, so nobody could pass");
        }
        let location = config.location.as_ref().and_then(jwt_auth::location).unwrap_or_else(Location::bearer);
        Some(auth::ApiKeyAuth::new(keys, location, mode(config.mode)))
    }

    fn text_or_file(&mut self, source: &Spanned<StringOr<CredentialFile>>) -> Option<String> {
        match &source.value {
            StringOr::Text(text) => Some(text.clone()),
            StringOr::Other(CredentialFile { file }) => match String::from_utf8(self.read_file(file)?) {
                Ok(text) => Some(text),
                Err(_) => {
                    self.error(&file.span, "the file is no text");
                    None
                }
            },
        }
    }

    pub(in crate::compile) fn ext_authz(&mut self, config: &Spanned<ExtAuthzConfig>) -> Option<ExtAuthz> {
        let protocol = match &config.protocol {
            None => self.grpc_authz(&GrpcAuthz::default()),
            Some(ExtAuthzProtocol::Grpc(grpc)) => self.grpc_authz(grpc),
            Some(ExtAuthzProtocol::Http(http)) => self.http_authz(http, config),
        };
        let endpoint = self.single_endpoint(&config.host)?;
        let grpc = matches!(protocol, Protocol::Grpc { .. });
        if grpc && endpoint.protocol == upstream::UpstreamProtocol::Http1 {
            self.error(&config.host.span, "gRPC needs HTTP/2, and this service is spoken to in HTTP/1.1");
        }
        let included_headers = config.include_request_headers.as_ref();
        let body = config.include_request_body.as_ref().map(|body| BodyOptions {
            max_bytes: body
                .max_request_bytes
                .map_or(DEFAULT_BODY_LIMIT, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
            allow_partial: body.allow_partial_message,
            as_bytes: body.pack_as_bytes,
        });
        if body.is_some_and(|portion| portion.max_bytes == 0) {
            self.error(
                &config.span,
                "`maxRequestBytes` is 0, so that no body could pass; leave `includeRequestBody` out",
            );
        }
        if let FailureMode::DenyWithStatus(status) = config.failure_mode
            && status.0.as_u16() < 400
        {
            self.error(&config.span, "`denyWithStatus` is a refusal's status: 400 to 599");
        }
        Some(ExtAuthz {
            endpoint,
            protocol,
            timeout: config.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.get()),
            request_headers: match included_headers {
                Some(names) => Some(names.iter().map(|name| name.0.clone()).collect()),
                None => (!grpc).then(|| [AUTHORIZATION, COOKIE].into()),
            },
            body,
            on_failure: match config.failure_mode {
                FailureMode::Deny => OnFailure::Deny,
                FailureMode::Allow => OnFailure::Allow,
                FailureMode::DenyWithStatus(status) => OnFailure::Status(status.0),
            },
        })
    }

    fn grpc_authz(&mut self, config: &GrpcAuthz) -> Protocol {
        let metadata = config.metadata.as_ref().map(|metadata| self.named_expressions(&metadata.0, String::clone));
        Protocol::Grpc { context: config.context.0.clone().into(), metadata }
    }

    fn http_authz(&mut self, config: &HttpAuthz, policy: &Spanned<ExtAuthzConfig>) -> Protocol {
        let response_headers: Vec<HeaderName> =
            config.include_response_headers.iter().map(|name| name.0.clone()).collect();
        for name in &response_headers {
            if let Some(reason) = protected_reason(name) {
                self.error(&policy.span, format!("the header `{name}` can't be taken over: {reason}"));
            }
        }
        for (name, cel) in &config.add_request_headers.0 {
            if let Some(reason) = protected_reason(&name.0) {
                self.error(&cel.span, format!("the header `{}` can't be made: {reason}", name.0));
            }
        }
        let prefix = config.path_prefix.as_deref().unwrap_or_default().trim_end_matches('/');
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.parse::<PathAndQuery>().is_err()) {
            self.error(&policy.span, format!("not a path: `{prefix}`; a path starts with `/`"));
        }
        let path = config.path.as_ref().and_then(|path| self.expression(path, REQUEST_SCOPE));
        if let (Some(path), Some(_)) = (&config.path, &config.path_prefix) {
            self.error(&path.span, "`path` says the whole path, so that `pathPrefix` has no place");
        }
        Protocol::Http(Box::new(HttpCheck {
            target: path.map_or_else(|| CheckTarget::Prefix(prefix.into()), CheckTarget::Expression),
            add: self.named_expressions(&config.add_request_headers.0, |name| name.0.clone()),
            response_headers: response_headers.into(),
            redirect: config.redirect.as_ref().and_then(|to| self.expression(to, REQUEST_SCOPE)),
            metadata: self.named_expressions(&config.metadata.0, String::clone),
        }))
    }

    /// Expressions with their names.
    fn named_expressions<N, M>(
        &mut self,
        entries: &[(N, Spanned<String>)],
        name: fn(&N) -> M,
    ) -> Box<[(M, Expression)]> {
        entries.iter().filter_map(|(key, cel)| Some((name(key), self.expression(cel, REQUEST_SCOPE)?))).collect()
    }

    /// The one endpoint of a policy's own service.
    pub(in crate::compile) fn single_endpoint(
        &mut self,
        host: &Spanned<crate::config::value::BackendHost>,
    ) -> Option<Arc<Endpoint>> {
        let backend = BackendConfig {
            name: None,
            hosts: vec![host.clone()],
            weight: 1,
            policies: BackendPolicies::default(),
            span: host.span.clone(),
        };
        self.backend(&backend).1.endpoints().first().cloned()
    }
}

fn mode(config: AuthMode) -> auth::AuthMode {
    match config {
        AuthMode::Strict => auth::AuthMode::Strict,
        AuthMode::Optional => auth::AuthMode::Optional,
        AuthMode::Permissive => auth::AuthMode::Permissive,
    }
}

/// The digest that `sha256:…` spells.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}
