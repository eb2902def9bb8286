//! Durations, sizes and ratios.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use serde::de::{Deserialize, Deserializer, Visitor};

/// A duration in Go's format: `300ms`, `1.5s`, `5m`, `1h30m`. Never negative. A number without a unit is rejected because
/// it is ambiguous; `0` needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, schemars::JsonSchema)]
#[schemars(with = "String")]
pub struct Duration(pub StdDuration);

impl Duration {
    /// Returns a duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(StdDuration::from_secs(seconds))
    }

    /// Returns the duration of the standard library.
    pub const fn get(self) -> StdDuration {
        self.0
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;
        impl Visitor<'_> for DurationVisitor {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration (a string such as 300ms, 1.5s, 5m or 1h30m)")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
            // an unquoted number is the same text: `0` is valid, others lack a unit
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Duration, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Duration, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Duration, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(DurationVisitor)
    }
}

/// The maximum duration: a hundred years. Timers far beyond it overflow.
const MAX_DURATION_NANOS: u128 = 100 * 366 * 86_400 * 1_000_000_000;

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a duration has a number and a unit, such as 300ms, 1.5s, 5m or 1h30m";
        if text == "0" {
            return Ok(Self(StdDuration::ZERO));
        }
        if text.starts_with('-') {
            return Err(format!("a duration cannot be negative: `{text}`"));
        }
        let invalid = || format!("not a duration: `{text}`; {FORM}");
        let mut rest = text;
        let mut total: u128 = 0;
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let (number, tail) = rest.split_at(unit_at);
            let next_at = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, after) = tail.split_at(next_at);
            let nanos: u128 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(invalid()),
            };
            let part = scaled(number, nanos).ok_or_else(invalid)?;
            total = total.saturating_add(part);
            if total > MAX_DURATION_NANOS {
                return Err(format!("the duration is too long: `{text}`"));
            }
            rest = after;
        }
        let secs = u64::try_from(total / 1_000_000_000).map_err(|_| invalid())?;
        let nanos = u32::try_from(total % 1_000_000_000).map_err(|_| invalid())?;
        Ok(Self(StdDuration::new(secs, nanos)))
    }
}

/// Returns a decimal number times `unit`, rounded down and saturating; `None` if it is not a number.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut total = whole
        .bytes()
        .fold(0u128, |sum, digit| sum.saturating_mul(10).saturating_add(u128::from(digit.wrapping_sub(b'0'))));
    total = total.saturating_mul(unit);
    let mut digit_value = unit;
    for digit in fraction.bytes() {
        digit_value /= 10;
        total = total.saturating_add(digit_value.saturating_mul(u128::from(digit.wrapping_sub(b'0'))));
    }
    Some(total)
}

/// A number of bytes: an integer, or a string with a unit such as `64KiB`, `2MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Size(pub u64);

impl Size {
    /// Returns a size in KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// Returns a size in MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// Returns the number of bytes, limited to `usize::MAX`.
    pub fn get(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("not a size: `{text}`; a size is a number of bytes, or has a unit such as 64KiB, 2MiB or 1GiB");
        let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let shift = match unit {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(invalid()),
        };
        if number.is_empty() {
            return Err(invalid());
        }
        let number: u64 = number.parse().map_err(|_| invalid())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("the size is too large: `{text}`"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size (a number of bytes, or a string such as 64KiB)")
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// A ratio from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "f64")]
#[schemars(with = "f64")]
pub struct Ratio(pub f64);

impl Default for Ratio {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Ratio {
    type Error = String;
    fn try_from(ratio: f64) -> Result<Self, String> {
        match (0.0..=1.0).contains(&ratio) {
            true => Ok(Self(ratio)),
            false => Err(format!("not a ratio from 0 to 1: {ratio}")),
        }
    }
}
