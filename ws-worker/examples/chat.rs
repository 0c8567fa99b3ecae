//! A chat with names, and a clock from another thread: `cargo run --example chat`, then open `ws://127.0.0.1:9000/` in
//! several consoles. `/name Ada` changes the name.

use std::collections::HashMap;
use std::time::Duration;
use ws_worker::{End, Handler, Message, Socket, StartError, Worker};

/// One value a thread: sockets are told apart by [`Socket::key`].
#[derive(Default)]
struct Chat {
    names: HashMap<usize, String>,
}

impl Chat {
    fn name(&self, socket: &Socket<'_>) -> String {
        self.names
            .get(&socket.key())
            .cloned()
            .unwrap_or_else(|| format!("guest {}", socket.key()))
    }
}

impl Handler for Chat {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let hello = format!(
            "Welcome, {}. You speak {}.",
            self.name(socket),
            socket.version()
        );
        let _ = socket.send(Message::text(&hello)); // The first message of a socket always fits.
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        if let Some(name) = text.strip_prefix("/name ") {
            self.names.insert(socket.key(), name.to_owned());
        } else {
            let line = format!("{}: {text}", self.name(socket));
            socket.broadcast(Message::text(&line));
        }
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, end: &End<'_>) {
        let line = format!(
            "{} has left the building ({})",
            self.name(socket),
            end.by.name()
        );
        self.names.remove(&socket.key());
        socket.broadcast(Message::text(&line));
    }
}

fn main() -> Result<(), StartError> {
    let listen = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let running = Worker::builder()
        .listen(&listen)
        .threads(2)
        .route("/", Chat::default)
        .start()?;
    let handle = running.handle();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(60));
            if let Err(error) = handle.broadcast(Message::text("another minute has passed")) {
                eprintln!("not said: {error}");
            }
        }
    });
    running.join()
}
