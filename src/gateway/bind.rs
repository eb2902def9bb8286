//! The sockets of the binds. Each address is bound once per worker.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::config::{Diagnostic, DiagnosticCode};
use crate::listen::socket;
use crate::snapshot::Snapshot;

/// The configured address of a bind and its sockets, one per worker.
pub(crate) type BoundSockets = (SocketAddr, Vec<TcpListener>);

/// Binds every address that is not in `bound_addresses`. Returns a diagnostic for each address that cannot be bound.
pub(crate) fn bind_all(
    snapshot: &Snapshot,
    count: usize,
    bound_addresses: &[SocketAddr],
) -> Result<Vec<BoundSockets>, Vec<Diagnostic>> {
    let (mut bound, mut errors) = (Vec::new(), Vec::new());
    for bind in &snapshot.binds {
        if bound_addresses.contains(&bind.address) {
            continue;
        }
        // an overlapping address that this process is about to release does not count as a conflict
        let may_overlap = bound_addresses.iter().any(|other| other.port() == bind.address.port() && other.port() != 0);
        match bind_address(bind.address, bind.config.address.is_none(), count, may_overlap) {
            Ok(sockets) => bound.push((bind.address, sockets)),
            Err(error) => {
                let message = format!("cannot bind {}: {error}", bind.address);
                errors.push(Diagnostic::error(bind.config.span.clone(), message).with_code(DiagnosticCode::CannotBind));
            }
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(errors) }
}

/// Binds an address. The default address covers both families; on a system without IPv6 it falls back to IPv4.
fn bind_address(
    address: SocketAddr,
    is_default: bool,
    count: usize,
    may_overlap: bool,
) -> std::io::Result<Vec<TcpListener>> {
    let bind = if may_overlap { socket::bind_overlapping } else { socket::bind };
    match bind(address, count) {
        Err(error) if is_default && error.kind() != std::io::ErrorKind::AddrInUse => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind(v4, count).map_err(|_| error)
        }
        result => result,
    }
}
