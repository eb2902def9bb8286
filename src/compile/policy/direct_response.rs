//! Compiles `directResponse`. Rejects statuses that are not final, and bodies where HTTP allows none.

use bytes::Bytes;
use http::HeaderValue;
use http::header;

use crate::compile::Compiler;
use crate::config::policy::DirectResponseConfig;
use crate::config::span::Spanned;
use crate::policy::direct_response::DirectResponse;

impl Compiler<'_> {
    pub(super) fn direct_response(&mut self, config: &Spanned<DirectResponseConfig>) -> DirectResponse {
        let status = config.status.0;
        if status.is_informational() {
            self.error(&config.span, format!("{} is not a final status; use 200 to 599", status.as_u16()));
        }
        if matches!(status.as_u16(), 204 | 205 | 304) && !config.body.is_empty() {
            self.error(&config.span, format!("a response with status {} cannot have a body", status.as_u16()));
        }
        self.check_header_names(config.headers.0.iter().map(|(name, _)| &name.0), &config.span);
        let mut headers: Vec<_> =
            config.headers.0.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect();
        if !config.body.is_empty() && !headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE) {
            headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
        }
        DirectResponse { status, headers: headers.into(), body: Bytes::from(config.body.clone()) }
    }
}
