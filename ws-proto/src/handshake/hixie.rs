//! The handshakes of hixie-75, which has no challenge, and hixie-76, whose challenge hides two numbers among noise.
//! Knows neither the eight bytes behind the head nor when they come.

use super::Answer;
use crate::digest::Dice;
use crate::error::Refusal;
use crate::head::{Request, protocol_header};
use crate::headers::write_line;
use crate::version::Version;
use alloc::format;
use alloc::vec::Vec;

/// Reads the numbers out of both keys. [hixie-76, 5.2, steps 4 to 7]
pub(crate) fn key_numbers(request: &Request<'_>) -> Result<[u32; 2], Refusal> {
    let number = |name| {
        let value = request.fields().single(name).map_err(Refusal::Head)?;
        value.and_then(key_number).ok_or(Refusal::Keys)
    };
    Ok([number("sec-websocket-key1")?, number("sec-websocket-key2")?])
}

/// Reads the number out of a key: its digits, divided by its spaces.
///
/// Only U+0020 is a space; a tab is noise like everything else. No space, no digit, a remainder, or a quotient beyond
/// 32 bits: no client made this key, and the draft calls it a symptom of a cross-protocol attack.
pub(crate) fn key_number(key: &[u8]) -> Option<u32> {
    let mut digits = key.iter().filter(|byte| byte.is_ascii_digit()).peekable();
    digits.peek()?;
    let number = digits.try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    let spaces = key.iter().filter(|&&byte| byte == b' ').count() as u64;
    if number.checked_rem(spaces)? != 0 {
        return None;
    }
    u32::try_from(number / spaces).ok()
}

/// Hides a number in a key, as a client does. `spaces` is 1 to 12, and the product may not exceed 32 bits.
/// [hixie-76, 4.1, steps 16 to 23]
pub(crate) fn make_key(number: u32, spaces: u32, dice: &mut Dice<'_>) -> Vec<u8> {
    let mut key = format!("{}", u64::from(number) * u64::from(spaces)).into_bytes();
    for _ in 0..=dice.up_to(11) {
        // 21 to 2F and 3A to 7E: everything visible that is no digit.
        let noise = match dice.up_to(14 + 69) as u8 {
            low @ 0..15 => 0x21 + low,
            high => 0x3A + (high - 15),
        };
        let at = dice.up_to(key.len() as u32) as usize;
        key.insert(at, noise);
    }
    for _ in 0..spaces {
        // Anywhere but the ends, where a header's white space is lost.
        let at = 1 + dice.up_to(key.len() as u32 - 2) as usize;
        key.insert(at, b' ');
    }
    key
}

/// Appends the answer's own lines, without the empty one. [hixie-75, 5.2] [hixie-76, 5.2, steps 10 to 13]
///
/// Origin and location are what the client sent, byte for byte: it compares them with its own. The first three lines
/// stand in this order and spelling in 75, because browsers compare them as one string.
pub(crate) fn write_answer(request: &Request<'_>, answer: &Answer, bytes: &mut Vec<u8>) {
    let (status, origin, location) = match request.version() {
        Version::Hixie75 => ("Web Socket", "WebSocket-Origin", "WebSocket-Location"),
        Version::Hixie76 | Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => (
            "WebSocket",
            "Sec-WebSocket-Origin",
            "Sec-WebSocket-Location",
        ),
    };
    bytes.extend_from_slice(b"HTTP/1.1 101 ");
    bytes.extend_from_slice(status.as_bytes());
    bytes
        .extend_from_slice(b" Protocol Handshake\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n");
    if let Some(value) = request.origin() {
        write_line(origin, value.as_bytes(), bytes);
    }
    bytes.extend_from_slice(location.as_bytes());
    bytes.extend_from_slice(b": ");
    for part in request.location_parts(answer.secure, answer.host.as_deref()) {
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    if let Some(protocol) = &answer.protocol {
        write_line(
            protocol_header(request.version()),
            protocol.as_bytes(),
            bytes,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(key: &[u8], expected: Option<u32>) {
        assert_eq!(key_number(key), expected, "{:?}", key.escape_ascii());
    }

    #[test]
    fn a_key_is_its_digits_divided_by_its_spaces() {
        check(b"4 @1  46546xW%0l 1 5", Some(829_309_203));
        check(b"12998 5 Y3 1  .P00", Some(259_970_620));
        check(b"0 !", Some(0));
        check(b"42949 67295", Some(u32::MAX));
        check(b"51539607540            /x", Some(u32::MAX));
        check(b"00000000000000000000000000000007 x", Some(7));
        check(b"1: 2,", Some(12));
    }

    #[test]
    fn what_no_client_makes_is_no_key() {
        check(b"", None);
        check(b"12x", None);
        check(b"1\t2x", None);
        check(b"1\xa02x", None);
        check(b"x y", None);
        check(b" ", None);
        check(b"3  x", None);
        check(b"4294967296 x", None);
        check(b"8589934592  x", None);
        check("9".repeat(400).as_bytes(), None);
        check(format!("{} x", "9".repeat(400)).as_bytes(), None);
        check(b"18446744073709551615 x", None);
        check(b"18446744073709551616 x", None);
        // Some server of the time rounded such a quotient down.
        check(b"4 2 0 7 8 0 5 7 5 6", None);
    }

    #[test]
    fn the_shortest_key_still_has_room_for_its_spaces() {
        let (seeds, counts) = if cfg!(miri) { (128, 11) } else { (1, 1) };
        for seed in (0..=255).step_by(seeds) {
            for spaces in (1..=12).step_by(counts) {
                check(&make_key(0, spaces, &mut Dice::new(&[seed])), Some(0));
            }
        }
    }

    proptest! {
        #[test]
        fn a_made_key_gives_its_number_back(
            spaces in 1_u32..=12,
            share in 0.0..=1.0_f64,
            seed in any::<[u8; 8]>(),
        ) {
            let number = (f64::from(u32::MAX / spaces) * share) as u32;
            let key = make_key(number, spaces, &mut Dice::new(&seed));
            prop_assert_eq!(key_number(&key), Some(number));
            let visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
            prop_assert!(visible(key.first()) && visible(key.last()));
            prop_assert!(key.iter().all(|&byte| byte == b' ' || byte.is_ascii_graphic()));
            prop_assert_eq!(key.iter().filter(|&&byte| byte == b' ').count(), spaces as usize);
        }

        #[test]
        fn no_key_makes_trouble(key in any::<Vec<u8>>()) {
            let _ = key_number(&key);
        }
    }
}
