//! Large bodies of raw tensors, in whatever parts they come.

use inferring_server::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Running, within_a_minute};

/// What the model answers to so many bytes, sent in parts of one of these sizes after the other.
async fn echoed(stream: &mut TcpStream, data: &[u8], parts: &[usize]) -> Vec<u8> {
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,{}]}}],"parameters":{{"binary_data_output":true}}}}"#,
        data.len() / 4,
    );
    let mut message = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\ninference-header-content-length: {}\r\n\
         content-length: {}\r\n\r\n{json}",
        json.len(),
        json.len() + data.len(),
    )
    .into_bytes();
    message.extend_from_slice(data);
    let (mut receive, mut send) = stream.split();
    let sending = async {
        let (mut rest, mut sizes) = (&message[..], parts.iter().cycle());
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            send.write_all(part).await.unwrap();
            // Whoever reads has its turn.
            tokio::task::yield_now().await;
            rest = behind;
        }
    };
    let receiving = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(receive.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = |field: &str| -> usize {
            let line = head.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.trim().parse().unwrap()
        };
        let mut body = vec![0; length("content-length:")];
        receive.read_exact(&mut body).await.unwrap();
        body.split_off(length("inference-header-content-length:"))
    };
    within_a_minute(async { tokio::join!(sending, receiving).1 }).await
}

#[tokio::test]
async fn raw_tensors_are_the_same_in_whatever_parts_they_come() {
    let running = Running::start(ServerConfig::default());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let values = (1..=500_000_u32).map(|value| value as f32);
    let data: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    for length in [4, 60_000, 70_000, 600_000, 2_000_000] {
        for parts in [&[usize::MAX][..], &[100_000], &[5_000], &[150_000, 1], &[77, 1_000_000]] {
            let answer = echoed(&mut stream, &data[..length], parts).await;
            assert!(answer == data[..length], "{length} bytes in parts of {parts:?}");
        }
    }
}

/// What is answered to many numbers that are wanted as JSON, with these parameters.
async fn status_of_many(running: &Running, parameters: &str) -> String {
    const NUMBERS: usize = 200_000;
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,{NUMBERS}],"parameters":{{"binary_data_size":{}}}}}],"parameters":{{{parameters}}}}}"#,
        4 * NUMBERS,
    );
    let head = format!(
        "POST /v2/models/echo/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         inference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n{json}",
        json.len(),
        json.len() + 4 * NUMBERS,
    );
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[1; 4 * NUMBERS]).await.unwrap();
    let mut answer = String::new();
    within_a_minute(stream.read_to_string(&mut answer)).await.unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_is_not_written_beyond_its_deadline_unless_a_sequence_has_moved_on() {
    let running = Running::start(ServerConfig::default());
    let ok = "HTTP/1.1 200 OK";
    assert_eq!(status_of_many(&running, "").await, ok);
    let late = r#""timeout":1"#;
    assert_eq!(status_of_many(&running, late).await, "HTTP/1.1 504 Gateway Timeout");
    let step = format!(r#"{late},"sequence_id":7,"sequence_start":true"#);
    assert_eq!(status_of_many(&running, &step).await, ok);
}
