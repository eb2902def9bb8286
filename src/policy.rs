//! The policies other than `jwtAuth` and `authorization`: compiled with the config, applied in the stages of a request.
//!
//! Each module implements one policy and is independent of the others; `proxy` defines their order. All of them fail
//! closed: a request that a policy cannot evaluate is rejected, and a header that cannot be rendered is not sent.

pub mod cors;
pub mod direct_response;
pub mod ext_authz;
pub mod header_modifier;
pub mod local_response;
pub mod mirror;
pub mod rate_limit;
pub mod redirect;
pub mod retry;
pub mod rewrite;
pub mod transformation;

use std::sync::Arc;

use http::HeaderMap;

use crate::authz::Vars;
use ext_authz::ExtAuthz;
use header_modifier::HeaderEdits;
use rate_limit::RateLimit;
use rewrite::Rewrite;
use transformation::Transformation;

/// The checks between the decision and the backend.
#[derive(Debug, Default)]
pub struct AdmissionChecks {
    /// Token buckets, each of which must have a token left.
    pub rate_limits: Box<[Arc<RateLimit>]>,
    /// An external service that must allow the request.
    pub ext_authz: Option<ExtAuthz>,
}

/// Edits of requests and responses.
#[derive(Debug, Default)]
pub struct Edits {
    /// `requestHeaderModifier`.
    pub request: Option<HeaderEdits>,
    /// `urlRewrite`.
    pub rewrite: Option<Rewrite>,
    /// `transformations.request`.
    pub transform_request: Option<Transformation>,
    /// `responseHeaderModifier`.
    pub response: Option<HeaderEdits>,
    /// `transformations.response`.
    pub transform_response: Option<Transformation>,
}

impl Edits {
    /// Edits the headers of a response. `vars` describes the request to expressions; the response's `status` and
    /// headers are added.
    pub fn apply_to_response(&self, vars: Option<&Vars<'_>>, status: u16, headers: &mut HeaderMap) {
        if let Some(edits) = &self.response {
            edits.apply(headers);
        }
        if let Some((transformation, vars)) = self.transform_response.as_ref().zip(vars) {
            let response = crate::authz::ResponseHead { status, headers };
            let rendered = transformation.render(&Vars { response: Some(response), ..*vars });
            transformation.apply(rendered, headers);
        }
    }
}
