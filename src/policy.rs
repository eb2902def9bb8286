//! The policies beside `jwtAuth` and `authorization`: settled when the config is compiled, applied on a request's way.
//!
//! Each module is one policy and knows nothing of the others; `proxy` says when each has its turn. None of them opens a
//! door: what a policy can't judge it refuses, and a header that can't be made is not sent.

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

/// What must be passed between the decision and the backend.
#[derive(Debug, Default)]
pub struct AdmissionChecks {
    /// Buckets, each of which must have a token left.
    pub rate_limits: Box<[Arc<RateLimit>]>,
    /// Another service that must agree.
    pub ext_authz: Option<ExtAuthz>,
}

/// What is changed on the way to the backend, and on the way back.
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
    /// Edits an answer's headers. `vars` are what expressions see of the request, and get the answer's `status` added.
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
