//! What is found out about a request on its way, for its answer and its record.

use std::sync::Arc;

use http::Version;
use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;

use super::access::Record;
use super::names::Names;
use super::policies;
use super::reply::Form;
use super::{Cx, span};
use crate::decision::Place;
use crate::policy::cors;
use crate::policy::ext_authz::Granted;
use crate::policy::limit::Quota;
use crate::reason::Reason;
use crate::request::UnixTime;
use crate::snapshot::{Listener, Policies, Route};

/// What was found out about a request, for the answer and the record, whatever becomes of it.
pub(super) struct Story {
    /// When it came.
    pub(super) now: UnixTime,
    pub(super) record: Record,
    /// Which fields the request came with.
    pub(super) names: Names,
    pub(super) form: Form,
    pub(super) id: HeaderValue,
    pub(super) version: Version,
    pub(super) choice: Option<Choice>,
    /// What few policies have to say.
    pub(super) extras: Option<Box<Extras>>,
}

/// What a request was given by policies that few routes have.
#[derive(Default)]
pub(super) struct Extras {
    /// What the answer says to a site's script.
    pub(super) cors: Option<cors::Verdict>,
    /// How the client's rate limit stands.
    pub(super) quota: Option<Quota>,
    /// What another service gave the request.
    pub(super) granted: Option<Box<Granted>>,
    /// The same, as far as expressions see it.
    pub(super) told: Option<policies::Told>,
    /// Why another service refused, whose answer is passed on.
    pub(super) refusal: Option<Reason>,
    /// What Envoy would say about the token, where it has more words than there are reasons.
    pub(super) envoy: Option<&'static str>,
}

impl Story {
    /// The story of a request with this head, and with a body or without.
    pub(super) fn begin(cx: &Cx, parts: &Parts, has_body: bool) -> Self {
        cx.watch.request_began(has_body);
        let format = cx.snapshot.settings.log_format;
        let now = UnixTime::now();
        let names = Names::of(&parts.headers);
        let mut record = Record::begin(Arc::clone(&cx.worker), format, cx.bind.series, now);
        if let Some(spans) = &cx.worker.spans {
            record.trace(span::begin(spans, cx, parts, names, now));
        }
        Self {
            now,
            record,
            names,
            form: Form::wanted(&parts.headers, names),
            id: HeaderValue::from_static(""),
            version: parts.version,
            choice: None,
            extras: None,
        }
    }

    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

impl Extras {
    /// Writes what an answer, or a refusal, has to say of them.
    pub(super) fn write(&mut self, refused: bool, headers: &mut HeaderMap) {
        for line in self.granted.iter_mut().flat_map(|granted| granted.answer.drain(..)) {
            line.write(headers);
        }
        if let Some(quota) = &self.quota {
            quota.write(headers);
        }
        if let Some(cors) = &self.cors {
            cors.write(headers, refused || self.refusal.is_some());
        }
    }
}

/// Who serves a request: its listener, and the route if one matches.
#[derive(Clone)]
pub(super) struct Choice {
    pub(super) listener: Arc<Listener>,
    pub(super) route: Option<Arc<Route>>,
    /// The bytes of the path that the route's match named.
    pub(super) matched: usize,
}

impl Choice {
    /// The policies that the request meets: its route's, or else its listener's.
    pub(super) fn policies(&self) -> &Policies {
        self.route.as_ref().map_or(&self.listener.policies, |route| &route.policies)
    }

    /// What expressions know it by.
    pub(super) fn place(&self) -> Place<'_> {
        Place { route: self.route.as_ref().map_or("", |route| &route.name), listener: &self.listener.name }
    }
}
