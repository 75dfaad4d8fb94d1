use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use inferring_types::WorkerLoad;
use proptest::prelude::*;

use super::message::Head as _;
use super::*;
use crate::rest::Chunks;

const LIMITS: Limits = Limits { message: 1 << 20, connection: 1 << 22 };

/// All that there is to send, as one side receives it in pieces of `size`.
fn carry(outbox: &mut Outbox, inbox: &mut Inbox, size: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while !outbox.is_empty() {
        let next = outbox.unsent();
        let count = next.len().min(size);
        inbox.room().extend_from_slice(&next[..count]);
        outbox.written(count);
        while let Some(event) = inbox.event().unwrap() {
            events.push(event);
        }
    }
    assert_eq!((outbox.len(), inbox.is_amid()), (0, false));
    events
}

fn request(model: &str) -> Request<'_> {
    Request { model, version: None, timeout: Duration::from_micros(1500), json_length: Some(2) }
}

fn body(parts: &[&[u8]]) -> Chunks {
    let tensors: Vec<_> = parts[1..].iter().map(|part| Bytes::copy_from_slice(part)).collect();
    Chunks::new(parts[0].to_vec(), tensors.iter())
}

#[test]
fn a_request_and_its_answer_read_back() {
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::new(LIMITS));
    let versioned = Request { version: Some("2"), json_length: None, ..request("größe") };
    outbox.request(7, &versioned, body(&[b"{}", b"raw"]));
    let load = WorkerLoad { wait: Duration::from_micros(3), run: Duration::ZERO };
    let answers = [
        Answer {
            status: StatusCode::OK,
            load: Some(load),
            retry_after: None,
            json_length: Some(2),
        },
        Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            load: None,
            retry_after: Some(Duration::from_secs(1)),
            json_length: None,
        },
    ];
    for (stream, answer) in (7..).zip(&answers) {
        outbox.answer(stream, answer, body(&[b"{}", b"out"]));
    }
    let events = carry(&mut outbox, &mut inbox, 3);
    let Event::Request { stream: 7, message } = &events[0] else { panic!("{events:?}") };
    assert_eq!(Request::read(message), Ok((versioned, Bytes::from_static(b"{}raw"))));
    for (event, answer) in events[1..].iter().zip(answers) {
        let Event::Answer { message, .. } = event else { panic!("{event:?}") };
        assert_eq!(Answer::read(message.clone()), Ok((answer, Bytes::from_static(b"{}out"))));
    }
}

#[test]
fn a_long_message_lets_others_pass_between_its_parts() {
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::new(LIMITS));
    let long = vec![1; 3 * PART_MAX];
    outbox.request(1, &request("m"), body(&[b"{}", &long]));
    outbox.request(2, &request("m"), body(&[b"{}", &long]));
    let first = outbox.unsent().len();
    inbox.room().extend_from_slice(outbox.unsent());
    outbox.written(first);
    assert_eq!((inbox.event(), inbox.has_begun(1)), (Ok(None), true));
    outbox.request(3, &request("m"), body(&[b"{}"]));
    let events = carry(&mut outbox, &mut inbox, PART_MAX);
    let order: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Request { stream, message } => (*stream, message.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    let whole = request("m").length() + 2 + long.len();
    assert_eq!(order, [(3, whole - long.len()), (1, whole), (2, whole)]);
}

#[test]
fn what_is_cancelled_is_not_sent_any_further() {
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::new(LIMITS));
    outbox.request(1, &request("m"), body(&[b"{}", &vec![1; 3 * PART_MAX]]));
    let first = outbox.unsent().to_vec();
    inbox.room().extend_from_slice(&first);
    outbox.written(first.len());
    assert_eq!(inbox.event(), Ok(None));
    outbox.cancel(1);
    outbox.goaway(ALL_STREAMS, Ends::Connection);
    outbox.goaway(7, Ends::Node);
    let events = carry(&mut outbox, &mut inbox, 1);
    let goaway = |last, ends| Event::Goaway { last, ends };
    let farewells = [goaway(ALL_STREAMS, Ends::Connection), goaway(7, Ends::Node)];
    assert_eq!(events[0], Event::Cancel { stream: 1 });
    assert_eq!(events[1..], farewells);
}

