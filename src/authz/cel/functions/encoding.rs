//! Encodings: JSON, base64 and SHA-256.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::{Args, CelResult, bytes_arg, function_error, str_arg, string_value};
use crate::authz::cel::engine::common::types::CelBytes;
use crate::authz::cel::engine::common::value::CowVal;
use crate::authz::cel::{budget, json};

pub(super) fn parse_json<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = bytes_arg(&args, 0)?;
    // A text of two bytes can become a value of dozens of bytes.
    budget::charge_steps(text.len() / 64)?;
    budget::charge_alloc(text.len().saturating_mul(8))?;
    match serde_json::from_slice(text) {
        Ok(value) => Ok(CowVal::Owned(json::from_owned_json(value))),
        // The message of the parser would contain the text.
        Err(error) => {
            function_error("json", format_args!("not JSON at line {}, column {}", error.line(), error.column()))
        }
    }
}

pub(super) fn base64_encode<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let bytes = bytes_arg(&args, 0)?;
    budget::charge_alloc(bytes.len().saturating_mul(4) / 3)?;
    string_value(STANDARD.encode(bytes))
}

/// Decodes base64 with or without padding, as the extension of CEL does.
pub(super) fn base64_decode<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_alloc(text.len())?;
    match STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)) {
        Ok(bytes) => Ok(CowVal::owned(CelBytes::from(bytes))),
        Err(_) => function_error("base64.decode", "not base64"),
    }
}

/// Returns the SHA-256 digest in lower-case hexadecimal.
pub(super) fn sha256<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let bytes = bytes_arg(&args, 0)?;
    budget::charge_read(bytes.len())?;
    let digest = digest::digest(&digest::SHA256, bytes);
    string_value(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
