//! Evaluation: runs the engine on a checked expression, within the budget and with panics caught, and describes its
//! errors without any value of the request.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::engine::common::ast::IdedExpr;
use super::engine::common::types::{CelDuration, CelList, CelTimestamp};
use super::engine::common::value::{CowVal, Val};
use super::engine::context::VariableResolver;
use super::engine::{Context, ExecutionError, Value};
use super::error::{EvalError, printable};
use super::functions::{CidrValue, IpValue, RegexValue};
use super::vars::Activation;
use super::{budget, functions};

/// A value built once, when the expression is compiled. The expression refers to it by its index, as `@0`.
#[derive(Debug)]
pub(crate) enum Constant {
    Regex(RegexValue),
    Cidr(CidrValue),
    Ip(IpValue),
    Timestamp(CelTimestamp),
    Duration(CelDuration),
    List(CelList<'static>),
}

impl Constant {
    fn val(&self) -> &dyn Val {
        match self {
            Self::Regex(regex) => regex,
            Self::Cidr(cidr) => cidr,
            Self::Ip(ip) => ip,
            Self::Timestamp(timestamp) => timestamp,
            Self::Duration(duration) => duration,
            Self::List(list) => list,
        }
    }
}

/// The index of the constant that a variable name refers to.
pub(crate) fn constant_index(name: &str) -> Option<usize> {
    name.strip_prefix('@').and_then(|index| index.parse().ok())
}

/// Resolves the names of an expression: constants by index, variables in the request.
pub(crate) struct Resolver<'s, 'a> {
    /// The variables of the request, or `None` for an expression that reads no variables.
    pub(crate) activation: Option<&'s Activation<'a>>,
    pub(crate) constants: &'s [Constant],
}

impl VariableResolver for Resolver<'_, '_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(index) = constant_index(name) {
            return self.constants.get(index).map(|constant| CowVal::Borrowed(constant.val()));
        }
        self.activation?.get(name)
    }
}

/// Evaluates `ast`, and converts the result while the values that it borrows exist.
pub(crate) fn eval<T>(
    ast: &IdedExpr,
    resolver: &Resolver<'_, '_>,
    convert: impl for<'e, 'v> FnOnce(CowVal<'e, 'v>) -> Result<T, EvalError>,
) -> Result<T, EvalError> {
    budget::start();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut context = Context::with_env(functions::env());
        context.set_variable_resolver(resolver);
        match Value::resolve_val(ast, &context) {
            Ok(val) => convert(val),
            Err(error) => Err(describe_error(error, resolver.activation)),
        }
    }));
    match budget::exceeded() {
        Some(error) => Err(error),
        None => result.unwrap_or(Err(EvalError::Panicked)),
    }
}

/// Converts an error of the engine. The text names types and variables, and never a value of the request.
fn describe_error(error: ExecutionError, activation: Option<&Activation<'_>>) -> EvalError {
    use ExecutionError as E;
    match error {
        E::UndeclaredReference(name) => EvalError::Missing(match activation {
            Some(activation) => activation.missing_reason(&name),
            None => format!("there is no `{}`", printable(&name)),
        }),
        E::NoSuchKey(key) => EvalError::Missing(format!("there is no `{}`", printable(&key))),
        E::IndexOutOfBounds(_) => EvalError::Missing("the list has no element at that index".to_owned()),
        E::NoSuchOverload(overload) => {
            let name = overload.function().trim_matches(['_', '@']);
            EvalError::Type(format!("`{name}` can't be applied to ({})", overload.argument_types().join(", ")))
        }
        E::UnexpectedType { got, want } => EvalError::Type(format!("found a {got} where a {want} is needed")),
        E::UnsupportedBinaryOperator(name, a, b) => {
            EvalError::Type(format!("`{name}` can't be applied to ({}, {})", a.type_of(), b.type_of()))
        }
        E::ValuesNotComparable(a, b) => {
            EvalError::Type(format!("a {} can't be compared with a {}", a.type_of(), b.type_of()))
        }
        E::FunctionError { function, message } => EvalError::Function(format!("{function}: {}", printable(&message))),
        E::DivisionByZero(_) | E::RemainderByZero(_) => EvalError::Function("a division by zero".to_owned()),
        E::Overflow(..) => EvalError::Function("a number too large for its type".to_owned()),
        E::UnsupportedKeyType(key) => EvalError::Type(format!("a {} can't be a map's key", key.type_of())),
        E::DuplicateKey(_) => EvalError::Function("a map with the same key twice".to_owned()),
        _ => EvalError::Function("the engine rejected this evaluation".to_owned()),
    }
}
