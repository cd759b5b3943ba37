//! Listening sockets: one per worker on the same address (SO_REUSEPORT), so that the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;

/// The sockets of one listener.
pub struct Bound {
    /// With the port the kernel chose, when 0 was asked for.
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
}

/// Binds `address` once per worker.
///
/// # Errors
/// The address is in use (also by another redweir: the first bind shares with nobody), or may not be bound.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    // Alone first: two processes that both say SO_REUSEPORT would share the port without noticing.
    let alone = socket(address, false)?;
    let address = alone.local_addr()?;
    if workers == 1 {
        return Ok(Bound { address, sockets: vec![alone] });
    }
    drop(alone);
    let sockets = (0..workers).map(|_| socket(address, true)).collect::<io::Result<_>>()?;
    Ok(Bound { address, sockets })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_even_to_ourselves() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        assert_eq!(bind(first.address, 2).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind(first.address, 1).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }
}
