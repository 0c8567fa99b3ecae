//! Sends every message of every version back: `cargo run --example echo`, then `ws://127.0.0.1:9000/`.

use ws_worker::{Handler, Message, Socket, StartError, Worker};

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        let _ = socket.send(message); // It fails only for a client that is gone, or that takes nothing.
    }
}

fn main() -> Result<(), StartError> {
    let worker = Worker::builder().listen("127.0.0.1:9000");
    worker.route("/", || Echo).run()
}
