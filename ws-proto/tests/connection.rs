//! A connection seen from outside: what it sends, how it ends, what it holds.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, helpers too, a panic is a failure and what is printed is the seed"
)]

mod common;

use common::{at, client, count_closes, feed, feed_into, frame, into_owned, limits, server};
use std::borrow::Cow;
use std::time::Duration;
use ws_proto::{
    Cause, CloseCode, Closed, Connection, Event, Framing, Input, Limits, Message, Output,
    SendError, Variant, Version, encode,
};

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
const ALL: [Version; 5] = Version::ALL;
const HYBI: [Version; 3] = [Version::Hybi07, Version::Hybi08, Version::Rfc6455];

fn open(version: Version) -> Connection {
    server(version, &limits(1 << 20))
}

/// Closes with 4000 `bye` at 100 ms and forgets what was sent.
fn closing(version: Version) -> Connection {
    let mut connection = open(version);
    let mut out = Output::default();
    connection.close(at(100), CloseCode::new(4000).unwrap(), "bye", &mut out);
    connection
}

#[track_caller]
fn check_end(connection: &Connection, cause: Cause, clean: bool, code: Option<u16>, reason: &str) {
    let expected = Closed {
        cause,
        clean,
        code: code.and_then(CloseCode::new),
        reason: reason.into(),
    };
    assert_eq!(connection.closed(), Some(&expected));
    assert!(connection.is_closing() && connection.poll_timeout().is_none());
}

fn sent(out: &mut Output) -> Vec<u8> {
    out.take()
}

#[test]
fn an_idle_connection_is_small() {
    assert!(
        size_of::<Connection>() <= 128,
        "{}",
        size_of::<Connection>()
    );
    let mut connection = open(Version::Rfc6455);
    assert_eq!(connection.memory(), 0);
    let mut out = Output::default();
    let message = frame(0x81, &[b'a'; 5000], KEY);
    let events = message
        .chunks(900)
        .flat_map(|piece| feed(&mut connection, at(1), piece, &mut out))
        .count();
    assert_eq!((events, connection.memory()), (1, 0));
}

#[test]
fn lossy_text_takes_three_times_its_bytes_and_no_more() {
    for cuts in [1, 2, 3, 7, 250, 999, 1_000] {
        for byte in [0xd7, 0x83, 0xf0, b'a'] {
            let limits = Limits {
                max_message: 1_000,
                ..Limits::default()
            };
            let mut connection = server(Version::Hixie76, &limits);
            let mut out = Output::default();
            assert_eq!(feed(&mut connection, at(1), b"\0", &mut out), []);
            let idle = connection.memory();
            for piece in [byte; 1_000].chunks(cuts) {
                assert_eq!(feed(&mut connection, at(1), piece, &mut out), []);
                let most = if byte == b'a' { 1_003 } else { 3_003 };
                let holds = connection.memory() - idle;
                assert!(holds <= most, "{holds} bytes of {byte:x}, cut by {cuts}");
            }
            let events = feed(&mut connection, at(1), b"\xff", &mut out);
            let [Event::Message(Message::Text(Cow::Owned(text)))] = &events[..] else {
                panic!("{events:?}");
            };
            assert!(text.capacity() <= 3_003, "{} bytes", text.capacity());
        }
    }
}

#[test]
fn what_looks_like_a_frame_inside_another_is_none() {
    let inner = frame(0x81, b"hi", Some([0; 4]));
    let long = [&inner[..], &[b'a'; 200], &inner].concat();
    let stream = [
        frame(0x82, &inner, Some([0x81, 0x82, 0, 0])),
        frame(0x89, &inner, Some([0; 4])),
        frame(0x82, &long, Some([0x81, 0x82, 0, 0])),
        frame(0x8a, &inner, Some([0x82, 0x80, 0, 0])),
    ]
    .concat();
    for cut in 0..=stream.len() {
        let mut connection = open(Version::Rfc6455);
        let mut out = Output::default();
        let (front, back) = stream.split_at(cut);
        let mut events = feed(&mut connection, at(1), front, &mut out);
        events.extend(feed(&mut connection, at(1), back, &mut out));
        let expected = [
            Event::Message(Message::binary(&inner)),
            Event::Ping,
            Event::Message(Message::binary(&long)),
        ];
        assert_eq!(events, expected, "cut at {cut}");
    }
}

