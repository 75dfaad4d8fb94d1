//! Many requests at a time on one connection, as a gateway sends them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use inferring_protocol::frames::{
    ALL_STREAMS, Answer, Ends, Event, Inbox, Limits, Outbox, PREFACE, Request, STREAMS_MAX,
};
use inferring_protocol::rest::v2;
use inferring_server::ServerConfig;
use inferring_types::{Deadline, InferRequest, NamedTensor, Tensor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Running, within_a_minute};
use crate::node::{DEFECT, FULL, HELD, LOAD, LOST, ROUTED};

const TIMEOUT: Duration = Duration::from_secs(50);

/// A connection whose other end speaks as a gateway does.
struct Gateway {
    stream: TcpStream,
    inbox: Inbox,
    outbox: Outbox,
}

impl Gateway {
    async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let limits = Limits { message: 1 << 24, connection: 1 << 24 };
        Self { stream, inbox: Inbox::new(limits), outbox: Outbox::default() }
    }

    /// Has a request of these values ready to be sent.
    fn ask(&mut self, stream: u32, model: &str, values: &[f32]) {
        let shape = [1, values.len() as u64].into();
        let request = InferRequest {
            id: format!("r-{stream}").parse().unwrap(),
            model: model.parse().unwrap(),
            version: None,
            inputs: vec![NamedTensor::new("x".into(), Tensor::from_f32(shape, values).unwrap())],
            outputs: Vec::new(),
            deadline: Deadline::after(std::time::Instant::now(), TIMEOUT),
            priority: None,
            sequence: None,
        };
        let message = v2::encode_request(&request);
        let json_length = message.json_length;
        let head = Request { model, version: None, timeout: TIMEOUT, json_length };
        self.outbox.request(stream, &head, message.body);
    }

    async fn send(&mut self) {
        while !self.outbox.is_empty() {
            let written = self.stream.write(self.outbox.unsent()).await.unwrap();
            self.outbox.written(written);
        }
    }

    /// What the server says next; `None` where it has ended the connection.
    async fn hear(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.inbox.event().unwrap() {
                return Some(event);
            }
            let read = within_a_minute(self.stream.read_buf(self.inbox.room())).await;
            // A reset is an end too.
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next answer, its stream and its body.
    async fn answer(&mut self) -> (u32, Answer, Bytes) {
        match self.hear().await {
            Some(Event::Answer { stream, message }) => {
                let (answer, body) = Answer::read(message).unwrap();
                (stream, answer, body)
            }
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    /// The values of the next answer, which is a good one, and its stream.
    async fn echo(&mut self) -> (u32, Vec<f32>) {
        let (stream, answer, body) = self.answer().await;
        assert_eq!(answer.status, StatusCode::OK, "{body:?}");
        let (id, model) = ("r".parse().unwrap(), "echo".parse().unwrap());
        let response = v2::decode_response(body.into(), answer.json_length, id, model).unwrap();
        (stream, response.outputs[0].tensor.to_f32().unwrap())
    }
}

fn running() -> Running {
    Running::start(ServerConfig::default())
}

#[tokio::test]
async fn requests_are_answered_each_when_it_is_ready() {
    let running = running();
    let mut gateway = Gateway::connect(running.address).await;
    gateway.ask(1, "echo", &[HELD]);
    for stream in 2..=100 {
        gateway.ask(stream, "echo", &[stream as f32]);
    }
    gateway.send().await;
    let mut answered = HashMap::new();
    for _ in 2..=100 {
        let (stream, values) = gateway.echo().await;
        assert_eq!(answered.insert(stream, values.clone()), None);
        assert_eq!(values, [stream as f32]);
    }
    running.node.release();
    assert_eq!(gateway.echo().await, (1, vec![HELD]));
}

#[tokio::test]
async fn refusals_tell_what_http_tells() {
    let running = running();
    let mut gateway = Gateway::connect(running.address).await;
    let not_found = "no model named `moon` is served here";
    for (model, value, status, load, retry_after, text) in [
        ("echo", FULL, 429, Some(LOAD), Some(2), "the queue is full"),
        // Where a gateway answers, what its workers expect concerns nobody else.
        ("echo", LOST, 503, None, Some(1), "worker `echo_2` does not answer"),
        ("moon", 1.0, 404, None, None, not_found),
    ] {
        gateway.ask(7, model, &[value]);
        gateway.send().await;
        let (stream, answer, body) = gateway.answer().await;
        let text_read = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!((stream, answer.status.as_u16(), answer.load), (7, status, load), "{text_read}");
        assert_eq!(answer.retry_after, retry_after.map(Duration::from_secs));
        if model == "echo" {
            assert_eq!(text_read, text);
        }
    }
    for (value, load) in [(ROUTED, None), (1.0, Some(LOAD))] {
        gateway.ask(8, "echo", &[value]);
        gateway.send().await;
        assert_eq!(gateway.answer().await.1.load, load);
    }
}

#[tokio::test]
async fn a_defect_is_an_answer_and_the_others_go_on() {
    let running = running();
    let mut gateway = Gateway::connect(running.address).await;
    gateway.ask(1, "echo", &[HELD]);
    gateway.ask(2, "echo", &[DEFECT]);
    gateway.send().await;
    let (stream, answer, _) = gateway.answer().await;
    assert_eq!((stream, answer.status), (2, StatusCode::INTERNAL_SERVER_ERROR));
    running.node.release();
    assert_eq!(gateway.echo().await, (1, vec![HELD]));
}

#[tokio::test]
async fn what_is_cancelled_is_given_up_and_not_answered() {
    let running = running();
    let mut gateway = Gateway::connect(running.address).await;
    for stream in 1..=3 {
        gateway.ask(stream, "echo", &[HELD, stream as f32]);
    }
    gateway.send().await;
    within_a_minute(running.node.until_in_flight(3)).await;
    gateway.outbox.cancel(2);
    gateway.outbox.cancel(77);
    gateway.send().await;
    within_a_minute(running.node.until_in_flight(2)).await;
    running.node.release();
    let mut answered = [gateway.echo().await.0, gateway.echo().await.0];
    answered.sort_unstable();
    assert_eq!(answered, [1, 3]);
}

#[tokio::test]
async fn a_client_that_goes_has_all_its_requests_given_up() {
    let running = running();
    let mut gateway = Gateway::connect(running.address).await;
    for stream in 1..=3 {
        gateway.ask(stream, "echo", &[HELD]);
    }
    gateway.send().await;
    within_a_minute(running.node.until_in_flight(3)).await;
    drop(gateway);
    within_a_minute(running.node.until_in_flight(0)).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_connection_goes_on() {
    let config = ServerConfig { body_size_max: bytesize::ByteSize::kib(100), ..Default::default() };
    let running = Running::start(config);
    let mut gateway = Gateway::connect(running.address).await;
    gateway.ask(1, "echo", &vec![0.0; 100_000]);
    gateway.ask(2, "echo", &[1.0]);
    gateway.send().await;
    let mut statuses = HashMap::new();
    for _ in 0..2 {
        let (stream, answer, _) = gateway.answer().await;
        statuses.insert(stream, answer.status.as_u16());
    }
    assert_eq!(statuses, HashMap::from([(1, 413), (2, 200)]));
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_is_not_listened_to_any_further() {
    let running = running();
    let ok = Answer { status: StatusCode::OK, load: None, retry_after: None, json_length: None };
    let too_many = |gateway: &mut Gateway| {
        for stream in 0..=STREAMS_MAX as u32 {
            gateway.ask(stream, "echo", &[HELD]);
        }
    };
    let twice = |gateway: &mut Gateway| {
        gateway.ask(1, "echo", &[HELD]);
        gateway.ask(1, "echo", &[HELD]);
    };
    let answers = |gateway: &mut Gateway| gateway.outbox.answer(1, &ok, Default::default());
    let leaves = |gateway: &mut Gateway| gateway.outbox.goaway(ALL_STREAMS, Ends::Node);
    let breaches: [&dyn Fn(&mut Gateway); 4] = [&too_many, &twice, &answers, &leaves];
    for breach in breaches {
        let mut gateway = Gateway::connect(running.address).await;
        breach(&mut gateway);
        gateway.send().await;
        assert_eq!(gateway.hear().await, None);
        within_a_minute(running.node.until_in_flight(0)).await;
    }
    let mut gateway = Gateway::connect(running.address).await;
    gateway.stream.write_all(&[0xff; 100]).await.unwrap();
    assert_eq!(gateway.hear().await, None);
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_has_taken_and_says_what_it_has_not() {
    let config = ServerConfig { drain_timeout: TIMEOUT, ..ServerConfig::default() };
    let mut running = Running::start(config);
    let mut gateway = Gateway::connect(running.address).await;
    let mut idle = Gateway::connect(running.address).await;
    gateway.ask(5, "echo", &[HELD]);
    gateway.send().await;
    within_a_minute(running.node.until_in_flight(1)).await;
    running.stop();
    let goaway = |last| Event::Goaway { last, ends: Ends::Node };
    // First that it wants no more, then where it ended.
    assert_eq!(gateway.hear().await, Some(goaway(ALL_STREAMS)));
    assert_eq!(gateway.hear().await, Some(goaway(5)));
    gateway.ask(6, "echo", &[1.0]);
    gateway.send().await;
    running.node.release();
    assert_eq!(gateway.echo().await, (5, vec![HELD]));
    assert_eq!(gateway.hear().await, None);
    assert_eq!(idle.hear().await, Some(goaway(ALL_STREAMS)));
    assert_eq!(idle.hear().await, Some(goaway(0)));
    assert_eq!(idle.hear().await, None);
    drop((gateway, idle));
    assert_eq!(running.stopped().await, 0);
}

/// Else a gateway would take each connection that has become old for a node that goes away.
#[tokio::test]
async fn a_connection_that_is_old_ends_without_a_word_about_the_node() {
    let age = Duration::from_millis(200);
    let running = Running::start(ServerConfig { connection_age_max: age, ..Default::default() });
    let mut gateway = Gateway::connect(running.address).await;
    let goaway = Event::Goaway { last: ALL_STREAMS, ends: Ends::Connection };
    assert_eq!(gateway.hear().await, Some(goaway));
}

#[tokio::test]
async fn a_node_that_drains_says_so_once_behind_an_answer() {
    let running = running();
    let mut gateway = Gateway::connect(running.address).await;
    running.node.is_ready.store(false, Ordering::SeqCst);
    for (stream, value) in [(1, 1.0), (2, FULL), (3, 3.0)] {
        gateway.ask(stream, "echo", &[value]);
        gateway.send().await;
        assert_eq!(gateway.answer().await.0, stream);
        if stream == 1 {
            let goaway = Event::Goaway { last: ALL_STREAMS, ends: Ends::Node };
            assert_eq!(gateway.hear().await, Some(goaway));
        }
    }
}

#[tokio::test]
async fn connections_that_carry_nothing_or_half_a_frame_are_closed_in_time() {
    let config =
        ServerConfig { header_timeout: Duration::from_millis(200), ..ServerConfig::default() };
    let running = Running::start(config);
    let mut silent = Gateway::connect(running.address).await;
    let mut halting = Gateway::connect(running.address).await;
    halting.ask(1, "echo", &[1.0]);
    let part = halting.outbox.unsent()[..20].to_vec();
    halting.stream.write_all(&part).await.unwrap();
    let mut busy = Gateway::connect(running.address).await;
    busy.ask(1, "echo", &[HELD]);
    busy.send().await;
    assert_eq!(silent.hear().await, None);
    assert_eq!(halting.hear().await, None);
    // One that waits for an answer is no idle one.
    running.node.release();
    assert_eq!(busy.echo().await, (1, vec![HELD]));
}

#[tokio::test]
async fn health_tells_that_frames_are_known() {
    let running = running();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let asked = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(asked).await.unwrap();
    let mut answer = String::new();
    within_a_minute(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("\r\nx-inferring-frames: 2\r\n"), "{answer}");
}
