//! TLS by rustls: sans-IO, so the loop's sockets stay the loop's.

use super::Fault;
use crate::clock::unix_seconds;
use crate::stream::Stream;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// What it takes to speak TLS to one app: its name, whom to believe that it is the app, and what is remembered of earlier
/// sessions, so that the next begins with half of the work. Shared by threads, locked once a connection.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    trust: Trust,
}

/// Two are the same if they believe the same of the same app; what they remember does not matter.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.trust.0.roots == other.trust.0.roots
    }
}

/// Authorities that are believed.
#[derive(Clone, Debug)]
pub(crate) struct Trust(Arc<RootCertStore>);

/// Certificates expire by wall time.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            unix_seconds(),
        )))
    }
}

impl Trust {
    pub(crate) const IS_BUILT_IN: bool = true;

    /// Reads the system's store, `/etc/ssl/certs` on Debian; `SSL_CERT_FILE` and `SSL_CERT_DIR` name another. Certificates in it
    /// that make no sense are left out: an old one of somebody else's is no reason not to start.
    ///
    /// # Errors
    /// The system's: there is none, or nothing in it.
    pub(crate) fn of_the_system() -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(found.certs);
        if added > 0 {
            return Ok(Self(Arc::new(store)));
        }
        Err(match found.errors.first() {
            Some(error) => format!("the system's certificates cannot be read: {error}"),
            None => "the system trusts nobody: it has no certificates".to_owned(),
        })
    }

    /// Reads certificates of authorities in PEM. Each counts: one that is not understood is a mistake.
    ///
    /// # Errors
    /// The operator's: there is none, or one makes no sense.
    pub(crate) fn of_file(pem: &[u8]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("holds broken PEM: {error}"))?;
            let added = store.add(certificate);
            added.map_err(|error| format!("holds a certificate that makes no sense: {error}"))?;
        }
        if store.is_empty() {
            return Err("holds no certificate".to_owned());
        }
        Ok(Self(Arc::new(store)))
    }
}

impl Tls {
    /// Returns whether a certificate can be for this host: a name or an address.
    pub(crate) fn is_host(host: &str) -> bool {
        ServerName::try_from(host).is_ok()
    }

    /// Prepares sessions with one app; `None` if no certificate can be for this host.
    pub(crate) fn new(host: &str, trust: &Trust) -> Option<Self> {
        let name = ServerName::try_from(host).ok()?.to_owned();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_details(provider, Arc::new(WallClock));
        // What ring offers has ciphers for both versions.
        let config = config.with_safe_default_protocol_versions().ok()?;
        let mut config = config
            .with_root_certificates(Arc::clone(&trust.0))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // One name is asked for; it is remembered a few times, for connections that are made at once.
        config.resumption = Resumption::in_memory_sessions(2);
        Some(Self {
            config: Arc::new(config),
            name,
            trust: trust.clone(),
        })
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session(ClientConnection);

/// Plaintext that is taken before it is written: a record.
const UNWRITTEN: usize = 16 * 1024;

impl Session {
    /// What a session may hold at most, in bytes of heap: a record in each direction, one being put together, and in the
    /// handshake a chain of certificates. Measured: 6 KiB idle, 57 KiB in the midst of a long answer.
    pub(crate) const MEMORY: usize = 64 * 1024;

    /// Begins a session; nothing is written yet.
    ///
    /// # Errors
    /// The system has no random bytes to give.
    pub(crate) fn new(tls: &Tls) -> io::Result<Self> {
        let session = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone());
        let mut session = session.map_err(io::Error::other)?;
        session.set_buffer_limit(Some(UNWRITTEN));
        Ok(Self(session))
    }

    /// Goes on with the handshake as far as it can; returns whether it is done.
    ///
    /// # Errors
    /// The app's fault, or the operator's.
    pub(crate) fn shake_hands(&mut self, stream: &mut Stream) -> Result<bool, Fault> {
        loop {
            match self.flush(stream) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Err(Fault::Broken),
            }
            if !self.0.is_handshaking() {
                return Ok(true);
            }
            match self.receive(stream) {
                Ok(true) => {}
                Ok(false) => return Err(Fault::Refused),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(fault(&error)),
            }
        }
    }

    /// Reads what the app said; 0 is its end, as it said so itself.
    ///
    /// # Errors
    /// `WouldBlock`: there is nothing yet. `UnexpectedEof`: the stream ended before the app said so; somebody may have cut
    /// it. Anything else: the session is broken.
    pub(crate) fn read(&mut self, stream: &mut Stream, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            self.receive(stream)?;
            // Keys may have to be renewed. What cannot be written now is when something else is.
            let _ = self.flush(stream);
        }
    }

    /// Takes bytes to be written, as many as fit, and writes what it can.
    ///
    /// # Errors
    /// `WouldBlock`: none were taken, for others are still unwritten. Anything else: the stream's.
    pub(crate) fn write(
        &mut self,
        stream: &mut Stream,
        bytes: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(stream)?;
        let count = self.0.writer().write_vectored(bytes)?;
        match self.flush(stream) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(count),
        }
    }

    /// Writes what is unwritten.
    ///
    /// # Errors
    /// The stream's; `WouldBlock` if something is left.
    pub(crate) fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(&mut Pipe(stream))?;
        }
        Ok(())
    }

    /// Returns whether all that was taken is written.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.0.wants_write()
    }

    /// Says goodbye, as far as the stream takes it.
    pub(crate) fn finish(&mut self, stream: &mut Stream) {
        if !self.0.is_handshaking() {
            self.0.send_close_notify();
        }
        // It is dropped next; what the app did not hear of it, it takes for a cut.
        let _ = self.flush(stream);
    }

    /// Reads from the stream once and takes what came; returns `false` at the stream's end.
    fn receive(&mut self, stream: &mut Stream) -> io::Result<bool> {
        let count = self.0.read_tls(&mut Pipe(stream))?;
        if let Err(error) = self.0.process_new_packets() {
            let _ = self.flush(stream); // The alert that tells the app why.
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count > 0)
    }
}

/// The loop's stream, as rustls wants it.
struct Pipe<'a>(&'a mut Stream);

impl Read for Pipe<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says what an error in the handshake means to an operator.
fn fault(error: &io::Error) -> Fault {
    use CertificateError as Bad;
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    match error {
        // The signature is bad where an authority has the name of a trusted one and another key.
        Some(Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature)) => {
            Fault::UnknownAuthority
        }
        Some(Error::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        )) => Fault::Expired,
        Some(Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        )) => Fault::WrongName,
        Some(Error::InvalidCertificate(_)) => Fault::Certificate,
        Some(Error::InvalidMessage(_)) => Fault::NotTls,
        Some(Error::AlertReceived(_)) => Fault::Refused,
        Some(_) | None => Fault::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_must_hold_authorities() {
        assert_eq!(Trust::of_file(b"").unwrap_err(), "holds no certificate");
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = Trust::of_file(broken).unwrap_err();
        assert!(
            error.starts_with("holds a certificate that makes no sense"),
            "{error}"
        );
        let cut = Trust::of_file(b"-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap_err();
        assert!(cut.starts_with("holds broken PEM"), "{cut}");
    }

    #[test]
    fn a_certificate_is_for_a_name_or_an_address() {
        for host in [
            "app.example",
            "localhost",
            "127.0.0.1",
            "::1",
            "a_b.example",
        ] {
            assert!(Tls::is_host(host), "{host}");
        }
        for host in ["", "a..b", "-"] {
            assert!(!Tls::is_host(host), "{host}");
        }
    }
}