#[test]
fn what_is_held_of_a_cut_frame_is_counted() {
    let mut connection = open(Version::Rfc6455);
    let mut out = Output::default();
    let ping = frame(0x89, &[b'a'; 100], KEY);
    let (front, back) = ping.split_at(90);
    assert_eq!(feed(&mut connection, at(1), front, &mut out), []);
    let holds = connection.memory();
    assert!((84..300).contains(&holds), "{holds}");
    assert_eq!(feed(&mut connection, at(1), back, &mut out), [Event::Ping]);
    assert_eq!(connection.memory(), 0);
}

#[test]
fn a_message_that_came_whole_is_lent_and_a_cut_one_is_handed_over() {
    for (version, bytes) in [
        (Version::Rfc6455, frame(0x81, b"lent", KEY)),
        (Version::Hixie76, b"\x00lent\xff".to_vec()),
    ] {
        let mut connection = open(version);
        let mut out = Output::default();
        let mut whole = bytes.clone();
        let event = connection.receive(at(1), &mut Input::new(&mut whole), &mut out);
        assert!(
            matches!(
                event,
                Some(Event::Message(Message::Text(Cow::Borrowed("lent"))))
            ),
            "{event:?}"
        );
        let (front, back) = bytes.split_at(bytes.len() - 2);
        assert_eq!(feed(&mut connection, at(1), front, &mut out), []);
        let mut back = back.to_vec();
        let event = connection.receive(at(1), &mut Input::new(&mut back), &mut out);
        assert!(
            matches!(&event, Some(Event::Message(Message::Text(Cow::Owned(text)))) if text == "lent"),
            "{event:?}"
        );
    }
}

#[test]
fn a_ping_may_be_asked_for_where_the_version_has_one_and_it_is_open() {
    for version in ALL {
        let mut connection = open(version);
        let mut out = Output::default();
        if !version.has_ping() {
            assert_eq!(connection.ping(at(1), &mut out), Err(SendError::NoPing));
            assert!(out.is_empty());
            continue;
        }
        assert_eq!(connection.ping(at(1), &mut out), Ok(()));
        assert_eq!(sent(&mut out), frame(0x89, &[0, 0, 0, 1], None));
        let pong = frame(0x8a, &[0, 0, 0, 1], KEY);
        let events = feed(&mut connection, at(8), &pong, &mut out);
        assert_eq!(events, [Event::Pong(Duration::from_millis(7))]);
        connection.close(at(9), CloseCode::NORMAL, "", &mut out);
        sent(&mut out);
        assert_eq!(connection.ping(at(9), &mut out), Err(SendError::Closed));
        assert!(out.is_empty());
    }
}

#[test]
fn what_follows_an_event_stays_in_the_input() {
    let mut connection = open(Version::Rfc6455);
    let mut out = Output::default();
    let mut bytes = [frame(0x81, b"a", KEY), frame(0x81, b"b", KEY)].concat();
    let mut input = Input::new(&mut bytes);
    let event = connection.receive(at(1), &mut input, &mut out);
    assert_eq!(event, Some(Event::Message(Message::text("a"))));
    assert_eq!(input.len(), 7);
}

#[test]
fn our_close_waits_for_the_peers_and_messages_still_come() {
    for version in HYBI {
        let mut connection = open(version);
        let mut out = Output::default();
        connection.close(at(100), CloseCode::new(4000).unwrap(), "bye", &mut out);
        assert_eq!(sent(&mut out), frame(0x88, b"\x0f\xa0bye", None));
        assert!(connection.is_closing() && connection.closed().is_none());
        assert_eq!(connection.poll_timeout(), Some(at(5100)));
        let bytes = [
            frame(0x81, b"late", KEY),
            frame(0x89, b"ping", KEY),
            frame(0x88, b"\x03\xe8", KEY),
        ];
        let events = feed(&mut connection, at(200), &bytes.concat(), &mut out);
        assert_eq!(events, [Event::Message(Message::text("late"))]);
        assert!(out.is_empty(), "nothing follows our close");
        check_end(&connection, Cause::ClosedByUs, true, Some(4000), "bye");
    }
}

