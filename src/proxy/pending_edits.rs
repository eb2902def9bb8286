//! A route's edits between two points in time: they are evaluated on the request as it was authorized, and applied to
//! what is forwarded and to the response.

use std::sync::Arc;

use http::Response;

use super::plan::RouteSelection;
use crate::authz::Vars;
use crate::decision::{self, Decision};
use crate::policy::Edits;
use crate::policy::transformation::RenderedHeaders;
use crate::reason::Rejection;
use crate::request::UnixTime;
use crate::request::normalize::NormalizedRequest;

/// Metadata from the `extAuthz` service, as a variable for expressions.
pub(crate) type ExtAuthzMetadata = Arc<[(&'static str, serde_json::Value)]>;

/// Edits that were evaluated and not yet applied.
pub(super) struct PendingEdits<'a> {
    selection: &'a RouteSelection,
    edits: &'a Edits,
    rendered: Option<RenderedHeaders>,
    /// The request as it was authorized, for response expressions that read it.
    original: Option<(NormalizedRequest, Option<Decision>)>,
    metadata: Option<ExtAuthzMetadata>,
}

impl<'a> PendingEdits<'a> {
    /// Evaluates the request transformations before credentials and other headers are removed.
    pub(super) fn evaluate(
        selection: &'a RouteSelection,
        decision: &Decision,
        metadata: Option<&ExtAuthzMetadata>,
        request: &NormalizedRequest,
    ) -> Option<Box<Self>> {
        let policies = selection.policies();
        let edits = policies.edits.as_deref()?;
        let rendered = edits.transform_request.as_ref().map(|transformation| {
            let head = request.head();
            let vars = decision::cel_vars(policies, &head, selection.matched_route(), UnixTime::now(), decision);
            let extra = metadata.map(|metadata| &**metadata).unwrap_or_default();
            transformation.render(&Vars { extra, ..vars })
        });
        let original = edits.transform_response.is_some().then(|| (request.clone(), None));
        Some(Box::new(Self { selection, edits, rendered, original, metadata: metadata.cloned() }))
    }

    /// Keeps the decision if response expressions read it, and drops it otherwise.
    pub(super) fn retain_decision(&mut self, decision: Decision) {
        if let Some((_, retained)) = &mut self.original {
            *retained = Some(decision);
        }
    }

    /// Edits the request: the header modifier first, then host and path, then the transformations.
    pub(super) fn apply_to_request(&mut self, request: &mut NormalizedRequest) -> Result<(), Rejection> {
        let parts = request.parts_mut();
        if let Some(edits) = &self.edits.request {
            edits.apply(&mut parts.headers);
        }
        if let Some(rewrite) = &self.edits.rewrite {
            rewrite.apply(parts, self.selection.matched_len)?;
        }
        if let Some((transformation, rendered)) = self.edits.transform_request.as_ref().zip(self.rendered.take()) {
            transformation.apply(rendered, &mut parts.headers);
        }
        Ok(())
    }

    /// Edits the headers of a response.
    pub(super) fn apply_to_response<B>(&self, response: &mut Response<B>) {
        let selection = self.selection;
        let original =
            self.original.as_ref().and_then(|(request, decision)| Some((request.head(), decision.as_ref()?)));
        let vars = original.as_ref().map(|(head, decision)| {
            let vars =
                decision::cel_vars(selection.policies(), head, selection.matched_route(), UnixTime::now(), decision);
            Vars { extra: self.metadata.as_deref().unwrap_or_default(), ..vars }
        });
        let status = response.status().as_u16();
        self.edits.apply_to_response(vars.as_ref(), status, response.headers_mut());
    }
}
