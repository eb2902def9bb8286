//! Every address that a config would listen at, and those that can't be had together. A port that the system is to
//! choose is in nobody's way.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::bind::Bind;
use super::code::Code;
use super::error::Diagnostic;
use super::place::{Located, Place};
use super::process::Process;
use super::value::Address;

/// What is to listen somewhere.
struct Wanted<'c> {
    /// The key of one of the gateway's own endpoints; none is a bind.
    own: Option<&'static str>,
    addresses: Vec<SocketAddr>,
    /// None for a default.
    place: Option<&'c Place>,
}

/// An error for everything that is in the way of something before it.
pub(super) fn clashes(process: &Process, binds: &[Bind]) -> Vec<Diagnostic> {
    let mut all = vec![
        Wanted::own("adminAddr", &process.admin_addr),
        Wanted::own("statsAddr", &process.stats_addr),
        Wanted::own("readinessAddr", &process.readiness_addr),
    ];
    // what has a place comes last, to be pointed at
    all.sort_by_key(|wanted| wanted.place.is_some());
    all.extend(binds.iter().map(|bind| Wanted {
        own: None,
        addresses: vec![SocketAddr::new(bind.address.map_or(Ipv6Addr::UNSPECIFIED.into(), |ip| ip.0), bind.port)],
        place: Some(&bind.place),
    }));
    let mut errors = Vec::new();
    for (at, second) in all.iter().enumerate() {
        let Some(place) = second.place else { continue };
        let first = all.iter().take(at).find_map(|first| Some((first, first.meets(second)?)));
        if let Some((first, address)) = first {
            errors.push(second.error(place, first, address));
        }
    }
    errors
}

impl<'c> Wanted<'c> {
    fn own(name: &'static str, Located { value, place }: &'c Located<Address>) -> Self {
        Self { own: Some(name), addresses: value.sockets(), place: Some(place).filter(|place| !place.is_default()) }
    }

    /// An address of the other one that can't be had beside one of these.
    fn meets(&self, other: &Self) -> Option<SocketAddr> {
        let taken = |address: &&SocketAddr| self.addresses.iter().any(|own| overlap(*own, **address));
        other.addresses.iter().find(taken).copied()
    }

    fn error(&self, place: &Place, first: &Self, address: SocketAddr) -> Diagnostic {
        let line = first.place.map_or(0, |place| place.line);
        let error = |message: String| Diagnostic::error(place.clone(), message).code(Code::Twice);
        let Some(name) = first.own else {
            return error(format!("port {} is bound twice; first on line {line}", address.port()));
        };
        let at = if line == 0 { ", its default".to_owned() } else { format!(" on line {line}") };
        error(format!("{address} is taken by `config.{name}`{at}"))
            .hint(format!("choose another port, or another `config.{name}`; it can be `off`"))
    }
}

/// Whether only one of two addresses can be listened at. `[::]` takes both families.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let both = |ip: IpAddr| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let same_family = one.is_ipv4() == other.is_ipv4();
    let wide = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (both(one.ip()) || both(other.ip()) || (same_family && (wide || one.ip() == other.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_in_the_way_of_what_they_hold() {
        for (one, other, expected) in [
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
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