#[test]
fn closing_76_is_ff_00_and_messages_still_come() {
    let mut connection = open(Version::Hixie76);
    let mut out = Output::default();
    connection.close(at(100), CloseCode::NORMAL, "bye", &mut out);
    assert_eq!(sent(&mut out), [0xff, 0x00]);
    let events = feed(
        &mut connection,
        at(200),
        b"\x00late\xff\xff\x00\x00no\xff",
        &mut out,
    );
    assert_eq!(events, [Event::Message(Message::text("late"))]);
    assert!(out.is_empty(), "nothing follows our close");
    check_end(&connection, Cause::ClosedByUs, true, Some(1000), "bye");
}

#[test]
fn closing_75_is_done_at_once() {
    let mut connection = open(Version::Hixie75);
    let mut out = Output::default();
    connection.close(at(100), CloseCode::NORMAL, "", &mut out);
    assert!(out.is_empty());
    check_end(&connection, Cause::ClosedByUs, true, Some(1000), "");
    assert_eq!(feed(&mut connection, at(1), b"\x00late\xff", &mut out), []);
}

#[test]
fn a_peer_that_never_answers_our_close_is_given_up() {
    for version in [Version::Hixie76, Version::Rfc6455] {
        let mut connection = closing(version);
        let mut out = Output::default();
        connection.handle_timeout(at(5099), &mut out);
        assert_eq!(connection.closed(), None);
        connection.handle_timeout(at(5100), &mut out);
        check_end(&connection, Cause::CloseTimeout, false, Some(4000), "bye");
    }
}

#[test]
fn the_end_of_the_stream_is_clean_in_75_only_and_only_between_frames() {
    for version in ALL {
        let mut connection = open(version);
        connection.handle_eof(at(1));
        check_end(
            &connection,
            Cause::Eof,
            version == Version::Hixie75,
            None,
            "",
        );
    }
    let mut connection = open(Version::Hixie75);
    feed(&mut connection, at(1), b"\x00cut", &mut Output::default());
    assert!(connection.memory() > 0);
    connection.handle_eof(at(1));
    check_end(&connection, Cause::Eof, false, None, "");
    assert!(
        connection.memory() < 100,
        "the unfinished message is given back"
    );
}

#[test]
fn the_end_of_the_stream_ends_our_closing_too() {
    for version in [Version::Hixie76, Version::Rfc6455] {
        let mut connection = closing(version);
        connection.handle_eof(at(200));
        check_end(&connection, Cause::ClosedByUs, false, Some(4000), "bye");
    }
}

#[test]
fn a_second_close_says_nothing() {
    for version in ALL {
        let mut connection = closing(version);
        let mut out = Output::default();
        connection.close(at(200), CloseCode::GOING_AWAY, "again", &mut out);
        feed(
            &mut connection,
            at(200),
            &frame(0xff, b"rubbish", None),
            &mut out,
        );
        connection.handle_eof(at(300));
        connection.close(at(300), CloseCode::GOING_AWAY, "again", &mut out);
        connection.handle_timeout(at(900_000), &mut out);
        assert!(out.is_empty(), "{version}");
    }
}

#[test]
fn a_close_says_the_code_in_the_versions_own_words() {
    fn check(version: Version, code: CloseCode, reason: &str, expected: &[u8]) {
        let mut out = Output::default();
        open(version).close(at(1), code, reason, &mut out);
        assert_eq!(
            sent(&mut out),
            frame(0x88, expected, None),
            "{version} {code}"
        );
    }
    check(
        Version::Rfc6455,
        CloseCode::TRY_AGAIN_LATER,
        "",
        b"\x03\xf5",
    );
    check(Version::Hybi08, CloseCode::TRY_AGAIN_LATER, "", b"\x03\xe9");
    check(Version::Hybi07, CloseCode::POLICY, "no", b"\x03\xeano");
    check(Version::Rfc6455, CloseCode::NO_STATUS, "no", b"");
    check(Version::Rfc6455, CloseCode::ABNORMAL, "no", b"");
    let long = "x".repeat(200);
    let cut = ["\u{3}".as_bytes(), &[0xe8], &long.as_bytes()[..123]].concat();
    check(Version::Rfc6455, CloseCode::NORMAL, &long, &cut);
}

