//! Parts of the worker without sockets, by divan: `cargo bench -p ws-worker --features bench`. Of times only ratios within one
//! run mean something; `tests/bench/instructions` counts.
#![allow(
    clippy::unwrap_used,
    reason = "a measuring tool for developers may stop"
)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ws_proto::Output;
use ws_worker::bench::{Crowd, Hook, Wheel, frame};

const SIZES: [usize; 3] = [64, 1_024, 16_384];
const SOCKETS: [usize; 3] = [10_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

fn text(size: usize) -> String {
    "The quick brown fox jumps over it. "
        .chars()
        .cycle()
        .take(size)
        .collect()
}

#[divan::bench(args = SIZES, consts = [false, true])]
fn broadcast_framed<const DEFLATED: bool>(bencher: Bencher<'_, '_>, size: usize) {
    let text = text(size);
    let mut out = Output::default();
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| frame(black_box(&text), DEFLATED, &mut out));
}

#[divan::bench(args = SIZES)]
fn broadcast_queued_to_1000(bencher: Bencher<'_, '_>, size: usize) {
    let frames = [frame(&text(size), false, &mut Output::default())];
    bencher
        .counter(ItemsCount::new(1_000_usize))
        .with_inputs(|| Crowd::new(1_000).unwrap())
        .bench_local_refs(|crowd| crowd.queue(black_box(&frames)));
}

#[divan::bench(args = SOCKETS, sample_count = 10)]
fn wheel_armed(bencher: Bencher<'_, '_>, sockets: usize) {
    bencher
        .counter(ItemsCount::new(sockets))
        .with_inputs(|| Wheel::new(sockets))
        .bench_local_refs(|wheel| wheel.arm(1_000));
}

/// What every message does to its socket's timer: the deadline moves away, the entry stays.
#[divan::bench(args = SOCKETS, sample_count = 10)]
fn wheel_armed_again_later(bencher: Bencher<'_, '_>, sockets: usize) {
    let mut wheel = Wheel::new(sockets);
    wheel.arm(1_000);
    bencher
        .counter(ItemsCount::new(sockets))
        .bench_local(|| wheel.arm(2_000));
}

#[divan::bench(args = SOCKETS, sample_count = 10)]
fn wheel_expired(bencher: Bencher<'_, '_>, sockets: usize) {
    bencher
        .counter(ItemsCount::new(sockets))
        .with_inputs(|| {
            let mut wheel = Wheel::new(sockets);
            wheel.arm(1_000);
            wheel
        })
        .bench_local_refs(|wheel| assert_eq!(wheel.expire(), sockets));
}

#[divan::bench(args = SIZES)]
fn hook_encoded(bencher: Bencher<'_, '_>, size: usize) {
    let hook = Hook::new(&text(size)).unwrap();
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        black_box(&hook).encode(&mut out)
    });
}

#[divan::bench(args = SIZES)]
fn hook_answer_parsed(bencher: Bencher<'_, '_>, size: usize) {
    let mut hook = Hook::new("").unwrap();
    let body = text(size);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sat, 21 Nov 2026 06:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Ws-To: self\r\nContent-Length: {size}\r\n\r\n{body}"
    );
    assert_eq!(hook.decode(answer.as_bytes()), size);
    bencher.bench_local(|| hook.decode(black_box(answer.as_bytes())));
}
