//! Membership and equality, where a value may be a list or a map of [`json`](crate::authz::cel::json).

use super::{Args, CelResult, arg, bool_value, function_error};
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::types::{CelList, Kind};
use crate::authz::cel::engine::common::value::Val;
use crate::authz::cel::{budget, json};

fn is_member(value: &dyn Val, container: &dyn Val) -> Result<bool, ExecutionError> {
    if let Some(list) = container.downcast_ref::<CelList>() {
        budget::charge_scan(list.inner().len())?;
        return json::any_equal(list.inner().iter().map(AsRef::as_ref), value);
    }
    match container.as_container() {
        Some(items) => items.contains(value),
        None => Err(ExecutionError::no_such_overload(
            "@in",
            vec![value.get_type().name().to_owned(), container.get_type().name().to_owned()],
        )),
    }
}

/// Implements `list.contains(x)` and `map.contains(key)`.
pub(super) fn contains<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    bool_value(is_member(arg(&args, 1)?, arg(&args, 0)?)?)
}

/// Implements `x in list` for elements that may be lists or maps.
pub(super) fn member<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    bool_value(is_member(arg(&args, 0)?, arg(&args, 1)?)?)
}

/// Implements `contains` on a claim. A claim that is a string is rejected: a substring test would accept `not-admins` for
/// `admins`.
pub(super) fn claim_contains<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let claim = arg(&args, 0)?;
    match claim.get_type().kind() {
        Kind::List | Kind::Map => bool_value(is_member(arg(&args, 1)?, claim)?),
        Kind::String => function_error(
            "contains",
            "this claim is a string, where contains() would be a substring test; use ==, startsWith, endsWith or \
             matches, or scopes(jwt) for a space-separated list",
        ),
        _ => Err(ExecutionError::no_such_member_overload(
            "contains",
            vec![claim.get_type().name().to_owned(), arg(&args, 1)?.get_type().name().to_owned()],
        )),
    }
}

pub(super) fn equal<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    bool_value(json::equal(arg(&args, 0)?, arg(&args, 1)?)?)
}
