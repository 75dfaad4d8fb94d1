//! What it costs to read requests: small ones in both forms, and an image's worth of numbers in
//! JSON beside what a general parser takes for the same text. And what the header fields cost that
//! every request and answer has: the times that bound it, its timings, a worker's load.
//!
//! ```text
//! cargo run --release -p inferring-protocol --example codec_cost
//! ```
//!
//! Prints the best of many rounds, in nanoseconds. To count instructions of one kind alone:
//! `valgrind --tool=callgrind .../codec_cost small-json 10000`.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot run has nothing to say")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use inferring_protocol::fields::{Asked, Timings, load};
use inferring_protocol::rest::{headers, v2};
use inferring_types::WorkerLoad;

/// Numbers in an image of three channels of 224 by 224.
const IMAGE: usize = 150_528;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next();
    let rounds = arguments.next().map(|text| text.parse().unwrap());
    let wanted = |name: &str| kind.as_ref().is_none_or(|kind| kind == name);
    let (small, small_raw) = (request("[5.1,3.5,1.4,0.2]", 4), raw_request());
    if wanted("small-json") {
        let nanos = best(rounds.unwrap_or(100_000), || decode(&small, None));
        println!("{:32} {nanos:>10.0} ns", "small-json");
    }
    if wanted("small-binary") {
        let (body, head) = &small_raw;
        let nanos = best(rounds.unwrap_or(100_000), || decode(body, Some(*head)));
        println!("{:32} {nanos:>10.0} ns", "small-binary");
    }
    fields(&wanted, rounds.unwrap_or(100_000));
    for (name, values) in images() {
        let body = request(&values, IMAGE);
        let rounds = rounds.unwrap_or(50);
        if wanted(name) {
            let ours = best(rounds, || decode(&body, None));
            println!("{name:32} {ours:>10.0} ns {:>8.2} ns per number", ours / IMAGE as f64);
        }
        let reference = format!("{name}-serde_json");
        if wanted(&reference) {
            let theirs = best(rounds, || {
                black_box(serde_json::from_str::<Vec<f32>>(black_box(&values)).unwrap());
            });
            println!(
                "{reference:32} {theirs:>10.0} ns {:>8.2} ns per number",
                theirs / IMAGE as f64
            );
        }
    }
}

/// The fields of a request and of its answer.
fn fields(wanted: &impl Fn(&str) -> bool, rounds: usize) {
    let time = Duration::from_micros;
    let timings =
        Timings { worker: Some([time(12), time(40), time(120)]), gateway: Some(time(200)) };
    let told = WorkerLoad { wait: time(120), run: time(45) };
    let written = load::value(told);
    let request: HeaderMap =
        [("host", "w:1"), ("content-type", "x"), ("x-request-timeout-ms", "900")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
    let works: [(&str, &dyn Fn()); 5] = [
        ("server-timing", &|| drop(black_box(black_box(timings).value(time(400))))),
        ("load-written", &|| drop(black_box(load::value(black_box(told))))),
        ("load-read", &|| assert!(load::parse(black_box(&written)).is_some())),
        ("deadline-read", &|| assert!(headers::timeout(black_box(&request)).is_ok())),
        ("asked-read", &|| assert!(!Asked::read(black_box(&request)).load)),
    ];
    for (name, work) in works.into_iter().filter(|(name, _)| wanted(name)) {
        println!("{name:32} {:>10.0} ns", best(rounds, work));
    }
}

/// Images as clients write them: each number as the shortest text of a 32-bit float, as that
/// float widened to 64 bits (as Python's lists of floats come out), and as whole numbers.
fn images() -> [(&'static str, String); 3] {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let floats: Vec<f32> = (0..IMAGE)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 * 4.0 - 2.0
        })
        .collect();
    let list = |text: &dyn Fn(&f32) -> String| {
        format!("[{}]", floats.iter().map(text).collect::<Vec<_>>().join(","))
    };
    [
        ("image-short", list(&|value| value.to_string())),
        ("image-widened", list(&|value| f64::from(*value).to_string())),
        ("image-whole", list(&|value| ((value.abs() * 127.0) as u8).to_string())),
    ]
}

fn request(values: &str, width: usize) -> Bytes {
    format!(
        r#"{{"id":"1","inputs":[{{"name":"input","shape":[1,{width}],"datatype":"FP32","data":{values}}}]}}"#
    )
    .into()
}

fn raw_request() -> (Bytes, usize) {
    let head = r#"{"id":"1","parameters":{"binary_data_output":true},"inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}"#;
    (Bytes::from([head.as_bytes(), &[0; 16]].concat()), head.len())
}

fn decode(body: &Bytes, head: Option<usize>) {
    black_box(v2::decode_request(black_box(body.clone().into()), head).unwrap());
}

/// The time of the fastest of `rounds`, in nanoseconds: what disturbs a measurement only adds.
fn best(rounds: usize, mut work: impl FnMut()) -> f64 {
    /// So many are timed as one where one is too short for the clock.
    const TOGETHER: usize = 10;
    let started = Instant::now();
    work();
    let together = if started.elapsed().as_micros() < 100 { TOGETHER } else { 1 };
    let mut best = f64::INFINITY;
    for _ in 0..rounds.div_ceil(together) {
        let start = Instant::now();
        (0..together).for_each(|_| work());
        best = best.min(start.elapsed().as_nanos() as f64 / together as f64);
    }
    best
}