#[test]
fn what_is_sent_is_one_frame_whichever_way_it_is_asked_for() {
    for version in ALL {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(length);
            let messages = [Message::text(&text), Message::binary(text.as_bytes())];
            for message in messages {
                let mut connection = open(version);
                let mut out = Output::default();
                let result = connection.send(at(1), message.as_borrowed(), &mut out);
                if message.is_binary() && !version.has_binary() {
                    assert_eq!(result, Err(SendError::NoBinary));
                    assert_eq!(connection.frame(at(1), &message).err(), result.err());
                    assert_eq!(connection.admits(true, 1), Err(SendError::NoBinary));
                    assert!(out.is_empty());
                    continue;
                }
                let sent = sent(&mut out);
                let mut broadcast = Vec::new();
                let variant = connection.admits(message.is_binary(), length).unwrap();
                assert_eq!(variant, Variant::Plain(version.framing()));
                assert_eq!(encode(version.framing(), &message, &mut broadcast), Ok(()));
                assert_eq!(broadcast, sent);
                let framed = connection.frame(at(1), &message).unwrap();
                assert_eq!(
                    [framed.head(), message.payload(), framed.tail()].concat(),
                    sent
                );
            }
        }
    }
    let binary = Message::binary(b"");
    let refused = encode(Framing::Hixie, &binary, &mut Vec::new());
    assert_eq!(refused, Err(SendError::NoBinary));
}

#[test]
fn nothing_is_sent_after_a_close() {
    for version in ALL {
        let mut connection = closing(version);
        let mut out = Output::default();
        let message = Message::text("late");
        let refused = Err(SendError::Closed);
        assert_eq!(
            connection.send(at(1), message.as_borrowed(), &mut out),
            refused
        );
        assert_eq!(connection.admits(false, 4).err(), refused.err());
        assert_eq!(connection.frame(at(1), &message).err(), refused.err());
        assert!(out.is_empty());
    }
}

#[test]
fn a_client_masks_each_frame_anew_and_takes_part_in_no_broadcast() {
    let mut client = client(Version::Rfc6455, &limits(100));
    let mut out = Output::default();
    for _ in 0..2 {
        assert_eq!(client.send(at(1), Message::text("same"), &mut out), Ok(()));
    }
    let sent = sent(&mut out);
    let (one, two) = sent.split_at(10);
    assert!(one[1] == 0x84 && two[1] == 0x84 && one[2..6] != two[2..6]);
    assert_eq!(client.admits(false, 4), Err(SendError::State));
    let events = feed(
        &mut server(Version::Rfc6455, &limits(100)),
        at(1),
        &sent,
        &mut out,
    );
    assert_eq!(events, vec![Event::Message(Message::text("same")); 2]);
}

#[test]
fn a_long_binary_frame_is_read_straight_into_the_message() {
    let payload: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let bytes = frame(0x82, &payload, KEY);
    let mut connection = open(Version::Rfc6455);
    let mut out = Output::default();
    let (front, mut rest) = bytes.split_at(1000);
    assert!(connection.read_into().is_none());
    assert_eq!(feed(&mut connection, at(1), front, &mut out), []);
    let mut rooms = Vec::new();
    while let Some(room) = connection.read_into() {
        assert!(room.len() <= rest.len(), "never past the frame");
        rooms.push(room.len());
        let count = room.len();
        room.copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        if let Some(event) = connection.received(at(2), count, &mut out) {
            assert!(rest.is_empty());
            assert_eq!(event, Event::Message(Message::binary(&payload)));
            assert_eq!(connection.memory(), 0);
            break;
        }
        assert!(connection.memory() <= 2 * (bytes.len() - rest.len()) + 65_536);
    }
    // 64 KiB, then as much as there is, and what is left.
    assert_eq!(rooms, [65_536, 66_522, 133_044, 33_912]);
}

