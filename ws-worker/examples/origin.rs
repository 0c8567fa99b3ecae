//! Lets only pages of one's own in, agrees on a subprotocol and recognises a session by its cookie:
//! `cargo run --example origin`, then from a page on `http://localhost`: `new WebSocket("ws://127.0.0.1:9000/", "lines")`.

use ws_worker::{
    Accept, Connecting, Decision, Handler, Headers, Message, Socket, StartError, Worker,
};

struct Members;

impl Handler for Members {
    fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
        if request.origin() != Some("http://localhost") {
            return Decision::refuse(403, "only for pages on http://localhost\n");
        }
        let Some(protocol) = request.protocols().find(|offered| *offered == "lines") else {
            return Decision::refuse(400, "speak the subprotocol `lines`\n");
        };
        let visits: u32 = request
            .cookie("visits")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let mut headers = Headers::default();
        let cookie = format!(
            "visits={}; Path=/; HttpOnly; SameSite=Strict",
            visits.saturating_add(1)
        );
        if headers.add("Set-Cookie", &cookie).is_err() {
            return Decision::refuse(500, "");
        }
        eprintln!(
            "{} came to {} for the {visits}. time",
            request.peer(),
            request.location()
        );
        Decision::Accept(Accept {
            protocol: Some(protocol.to_owned()),
            headers,
        })
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        if let Message::Text(text) = message {
            for line in text.lines() {
                let _ = socket.send(Message::text(line)); // It fails only for a client that is gone, or that takes nothing.
            }
        }
    }
}

fn main() -> Result<(), StartError> {
    let listen = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    Worker::builder()
        .listen(&listen)
        .route("/", || Members)
        .run()
}
