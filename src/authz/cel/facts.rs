//! Static facts about an expression: the variables and claims that it reads, constant results, and comparisons that can
//! never be true.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method, Version};

use super::check::{self, string_literal};
use super::expression::Expression;
use super::variables;
use super::vars::Vars;
use crate::authz::cel::engine::common::ast::operators as op;
use crate::authz::cel::engine::common::ast::{CallExpr, Expr, IdedExpr};
use crate::authz::cel::functions::table::internal;
use crate::request::{ClientInfo, RequestHead, Scheme, UnixTime};

impl Expression {
    /// Returns the full names of the variables and fields that the expression reads, such as `request.path` and `jwt.sub`.
    pub fn variables_read(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        visit_all(&self.ast, &mut |expr| {
            if let Expr::Ident(name) = &expr.expr {
                let is_variable = variables::find(name.split('.').next().unwrap_or_default()).is_some();
                let variable = match name.as_str() {
                    variables::SCOPES => Some("jwt"),
                    variables::REQUEST_FIELD_LINES => Some("request.headers"),
                    variables::RESPONSE_FIELD_LINES => Some("response.headers"),
                    _ => is_variable.then_some(name.as_str()),
                };
                names.extend(variable);
            }
        });
        names
    }

    /// Returns the paths of the claims that the expression reads or tests for presence. A path ends before the first step that
    /// is not a literal name.
    pub fn claims_read(&self) -> BTreeSet<Vec<&str>> {
        let mut paths = BTreeSet::new();
        collect_claim_paths(&self.ast, &mut paths);
        paths
    }

    /// Reports whether the expression reads the words of the split claims.
    pub fn reads_scopes(&self) -> bool {
        let mut reads = false;
        visit_all(&self.ast, &mut |expr| reads |= matches!(&expr.expr, Expr::Ident(name) if name == variables::SCOPES));
        reads
    }

    /// Reports whether the expression reads the token or facts about it (`jwt`, `jwtAuth`).
    pub fn reads_token(&self) -> bool {
        self.variables_read().iter().any(|name| matches!(name.split('.').next(), Some("jwt" | "jwtAuth")))
    }

    /// Returns the result of an expression that reads no variables, or `None` for any other and for one that fails.
    pub fn constant_value(&self) -> Option<bool> {
        if !self.variables_read().is_empty() {
            return None;
        }
        let source = ClientInfo::from(SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)));
        let headers = HeaderMap::new();
        let head = RequestHead {
            method: &Method::GET,
            scheme: Scheme::Http,
            authority: &HeaderValue::from_static("localhost"),
            host: "localhost",
            port: 80,
            path: "/",
            query: None,
            version: Version::HTTP_11,
            headers: &headers,
            id: &HeaderValue::from_static(""),
            client: &source,
        };
        self.eval_bool(&Vars::for_request(&head, UnixTime(0.0))).ok()
    }

    /// Describes a comparison of a part of the request with a text that this part can never equal, if there is one.
    pub fn never_true(&self) -> Option<String> {
        let mut reason = None;
        visit_all(&self.ast, &mut |expr| {
            let Expr::Call(CallExpr { func_name, target, args }) = &expr.expr else { return };
            let comparison = match (func_name.as_str(), target, args.as_slice()) {
                (op::EQUALS, None, [left, right]) => {
                    string_literal(left).zip(ident_name(right)).or(string_literal(right).zip(ident_name(left)))
                }
                ("startsWith", Some(target), [prefix]) => {
                    string_literal(prefix).filter(|text| !text.is_empty()).zip(ident_name(target))
                }
                _ => None,
            };
            if let Some(text) = comparison.and_then(|(text, name)| impossible_literal(name, text)) {
                reason.get_or_insert(text);
            }
        });
        reason
    }
}

fn ident_name(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

/// Explains why a part of the request can neither equal nor begin with `text`.
fn impossible_literal(name: &str, text: &str) -> Option<String> {
    let reason = match name {
        "request.method" if text != text.to_ascii_uppercase() => "methods are upper case",
        "request.host" if text != text.to_ascii_lowercase() => "it is always lower case",
        "request.host" if text.contains(':') && !text.starts_with('[') => {
            "it has no port; `request.authority` has it as the client sent it"
        }
        "request.path" if !text.starts_with('/') && text != "*" => "a path begins with a slash",
        "request.path" if text.contains('?') => "it has no query; that is `request.query`",
        "request.scheme" if text != "http" && text != "https" => "it is `http` or `https`",
        _ => return None,
    };
    Some(format!("`{name}` is never `{text}`: {reason}"))
}

/// Renders the path of a claim as in an expression: `jwt.realm_access.roles`, `jwt["https://example.com/roles"]`.
pub fn claim_path_text(path: &[&str]) -> String {
    path.iter().fold("jwt".to_owned(), |name, field| check::field_path(&name, field, false))
}

/// Collects the longest paths to claims in an expression.
fn collect_claim_paths<'e>(expr: &'e IdedExpr, paths: &mut BTreeSet<Vec<&'e str>>) {
    match claim_path(expr) {
        Some(path) if path.is_empty() => {}
        Some(path) => {
            paths.insert(path);
        }
        None => check::children(expr).into_iter().for_each(|part| collect_claim_paths(part, paths)),
    }
}

