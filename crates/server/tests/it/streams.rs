//! Many requests over one stream.

use std::sync::atomic::Ordering;

use inferring_protocol::grpc::inference::infer_parameter::ParameterChoice;
use inferring_protocol::grpc::inference::{InferParameter, ModelInferRequest};
use inferring_server::ServerConfig;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use crate::fixture::{Running, echo, echoed, within_a_minute};
use crate::node::HELD;

fn with_id(id: &str, mut request: ModelInferRequest) -> ModelInferRequest {
    request.id = id.into();
    request
}

#[tokio::test]
async fn answers_come_in_order_while_requests_are_worked_on_together() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let (requests, received) = mpsc::channel(8);
    let mut answers =
        client.model_stream_infer(ReceiverStream::new(received)).await.unwrap().into_inner();
    for (id, value) in [("a", HELD), ("b", HELD), ("c", 3.0)] {
        requests.send(with_id(id, echo(&[value]))).await.unwrap();
    }
    // Both at once, though the second cannot be answered before the first.
    within_a_minute(running.node.until_in_flight(2)).await;
    running.node.release();
    for (id, value) in [("a", HELD), ("b", HELD), ("c", 3.0)] {
        let answer = within_a_minute(answers.message()).await.unwrap().unwrap();
        let response = answer.infer_response.unwrap();
        assert_eq!((&*response.id, echoed(&response)), (id, vec![value]));
        assert_eq!(answer.error_message, "");
    }
    drop(requests);
    assert!(within_a_minute(answers.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn requests_of_one_sequence_are_worked_on_one_after_the_other() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let in_sequence = |id: i64, value: f32| {
        let mut request = echo(&[value]);
        let parameter_choice = Some(ParameterChoice::Int64Param(id));
        request.parameters.insert("sequence_id".into(), InferParameter { parameter_choice });
        request
    };
    // Two sequences that take turns, and as many others as make the stream forget those that are
    // over.
    let others = (10..100).map(|id| in_sequence(id, 1.0));
    let held = [7, 8, 7, 8].map(|id| in_sequence(id, HELD));
    let requests = tonic::codegen::tokio_stream::iter(others.chain(held).collect::<Vec<_>>());
    let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
    for _ in 10..100 {
        within_a_minute(answers.message()).await.unwrap().unwrap();
    }
    within_a_minute(running.node.until_in_flight(2)).await;
    running.node.release();
    for _ in 0..4 {
        let answer = within_a_minute(answers.message()).await.unwrap().unwrap();
        assert_eq!(echoed(&answer.infer_response.unwrap()), [HELD]);
    }
    assert_eq!(running.node.in_flight_max.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_error_is_an_answer_and_the_stream_goes_on() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let wrong = ModelInferRequest { model_name: "other".into(), ..echo(&[1.0]) };
    let requests = [with_id("a", wrong), with_id("b", echo(&[2.0]))];
    let requests = tonic::codegen::tokio_stream::iter(requests);
    let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
    let first = within_a_minute(answers.message()).await.unwrap().unwrap();
    assert!(first.error_message.starts_with("no model `other`"), "{}", first.error_message);
    assert_eq!(first.infer_response.unwrap().id, "a");
    let second = within_a_minute(answers.message()).await.unwrap().unwrap();
    assert_eq!(echoed(&second.infer_response.unwrap()), [2.0]);
    assert!(within_a_minute(answers.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn who_asks_for_it_is_told_that_each_answer_is_the_last() {
    let running = Running::start(ServerConfig::default());
    let mut client = running.client().await;
    let mut request = echo(&[1.0]);
    let choice = Some(ParameterChoice::BoolParam(true));
    let parameter = InferParameter { parameter_choice: choice.clone() };
    request.parameters.insert("triton_enable_empty_final_response".into(), parameter);
    let requests = tonic::codegen::tokio_stream::iter([request, echo(&[2.0])]);
    let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
    let mut next = async || {
        let answer = within_a_minute(answers.message()).await.unwrap().unwrap();
        answer.infer_response.unwrap().parameters
    };
    assert_eq!(next().await["triton_final_response"].parameter_choice, choice);
    assert!(!next().await.contains_key("triton_final_response"));
}
