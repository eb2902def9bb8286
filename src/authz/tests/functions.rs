//! The table of functions agrees with the environment of the engine.

use super::super::cel::functions::table::{FUNCTIONS, Function};
use super::super::cel::types::CelType;
use super::*;

/// Returns an expression of a type. It reads a variable, so that it is evaluated at run time.
fn sample(ty: CelType) -> &'static str {
    match ty {
        CelType::Dyn | CelType::Claim | CelType::String => "s",
        CelType::Bytes => "bytes(s)",
        CelType::Int => "n",
        CelType::Uint => "uint(n)",
        CelType::Double => "double(n)",
        CelType::Bool => "(n == 1)",
        CelType::Null => "null",
        CelType::List => "[s]",
        CelType::Map => "{'k': s}",
        CelType::Timestamp => "timestamp(n)",
        CelType::Duration => "duration(d)",
        CelType::Optional => "optional.of(s)",
        CelType::Type => "type(s)",
        CelType::Cidr => "cidr(c)",
        CelType::Ip => "ip(i)",
        CelType::Jwt => "jwt",
        CelType::Record => "request",
        CelType::Headers => "request.headers",
        CelType::Regex => unreachable!("no function of the table has a regex parameter"),
    }
}

#[test]
fn every_overload_of_the_table_is_registered_with_the_engine() {
    let extra =
        [("s", json!("1")), ("n", json!(1)), ("d", json!("1s")), ("c", json!("10.0.0.0/8")), ("i", json!("10.0.0.1"))];
    let names = extra.each_ref().map(|(name, _)| *name);
    let request = test_request(claims());
    for Function { name, method, params, .. } in FUNCTIONS {
        let mut args: Vec<&str> = params.iter().map(|ty| sample(*ty)).collect();
        let receiver = match (method, *name) {
            (false, _) => String::new(),
            // The checker requires a literal.
            (true, "format") => format!("'{}'.", args.remove(0).replace('s', "%s")),
            (true, _) => format!("{}.", args.remove(0)),
        };
        let source = format!("{receiver}{name}({})", args.join(", "));
        let expression = Expression::compile(&source, Scope::Value { extra: &names })
            .unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
        let result = request.with_vars(|vars| expression.eval_json(&Vars { extra: &extra, ..*vars }));
        assert!(!matches!(result, Err(EvalError::Type(_) | EvalError::Missing(_))), "{source}: {result:?}");
    }
}
