//! `basicAuth`, `apiKey` and `extAuthz`, compiled.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};

use super::effective;
use crate::auth::Location;
use crate::compile::{Compiler, auth, kept};
use crate::config::place::Located;
use crate::config::policy::{
    ApiKeyAuth, AuthMode, BasicAuth as BasicAuthConfig, ExtAuthz as ExtAuthzConfig, ExtAuthzProtocol, FailureMode,
    HttpAuthz, Policies,
};
use crate::config::route::{Backend, BackendPolicies, KeyFile};
use crate::config::shape::TextOr;
use crate::policy::credentials::{ApiKeys, BasicAuth, Credentials};
use crate::policy::ext_authz::{ExtAuthz, OnFailure};
use crate::policy::headers::refusal;
use crate::upstream::Endpoint;

/// How long the deciding service may take, when the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);

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
        let (realm, strict) = (written.realm.as_deref().unwrap_or("portcullis"), written.mode == AuthMode::Strict);
        let name = kept::name(&[text.as_bytes(), realm.as_bytes(), &[u8::from(strict)]]);
        match self.kept.logins.get(name, || BasicAuth::new(&text, realm, strict).map(Arc::new)) {
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
            let key = self.text_or_file(&entry.key)?;
            if key.trim().is_empty() {
                self.error(&entry.key.place, "the key is empty");
            }
            keys.push(key.trim().to_owned());
        }
        if keys.is_empty() {
            self.error(&written.place, "there is no key in `keys`, so nobody could pass");
        }
        let location = written.location.as_ref().and_then(auth::location).unwrap_or_else(Location::bearer);
        Some(ApiKeys::new(keys.iter().map(String::as_bytes), location, written.mode == AuthMode::Strict))
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
        let Some(ExtAuthzProtocol::Http(HttpAuthz { path_prefix, include_response_headers })) = &written.protocol
        else {
            self.error(
                &written.place,
                "`extAuthz` over gRPC, which is the default, is not supported yet; write `protocol: {http: {}}` for a \
                 service that decides by its status",
            );
            return None;
        };
        if written.include_request_body.is_some() {
            self.error(
                &written.place,
                "`includeRequestBody` is not supported yet: the service decides without the body",
            );
        }
        let answers: Vec<HeaderName> = include_response_headers.iter().map(|name| name.0.clone()).collect();
        for name in &answers {
            if let Some(why) = refusal(name) {
                self.error(&written.place, format!("the header `{name}` can't be taken over: {why}"));
            }
        }
        let prefix = path_prefix.as_deref().unwrap_or_default().trim_end_matches('/');
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.parse::<http::uri::PathAndQuery>().is_err()) {
            self.error(&written.place, format!("not a path: `{prefix}`; a path starts with `/`"));
        }
        let seen = written.include_request_headers.as_ref();
        Some(ExtAuthz {
            endpoint: self.endpoint_of(&written.host)?,
            path_prefix: prefix.into(),
            timeout: written.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.get()),
            request_headers: match seen {
                Some(names) => names.iter().map(|name| name.0.clone()).collect(),
                None => [AUTHORIZATION, COOKIE].into(),
            },
            response_headers: answers.into(),
            on_failure: match written.failure_mode {
                FailureMode::Deny => OnFailure::Deny,
                FailureMode::Allow => OnFailure::Allow,
                FailureMode::DenyWithStatus(status) => OnFailure::Status(status.0),
            },
        })
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
