//! What must hold for every handshake: both roles understand each other, no split changes anything, nothing panics,
//! and an answer holds what it should and no more.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::Arc;
use ws_proto::{
    Answer, ClientHandshake, ClientOptions, Handshake, HeadLimits, Input, Instant, Limits, Nonce,
    Output, Ready, Refusal, Version,
};

fn versions() -> impl Strategy<Value = Version> {
    proptest::sample::select(&Version::ALL[..])
}

fn nonces() -> impl Strategy<Value = Nonce> {
    vec(any::<u8>(), 64).prop_map(|bytes| Nonce(bytes.try_into().expect("64 bytes")))
}

fn options() -> impl Strategy<Value = ClientOptions> {
    (
        versions(),
        "[a-z0-9.-]{1,20}(:[0-9]{1,4})?",
        "/[!-\"$-~]{0,40}",
        proptest::option::of("[!-~]([ -~]{0,20}[!-~])?"),
        vec("[a-zA-Z0-9!.*_-]{1,10}", 0..4),
        any::<bool>(),
    )
        .prop_map(|(version, host, target, origin, mut protocols, secure)| {
            if matches!(version, Version::Hixie75 | Version::Hixie76) {
                protocols.truncate(1);
            }
            ClientOptions {
                origin,
                protocols,
                secure,
                ..ClientOptions::new(version, host, target)
            }
        })
}

/// A server that accepts with the last subprotocol offered.
struct Server {
    handshake: Handshake,
    secure: bool,
    unread: Vec<u8>,
    out: Output,
    refusal: Option<Refusal>,
}

