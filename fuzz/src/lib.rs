//! The oracles of `ws-proto/tests/oracles`, one function a target.
#![allow(dead_code, reason = "the tests beside the oracles use more of them")]

#[path = "../../ws-proto/tests/common/mod.rs"]
mod common;
#[path = "../../ws-proto/tests/oracles/mod.rs"]
mod oracles;

/// An opening handshake, either role.
pub fn handshake(data: &[u8]) {
    oracles::handshake::handshake(data);
}

/// Frames of hixie-75 and hixie-76.
pub fn hixie(data: &[u8]) {
    oracles::streams::hixie(data);
}

/// Frames of hybi-07, hybi-08 and RFC 6455.
pub fn hybi(data: &[u8]) {
    oracles::streams::hybi(data);
}

/// Whole conversations of a pair.
pub fn operations(data: &[u8]) {
    oracles::operations::operations(data);
}

/// permessage-deflate between open connections.
pub fn deflate(data: &[u8]) {
    oracles::deflate::deflate(data);
}

/// Frames of RFC 6455, ours and tungstenite's reading of them.
pub fn differential(data: &[u8]) {
    oracles::differential::differential(data);
}
