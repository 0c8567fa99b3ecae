//! Where clients come in: TCP, unix and inherited sockets, and accepting that neither spins nor sleeps for ever when
//! descriptors run out. Knows nothing of what is spoken.

use crate::config::Address;
use crate::forwarded::Peer;
use crate::stream::Stream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, TcpKeepalive, Type};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// Connections that wait for accept; the kernel cuts it to `somaxconn`.
const BACKLOG: i32 = 4096;
/// A dead peer of a version without ping is noticed by TCP: first probe after, then every, and unacknowledged data for.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// A bound socket, not yet in a loop.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A socket in a loop that accepts.
#[derive(Debug)]
pub(crate) enum Listening {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

/// Binds one socket a thread, or one that all share where the kernel cannot balance.
pub(crate) fn bind(address: &Address, threads: u8) -> io::Result<Vec<Bound>> {
    match address {
        Address::Tcp(address) => bind_tcp(*address, threads),
        Address::Unix(path) => share(Bound::Unix(bind_unix(path)?), threads),
        // Whoever has these hands them to `adopt`.
        Address::Systemd(_) | Address::Descriptor(_) => Err(ErrorKind::Unsupported.into()),
    }
}

/// A proxy runs as somebody else, and to connect to a unix socket is to write to its file: any user may who may enter the
/// folder. A socket that somebody else opened has the mode that he gave it.
pub(crate) fn admit_everybody(address: &Address) -> io::Result<()> {
    match address {
        Address::Unix(path) => std::fs::set_permissions(path, Permissions::from_mode(0o666)),
        Address::Tcp(_) | Address::Systemd(_) | Address::Descriptor(_) => Ok(()),
    }
}

fn bind_tcp(address: SocketAddr, threads: u8) -> io::Result<Vec<Bound>> {
    // With SO_REUSEPORT a second worker would quietly take half of the clients: an address must be free first.
    let first = tcp_socket(address, false)?;
    if threads == 1 {
        first.listen(BACKLOG)?;
        return Ok(vec![Bound::Tcp(first.into())]);
    }
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    drop(first);
    let sockets: Vec<Socket> = (0..threads)
        .map(|_| tcp_socket(address, true))
        .collect::<io::Result<_>>()?;
    sockets
        .into_iter()
        .map(|socket| {
            socket.listen(BACKLOG)?;
            Ok(Bound::Tcp(socket.into()))
        })
        .collect()
}

fn tcp_socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    inherit_options(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Options that Linux hands down to accepted sockets: set once here, they cost no call a client.
fn inherit_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let bind = || -> io::Result<_> {
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    match bind() {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            // A socket file that nobody listens on is left over from a life that ended badly.
            let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
            let dead = std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            if !(is_socket && dead) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            bind()
        }
        result => result,
    }
}

/// Takes a socket that somebody else has opened, for all threads.
pub(crate) fn adopt(descriptor: OwnedFd, threads: u8) -> io::Result<Vec<Bound>> {
    let socket = Socket::from(descriptor);
    socket.set_nonblocking(true)?;
    if socket.domain()? == Domain::UNIX {
        return share(Bound::Unix(OwnedFd::from(socket).into()), threads);
    }
    inherit_options(&socket)?;
    share(Bound::Tcp(OwnedFd::from(socket).into()), threads)
}

fn share(bound: Bound, threads: u8) -> io::Result<Vec<Bound>> {
    let mut all = Vec::with_capacity(usize::from(threads));
    for _ in 1..threads {
        all.push(match &bound {
            Bound::Tcp(socket) => Bound::Tcp(socket.try_clone()?),
            Bound::Unix(socket) => Bound::Unix(socket.try_clone()?),
        });
    }
    all.push(bound);
    Ok(all)
}

impl Bound {
    /// Returns where it listens, with the port the kernel chose.
    pub(crate) fn local_address(&self) -> Option<Address> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok().map(Address::Tcp),
            Self::Unix(socket) => Some(Address::Unix(
                socket.local_addr().ok()?.as_pathname()?.to_owned(),
            )),
        }
    }

    pub(crate) fn into_listening(self) -> Listening {
        match self {
            Self::Tcp(socket) => Listening::Tcp(mio::net::TcpListener::from_std(socket)),
            Self::Unix(socket) => Listening::Unix(mio::net::UnixListener::from_std(socket)),
        }
    }
}

