//! From a place to a stream, by a deadline that holds for the resolver too. Knows no WebSocket.

use super::url::Place;
use crate::stream::Stream;
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Connects. The system's resolver and a full unix socket know no deadline, so a thread waits for them; when they
/// outlast ours it is left behind, for the process is about to end.
///
/// # Errors
/// The system's; `TimedOut` at the deadline.
pub(crate) fn dial(place: &Place, patience: Duration) -> io::Result<Stream> {
    let (sender, receiver) = mpsc::channel();
    let place = place.clone();
    let until = Instant::now() + patience;
    thread::Builder::new().spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(connect(&place, until));
    })?;
    receiver
        .recv_timeout(patience)
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn connect(place: &Place, until: Instant) -> io::Result<Stream> {
    let (name, port) = match place {
        Place::Unix(path) => return Stream::from_unix(UnixStream::connect(path)?),
        Place::Tcp { name, port } => (name.as_str(), *port),
    };
    let addresses: Vec<_> = (name, port).to_socket_addrs()?.collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        // An address that swallows packets leaves time for the next.
        let others = u32::try_from(addresses.len() - index).unwrap_or(1);
        let patience = until.saturating_duration_since(Instant::now()) / others;
        let patience = patience.max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, patience).and_then(Stream::from_tcp) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