fn extend_claim_path<'e>(operand: &'e IdedExpr, key: &'e str) -> Option<Vec<&'e str>> {
    let mut path = claim_path(operand)?;
    path.push(key);
    Some(path)
}

/// Returns the path of the claim that an expression reads or tests for presence, and an empty path for the token itself.
fn claim_path(expr: &IdedExpr) -> Option<Vec<&str>> {
    match &expr.expr {
        Expr::Ident(name) => {
            let mut names = name.split('.');
            (names.next() == Some("jwt")).then(|| names.collect())
        }
        Expr::Select(select) => extend_claim_path(&select.operand, &select.field),
        Expr::Call(CallExpr { func_name, target: None, args }) => match (func_name.as_str(), args.as_slice()) {
            (op::INDEX | internal::INDEX | internal::OPTIONAL_INDEX | internal::HAS, [operand, key]) => {
                extend_claim_path(operand, string_literal(key)?)
            }
            (op::IN | internal::MEMBER, [key, operand]) if claim_path(operand)?.is_empty() => {
                extend_claim_path(operand, string_literal(key)?)
            }
            ("claim", [_, IdedExpr { expr: Expr::List(path), .. }]) => {
                path.elements.iter().map(string_literal).collect()
            }
            _ => None,
        },
        _ => None,
    }
}

/// Visits an expression and all of its subexpressions.
fn visit_all<'e>(expr: &'e IdedExpr, visit: &mut impl FnMut(&'e IdedExpr)) {
    visit(expr);
    for part in check::children(expr) {
        visit_all(part, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Scope;

    fn compiled(source: &str) -> Expression {
        Expression::compile(source, Scope::Rule).unwrap()
    }

    #[test]
    fn variables_read_are_listed_by_full_name() {
        for (source, names) in [
            ("true", &[][..]),
            ("request.path == '/' && jwt.sub == 'a'", &["jwt.sub", "request.path"]),
            ("has(jwt.groups) && jwt.groups.exists(g, g == 'x')", &["jwt", "jwt.groups"]),
            ("'a' in scopes(jwt)", &["jwt"]),
            ("cidr('10.0.0.0/8').containsIP(ip(source.address))", &["source.address"]),
            ("headers(request, 'x').size() > 1", &["request.headers"]),
            ("now > timestamp('2030-01-01T00:00:00Z')", &["now"]),
        ] {
            assert_eq!(compiled(source).variables_read().into_iter().collect::<Vec<_>>(), names, "{source}");
        }
    }

    #[test]
    fn claims_read_are_listed_by_path() {
        for (source, claims) in [
            ("true || jwt == null", &[][..]),
            ("jwt.sub == 'a' && jwt.realm.roles.contains('b')", &["realm/roles", "sub"]),
            ("has(jwt.a.b) && has(jwt['c']['d.e'])", &["a/b", "c/d.e"]),
            ("default(jwt.a.b, 1) == 1 && jwt.?c.?d.hasValue()", &["a/b", "c/d"]),
            ("jwt[?'a'].b.orValue(1) == 1 || jwt.?c[0].hasValue()", &["a/b", "c"]),
            ("claim(jwt, ['https://x/y', 'b']) == jwt.`c.d`", &["c.d", "https://x/y/b"]),
            ("'a' in jwt && 'b' in jwt.c && ['x'] in jwt.d", &["a", "c", "d"]),
            ("jwt.a[0].b == 1 && jwt.c.exists(x, x == jwt.d)", &["a", "c", "d"]),
            ("jwt.?a.optMap(x, x.b == [jwt.c + {'k': jwt.e}.k]).value()", &["a", "c", "e"]),
            ("scopes(jwt).contains('a') && jwtAuth.kid == 'k'", &[]),
        ] {
            let Ok(expression) = Expression::compile(source, Scope::Rule) else { panic!("{source}") };
            let paths: Vec<String> = expression.claims_read().into_iter().map(|path| path.join("/")).collect();
            assert_eq!(paths, claims, "{source}");
            assert_eq!(expression.reads_scopes(), source.contains("scopes"));
        }
    }

    #[test]
    fn expression_without_variables_has_a_constant_value() {
        for (source, constant) in [
            ("true", Some(true)),
            ("1 == 2", Some(false)),
            ("'a' in ['a', 'b']", Some(true)),
            ("jwt == null", None),
            ("has(jwt.sub)", None),
            ("request.path == '/'", None),
        ] {
            assert_eq!(compiled(source).constant_value(), constant, "{source}");
        }
    }

    #[test]
    fn comparison_that_is_never_true_is_reported() {
        for (source, expected) in [
            ("request.method == 'get'", true),
            ("'get' == request.method", true),
            ("request.method == 'GET'", false),
            ("request.host == 'Api.example'", true),
            ("request.host == 'api.example:8080'", true),
            ("request.path == 'admin' || jwt.sub == 'a'", true),
            ("request.path.startsWith('admin')", true),
            ("request.path.startsWith('/admin')", false),
            ("request.path == '/a?b=c'", true),
            ("jwt.sub == 'x'", false),
        ] {
            assert_eq!(compiled(source).never_true().is_some(), expected, "{source}");
        }
    }
}