impl Server {
    fn new(secure: bool) -> Self {
        Self {
            handshake: Handshake::new(Instant::at(0), &HeadLimits::default()),
            secure,
            unread: Vec::new(),
            out: Output::default(),
            refusal: None,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while !self.handshake.is_open() && self.refusal.is_none() {
            let mut bytes = self.unread.clone();
            let mut input = Input::new(&mut bytes);
            let (now, limits) = (Instant::at(0), HeadLimits::default());
            let result = self
                .handshake
                .receive(now, &limits, &mut input, &mut self.out);
            self.unread = input.as_slice().to_vec();
            match result {
                Ok(None) => return,
                Ok(Some(Ready::Request)) => self.accept(),
                Ok(Some(Ready::Open)) => assert!(self.handshake.is_open()),
                Err(refusal) => {
                    self.handshake.refuse(refusal, None, &mut self.out);
                    self.refusal = Some(refusal);
                }
            }
        }
    }

    fn accept(&mut self) {
        let request = self.handshake.request().expect("a request to decide on");
        let answer = Answer {
            protocol: request.protocols().last().map(str::to_owned),
            secure: self.secure,
            ..Answer::default()
        };
        let limits = Arc::new(Limits::default());
        self.handshake
            .accept(Instant::at(0), &answer, limits, &mut self.out)
            .expect("what was offered may be chosen");
    }
}

fn ask(options: &ClientOptions, nonce: &Nonce) -> (ClientHandshake, Vec<u8>) {
    let mut client =
        ClientHandshake::new(Instant::at(0), options.clone(), nonce).expect("clean options");
    let mut out = Output::default();
    client.start(&mut out);
    (client, out.take())
}

/// Cuts bytes at these places.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for place in places {
        let (piece, behind) = rest.split_at(place - (bytes.len() - rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

proptest! {
    #[test]
    fn both_roles_understand_each_other_in_every_version(
        options in options(),
        nonce in nonces(),
        cuts in vec(any::<Index>(), 0..4),
        behind in vec(any::<u8>(), 0..20),
    ) {
        let (mut client, mut asked) = ask(&options, &nonce);
        asked.extend_from_slice(&behind);
        let mut server = Server::new(options.secure);
        for piece in pieces(&asked, &cuts) {
            server.receive(piece);
        }
        prop_assert_eq!(server.refusal, None);
        prop_assert!(server.handshake.is_open());
        prop_assert_eq!(&server.unread, &behind);
        let request = server.handshake.request().expect("still there");
        prop_assert_eq!(request.version(), options.version);
        prop_assert_eq!(request.host(), &options.host);
        prop_assert_eq!(request.target(), &options.target);
        prop_assert_eq!(request.origin(), options.origin.as_deref());
        prop_assert!(request.protocols().eq(options.protocols.iter()));

        let mut answer = server.out.take();
        answer.extend_from_slice(&behind);
        let mut unread = Vec::new();
        let mut is_open = false;
        for piece in pieces(&answer, &cuts) {
            unread.extend_from_slice(piece);
            let mut bytes = unread.clone();
            let mut input = Input::new(&mut bytes);
            if !is_open {
                let ready = client.receive(Instant::at(0), &mut input, &mut Output::default());
                is_open = ready.expect("a right answer") == Some(Ready::Open);
                unread = input.as_slice().to_vec();
            }
        }
        prop_assert!(is_open && client.is_open());
        prop_assert_eq!(&unread, &behind);
        prop_assert_eq!(client.protocol(), options.protocols.last().map(String::as_str));
        prop_assert_eq!(client.poll_timeout(), None);
    }

    #[test]
    fn no_split_changes_anything_and_nothing_panics(
        options in options(),
        nonce in nonces(),
        changes in vec((any::<Index>(), any::<u8>(), 0..3_u8), 0..4),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let (_, mut asked) = ask(&options, &nonce);
        for (place, byte, kind) in changes {
            let place = place.index(asked.len());
            match kind {
                0 => asked[place] = byte,
                1 => asked.insert(place, byte),
                _ => drop(asked.remove(place)),
            }
        }
        let mut whole = Server::new(false);
        whole.receive(&asked);
        let mut cut = Server::new(false);
        for piece in pieces(&asked, &cuts) {
            cut.receive(piece);
        }
        prop_assert_eq!(whole.refusal, cut.refusal);
        prop_assert_eq!(whole.out.as_slice(), cut.out.as_slice());
        prop_assert_eq!(whole.handshake.is_open(), cut.handshake.is_open());
        if whole.refusal.is_none() {
            prop_assert_eq!(whole.unread, cut.unread);
        }
        let limits = HeadLimits::default();
        prop_assert!(cut.handshake.memory() <= limits.max_head + 16 * limits.max_headers);
    }

    #[test]
    fn arbitrary_bytes_open_nothing_and_panic_nowhere(bytes in vec(any::<u8>(), 0..200)) {
        let mut server = Server::new(false);
        server.receive(&bytes);
        prop_assert!(!server.handshake.is_open());
        let (mut client, _) = ask(&ClientOptions::new(Version::Hixie76, "h", "/"), &Nonce([1; 64]));
        let mut bytes = bytes;
        let mut input = Input::new(&mut bytes);
        let result = client.receive(Instant::at(0), &mut input, &mut Output::default());
        prop_assert!(result != Ok(Some(Ready::Open)));
    }

    #[test]
    fn an_answer_that_was_changed_opens_no_client_by_accident(
        options in options(),
        nonce in nonces(),
        place in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let (mut client, asked) = ask(&options, &nonce);
        let mut server = Server::new(options.secure);
        server.receive(&asked);
        let mut answer = server.out.take();
        let place = place.index(answer.len());
        let was = core::mem::replace(&mut answer[place], byte);
        let mut input = Input::new(&mut answer);
        let result = client.receive(Instant::at(0), &mut input, &mut Output::default());
        if result == Ok(Some(Ready::Open)) {
            // Letters in another case, the reason's words, white space: nothing that carries proof.
            let is_proof = was != byte && options.version == Version::Hixie76;
            prop_assert!(!is_proof || place < answer.len() - 16);
        }
    }
}
