//! A blocking client of any version for the loopback tests, on ws-proto's client role. Every wait has a deadline.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test binary uses its part of it, and one that cannot go on says so by panicking"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};
use ws_proto::{
    ClientHandshake, ClientOptions, CloseCode, Connection, Event, Input, Instant, Limits, Nonce,
    Output,
};
pub use ws_proto::{Closed, Message, Version};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One client, blocking.
pub struct Client {
    pub stream: TcpStream,
    connection: Connection,
    unread: Vec<u8>,
    pub protocol: Option<String>,
    pub headers: Vec<(String, String)>,
    eof: bool,
}

fn now() -> Instant {
    Instant::at(0)
}

/// Connects without saying anything.
pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the worker listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Asks and returns the client, or what was answered instead.
pub fn ask(address: SocketAddr, options: ClientOptions) -> Result<Client, String> {
    ask_on(tcp(address), options)
}

/// Likewise on a stream that is there already.
pub fn ask_on(mut stream: TcpStream, options: ClientOptions) -> Result<Client, String> {
    let mut nonce = [0; 64];
    getrandom::fill(&mut nonce).unwrap();
    let mut handshake = ClientHandshake::new(now(), options, &Nonce(nonce))
        .map_err(|error| format!("{error:?}"))?;
    let mut out = Output::default();
    handshake.start(&mut out);
    stream
        .write_all(out.as_slice())
        .map_err(|error| error.to_string())?;
    let mut unread = Vec::new();
    let mut all = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(String::from_utf8_lossy(&all).into_owned());
        }
        all.extend_from_slice(&bytes[..count]);
        let mut input = Input::new(&mut bytes[..count]);
        let result = handshake.receive(now(), &mut input, &mut out);
        unread.extend_from_slice(input.as_slice());
        match result {
            Ok(Some(_)) => break,
            Ok(None) => {}
            Err(_) => {
                // The rest of the refusal, up to its end.
                let _ = stream.read_to_end(&mut all);
                return Err(String::from_utf8_lossy(&all).into_owned());
            }
        }
    }
    let protocol = handshake.protocol().map(str::to_owned);
    let headers = handshake
        .headers()
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let limits = Limits {
        max_message: 64 << 20,
        heartbeat: None,
        ..Limits::default()
    };
    let connection = handshake
        .into_connection(now(), Arc::new(limits))
        .expect("it is open");
    Ok(Client {
        stream,
        connection,
        unread,
        protocol,
        headers,
        eof: false,
    })
}

/// Opens a socket of this version, or panics with what was answered instead.
pub fn open(address: SocketAddr, version: Version, target: &str) -> Client {
    let mut options = ClientOptions::new(version, address.to_string(), target);
    options.origin = Some("http://example.org".to_owned());
    match ask(address, options) {
        Ok(client) => client,
        Err(answer) => panic!("{version} {target}: {answer}"),
    }
}

impl Client {
    /// Sends a message.
    pub fn send(&mut self, message: Message<'_>) {
        let mut out = Output::default();
        self.connection
            .send(now(), message, &mut out)
            .expect("it is open");
        self.stream
            .write_all(out.as_slice())
            .expect("the worker reads");
    }

    pub fn text(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    /// Reads so many bytes as they come; those first that came together with the answer to the handshake.
    pub fn read_exact(&mut self, room: &mut [u8]) {
        let early = room.len().min(self.unread.len());
        for (place, byte) in room.iter_mut().zip(self.unread.drain(..early)) {
            *place = byte;
        }
        let rest = room.get_mut(early..).unwrap_or_default();
        self.stream.read_exact(rest).expect("the worker sends");
    }

    /// Sends raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the worker reads");
    }

    /// Begins the closing handshake.
    pub fn close(&mut self, code: u16, reason: &str) {
        let mut out = Output::default();
        self.connection.close(
            now(),
            CloseCode::new(code).expect("a code for the wire"),
            reason,
            &mut out,
        );
        // The worker may have closed at the same time.
        let _ = self.stream.write_all(out.as_slice());
        if !self.connection.version().has_closing_handshake() {
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Waits for the next message; `None` at the end. Pings are answered.
    pub fn receive(&mut self) -> Option<Message<'static>> {
        let mut out = Output::default();
        loop {
            let mut bytes = std::mem::take(&mut self.unread);
            if bytes.is_empty() {
                if self.eof || self.connection.closed().is_some() {
                    return None;
                }
                bytes = vec![0; 65_536];
                let count = match self.stream.read(&mut bytes) {
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                    Err(error) => panic!("nothing came: {error}"),
                };
                bytes.truncate(count);
                if count == 0 {
                    self.eof = true;
                    self.connection.handle_eof(now());
                    return None;
                }
            }
            let mut input = Input::new(&mut bytes);
            let event = self.connection.receive(now(), &mut input, &mut out);
            let message = match event {
                Some(Event::Message(message)) => Some(message.into_owned()),
                Some(_) | None => None,
            };
            self.unread = input.as_slice().to_vec();
            if !out.is_empty() {
                // Nobody may be there to hear it.
                let _ = self.stream.write_all(out.as_slice());
                out.clear(0);
            }
            if message.is_some() {
                return message;
            }
        }
    }

    pub fn receive_text(&mut self) -> String {
        match self.receive() {
            Some(Message::Text(text)) => text.into_owned(),
            other => panic!("no text but {other:?}: {:?}", self.connection.closed()),
        }
    }

    /// Waits for the end and returns how it came.
    pub fn closed(&mut self) -> Closed {
        while self.receive().is_some() {}
        // A closing handshake ends with the worker's FIN.
        let mut rest = [0; 1024];
        while !self.eof {
            match self.stream.read(&mut rest) {
                Ok(0) => self.eof = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.eof = true,
                Err(error) => panic!("the worker does not end the stream: {error}"),
            }
        }
        self.connection.handle_eof(now());
        self.connection.closed().expect("it has ended").clone()
    }
}

/// Waits until something holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Clock::now() + PATIENCE;
    while !holds() {
        assert!(Clock::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
