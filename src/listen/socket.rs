//! Listening sockets: one per worker on the same address. Fails if another process has the address.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// The limit on established connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Opens `count` sockets on `address` that share its connections.
///
/// # Errors
/// If the address is in use, even by a process that would share it, or is not an address of this machine.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // `SO_REUSEPORT` would also share with a second gateway, so an exclusive bind first checks that the address is free
    let probe = open_socket(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    bind_overlapping(address, count)
}

/// Opens sockets like [`bind`], next to sockets of this process that overlap, such as those of a wildcard address that is
/// about to be closed.
///
/// # Errors
/// If the address is in use by another process, or is not an address of this machine.
pub fn bind_overlapping(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let socket = open_socket(address, true)?;
        socket.listen(BACKLOG)?;
        address = socket.local_addr()?.as_socket().unwrap_or(address);
        sockets.push(socket.into());
    }
    Ok(sockets)
}

/// The limit on response bytes that the system buffers for a client. Without it, megabytes for a slow client pile up in
/// the system, and a client that reads steadily seems to be stalled.
const MAX_UNSENT: u32 = 256 << 10;

fn open_socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` listens on both families, any other IPv6 address only on itself
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    // accepted connections inherit the option; not every Linux-compatible system supports it
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_an_address_that_is_in_use_for_others() {
        for count in [1, 3] {
            let sockets = bind("127.0.0.1:0".parse().unwrap(), count).unwrap();
            assert_eq!(sockets.len(), count);
            let address = sockets[0].local_addr().unwrap();
            assert!(sockets.iter().all(|s| s.local_addr().unwrap() == address));
            assert_eq!(bind(address, count).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }
}
