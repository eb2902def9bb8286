//! Conflicts between the addresses of binds and of the admin endpoints. Port 0, which the operating system replaces, never
//! conflicts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::bind::BindConfig;
use super::diagnostic::Diagnostic;
use super::diagnostic_code::DiagnosticCode;
use super::process::ProcessConfig;
use super::span::{SourceSpan, Spanned};
use super::value::ListenAddress;

/// A bind or an admin endpoint, with its addresses.
struct AddressOwner<'c> {
    /// The config key of an admin endpoint; `None` for a bind.
    key: Option<&'static str>,
    addresses: Vec<SocketAddr>,
    /// The position; `None` for a default address.
    span: Option<&'c SourceSpan>,
}

/// Returns an error for each address that conflicts with an earlier one.
pub(super) fn conflicts(process: &ProcessConfig, binds: &[BindConfig]) -> Vec<Diagnostic> {
    let mut owners = vec![
        AddressOwner::process_endpoint("adminAddr", &process.admin_addr),
        AddressOwner::process_endpoint("statsAddr", &process.stats_addr),
        AddressOwner::process_endpoint("readinessAddr", &process.readiness_addr),
    ];
    // configured addresses come last, so that errors point to them
    owners.sort_by_key(|owner| owner.span.is_some());
    owners.extend(binds.iter().map(|bind| AddressOwner {
        key: None,
        addresses: vec![SocketAddr::new(bind.address.map_or(Ipv6Addr::UNSPECIFIED.into(), |ip| ip.0), bind.port)],
        span: Some(&bind.span),
    }));
    let mut errors = Vec::new();
    for (at, second) in owners.iter().enumerate() {
        let Some(span) = second.span else { continue };
        let first = owners.iter().take(at).find_map(|first| Some((first, first.conflict_with(second)?)));
        if let Some((first, address)) = first {
            errors.push(second.conflict_error(span, first, address));
        }
    }
    errors
}

impl<'c> AddressOwner<'c> {
    fn process_endpoint(name: &'static str, Spanned { value, span }: &'c Spanned<ListenAddress>) -> Self {
        Self { key: Some(name), addresses: value.sockets(), span: Some(span).filter(|place| !place.is_default()) }
    }

    /// Returns the first address of `other` that conflicts with one of these.
    fn conflict_with(&self, other: &Self) -> Option<SocketAddr> {
        let taken = |address: &&SocketAddr| self.addresses.iter().any(|ours| overlaps(*ours, **address));
        other.addresses.iter().find(taken).copied()
    }

    fn conflict_error(&self, span: &SourceSpan, first: &Self, address: SocketAddr) -> Diagnostic {
        let line = first.span.map_or(0, |place| place.line);
        let error = |message: String| Diagnostic::error(span.clone(), message).with_code(DiagnosticCode::Duplicate);
        let Some(name) = first.key else {
            return error(format!("port {} is a duplicate; first on line {line}", address.port()));
        };
        let location = if line == 0 { ", its default".to_owned() } else { format!(" on line {line}") };
        error(format!("{address} is used by `config.{name}`{location}"))
            .with_hint(format!("use another port, or another `config.{name}`; it can be `off`"))
    }
}

/// Returns whether only one of two addresses can be bound. `[::]` covers both families.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    let is_dual_stack = |ip: IpAddr| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let same_family = a.is_ipv4() == b.is_ipv4();
    let has_wildcard = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0
        && a.port() == b.port()
        && (is_dual_stack(a.ip()) || is_dual_stack(b.ip()) || (same_family && (has_wildcard || a.ip() == b.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_conflict_with_the_addresses_they_cover() {
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("0.0.0.0:1", "[::]:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("[::1]:1", "127.0.0.1:1", false),
            ("[::]:0", "[::]:0", false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((overlaps(a, b), overlaps(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
