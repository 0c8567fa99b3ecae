//! What a client may not do, or not for so long: silence, slowness, too many, too much.

use super::*;

#[test]
fn a_client_that_does_not_read_is_not_read_and_misses_nothing_when_it_comes_back() {
    let (_running, address) = echo();
    for version in ALL {
        check_unread(address, version, 1000);
    }
}

#[test]
fn nor_is_one_read_whose_messages_are_written_from_where_they_lie() {
    let builder = Worker::builder().route_with("/", || Echo, |route| route.max_output = 128 << 10);
    let (_running, address) = started(builder);
    for version in ALL {
        check_unread(address, version, 32 << 10);
    }
}

/// Sends text of so many bytes to an echo until nothing more goes in either direction, then reads it all.
#[track_caller]
fn check_unread(address: SocketAddr, version: Version, length: usize) {
    let mut client = open(address, version, "/");
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let line = "0123456789abcdef".repeat(length)[..length].to_owned();
    let frame = match version.has_binary() {
        true => {
            let length = (length as u16).to_be_bytes();
            [&[0x81, 0xfe], &length[..], &[0; 4], line.as_bytes()].concat()
        }
        false => [b"\x00", line.as_bytes(), b"\xff"].concat(),
    };
    // Writes until the pipe is full both ways.
    let mut sent = 0;
    let partial = 'full: loop {
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            match client.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(_) => break 'full frame.len() - rest.len(),
            }
        }
        sent += 1;
        assert!(sent < 200_000, "somebody buffers without end");
    };
    for _ in 0..sent {
        assert_eq!(client.receive_text(), line);
    }
    client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    client.raw(&frame[partial..]);
    assert_eq!(client.receive_text(), line);
}

#[test]
fn who_sends_more_than_its_share_stands_in_the_queue_once() {
    // Where it stood twice, an assertion of the loop would end it.
    let (_running, address) = echo();
    let mut client = open(address, Version::Rfc6455, "/");
    let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(3000);
    let mut reader = client.stream.try_clone().unwrap();
    let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    for _ in 0..300 {
        client.raw(&pings);
    }
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(drain.join().unwrap().unwrap(), 300 * 3000 * 2);
}

#[test]
fn a_client_that_takes_nothing_is_dropped_in_time_and_its_handler_told_why() {
    let (make, told) = teller();
    let (running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.stall_timeout = Duration::from_millis(300);
        route.max_output = 64 << 20;
    }));
    let client = open(address, Version::Rfc6455, "/");
    let id = opened(&told);
    let big = "x".repeat(8 << 20);
    for _ in 0..3 {
        running.handle().send(id, Message::text(&big)).unwrap();
    }
    let Told::Close {
        clean, reason, by, ..
    } = next(&told)
    else {
        panic!()
    };
    assert_eq!(
        (clean, reason.as_str(), by),
        (false, "no progress", ClosedBy::Worker)
    );
    drop(client);
}

#[test]
fn a_broadcast_that_a_client_cannot_take_drops_it_rather_than_leave_a_hole() {
    let (make, told) = teller();
    let (running, address) =
        started(Worker::builder().route_with("/", make, |route| route.max_output = 100_000));
    let mut slow = open(address, Version::Rfc6455, "/");
    opened(&told);
    let mut lively = open(address, Version::Rfc6455, "/");
    opened(&told);
    let line = "y".repeat(50_000);
    let mut heard = 0;
    for sent in 0..400 {
        running
            .handle()
            .broadcast(Message::text(&format!("{sent} {line}")))
            .unwrap();
        assert_eq!(lively.receive_text(), format!("{sent} {line}"));
        if let Ok(Told::Close { reason, by, .. }) = told.try_recv() {
            assert_eq!((reason.as_str(), by), ("output full", ClosedBy::Worker));
            heard = sent;
            break;
        }
    }
    assert!(heard > 0, "the slow one was dropped");
    // It hears a prefix, in order, and then the end.
    let mut expected = 0;
    while let Some(Message::Text(text)) = slow.receive() {
        assert_eq!(text, format!("{expected} {line}"));
        expected += 1;
    }
    assert!(expected > 0);
}

#[test]
fn a_paused_client_waits_and_goes_on_where_it_stopped() {
    struct Gate(Sender<Told>);
    impl Handler for Gate {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            self.0.send(Told::Open(socket.id())).unwrap();
            let _ = socket.send(message);
            socket.pause();
        }
    }
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let (running, address) =
        started(Worker::builder().route("/", move || Gate(sender.lock().unwrap().clone())));
    for version in ALL {
        let mut client = open(address, version, "/");
        for i in 0..10 {
            client.text(&format!("{i}"));
        }
        for i in 0..10 {
            let id = opened(&told);
            assert_eq!(client.receive_text(), format!("{i}"));
            assert!(
                told.try_recv().is_err(),
                "nobody passes before the gate opens"
            );
            running.handle().resume(id);
        }
    }
}

#[test]
fn a_silent_client_is_pinged_then_dropped_and_an_idle_one_is_closed() {
    let (make, told) = teller();
    let (_running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.limits = Arc::new(Limits {
            heartbeat: Some(Duration::from_millis(100)),
            pong_timeout: Duration::from_millis(200),
            idle_timeout: Some(Duration::from_millis(900)),
            ..Limits::default()
        });
    }));
    let mut silent = open(address, Version::Hybi08, "/");
    opened(&told);
    let Told::Close {
        code, by, clean, ..
    } = next(&told)
    else {
        panic!()
    };
    assert_eq!((code, by, clean), (Some(1006), ClosedBy::Worker, false));
    let mut seen = [0; 2];
    silent.read_exact(&mut seen);
    assert_eq!(seen[0], 0x89, "it was pinged");
    let mut idle = open(address, Version::Rfc6455, "/");
    opened(&told);
    assert_eq!(idle.closed().code, Some(CloseCode::GOING_AWAY)); // It answers pings, and that is not enough.
    let Told::Close { code, by, .. } = next(&told) else {
        panic!()
    };
    assert_eq!((code, by), (Some(1001), ClosedBy::Worker));
}

