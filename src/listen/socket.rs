//! Listening sockets: one for each worker on the same address, and an error if somebody else has it.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// `count` sockets on `address` that share its connections.
///
/// # Errors
/// When the address is taken, also by another process that would share it, or not this machine's.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // sharing would also be granted to a second gateway: whoever asks alone first is told that the address is taken
    let probe = open_socket(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    bind_overlapping(address, count)
}

/// The same beside sockets of this process that overlap, such as those of a wildcard that is about to go.
///
/// # Errors
/// When the address is taken by somebody else, or not this machine's.
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

/// Bytes of an answer that may wait in the system before the client is ready for more. Without this a slow client's
/// megabytes pile up there, and between two looks nothing seems to move.
const MAX_UNSENT: u32 = 256 << 10;

fn open_socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` is both families, any other IPv6 address only itself
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    // accepted connections inherit it; not every system that looks like Linux knows it
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
    fn workers_share_an_address_that_nobody_else_gets() {
        for count in [1, 3] {
            let sockets = bind("127.0.0.1:0".parse().unwrap(), count).unwrap();
            assert_eq!(sockets.len(), count);
            let address = sockets[0].local_addr().unwrap();
            assert!(sockets.iter().all(|s| s.local_addr().unwrap() == address));
            assert_eq!(bind(address, count).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }
}