#[test]
fn beginnings_of_messages_are_held_to_the_limit() {
    let mut inbox = Inbox::new(Limits { message: 100_000, connection: 100_000 });
    for stream in 1..=2 {
        let mut outbox = Outbox::default();
        outbox.request(stream, &request("m"), body(&[b"{}", &vec![1; 90_000]]));
        let part = outbox.unsent().to_vec();
        inbox.room().extend_from_slice(&part);
    }
    assert_eq!(inbox.event(), Err(FrameError::TooMuch { what: "bytes", limit: 100_000 }));
}

#[test]
fn no_more_messages_begin_than_may_be_under_way() {
    for message in [10, 1000] {
        let mut inbox = Inbox::new(Limits { message, connection: 1 << 20 });
        for stream in 0..=STREAMS_MAX as u32 {
            let room = inbox.room();
            room.extend_from_slice(&[20, 0, 0, 0]);
            room.extend_from_slice(&stream.to_le_bytes());
            room.extend_from_slice(&[Kind::Request as u8, MORE]);
            room.extend_from_slice(&[0; 20]);
        }
        let ended = std::iter::from_fn(|| inbox.event().transpose()).find_map(Result::err);
        assert_eq!(ended, Some(FrameError::TooMuch { what: "parts", limit: STREAMS_MAX }));
    }
}

#[test]
fn of_messages_that_are_too_long_nothing_is_kept_and_the_others_arrive() {
    let mut inbox = Inbox::new(Limits { message: 1000, connection: 100_000 });
    let mut outbox = Outbox::default();
    outbox.request(1, &request("m"), body(&[b"{}", &[1; 1000]]));
    outbox.request(2, &request("m"), body(&[b"{}", &vec![1; 3 * PART_MAX]]));
    outbox.request(3, &request("m"), body(&[b"{}"]));
    let streams: Vec<_> = carry(&mut outbox, &mut inbox, 5000)
        .into_iter()
        .map(|event| match event {
            Event::TooLong { stream } => (stream, "too long"),
            Event::Request { stream, .. } => (stream, "whole"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(streams, [(1, "too long"), (3, "whole"), (2, "too long")]);
}

#[test]
fn what_is_no_frame_ends_the_connection() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[0, 0, 0, 0, 0, 0, 0, 0, 9, 0]] {
        let mut inbox = Inbox::new(LIMITS);
        inbox.room().extend_from_slice(bytes);
        assert!(matches!(inbox.event(), Err(FrameError::Unknown { .. })), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_hold_more_than_its_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        heads in prop::collection::vec((0u32..100, 0u32..4, 1u8..5, 0u8..2), 0..20),
    ) {
        let mut inbox = Inbox::new(Limits { message: 200, connection: 300 });
        let mut said = BytesMut::new();
        for (length, stream, kind, flags) in heads {
            said.extend_from_slice(&length.to_le_bytes());
            said.extend_from_slice(&stream.to_le_bytes());
            said.extend_from_slice(&[kind, flags]);
            said.extend_from_slice(&bytes[..bytes.len().min(length as usize)]);
        }
        inbox.room().extend_from_slice(&said);
        while let Ok(Some(event)) = inbox.event() {
            match event {
                Event::Request { message, .. } => drop(Request::read(&message)),
                Event::Answer { message, .. } => drop(Answer::read(message)),
                Event::TooLong { .. } | Event::Cancel { .. } | Event::Goaway { .. } => {}
            }
        }
        drop(Request::read(&Bytes::from(bytes.clone())));
        drop(Answer::read(Bytes::from(bytes)));
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut(
        lengths in prop::collection::vec(0usize..(3 * PART_MAX), 1..6),
        size in 1usize..100_000,
    ) {
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::new(Limits { message: 1 << 20, connection: 1 << 22 }));
        for (stream, &length) in (1u8..).zip(&lengths) {
            outbox.request(stream.into(), &request("m"), body(&[b"{}", &vec![stream; length]]));
        }
        let events = carry(&mut outbox, &mut inbox, size);
        prop_assert_eq!(events.len(), lengths.len());
        for event in events {
            let Event::Request { stream, message } = event else { panic!("{event:?}") };
            let (read, body) = Request::read(&message).unwrap();
            prop_assert_eq!(read, request("m"));
            let index = stream as usize - 1;
            prop_assert_eq!(body.len(), 2 + lengths[index]);
            prop_assert!(body[2..].iter().all(|&byte| u32::from(byte) == stream));
        }
    }
}
