//! What a handler is told and may do: decide, at once or later, send, ping, be many, fail.

use super::*;

#[test]
fn a_handler_reads_cookies_refuses_origins_and_chooses_a_subprotocol() {
    struct Picky;
    impl Handler for Picky {
        fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
            if request.origin() != Some("http://example.org") {
                return Decision::refuse(403, "not you");
            }
            assert!(
                request.peer().starts_with("tcp:127.0.0.1:"),
                "{}",
                request.peer()
            );
            assert!(
                request.location().ends_with("/picky?q=%20"),
                "{}",
                request.location()
            );
            let mut accept = Accept::default();
            if let Some(user) = request.cookie("user") {
                accept
                    .headers
                    .add("Set-Cookie", format!("seen={user}; Path=/"))
                    .unwrap();
                accept.headers.add("X-Hello", "yes").unwrap();
            }
            accept.protocol = request
                .protocols()
                .find(|name| *name == "second")
                .map(str::to_owned);
            Decision::Accept(accept)
        }
    }
    let (_running, address) = started(Worker::builder().route("/picky", || Picky));
    for version in ALL {
        let mut options = ClientOptions::new(version, address.to_string(), "/picky?q=%20");
        options.origin = Some("http://example.org".to_owned());
        options.headers.add("Cookie", "a=b; user=ada").unwrap();
        options.protocols = if version.has_binary() {
            vec!["first".into(), "second".into()]
        } else {
            vec!["second".into()]
        };
        let client =
            ask(address, options.clone()).unwrap_or_else(|answer| panic!("{version}: {answer}"));
        assert_eq!(client.protocol.as_deref(), Some("second"), "{version}");
        assert!(
            client
                .headers
                .contains(&("Set-Cookie".to_owned(), "seen=ada; Path=/".to_owned())),
            "{version}"
        );
        options.origin = Some("http://evil.example".to_owned());
        let answer = ask(address, options).err().expect("it is refused");
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("Connection: close\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("not you"), "{answer}");
    }
    let answer = ask(
        address,
        ClientOptions::new(Version::Rfc6455, "x", "/pickyish"),
    )
    .err()
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn a_decision_may_come_later_from_another_thread() {
    struct Later(Sender<SocketId>);
    impl Handler for Later {
        fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
            self.0.send(request.id()).unwrap();
            Decision::Later
        }
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            Echo.on_message(socket, message);
        }
    }
    let (sender, ids) = channel();
    let sender = Mutex::new(sender);
    let (running, address) = started(
        Worker::builder()
            .threads(2)
            .route("/", move || Later(sender.lock().unwrap().clone())),
    );
    for version in ALL {
        let handle = running.handle();
        std::thread::scope(|scope| {
            let client = scope.spawn(move || open(address, version, "/"));
            let id = ids.recv_timeout(PATIENCE).unwrap();
            handle.decide(id, LateDecision::Accept(Accept::default()));
            let mut client = client.join().unwrap();
            client.text("at last");
            assert_eq!(client.receive_text(), "at last");
        });
        std::thread::scope(|scope| {
            let client = scope.spawn(move || {
                ask(address, ClientOptions::new(version, "h", "/"))
                    .err()
                    .unwrap()
            });
            let id = ids.recv_timeout(PATIENCE).unwrap();
            let rejection = Rejection {
                status: 402,
                headers: ws_worker::Headers::default(),
                body: b"pay".to_vec(),
            };
            handle.decide(id, LateDecision::Reject(rejection));
            assert!(client.join().unwrap().starts_with("HTTP/1.1 402 "));
        });
    }
}

#[test]
fn a_decision_that_never_comes_is_a_503_and_the_handler_hears_of_it() {
    struct Never(Sender<Told>);
    impl Handler for Never {
        fn on_connect(&mut self, _: &Connecting<'_>) -> Decision {
            Decision::Later
        }
        fn on_lost(&mut self, _: SocketId, end: &End<'_>) {
            self.0.send(Told::Lost { by: end.by }).unwrap();
        }
    }
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let (_running, address) = started(
        Worker::builder()
            .route("/", move || Never(sender.lock().unwrap().clone()))
            .configure(|config| config.head.handshake_timeout = Duration::from_millis(200)),
    );
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "),
        "{answer}"
    );
    assert_eq!(
        next(&told),
        Told::Lost {
            by: ClosedBy::Worker
        }
    );
}

#[test]
fn a_panic_costs_its_client_and_nobody_else() {
    struct Fragile;
    impl Handler for Fragile {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            assert!(message.payload() != b"panic", "as asked");
            let _ = socket.send(message);
        }
    }
    let (_running, address) = started(Worker::builder().route("/", || Fragile));
    let mut bystander = open(address, Version::Rfc6455, "/");
    for version in ALL {
        let mut client = open(address, version, "/");
        client.text("panic");
        assert!(client.receive().is_none());
        bystander.text("still here");
        assert_eq!(bystander.receive_text(), "still here");
    }
}

/// Tells who is asked for, and leaves the decision to the app.
struct Later(Sender<SocketId>);

impl Handler for Later {
    fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
        self.0.send(request.id()).unwrap();
        Decision::Later
    }

    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.send(Message::text("open")).unwrap();
        socket.join("guests");
    }
}

