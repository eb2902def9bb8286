//! Functions of IP addresses and ranges.

use super::opaque_types::{CidrValue, IpValue, parse_ip};
use super::{Args, CelResult, arg, bool_value, function_error, str_arg, string_value};
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::value::CowVal;

pub(super) fn cidr<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    match text.parse::<CidrValue>() {
        Ok(cidr) => Ok(CowVal::owned(cidr)),
        Err(message) => function_error("cidr", message),
    }
}

pub(super) fn ip<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    match parse_ip(str_arg(&args, 0)?) {
        Ok(ip) => Ok(CowVal::owned(ip)),
        Err(message) => function_error("ip", message),
    }
}

pub(super) fn ip_to_string<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    match arg(&args, 0)?.downcast_ref::<IpValue>() {
        Some(IpValue(ip)) => string_value(ip.to_string()),
        None => Err(ExecutionError::MissingArgumentOrTarget),
    }
}

pub(super) fn contains_ip<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let Some(cidr) = arg(&args, 0)?.downcast_ref::<CidrValue>() else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    match arg(&args, 1)?.downcast_ref::<IpValue>() {
        Some(IpValue(ip)) => bool_value(cidr.contains(*ip)),
        None => match parse_ip(str_arg(&args, 1)?) {
            Ok(IpValue(ip)) => bool_value(cidr.contains(ip)),
            Err(message) => function_error("containsIP", message),
        },
    }
}
