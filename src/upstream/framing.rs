//! Response framing: rejects responses whose length is ambiguous (RFC 9112 §6.3).
//!
//! hyper reads a response with any transfer coding except `chunked` to the end of the connection, and ignores the length
//! where there is no body. A cache in front of the client may read it differently, and the connection to the backend may
//! hold half a response. Ambiguous framing is therefore an error, and the connection is closed.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, Version};

use super::UpstreamError;

/// Removes `Content-Length` next to `chunked`, and merges equal lengths into one.
///
/// # Errors
/// [`UpstreamError::AmbiguousFraming`] for a transfer coding other than a single `chunked`, for any transfer coding in
/// HTTP/1.0, and for lengths that differ or are not numbers.
pub fn validate_response_length<B>(response: &mut Response<B>) -> Result<(), UpstreamError> {
    let version = response.version();
    let headers = response.headers_mut();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        if !chunked || version == Version::HTTP_10 {
            return Err(UpstreamError::AmbiguousFraming);
        }
        headers.remove(header::CONTENT_LENGTH);
        return Ok(());
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    if is_digits(first) && lengths.next().is_none() {
        return Ok(());
    }
    let length = agreed_length(headers).ok_or(UpstreamError::AmbiguousFraming)?;
    headers.insert(header::CONTENT_LENGTH, length);
    Ok(())
}

/// Returns the length if all header lines, and the lists in them, agree.
fn agreed_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    let first = HeaderValue::from_bytes(values.next()?.trim_ascii()).ok()?;
    (is_digits(&first) && values.all(|length| length.trim_ascii() == first.as_bytes())).then_some(first)
}

fn is_digits(length: &HeaderValue) -> bool {
    !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_has_one_length_or_is_rejected() {
        let (http10, http11) = (Version::HTTP_10, Version::HTTP_11);
        for (version, codings, lengths, expected) in [
            (http11, &[][..], &[][..], Some(None)),
            (http11, &[], &["5"], Some(Some("5"))),
            (http11, &[], &["5", "5"], Some(Some("5"))),
            (http11, &[], &["5, 5"], Some(Some("5"))),
            (http11, &[], &["5", "6"], None),
            (http11, &[], &["5, 6"], None),
            (http11, &[], &["+5"], None),
            (http11, &[], &[""], None),
            (http11, &[], &["5,"], None),
            (http11, &["chunked"], &[], Some(None)),
            (http11, &["Chunked"], &["5"], Some(None)),
            (http11, &["chunked"], &["5", "6"], Some(None)),
            (http11, &["chunked", "chunked"], &[], None),
            (http11, &["chunked, chunked"], &[], None),
            (http11, &["gzip, chunked"], &[], None),
            (http11, &["gzip"], &["5"], None),
            (http11, &["identity"], &["5"], None),
            (http11, &[""], &["5"], None),
            (http10, &["chunked"], &[], None),
            (http10, &[], &["5"], Some(Some("5"))),
        ] {
            let mut response = Response::new(());
            *response.version_mut() = version;
            for coding in codings {
                response.headers_mut().append(header::TRANSFER_ENCODING, HeaderValue::from_static(coding));
            }
            for length in lengths {
                response.headers_mut().append(header::CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            let result = validate_response_length(&mut response).ok();
            let remaining: Vec<_> = response.headers().get_all(header::CONTENT_LENGTH).iter().collect();
            assert_eq!(result.is_some(), expected.is_some(), "{codings:?} {lengths:?}");
            if let Some(length) = expected {
                assert_eq!(remaining, length.into_iter().collect::<Vec<_>>(), "{codings:?} {lengths:?}");
            }
        }
    }
}
