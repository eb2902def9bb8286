//! The deadline that a gRPC client gives its call, in the header `grpc-timeout`.
//!
//! What is not written as the gRPC specification wants it is no deadline: the backend gets the header as it came, and
//! may judge it by itself.

use std::time::Duration;

use http::HeaderMap;

/// More digits than this are no timeout.
const MAX_DIGITS: usize = 8;

/// How long the whole call may take, if the client says so ("gRPC over HTTP/2", Requests: `Timeout`).
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else { return None };
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        for (values, expected) in [
            (&["5S"][..], Some(Duration::from_secs(5))),
            (&["2H"], Some(Duration::from_secs(7200))),
            (&["3M"], Some(Duration::from_secs(180))),
            (&["250m"], Some(Duration::from_millis(250))),
            (&["007u"], Some(Duration::from_micros(7))),
            (&["0n"], Some(Duration::ZERO)),
            (&["99999999H"], Some(Duration::from_secs(99_999_999 * 3600))),
            (&["100000000n"], None),
            (&["S"], None),
            (&["5"], None),
            (&["5s"], None),
            (&["-5S"], None),
            (&["+5S"], None),
            (&["5 S"], None),
            (&["1.5S"], None),
            (&[""], None),
            (&["5S", "5S"], None),
            (&[], None),
        ] {
            let headers =
                values.iter().map(|value| (http::HeaderName::from_static("grpc-timeout"), value.parse().unwrap()));
            assert_eq!(timeout(&headers.collect()), expected, "{values:?}");
        }
    }
}
