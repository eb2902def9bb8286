//! Compiles `extAuthz`.

use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::uri::PathAndQuery;

use crate::authz::{Expression, Scope};
use crate::compile::Compiler;
use crate::config::policy::{ExtAuthzConfig, ExtAuthzProtocol, FailureMode, GrpcAuthz, HttpAuthz};
use crate::config::span::Spanned;
use crate::policy::ext_authz::{BodyOptions, CheckTarget, ExtAuthz, HttpCheck, OnFailure, Protocol};
use crate::policy::header_modifier::protected_reason;
use crate::upstream;

/// The variables of the policy's expressions.
const REQUEST_SCOPE: Scope<'_> = Scope::Value { extra: &[] };
/// The default timeout of a call.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);
/// The default maximum size of the body that the service receives.
const DEFAULT_BODY_LIMIT: usize = 8 << 10;

impl Compiler<'_> {
    pub(in crate::compile) fn ext_authz(&mut self, config: &Spanned<ExtAuthzConfig>) -> Option<ExtAuthz> {
        let protocol = match &config.protocol {
            None => self.grpc_authz(&GrpcAuthz::default()),
            Some(ExtAuthzProtocol::Grpc(grpc)) => self.grpc_authz(grpc),
            Some(ExtAuthzProtocol::Http(http)) => self.http_authz(http, config),
        };
        let endpoint = self.single_endpoint(&config.host)?;
        let grpc = matches!(protocol, Protocol::Grpc { .. });
        if grpc && endpoint.protocol == upstream::UpstreamProtocol::Http1 {
            self.error(&config.host.span, "gRPC requires HTTP/2, but the service is configured for HTTP/1.1");
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
                "`maxRequestBytes` is 0, so every body would be rejected; remove `includeRequestBody`",
            );
        }
        if let FailureMode::DenyWithStatus(status) = config.failure_mode
            && status.0.as_u16() < 400
        {
            self.error(&config.span, "`denyWithStatus` must be from 400 to 599");
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
                self.error(&policy.span, format!("the header `{name}` cannot be copied: {reason}"));
            }
        }
        for (name, cel) in &config.add_request_headers.0 {
            if let Some(reason) = protected_reason(&name.0) {
                self.error(&cel.span, format!("the header `{}` cannot be set: {reason}", name.0));
            }
        }
        let prefix = config.path_prefix.as_deref().unwrap_or_default().trim_end_matches('/');
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.parse::<PathAndQuery>().is_err()) {
            self.error(&policy.span, format!("not a path: `{prefix}`; a path starts with `/`"));
        }
        let path = config.path.as_ref().and_then(|path| self.expression(path, REQUEST_SCOPE));
        if let (Some(path), Some(_)) = (&config.path, &config.path_prefix) {
            self.error(&path.span, "`path` and `pathPrefix` cannot be combined: `path` is the whole path");
        }
        Protocol::Http(Box::new(HttpCheck {
            target: path.map_or_else(|| CheckTarget::Prefix(prefix.into()), CheckTarget::Expression),
            add: self.named_expressions(&config.add_request_headers.0, |name| name.0.clone()),
            response_headers: response_headers.into(),
            redirect: config.redirect.as_ref().and_then(|to| self.expression(to, REQUEST_SCOPE)),
            metadata: self.named_expressions(&config.metadata.0, String::clone),
        }))
    }

    /// Compiles expressions with their names.
    fn named_expressions<N, M>(
        &mut self,
        entries: &[(N, Spanned<String>)],
        name: fn(&N) -> M,
    ) -> Box<[(M, Expression)]> {
        entries.iter().filter_map(|(key, cel)| Some((name(key), self.expression(cel, REQUEST_SCOPE)?))).collect()
    }
}
