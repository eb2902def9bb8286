//! `basicAuth`, `apiKey` and `extAuthz`, compiled.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::uri::PathAndQuery;

use super::effective;
use crate::auth::Location;
use crate::authz::{Expression, Scope};
use crate::compile::{Compiler, auth, kept};
use crate::config::place::Located;
use crate::config::policy::{
    ApiKeyAuth, AuthMode, BasicAuth as BasicAuthConfig, ExtAuthz as ExtAuthzConfig, ExtAuthzProtocol, FailureMode,
    GrpcAuthz, HttpAuthz, Policies,
};
use crate::config::route::{Backend, BackendPolicies, KeyFile};
use crate::config::shape::TextOr;
use crate::policy::credentials::{ApiKeys, BasicAuth, Credentials, Mode, sha256};
use crate::policy::ext_authz::{ExtAuthz, Http, OnFailure, Portion, Protocol, Target};
use crate::policy::headers::refusal;
use crate::upstream::{self, Endpoint};

/// What the policy's own expressions see.
const JUDGED: Scope<'_> = Scope::Value { extra: &[] };
/// How long the deciding service may take, when the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);
/// How much of a body it sees, when the policy asks for the body and does not say.
const DEFAULT_PORTION: usize = 8 << 10;

impl Compiler<'_> {
    /// What a request must show besides a bearer token; made once for all routes with the same policies.
    pub(in crate::compile) fn credentials(&mut self, levels: &[&Policies]) -> Option<Arc<Credentials>> {
        let basic = effective(levels, |level| &level.basic_auth);
        let keys = effective(levels, |level| &level.api_key);
        let key = [basic.map(|p| p.place.start), keys.map(|p| p.place.start)];
        if key == [None, None] {
            return None;
        }
        if let Some(made) = self.made.credentials.get(&key) {
            return Some(Arc::clone(made));
        }
        let made = Arc::new(Credentials {
            basic: basic.and_then(|written| self.basic_auth(written)),
            api_key: keys.and_then(|written| self.api_keys(written)).map(Arc::new),
        });
        self.made.credentials.insert(key, Arc::clone(&made));
        Some(made)
    }

    /// Users with the same passwords, which an earlier config may have found good.
    fn basic_auth(&mut self, written: &Located<BasicAuthConfig>) -> Option<Arc<BasicAuth>> {
        let text = self.text_or_file(&written.htpasswd)?;
        let realm = written.realm.as_deref().unwrap_or("portcullis");
        let name = kept::name(&[text.as_bytes(), realm.as_bytes(), format!("{:?}", written.mode).as_bytes()]);
        match self.kept.logins.get(name, || BasicAuth::new(&text, realm, mode(written.mode)).map(Arc::new)) {
            Ok((policy, _)) => Some(policy),
            Err(why) => {
                self.error(&written.htpasswd.place, why);
                None
            }
        }
    }

    fn api_keys(&mut self, written: &Located<ApiKeyAuth>) -> Option<ApiKeys> {
        let mut keys = Vec::new();
        for entry in &written.keys {
            let digest = match (&entry.key, &entry.key_hash) {
                (Some(written), None) => {
                    let key = self.text_or_file(written)?;
                    if key.trim().is_empty() {
                        self.error(&written.place, "the key is empty");
                    }
                    sha256(key.trim().as_bytes())
                }
                (None, Some(written)) => match digest(written) {
                    Some(digest) => digest,
                    None => {
                        self.error(
                            &written.place,
                            "not `sha256:` and 64 hexadecimal digits; make one with `printf %s KEY | sha256sum`",
                        );
                        return None;
                    }
                },
                _ => {
                    self.error(&written.place, "each of `keys` has either `key` or `keyHash`");
                    return None;
                }
            };
            keys.push((digest, entry.metadata.clone()));
        }
        if keys.is_empty() {
            self.error(&written.place, "there is no key in `keys`, so nobody could pass");
        }
        let location = written.location.as_ref().and_then(auth::location).unwrap_or_else(Location::bearer);
        Some(ApiKeys::new(keys, location, mode(written.mode)))
    }

    fn text_or_file(&mut self, written: &Located<TextOr<KeyFile>>) -> Option<String> {
        match &written.value {
            TextOr::Text(text) => Some(text.clone()),
            TextOr::Other(KeyFile { file }) => match String::from_utf8(self.read(file)?) {
                Ok(text) => Some(text),
                Err(_) => {
                    self.error(&file.place, "the file is no text");
                    None
                }
            },
        }
    }

    pub(in crate::compile) fn ext_authz(&mut self, written: &Located<ExtAuthzConfig>) -> Option<ExtAuthz> {
        let protocol = match &written.protocol {
            None => self.grpc_authz(&GrpcAuthz::default()),
            Some(ExtAuthzProtocol::Grpc(grpc)) => self.grpc_authz(grpc),
            Some(ExtAuthzProtocol::Http(http)) => self.http_authz(http, written),
        };
        let endpoint = self.endpoint_of(&written.host)?;
        let grpc = matches!(protocol, Protocol::Grpc { .. });
        if grpc && endpoint.protocol == upstream::Protocol::Http1 {
            self.error(&written.host.place, "gRPC needs HTTP/2, and this service is spoken to in HTTP/1.1");
        }
        let seen = written.include_request_headers.as_ref();
        let body = written.include_request_body.as_ref().map(|body| Portion {
            most: body.max_request_bytes.map_or(DEFAULT_PORTION, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
            partial: body.allow_partial_message,
            as_bytes: body.pack_as_bytes,
        });
        if body.is_some_and(|portion| portion.most == 0) {
            self.error(
                &written.place,
                "`maxRequestBytes` is 0, so that no body could pass; leave `includeRequestBody` out",
            );
        }
        if let FailureMode::DenyWithStatus(status) = written.failure_mode
            && status.0.as_u16() < 400
        {
            self.error(&written.place, "`denyWithStatus` is a refusal's status: 400 to 599");
        }
        Some(ExtAuthz {
            endpoint,
            protocol,
            timeout: written.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.get()),
            request_headers: match seen {
                Some(names) => Some(names.iter().map(|name| name.0.clone()).collect()),
                None => (!grpc).then(|| [AUTHORIZATION, COOKIE].into()),
            },
            body,
            on_failure: match written.failure_mode {
                FailureMode::Deny => OnFailure::Deny,
                FailureMode::Allow => OnFailure::Allow,
                FailureMode::DenyWithStatus(status) => OnFailure::Status(status.0),
            },
        })
    }

    fn grpc_authz(&mut self, written: &GrpcAuthz) -> Protocol {
        let metadata = written.metadata.as_ref().map(|metadata| self.named(&metadata.0, String::clone));
        Protocol::Grpc { context: written.context.0.clone().into(), metadata }
    }

    fn http_authz(&mut self, written: &HttpAuthz, policy: &Located<ExtAuthzConfig>) -> Protocol {
        let answers: Vec<HeaderName> = written.include_response_headers.iter().map(|name| name.0.clone()).collect();
        for name in &answers {
            if let Some(why) = refusal(name) {
                self.error(&policy.place, format!("the header `{name}` can't be taken over: {why}"));
            }
        }
        for (name, cel) in &written.add_request_headers.0 {
            if let Some(why) = refusal(&name.0) {
                self.error(&cel.place, format!("the header `{}` can't be made: {why}", name.0));
            }
        }
        let prefix = written.path_prefix.as_deref().unwrap_or_default().trim_end_matches('/');
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.parse::<PathAndQuery>().is_err()) {
            self.error(&policy.place, format!("not a path: `{prefix}`; a path starts with `/`"));
        }
        let made = written.path.as_ref().and_then(|path| self.expression(path, JUDGED));
        if let (Some(path), Some(_)) = (&written.path, &written.path_prefix) {
            self.error(&path.place, "`path` says the whole path, so that `pathPrefix` has no place");
        }
        Protocol::Http(Box::new(Http {
            target: made.map_or_else(|| Target::Behind(prefix.into()), Target::Made),
            add: self.named(&written.add_request_headers.0, |name| name.0.clone()),
            response_headers: answers.into(),
            redirect: written.redirect.as_ref().and_then(|to| self.expression(to, JUDGED)),
            metadata: self.named(&written.metadata.0, String::clone),
        }))
    }

    /// Expressions with their names.
    fn named<N, M>(&mut self, written: &[(N, Located<String>)], name: fn(&N) -> M) -> Box<[(M, Expression)]> {
        written.iter().filter_map(|(key, cel)| Some((name(key), self.expression(cel, JUDGED)?))).collect()
    }

    /// The one endpoint of a policy's own service.
    pub(in crate::compile) fn endpoint_of(
        &mut self,
        host: &Located<crate::config::value::BackendHost>,
    ) -> Option<Arc<Endpoint>> {
        let backend = Backend {
            name: None,
            hosts: vec![host.clone()],
            weight: 1,
            policies: BackendPolicies::default(),
            place: host.place.clone(),
        };
        self.backend(&backend).1.endpoints().first().cloned()
    }
}

fn mode(written: AuthMode) -> Mode {
    match written {
        AuthMode::Strict => Mode::Strict,
        AuthMode::Optional => Mode::Optional,
        AuthMode::Permissive => Mode::Permissive,
    }
}

/// The digest that `sha256:…` spells.
fn digest(written: &str) -> Option<[u8; 32]> {
    let digits = written
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}