impl Listening {
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => registry.register(socket, token, Interest::READABLE),
            Self::Unix(socket) => registry.register(socket, token, Interest::READABLE),
        }
    }

    fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => socket
                .accept()
                .map(|(stream, address)| (Stream::Tcp(stream), Peer::Tcp(address))),
            Self::Unix(socket) => socket
                .accept()
                .map(|(stream, _)| (Stream::Unix(stream), Peer::Unix)),
        }
    }
}

/// What accepting came to.
#[derive(Debug)]
pub(crate) enum Accepted {
    Client(Stream, Peer),
    /// Nobody waits.
    Nobody,
    /// This one is gone already; the next may wait.
    Again,
    /// No descriptor or memory: try again later. The edge does not come back by itself.
    Exhausted(io::Error),
}

/// A listener of one loop.
#[derive(Debug)]
pub(crate) struct Acceptor {
    socket: Listening,
    pub(crate) proxy_protocol: bool,
    /// Edge-triggered: somebody may wait.
    pub(crate) pending: bool,
}

impl Acceptor {
    pub(crate) fn new(socket: Listening, proxy_protocol: bool) -> Self {
        Self {
            socket,
            proxy_protocol,
            pending: false,
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token)
    }

    /// Accepts one.
    pub(crate) fn accept(&mut self) -> Accepted {
        match self.socket.accept() {
            Ok((stream, peer)) => Accepted::Client(stream, peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.pending = false;
                Accepted::Nobody
            }
            Err(error) if is_of_the_client(error.kind()) => Accepted::Again,
            Err(error) => Accepted::Exhausted(error),
        }
    }
}

/// Returns whether an accept failed for what came of the client that waited, and not for want of anything here.
fn is_of_the_client(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Interrupted
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::PermissionDenied
    )
}

/// One descriptor in reserve, so that when all are used a waiting client can be told to come back.
#[derive(Debug)]
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub(crate) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Accepts one client with the spare descriptor and tells it to come back later.
    pub(crate) fn turn_away(&mut self, acceptor: &mut Acceptor) {
        if self.0.take().is_some()
            && let Accepted::Client(mut stream, _) = acceptor.accept()
        {
            turn_away(&mut stream);
        }
        self.refill();
    }

    /// Takes a descriptor back into reserve, if another thread was quicker to use the last one.
    pub(crate) fn refill(&mut self) {
        if self.0.is_none() {
            *self = Self::new();
        }
    }
}

/// Tells a client that there is no room, without a slot of its own.
pub(crate) fn turn_away(stream: &mut Stream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n\r\nno room for more sockets, come back.\r\n";
    // Best effort: what it sent is read once, so that close is no reset.
    let _ = stream.write(ANSWER);
    stream.finish();
    let _ = stream.read(&mut [0; 4096]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_however_many_threads_want_it() {
        let first = bind(&Address::Tcp("127.0.0.1:0".parse().unwrap()), 2).unwrap();
        assert_eq!(first.len(), 2);
        let taken = first.first().unwrap().local_address().unwrap();
        assert_eq!(bind(&taken, 2).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(bind(&taken, 1).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_proxy_of_another_user_may_connect_to_a_unix_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = Address::Unix(path.clone());
        let _bound = bind(&address, 1).unwrap();
        admit_everybody(&address).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
    }

    #[test]
    fn a_dead_socket_file_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("s"));
        let living = bind(&address, 1).unwrap();
        assert_eq!(bind(&address, 1).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(living);
        assert!(bind(&address, 1).is_ok());
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(bind(&Address::Unix(file.clone()), 1).is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }
}