#[test]
fn a_room_may_be_filled_in_part_and_left_for_the_shared_buffer() {
    let payload: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    let bytes = frame(0x82, &payload, KEY);
    let mut connection = open(Version::Rfc6455);
    let mut out = Output::default();
    let (front, rest) = bytes.split_at(20);
    feed(&mut connection, at(1), front, &mut out);
    let room = connection.read_into().unwrap();
    room[..333].copy_from_slice(&rest[..333]);
    assert_eq!(connection.received(at(1), 333, &mut out), None);
    let room = connection.read_into().unwrap();
    assert_eq!(room.len(), 65_536 - 333);
    assert_eq!(connection.received(at(1), 0, &mut out), None);
    let events = feed(&mut connection, at(1), &rest[333..], &mut out);
    assert_eq!(events, [Event::Message(Message::binary(&payload))]);
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut connection = server(Version::Rfc6455, &limits(usize::MAX));
    let mut out = Output::default();
    let head = [0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]; // 1 GiB, for 32 bits too.
    assert_eq!(feed(&mut connection, at(1), &head, &mut out), []);
    assert!(connection.memory() < 200, "{}", connection.memory());
    assert_eq!(connection.read_into().unwrap().len(), 65_536);
}

#[test]
fn what_came_of_an_unfinished_message_is_told() {
    for (version, bytes, came) in [
        (Version::Rfc6455, frame(0x81, &[b'a'; 9000], KEY), 8),
        (Version::Rfc6455, frame(0x82, &[b'a'; 9000], KEY), 8),
        (
            Version::Hixie76,
            [&[0], &[b'a'; 9000][..], &[0xff]].concat(),
            1,
        ),
    ] {
        let mut connection = open(version);
        let mut out = Output::default();
        assert_eq!(connection.unfinished(), 0);
        feed(&mut connection, at(1), &bytes[..4000], &mut out);
        assert_eq!(connection.unfinished(), 4000 - came);
        feed(&mut connection, at(1), &bytes[4000..], &mut out);
        assert_eq!(connection.unfinished(), 0);
    }
}

#[test]
fn a_buffer_never_outgrows_the_largest_message() {
    for first in [0x81, 0x82] {
        let mut connection = server(Version::Rfc6455, &limits(10_000));
        let mut out = Output::default();
        for byte in frame(first, &[b'a'; 10_000], KEY) {
            feed(&mut connection, at(1), &[byte], &mut out);
            assert!(connection.memory() <= 10_200, "{}", connection.memory());
        }
    }
}

#[test]
fn a_silent_peer_is_pinged_then_dropped_without_a_word() {
    for version in ALL {
        let mut connection = open(version);
        let mut out = Output::default();
        let heartbeat = version.has_ping().then_some(at(25_000));
        assert_eq!(connection.poll_timeout(), heartbeat);
        connection.handle_timeout(at(25_000), &mut out);
        if heartbeat.is_none() {
            assert!(out.is_empty());
            continue;
        }
        assert_eq!(sent(&mut out), frame(0x89, &[0, 0, 0, 1], None));
        assert_eq!(connection.poll_timeout(), Some(at(45_000)));
        connection.handle_timeout(at(45_000), &mut out);
        assert!(out.is_empty());
        check_end(&connection, Cause::PongMissed, false, None, "");
    }
}

#[test]
fn the_pong_to_our_ping_tells_the_round_trip() {
    let mut connection = open(Version::Rfc6455);
    let mut out = Output::default();
    connection.handle_timeout(at(25_000), &mut out);
    let events = feed(
        &mut connection,
        at(25_040),
        &frame(0x8a, &[0, 0, 0, 1], KEY),
        &mut out,
    );
    assert_eq!(events, [Event::Pong(Duration::from_millis(40))]);
    assert_eq!(connection.poll_timeout(), Some(at(50_040)));
}

#[test]
fn a_peer_that_sends_no_message_is_closed_as_idle() {
    for version in ALL {
        let limits = Limits {
            idle_timeout: Some(Duration::from_secs(60)),
            ..limits(100)
        };
        let mut connection = server(version, &limits);
        let mut out = Output::default();
        if version.has_ping() {
            feed(
                &mut connection,
                at(59_000),
                &frame(0x89, b"", KEY),
                &mut out,
            );
            feed(
                &mut connection,
                at(59_500),
                &frame(0x8a, b"", KEY),
                &mut out,
            );
        }
        let _ = sent(&mut out);
        assert_eq!(connection.poll_timeout(), Some(at(60_000)));
        connection.handle_timeout(at(60_000), &mut out);
        assert!(connection.is_closing());
        let closes = count_closes(version, out.as_slice());
        assert_eq!(closes == 1, version.has_closing_handshake());
        connection.handle_eof(at(61_000));
        let clean = version == Version::Hixie75;
        check_end(&connection, Cause::Idle, clean, Some(1001), "idle");
    }
}

