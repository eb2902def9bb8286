//! The deadline of a gRPC call, from the header `grpc-timeout`.
//!
//! A value that does not follow the gRPC specification is ignored. The backend gets the header unchanged in any case.

use std::time::Duration;

use http::HeaderMap;

/// Limit on the digits of a timeout.
const MAX_DIGITS: usize = 8;

/// Returns the timeout of the whole call ("gRPC over HTTP/2", Requests: `Timeout`).
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
    fn timeout_has_up_to_eight_digits_and_a_unit() {
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
