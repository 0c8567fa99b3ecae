//! The smallest honest app behind the worker: every hook is answered 200, a message goes back to its sender. Only the standard
//! library, so that `rustc -O` is enough; a thread a connection, of which the worker keeps a few. `app PORT 500` thinks half a second.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().expect("usage: app PORT [MILLISECONDS]");
    let delay = arguments
        .next()
        .map_or(0, |text| text.parse().expect("milliseconds"));
    let delay = Duration::from_millis(delay);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("a free port");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream, delay));
    }
}

/// Answers request after request; whatever is not understood ends the connection.
fn serve(mut stream: TcpStream, delay: Duration) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (mut request, mut answer, mut room) = (Vec::new(), Vec::new(), [0; 16 * 1024]);
    loop {
        let head = loop {
            match request.windows(4).position(|end| end == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => more(&mut stream, &mut room, &mut request)?,
            }
        };
        let lines = std::str::from_utf8(&request[..head])
            .ok()?
            .to_ascii_lowercase();
        let length = lines
            .split("content-length: ")
            .nth(1)?
            .split('\r')
            .next()?
            .parse::<usize>()
            .ok()?;
        let is_message = lines.contains("\r\nws-event: message\r");
        while request.len() < head + length {
            more(&mut stream, &mut room, &mut request)?;
        }
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        answer.clear();
        let (to, body) = if is_message {
            ("Ws-To: self\r\n", &request[head..head + length])
        } else {
            ("", &[][..])
        };
        write!(
            answer,
            "HTTP/1.1 200 OK\r\n{to}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .ok()?;
        answer.extend_from_slice(body);
        stream.write_all(&answer).ok()?;
        request.drain(..head + length);
    }
}

fn more(stream: &mut TcpStream, room: &mut [u8], request: &mut Vec<u8>) -> Option<()> {
    let count = stream.read(room).ok().filter(|count| *count > 0)?;
    request.extend_from_slice(&room[..count]);
    Some(())
}
