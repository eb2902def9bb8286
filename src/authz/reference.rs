//! What expressions may use, as lists for the documentation.

use super::Scope;
use super::names;
use super::types::{MACROS, SIGNATURES, Signature};

/// A variable or a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its whole name.
    pub name: &'static str,
    /// Its type.
    pub ty: &'static str,
    /// Whether the match of a route sees it.
    pub in_matches: bool,
    /// Whether rules see it.
    pub in_rules: bool,
}

/// Every variable and field, in the order of the documentation.
pub fn variables() -> impl Iterator<Item = Variable> {
    names::all().map(|(name, ty, sight)| Variable {
        name,
        ty: ty.name(),
        in_matches: Scope::RouteMatch.sees(sight),
        in_rules: Scope::Rule.sees(sight),
    })
}

/// Every function and macro with its types, such as `string.split(string) -> list`.
pub fn functions() -> Vec<String> {
    let mut all: Vec<String> = SIGNATURES.iter().map(shown).collect();
    all.extend(MACROS.iter().map(|name| format!("{name}(…), a macro")));
    all
}

fn shown(signature: &Signature) -> String {
    let Signature { name, method, params, result } = signature;
    let mut types = params.iter().map(|ty| ty.name());
    let target = if *method { types.next().map(|ty| format!("({ty}).")) } else { None };
    let types: Vec<_> = types.collect();
    format!("{}{name}({}) -> {}", target.unwrap_or_default(), types.join(", "), result.name())
}
