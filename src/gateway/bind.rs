//! The binds' sockets: each address bound once for every worker, or an error at the bind's place.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::config::{Diagnostic, DiagnosticCode};
use crate::listen::socket;
use crate::snapshot::Snapshot;

/// A bind's configured address and its sockets, one for each worker.
pub(crate) type BoundSockets = (SocketAddr, Vec<TcpListener>);

/// Sockets for every bind whose address is not among `running`, or what is wrong with all those that can't be had.
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
        // an address of this gateway's own that goes, and overlaps with this one, is no stranger
        let ours = bound_addresses.iter().any(|other| other.port() == bind.address.port() && other.port() != 0);
        match bind_address(bind.address, bind.config.address.is_none(), count, ours) {
            Ok(sockets) => bound.push((bind.address, sockets)),
            Err(error) => {
                let message = format!("{} can't be listened on: {error}", bind.address);
                errors.push(Diagnostic::error(bind.config.span.clone(), message).with_code(DiagnosticCode::CannotBind));
            }
        }
    }
    if errors.is_empty() { Ok(bound) } else { Err(errors) }
}

/// The default address is both families; on a machine without IPv6 it is the other one.
fn bind_address(address: SocketAddr, is_default: bool, count: usize, ours: bool) -> std::io::Result<Vec<TcpListener>> {
    let bind = if ours { socket::bind_overlapping } else { socket::bind };
    match bind(address, count) {
        Err(error) if is_default && error.kind() != std::io::ErrorKind::AddrInUse => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind(v4, count).map_err(|_| error)
        }
        result => result,
    }
}
