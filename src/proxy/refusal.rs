//! The only error exit: what a refused request is answered, in the words that its listener speaks.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, Version};

use super::answer::Content;
use super::reply::{self, Form, Realm};
use super::story::{Choice, Story};
use crate::reason::{Reason, Rejection};
use crate::snapshot::Policies;

/// What a refused request had met, which its answer's words depend on.
#[derive(Default)]
pub(crate) struct Met<'a> {
    /// The policies of its route or listener.
    pub(crate) policies: Option<&'a Policies>,
    /// Its listener refuses in Envoy's words.
    pub(crate) envoy_errors: bool,
    /// What Envoy says that is closer to the failure than the reason.
    pub(crate) closer: Option<&'static str>,
}

/// The answer to a refused request. `id` is the request's.
pub(crate) fn refusal(rejection: &Rejection, met: &Met<'_>, form: Form, id: &str) -> Response<Bytes> {
    let basic = met.policies.and_then(|policies| policies.credentials.as_ref()?.basic.as_ref());
    let jwt = met.policies.and_then(|policies| policies.jwt.as_ref()).map_or("portcullis", |jwt| jwt.realm());
    let realm = match rejection.reason {
        Reason::MissingCredentials | Reason::InvalidCredentials => basic.map_or(jwt, |basic| basic.realm()),
        _ => jwt,
    };
    let envoys = met.envoy_errors.then(|| reply::envoy::refuse(rejection, met.closer, form, Realm(realm))).flatten();
    envoys.unwrap_or_else(|| reply::refuse(rejection, form, Realm(realm), id))
}

/// Refuses a request, and records it.
pub(super) fn refuse(story: &mut Story, rejection: &Rejection) -> Response<Content> {
    let met = Met {
        policies: story.choice.as_ref().map(Choice::policies),
        envoy_errors: story.choice.as_ref().is_some_and(|choice| choice.listener.envoy_errors),
        closer: story.extras.as_ref().and_then(|extras| extras.envoy),
    };
    let mut response = refusal(rejection, &met, story.form, story.id.to_str().unwrap_or_default());
    if rejection.close && story.version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    story.record.answered(response.status().as_u16(), Some(rejection.reason));
    response.map(Content::Ready)
}