#[test]
fn pings_follow_the_heartbeat_however_long_a_pong_may_take() {
    let (make, _told) = teller();
    let (_running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.limits = Arc::new(Limits {
            heartbeat: Some(Duration::from_millis(50)),
            pong_timeout: Duration::from_secs(60),
            ..Limits::default()
        });
    }));
    let mut client = open(address, Version::Rfc6455, "/");
    let patience = Some(Duration::from_secs(10));
    client.stream.set_read_timeout(patience).unwrap();
    for _ in 0..3 {
        let mut ping = [0; 6];
        client.read_exact(&mut ping);
        assert_eq!(ping[..2], [0x89, 4]);
        let pong = [&[0x8a, 0x84, 0, 0, 0, 0], &ping[2..]].concat();
        client.stream.write_all(&pong).unwrap();
    }
}

#[test]
fn a_heartbeat_text_is_swallowed_and_answered_as_configured() {
    let (make, told) = teller();
    let (_running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.heartbeat_text = Some(ws_worker::config::HeartbeatText {
            receive: "Heartbeat".to_owned(),
            answer: Some("alive".to_owned()),
        });
    }));
    for version in ALL {
        let mut client = open(address, version, "/");
        opened(&told);
        client.text("Heartbeat");
        assert_eq!(client.receive_text(), "alive");
        client.text("heartbeat");
        assert_eq!(client.receive_text(), "heartbeat");
        assert_eq!(next(&told), Told::Message("heartbeat".to_owned()));
        drop(client);
        assert!(matches!(next(&told), Told::Close { .. }));
    }
}

#[test]
fn a_drain_closes_everybody_with_1012_and_ends() {
    let (make, told) = teller();
    let (running, address) = started(
        Worker::builder()
            .threads(2)
            .route("/", make)
            .configure(|config| config.drain = Duration::from_secs(2)),
    );
    let mut clients: Vec<Client> = ALL
        .iter()
        .map(|version| open(address, *version, "/"))
        .collect();
    for _ in 0..clients.len() {
        opened(&told);
    }
    let stopping = std::thread::spawn(move || running.stop());
    for client in &mut clients {
        let closed = client.closed();
        if closed.code.is_some() {
            assert!(
                matches!(closed.code.map(CloseCode::get), Some(1012 | 1001)),
                "{closed:?}"
            );
        }
        client.close(1000, "");
    }
    for _ in 0..clients.len() {
        let told = next(&told);
        assert!(
            matches!(
                told,
                Told::Close {
                    code: Some(1012),
                    by: ClosedBy::Worker,
                    ..
                }
            ),
            "{told:?}"
        );
    }
    stopping.join().unwrap().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn who_sends_nothing_does_not_keep_others_out() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.bounds.max_handshakes = 8;
    }));
    let mut dawdlers: Vec<_> = (0..30)
        .map(|_| {
            let mut stream = tcp(address);
            stream.write_all(b"GET / HT").unwrap();
            stream
        })
        .collect();
    let mut client = open(address, Version::Rfc6455, "/");
    client.text("quick");
    assert_eq!(client.receive_text(), "quick");
    // The oldest were told to come back.
    let mut answer = String::new();
    dawdlers[0].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn a_slow_head_is_a_408_at_its_deadline_however_it_trickles() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.head.handshake_timeout = Duration::from_millis(300);
    }));
    let mut stream = tcp(address);
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut answer = Vec::new();
    let mut bytes = [0; 1024];
    wait_for("the refusal", || {
        let _ = stream.write_all(b"X"); // It may have been refused already.
        if let Ok(count) = stream.read(&mut bytes) {
            answer.extend_from_slice(&bytes[..count]);
        }
        !answer.is_empty()
    });
    assert!(
        answer.starts_with(b"HTTP/1.1 408 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn too_many_sockets_are_told_to_come_back_and_room_is_found_again() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.bounds.max_connections = 3;
    }));
    let mut clients: Vec<Client> = (0..3)
        .map(|_| open(address, Version::Rfc6455, "/"))
        .collect();
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    clients.pop().unwrap().close(1000, "");
    wait_for("room", || {
        ask(address, ClientOptions::new(Version::Rfc6455, "h", "/")).is_ok()
    });
}

#[test]
fn one_peer_has_its_share_of_sockets_and_no_more() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.bounds.max_per_peer = Some(2);
    }));
    let first = open(address, Version::Rfc6455, "/");
    let _second = open(address, Version::Hixie76, "/");
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(first);
    wait_for("the share", || {
        ask(address, ClientOptions::new(Version::Rfc6455, "h", "/")).is_ok()
    });
}

#[test]
fn a_handler_that_panics_when_it_is_asked_costs_the_peer_none_of_its_share() {
    struct Fragile;
    impl Handler for Fragile {
        fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
            assert!(request.path() != "/panic", "as asked");
            Decision::accept()
        }
    }
    let (_running, address) = started(Worker::builder().route("/", || Fragile).configure(
        |config| {
            config.bounds.max_per_peer = Some(2);
        },
    ));
    for version in ALL {
        let answer = ask(address, ClientOptions::new(version, "h", "/panic"))
            .err()
            .unwrap();
        assert!(!answer.contains("503"), "{version}: {answer}");
    }
    let _first = open(address, Version::Rfc6455, "/");
    let _second = open(address, Version::Rfc6455, "/");
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}
