//! What an expression tells of itself without a request: which names it reads, whether it is always the same, and
//! whether it compares with something that never comes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel_interpreter as cel;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::expr::Expression;
use super::names;
use super::vars::Vars;
use crate::request::{Head, Scheme, Source, UnixTime};

impl Expression {
    /// The variables and fields that this reads, by their whole names, such as `request.path` and `jwt.sub`.
    pub fn reads(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        walk(&self.ast, &mut |expr| {
            if let Expr::Ident(name) = &expr.expr {
                let known = names::find(name.split('.').next().unwrap_or_default()).is_some();
                let inner = match name.as_str() {
                    names::SCOPES => Some("jwt"),
                    names::REQUEST_LINES => Some("request.headers"),
                    names::RESPONSE_LINES => Some("response.headers"),
                    _ => known.then_some(name.as_str()),
                };
                found.extend(inner);
            }
        });
        found
    }

    /// Whether this reads the token or what is known of it.
    pub fn reads_token(&self) -> bool {
        self.reads().iter().any(|name| matches!(name.split('.').next(), Some("jwt" | "jwtAuth")))
    }

    /// What this always is, when it reads nothing; `None` also for what always fails.
    pub fn constant(&self) -> Option<bool> {
        if !self.reads().is_empty() {
            return None;
        }
        let source = Source::from(SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)));
        let headers = HeaderMap::new();
        let head = Head {
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
            source: &source,
        };
        self.test(&Vars::of(&head, UnixTime(0.0))).ok()
    }

    /// A comparison of a part of the request with a text that this part never is, in words.
    pub fn impossible(&self) -> Option<String> {
        let mut found = None;
        walk(&self.ast, &mut |expr| {
            let Expr::Call(CallExpr { func_name, target, args }) = &expr.expr else { return };
            let sides = match (func_name.as_str(), target, args.as_slice()) {
                (op::EQUALS, None, [one, other]) => {
                    text_of(one).zip(name_of(other)).or(text_of(other).zip(name_of(one)))
                }
                ("startsWith", Some(target), [prefix]) => {
                    text_of(prefix).filter(|text| !text.is_empty()).zip(name_of(target))
                }
                _ => None,
            };
            if let Some(why) = sides.and_then(|(text, name)| never(name, text)) {
                found.get_or_insert(why);
            }
        });
        found
    }
}

fn text_of(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn name_of(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

/// Why a part of the request is never, and never begins with, this text.
fn never(name: &str, text: &str) -> Option<String> {
    let why = match name {
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
    Some(format!("`{name}` is never `{text}`: {why}"))
}

/// Visits an expression and everything in it.
fn walk<'e>(expr: &'e IdedExpr, visit: &mut impl FnMut(&'e IdedExpr)) {
    visit(expr);
    match &expr.expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| walk(target, visit));
            call.args.iter().for_each(|arg| walk(arg, visit));
        }
        Expr::Select(select) => walk(&select.operand, visit),
        Expr::List(list) => list.elements.iter().for_each(|element| walk(element, visit)),
        Expr::Map(map) => {
            for entry in &map.entries {
                match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        walk(&entry.key, visit);
                        walk(&entry.value, visit);
                    }
                    EntryExpr::StructField(field) => walk(&field.value, visit),
                }
            }
        }
        Expr::Comprehension(one) => {
            for part in [&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result] {
                walk(part, visit);
            }
        }
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scope;
    use super::*;

    fn compiled(source: &str) -> Expression {
        Expression::compile(source, Scope::Rule).unwrap()
    }

    #[test]
    fn an_expression_knows_what_it_reads() {
        for (source, names) in [
            ("true", &[][..]),
            ("request.path == '/' && jwt.sub == 'a'", &["jwt.sub", "request.path"]),
            ("has(jwt.groups) && jwt.groups.exists(g, g == 'x')", &["jwt", "jwt.groups"]),
            ("'a' in scopes(jwt)", &["jwt"]),
            ("cidr('10.0.0.0/8').containsIP(ip(source.address))", &["source.address"]),
            ("headers(request, 'x').size() > 1", &["request.headers"]),
            ("now > timestamp('2030-01-01T00:00:00Z')", &["now"]),
        ] {
            assert_eq!(compiled(source).reads().into_iter().collect::<Vec<_>>(), names, "{source}");
        }
    }

    #[test]
    fn what_reads_nothing_is_always_the_same() {
        for (source, constant) in [
            ("true", Some(true)),
            ("1 == 2", Some(false)),
            ("'a' in ['a', 'b']", Some(true)),
            ("jwt == null", None),
            ("has(jwt.sub)", None),
            ("request.path == '/'", None),
        ] {
            assert_eq!(compiled(source).constant(), constant, "{source}");
        }
    }

    #[test]
    fn what_never_comes_is_told() {
        for (source, told) in [
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
            assert_eq!(compiled(source).impossible().is_some(), told, "{source}");
        }
    }
}
