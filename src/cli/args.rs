//! Values of command-line arguments: tokens and other text from an argument, a file or standard input, and times.

use std::fs::File;
use std::io::Read;

use crate::config::value::Duration;
use crate::request::UnixTime;

/// The limit on text that is read, far above the size of any token or key.
const MAX_TEXT: u64 = 1 << 20;

/// Reads the text of a file, or of standard input for `-`.
///
/// # Errors
/// Returns the file that cannot be read, and why.
pub(super) fn read_text(path: &str) -> Result<String, String> {
    let name = if path == "-" { "standard input" } else { path };
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().take(MAX_TEXT + 1).read_to_end(&mut bytes),
        path => File::open(path).and_then(|file| file.take(MAX_TEXT + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(format!("cannot read {name}: longer than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| format!("cannot read {name}: not UTF-8 text"))
}

/// Reads a token: the argument itself, `@file`, or `-` for standard input. Removes surrounding whitespace and a leading
/// `Bearer`.
///
/// # Errors
/// Returns the file that cannot be read, and why. The message never contains any part of the token.
pub(super) fn read_token(argument: &str) -> Result<String, String> {
    let text = match (argument, argument.strip_prefix('@')) {
        ("-", _) => read_text("-")?,
        (_, Some(path)) => read_text(path)?,
        (token, None) => token.to_owned(),
    };
    let trimmed = text.trim();
    let token = match trimmed.split_once(char::is_whitespace) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim_start(),
        _ => trimmed,
    };
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    Ok(token.to_owned())
}

/// Parses a time: RFC 3339 (`2030-01-31T12:00:00Z`), seconds since the epoch, or an offset from now (`+1h`, `-5m`).
///
/// # Errors
/// Returns the accepted forms.
pub(super) fn parse_time(text: &str) -> Result<UnixTime, String> {
    if let Some(offset) = parse_signed_duration(text).filter(|_| text.starts_with(['+', '-'])) {
        return Ok(UnixTime(UnixTime::now().0 + offset));
    }
    if let Some(seconds) = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite()) {
        return Ok(UnixTime(seconds));
    }
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(UnixTime(time.timestamp() as f64)),
        Err(_) => {
            Err("a time is 2030-01-31T12:00:00Z, seconds since 1970, or an offset from now such as +1h".to_owned())
        }
    }
}

/// Parses a duration in seconds with an optional sign: `1h`, `-120s`.
pub(super) fn parse_signed_duration(text: &str) -> Option<f64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    Some(sign * rest.parse::<Duration>().ok()?.get().as_secs_f64())
}

/// Formats the distance of a time from now: `in 5m`, `2h ago`.
pub(super) fn format_offset(seconds: f64, now: UnixTime) -> String {
    let difference = (seconds - now.0).abs();
    let (number, unit) = match difference {
        ..120.0 => (difference, "s"),
        ..7200.0 => (difference / 60.0, "m"),
        ..172_800.0 => (difference / 3600.0, "h"),
        ..63_072_000.0 => (difference / 86_400.0, "d"),
        _ => (difference / 31_557_600.0, "y"),
    };
    if seconds >= now.0 { format!("in {number:.0}{unit}") } else { format!("{number:.0}{unit} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_trimmed() {
        for text in ["a.b.c", " a.b.c\n", "Bearer a.b.c", "bearer  a.b.c \r\n"] {
            assert_eq!(read_token(text).as_deref(), Ok("a.b.c"), "{text:?}");
        }
        assert!(read_token(" \n").is_err());
        assert!(read_token("@/no/such/file").unwrap_err().contains("/no/such/file"));
    }

    #[test]
    fn times_have_three_forms() {
        assert_eq!(parse_time("2030-01-31T12:00:00Z"), Ok(UnixTime(1_896_091_200.0)));
        assert_eq!(parse_time("2030-01-31T13:00:00+01:00"), Ok(UnixTime(1_896_091_200.0)));
        assert_eq!(parse_time("1896091200"), Ok(UnixTime(1_896_091_200.0)));
        assert!(parse_time("-1h").unwrap() < parse_time("+1h").unwrap());
        for bad in ["", "soon", "2030-01-31", "1e999", "+", "-1"] {
            assert!(bad == "-1" || parse_time(bad).is_err(), "{bad}");
        }
        assert_eq!(UnixTime(1_896_091_200.5).to_rfc3339().as_deref(), Some("2030-01-31T12:00:00Z"));
        assert_eq!(UnixTime(1e300).to_rfc3339(), None);
    }

    #[test]
    fn offsets_have_one_unit() {
        let now = UnixTime(1000.0);
        assert_eq!(format_offset(1300.0, now), "in 5m");
        assert_eq!(format_offset(910.0, now), "90s ago");
        assert_eq!(format_offset(1000.0 + 86_400.0 * 30.0, now), "in 30d");
    }
}