#[test]
fn a_message_ends_idleness_whichever_way_it_came() {
    let limits = Limits {
        heartbeat: None,
        idle_timeout: Some(Duration::from_secs(60)),
        ..limits(1 << 20)
    };
    let whole = frame(0x81, b"hello", KEY);
    let cut = [frame(0x01, b"hel", KEY), frame(0x80, b"lo", KEY)].concat();
    let long = frame(0x82, &[7; 60_000], KEY);
    for (name, bytes) in [("whole", whole), ("cut", cut), ("long", long)] {
        for into in [feed, feed_into] {
            let mut connection = server(Version::Rfc6455, &limits);
            let mut out = Output::default();
            let last = bytes.len() - 1;
            into(&mut connection, at(1_000), &bytes[..last], &mut out);
            assert_eq!(connection.poll_timeout(), Some(at(60_000)), "{name}");
            let events = into(&mut connection, at(50_000), &bytes[last..], &mut out);
            assert_eq!(events.len(), 1, "{name}");
            assert_eq!(connection.poll_timeout(), Some(at(110_000)), "{name}");
        }
    }
}

#[test]
fn who_is_not_read_is_pinged_and_neither_idle_nor_gone() {
    let limits = Limits {
        heartbeat: Some(Duration::from_secs(20)),
        pong_timeout: Duration::from_secs(10),
        idle_timeout: Some(Duration::from_secs(70)),
        ..limits(100)
    };
    let mut connection = server(Version::Rfc6455, &limits);
    let mut out = Output::default();
    assert!(!connection.awaits_pong());
    connection.pause(at(1_000));
    for ping in [20_000, 40_000, 60_000, 80_000] {
        assert_eq!(connection.poll_timeout(), Some(at(ping)));
        connection.handle_timeout(at(ping), &mut out);
        assert_eq!(sent(&mut out)[0], 0x89);
        assert!(connection.awaits_pong());
    }
    // The deadlines begin anew: the pong's first.
    connection.resume(at(85_000));
    assert_eq!(connection.poll_timeout(), Some(at(95_000)));
    feed(
        &mut connection,
        at(90_000),
        &frame(0x8a, b"", KEY),
        &mut out,
    );
    assert!(!connection.awaits_pong());
    assert_eq!(connection.poll_timeout(), Some(at(110_000)));
    connection.handle_timeout(at(110_000), &mut out);
    connection.handle_timeout(at(120_000), &mut out);
    check_end(&connection, Cause::PongMissed, false, None, "");
}

#[test]
fn closing_is_never_paused() {
    let mut connection = closing(Version::Rfc6455);
    connection.pause(at(200));
    assert_eq!(connection.poll_timeout(), Some(at(5100)));
}

#[test]
fn a_flood_of_discarded_frames_ends() {
    for version in [Version::Hixie75, Version::Hixie76] {
        let mut connection = server(version, &limits(1000));
        let mut out = Output::default();
        let flood = b"\x01for nothing\xff\x80\x02no".repeat(10_000);
        let mut taken = 0;
        while connection.closed().is_none() {
            assert!(taken <= 17 << 20, "{taken} bytes for free");
            feed(&mut connection, at(1), &flood, &mut out);
            taken += flood.len();
            assert!(connection.memory() < 300);
        }
    }
}

#[test]
fn an_event_can_be_kept_while_the_connection_answers() {
    let mut connection = open(Version::Rfc6455);
    let mut out = Output::default();
    let mut bytes = frame(0x82, b"echo", KEY);
    let mut input = Input::new(&mut bytes);
    if let Some(Event::Message(message)) = connection.receive(at(1), &mut input, &mut out) {
        assert_eq!(connection.send(at(1), message, &mut out), Ok(()));
    }
    assert_eq!(out.as_slice(), frame(0x82, b"echo", None));
    assert_eq!(into_owned(Event::Ping), Event::Ping);
}
