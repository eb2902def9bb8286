//! The only error exit: what a refused request is answered, in the words that its listener speaks.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, Version};

use super::context::{RequestContext, RouteSelection};
use super::error_format;
use super::error_format::{ErrorFormat, Realm};
use super::response_body::BodySource;
use crate::reason::{Reason, Rejection};
use crate::snapshot::Policies;

/// What a refused request had met, which its answer's words depend on.
#[derive(Default)]
pub(crate) struct ErrorContext<'a> {
    /// The policies of its route or listener.
    pub(crate) policies: Option<&'a Policies>,
    /// Its listener refuses in Envoy's words.
    pub(crate) envoy_errors: bool,
    /// What Envoy says that is closer to the failure than the reason.
    pub(crate) envoy_message: Option<&'static str>,
}

/// The answer to a refused request. `id` is the request's.
pub(crate) fn error_response(
    rejection: &Rejection,
    context: &ErrorContext<'_>,
    format: ErrorFormat,
    id: &str,
) -> Response<Bytes> {
    let basic = context.policies.and_then(|policies| policies.credentials.as_ref()?.basic.as_ref());
    let jwt = context.policies.and_then(|policies| policies.jwt_auth.as_ref()).map_or("portcullis", |jwt| jwt.realm());
    let realm = match rejection.reason {
        Reason::MissingCredentials | Reason::InvalidCredentials => basic.map_or(jwt, |basic| basic.realm()),
        _ => jwt,
    };
    let envoy_response = context
        .envoy_errors
        .then(|| error_format::envoy::render_error(rejection, context.envoy_message, format, Realm(realm)))
        .flatten();
    envoy_response.unwrap_or_else(|| error_format::render_error(rejection, format, Realm(realm), id))
}

/// Refuses a request, and records it.
pub(super) fn respond_with_error(ctx: &mut RequestContext, rejection: &Rejection) -> Response<BodySource> {
    let context = ErrorContext {
        policies: ctx.selection.as_ref().map(RouteSelection::policies),
        envoy_errors: ctx.selection.as_ref().is_some_and(|choice| choice.listener.envoy_errors),
        envoy_message: ctx.policy_state.as_ref().and_then(|extras| extras.envoy_message),
    };
    let mut response = error_response(rejection, &context, ctx.error_format, ctx.id.to_str().unwrap_or_default());
    if rejection.close && ctx.version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    ctx.record.set_response(response.status().as_u16(), Some(rejection.reason));
    response.map(BodySource::Ready)
}
