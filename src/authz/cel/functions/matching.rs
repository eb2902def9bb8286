//! `matches`: regexes of the config, which are compiled once, and regexes from variables.

use regex::{Regex, RegexBuilder};

use super::opaque_types::RegexValue;
use super::{Args, CelResult, arg, bool_value, function_error, str_arg};
use crate::authz::cel::budget;
use crate::authz::cel::engine::ExecutionError;

/// The limit on the memory of a compiled regex of the config.
const MAX_REGEX_SIZE: usize = 1 << 20;
/// The limit on the memory of a compiled regex from a variable.
const MAX_DYNAMIC_REGEX_SIZE: usize = 1 << 16;

/// Compiles a regex of the config. It is unanchored, as in the `matches` of CEL.
pub(crate) fn compile_pattern(source: &str) -> Result<RegexValue, String> {
    compile_regex(source, MAX_REGEX_SIZE).map(RegexValue)
}

fn compile_regex(source: &str, size: usize) -> Result<Regex, String> {
    RegexBuilder::new(source).size_limit(size).dfa_size_limit(size).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regex is too big once compiled".to_owned(),
        // The last line is the message. The others show the position.
        error => {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    })
}

/// Implements `x.matches('literal')`.
pub(super) fn matches<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_read(text.len())?;
    match arg(&args, 1)?.downcast_ref::<RegexValue>() {
        Some(RegexValue(regex)) => bool_value(regex.is_match(text)),
        None => Err(ExecutionError::MissingArgumentOrTarget),
    }
}

/// Implements `x.matches(y)`. The regex is compiled at each evaluation, so its size is limited and it is charged.
pub(super) fn matches_dynamic<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let (text, source) = (str_arg(&args, 0)?, str_arg(&args, 1)?);
    budget::charge_read(text.len())?;
    budget::charge_steps(100 + source.len())?;
    match compile_regex(source, MAX_DYNAMIC_REGEX_SIZE) {
        Ok(regex) => bool_value(regex.is_match(text)),
        Err(message) => function_error("matches", message),
    }
}
