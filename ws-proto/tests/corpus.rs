//! Replays the seed corpora of `fuzz/`, through the very oracles that fuzzing uses.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, helpers too, a panic is a failure and what is printed is the file"
)]

mod common;
mod oracles;

use std::path::Path;

/// Gives every file of a target's corpus to its oracle; the name of the one that fails is printed.
fn replay(target: &str, oracle: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder.join(target)).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        oracle(&std::fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count >= 20, "only {count} files were found");
}

#[test]
fn handshake() {
    replay("handshake", oracles::handshake::handshake);
}

#[test]
fn hixie() {
    replay("hixie", oracles::streams::hixie);
}

#[test]
fn hybi() {
    replay("hybi", oracles::streams::hybi);
}

#[test]
fn operations() {
    replay("operations", oracles::operations::operations);
}

#[cfg(feature = "deflate")]
#[test]
fn deflate() {
    replay("deflate", oracles::deflate::deflate);
}

#[test]
fn differential() {
    replay("differential", oracles::differential::differential);
}
