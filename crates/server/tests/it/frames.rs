//! Clients that write frames of HTTP/2 as no library would.

use inferring_protocol::grpc::inference::ModelInferRequest;
use inferring_server::ServerConfig;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Running, echo, within_a_minute};
use crate::node::HELD;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;

const ACKNOWLEDGED: u8 = 1;
const END_OF_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn read_frame(stream: &mut TcpStream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    within_a_minute(stream.read_exact(&mut head)).await.unwrap();
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    within_a_minute(stream.read_exact(&mut payload)).await.unwrap();
    (kind, flags, payload)
}

/// What the settings allow each stream to send.
fn initial_window(settings: &[u8]) -> usize {
    let (entries, _) = settings.as_chunks::<6>();
    let window = entries.iter().find(|entry| entry[..2] == [0, 4]).unwrap();
    u32::from_be_bytes([window[2], window[3], window[4], window[5]]) as usize
}

/// The head of a call, its fields written out.
fn call(method: &str) -> Vec<u8> {
    let path = format!("/inference.GRPCInferenceService/{method}");
    let field = |prefix: &[u8], value: &str| {
        [prefix, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    // POST and http by their numbers in the static table, path and content type by name there.
    [vec![0x83, 0x86], field(&[0x04], &path), field(&[0x0f, 0x10], "application/grpc")].concat()
}

/// The request on its own, as short as it can be.
fn message(request: &ModelInferRequest) -> Vec<u8> {
    let encoded = request.encode_to_vec();
    let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &encoded].concat()
}

#[tokio::test]
async fn a_stream_may_be_full_of_small_messages_that_wait() {
    let running = Running::start(ServerConfig::default());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = frame(HEADERS, END_OF_HEADERS, 1, &call("ModelStreamInfer"));
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &head].concat()).await.unwrap();
    let window = loop {
        if let (SETTINGS, 0, settings) = read_frame(&mut stream).await {
            break initial_window(&settings);
        }
    };
    // None of them is answered, so most are not even read.
    let message = message(&echo(&[HELD]));
    let all = frame(DATA, 0, 1, &message).repeat(window / message.len());
    let ping = frame(PING, 0, 0, b"are you?");
    within_a_minute(stream.write_all(&[all, ping].concat())).await.unwrap();
    loop {
        match read_frame(&mut stream).await {
            (PING, ACKNOWLEDGED, payload) if payload == b"are you?" => return,
            (GO_AWAY, _, reason) => panic!("ended: {}", reason.escape_ascii()),
            _ => {}
        }
    }
}