#[test]
fn what_an_app_sends_during_the_handshake_waits_until_the_socket_is_open() {
    let (sender, ids) = channel();
    let sender = Mutex::new(sender);
    let (running, address) = started(
        Worker::builder()
            .threads(2)
            .route("/", move || Later(sender.lock().unwrap().clone())),
    );
    for version in ALL {
        let handle = running.handle();
        std::thread::scope(|scope| {
            let client = scope.spawn(move || open(address, version, "/"));
            let id = ids.recv_timeout(PATIENCE).unwrap();
            handle.send(id, Message::text("early")).unwrap();
            handle
                .send(id, Message::binary(b"only where it exists"))
                .unwrap();
            handle.join(id, "early birds");
            handle.decide(id, LateDecision::Accept(Accept::default()));
            let mut client = client.join().unwrap();
            assert_eq!(client.receive_text(), "open");
            assert_eq!(client.receive_text(), "early");
            if version.has_binary() {
                let expected = Some(Message::binary(b"only where it exists"));
                assert_eq!(client.receive(), expected);
            }
            handle
                .send_to_group("early birds", Message::text("worms"))
                .unwrap();
            assert_eq!(client.receive_text(), "worms");
        });
    }
}

#[test]
fn what_an_app_says_after_its_decision_comes_after_what_it_said_before() {
    /// Stops the loop, so that whatever is said meanwhile is found in one turn.
    struct Holds(Sender<()>, Receiver<()>);
    impl Handler for Holds {
        fn on_message(&mut self, _: &mut Socket<'_>, _: Message<'_>) {
            self.0.send(()).unwrap();
            self.1.recv_timeout(PATIENCE).unwrap();
        }
    }
    let (sender, ids) = channel();
    let (stopped, stops) = channel();
    let (go, goes) = channel();
    let (sender, ends) = (Mutex::new(sender), Mutex::new(Some((stopped, goes))));
    let (running, address) = started(
        Worker::builder()
            .route("/", move || Later(sender.lock().unwrap().clone()))
            .route("/hold", move || {
                let (stopped, goes) = ends.lock().unwrap().take().unwrap();
                Holds(stopped, goes)
            }),
    );
    let mut holder = open(address, Version::Rfc6455, "/hold");
    for version in ALL {
        let handle = running.handle();
        std::thread::scope(|scope| {
            let client = scope.spawn(move || open(address, version, "/"));
            let id = ids.recv_timeout(PATIENCE).unwrap();
            holder.text("stop");
            stops.recv_timeout(PATIENCE).unwrap();
            let say = |text| handle.send(id, Message::text(text)).unwrap();
            say("early");
            handle.join(id, "early birds");
            handle.decide(id, LateDecision::Accept(Accept::default()));
            handle.leave(id, "early birds");
            handle.leave(id, "guests");
            say("late");
            for group in ["early birds", "guests"] {
                handle
                    .send_to_group(group, Message::text("not for who left"))
                    .unwrap();
            }
            say("last");
            go.send(()).unwrap();
            let mut client = client.join().unwrap();
            let heard = [(); 4].map(|()| client.receive_text());
            assert_eq!(heard, ["open", "early", "late", "last"], "{version}");
        });
    }
}

#[test]
fn a_handler_of_its_own_for_each_socket_remembers_and_is_dropped() {
    #[derive(Default)]
    struct Counts(u32, Option<Sender<u32>>);
    impl Handler for Counts {
        fn on_message(&mut self, socket: &mut Socket<'_>, _: Message<'_>) {
            self.0 += 1;
            socket.send(Message::text(&self.0.to_string())).unwrap();
        }
        fn on_close(&mut self, _: &mut Socket<'_>, _: &End<'_>) {
            self.1.take().unwrap().send(self.0).unwrap();
        }
    }
    let (sender, ends) = channel();
    let sender = Arc::new(Mutex::new(sender));
    let (_running, address) = started(Worker::builder().route("/", move || {
        let sender = Arc::clone(&sender);
        ws_worker::PerSocket::new(move || Counts(0, Some(sender.lock().unwrap().clone())))
    }));
    let mut first = open(address, Version::Rfc6455, "/");
    let mut second = open(address, Version::Hixie75, "/");
    for count in 1..4 {
        first.text("x");
        assert_eq!(first.receive_text(), count.to_string());
    }
    second.text("x");
    assert_eq!(second.receive_text(), "1");
    first.close(1000, "");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(3));
}

#[test]
fn a_handler_pings_and_hears_how_long_it_took() {
    struct Pings(Sender<Duration>);
    impl Handler for Pings {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            let has_ping = socket.version().has_ping();
            assert_eq!(socket.ping().is_ok(), has_ping);
        }
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            Echo.on_message(socket, message);
        }
        fn on_pong(&mut self, _: &mut Socket<'_>, round_trip: Duration) {
            self.0.send(round_trip).unwrap();
        }
    }
    let (sender, pongs) = channel();
    let sender = Mutex::new(sender);
    let (_running, address) =
        started(Worker::builder().route("/", move || Pings(sender.lock().unwrap().clone())));
    for version in ALL {
        let mut client = open(address, version, "/");
        // The ping comes before the answer to this, and is answered on the way to it.
        client.text("x");
        assert_eq!(client.receive_text(), "x");
        if version.has_ping() {
            assert!(pongs.recv_timeout(PATIENCE).unwrap() < PATIENCE);
        }
    }
    assert!(pongs.try_recv().is_err());
}
