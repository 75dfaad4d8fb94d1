//! Sequences whose state a worker keeps, asked for as clients do: what they are answered is what
//! they would be answered if they kept the state themselves.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use inferring_integration_tests::client::{Answer, Client};
use inferring_integration_tests::cluster::ClusterPlan;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::models;
use inferring_integration_tests::waiting::{LONG, wait_for};
use inferring_protocol::grpc::inference::infer_parameter::ParameterChoice;
use inferring_protocol::grpc::inference::model_infer_request::InferInputTensor;
use inferring_protocol::grpc::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use serde_json::{Value, json};

use crate::grpc_client::{in_time, inference};
use crate::{cluster, serving};

const ROWS: &str = "[inputs.state]\nbatch_axis = 1\n[outputs.next_state]\nbatch_axis = 1\n";
const STATE: &str = "[[sequences.state]]\ninput = \"state\"\noutput = \"next_state\"\n";
const PATH: &str = "/v2/models/recurrent/infer";

fn recurrent() -> Vec<u8> {
    std::fs::read(models::named("recurrent")).unwrap()
}

/// A folder with the recurrent model, whose state is kept.
fn keeping(sequences: &str) -> ModelFolder {
    let settings = format!("{ROWS}[sequences]\n{sequences}\n{STATE}");
    ModelFolder::new().with("recurrent", 1, &recurrent()).with_file(
        "recurrent",
        "config.toml",
        &settings,
    )
}

/// Three workers that keep state, and a gateway.
fn three(folders: &[ModelFolder; 3]) -> ClusterPlan {
    cluster().folders(folders)
}

fn folders() -> [ModelFolder; 3] {
    [(); 3].map(|()| keeping(""))
}

/// The `n`-th words of somebody, unlike those of anybody else. Whole numbers: sums are exact.
fn words(who: usize, n: usize) -> [f32; 4] {
    [who as f32, n as f32, (n * n % 17) as f32 - 8.0, 1.0]
}

fn inputs(words: [f32; 4]) -> Vec<Value> {
    vec![
        json!({"name": "input", "datatype": "FP32", "shape": [1, 4], "data": words}),
        json!({"name": "scale", "datatype": "INT64", "shape": [], "data": [2]}),
    ]
}

/// A request of a sequence.
fn step(id: &Value, start: bool, end: bool, words: [f32; 4]) -> Value {
    let parameters = json!({"sequence_id": id, "sequence_start": start, "sequence_end": end});
    json!({"inputs": inputs(words), "parameters": parameters})
}

/// The data of an answer's output.
fn data(answer: &Value, output: &str) -> Value {
    let outputs = answer["outputs"].as_array().unwrap();
    let output = outputs.iter().find(|one| one["name"] == output);
    output.unwrap_or_else(|| panic!("no `{output:?}` in {answer}"))["data"].clone()
}

/// A client that keeps the state of its sequence itself.
struct Keeper {
    client: Client,
    state: Value,
}

impl Keeper {
    fn new(client: &Client) -> Self {
        Self { client: client.clone(), state: json!([0, 0, 0, 0, 0, 0]) }
    }

    /// What the model answers next.
    fn says(&mut self, words: [f32; 4]) -> Value {
        let mut inputs = inputs(words);
        inputs.push(json!({
            "name": "state", "datatype": "FP32", "shape": [2, 1, 3], "data": self.state,
        }));
        let answer = self.client.post_json(PATH, &json!({ "inputs": inputs })).ok();
        self.state = data(&answer, "next_state");
        data(&answer, "output")
    }
}

/// The one output of an answer in a sequence, and the worker that gave it.
#[track_caller]
fn heard(answer: &Answer) -> (Value, String) {
    let answer = answer.ok();
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["parameters"]["cached"], false);
    let node = answer["parameters"]["node_id"].as_str().unwrap().to_owned();
    (data(&answer, "output"), node)
}

#[test]
fn a_kept_state_answers_as_the_clients_own_does() {
    let folders = folders();
    let cluster = three(&folders).start();
    for (entry, client) in [("worker", cluster.worker(1).client()), ("gateway", cluster.client())] {
        const SEQUENCES: usize = 12;
        let mut keepers: Vec<_> = (0..SEQUENCES).map(|_| Keeper::new(&client)).collect();
        let mut nodes = vec![BTreeSet::new(); SEQUENCES];
        for n in 0..20 {
            for (who, keeper) in keepers.iter_mut().enumerate() {
                // An id is a number or a text.
                let id = if who % 2 == 0 { json!(who + 1) } else { json!(format!("{who} é")) };
                let step = step(&id, n == 0, n == 19, words(who, n));
                let (output, node) = heard(&client.post_json(PATH, &step));
                assert_eq!(output, keeper.says(words(who, n)), "{entry}, {who}, step {n}");
                nodes[who].insert(node);
            }
        }
        assert!(nodes.iter().all(|nodes| nodes.len() == 1), "{entry}: {nodes:?}");
        let all: BTreeSet<_> = nodes.into_iter().flatten().collect();
        assert_eq!(all.len(), if entry == "worker" { 1 } else { 3 }, "{entry}: {all:?}");
    }
}

/// Each on a thread of its own, so that their steps share runs as they come.
#[test]
fn many_sequences_at_once_do_not_hear_each_other() {
    let folders = folders();
    let cluster = three(&folders).start();
    let apart = serving("worker").arg(models::named("recurrent")).start();
    std::thread::scope(|scope| {
        for who in 0..16 {
            let (client, mut keeper) = (cluster.client(), Keeper::new(&apart.client()));
            scope.spawn(move || {
                for n in 0..60 {
                    let step = step(&json!(who + 1), n == 0, false, words(who, n));
                    let (output, _) = heard(&client.post_json(PATH, &step));
                    assert_eq!(output, keeper.says(words(who, n)), "{who}, step {n}");
                }
            });
        }
    });
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
}

#[test]
fn refusals_reach_the_client_through_a_gateway_as_they_are() {
    let folder = keeping("count_max = 1\nidle_timeout = \"100s\"");
    let cluster = cluster().folders([&folder]).start();
    let plain = serving("worker").arg(models::named("recurrent")).start();
    let ask = |client: &Client, step: &Value| client.post_json(PATH, step);
    let once = |id: &str, start: bool| step(&json!(id), start, false, words(1, 1));
    for client in [cluster.worker(1).client(), cluster.client()] {
        let (status, message) = refused(&ask(&client, &once("a", false)));
        assert_eq!(status, 400);
        assert!(message.contains("knows no sequence `a`: begin it with `sequence_start`"));
        ask(&client, &once("a", true)).ok();
        let full = ask(&client, &once("b", true));
        let (status, message) = refused(&full);
        assert_eq!(status, 429);
        assert!(message.contains("sequence `b` cannot begin"), "{message}");
        let seconds: u64 = full.header("retry-after").unwrap().parse().unwrap();
        assert!((50..=100).contains(&seconds), "when the idle one is forgotten, not {seconds} s");
        let mut with_state = once("a", false);
        let state = json!({"name": "state", "datatype": "FP32", "shape": [2, 1, 3], "data": [0, 0, 0, 0, 0, 0]});
        with_state["inputs"].as_array_mut().unwrap().push(state);
        let (status, message) = refused(&ask(&client, &with_state));
        assert_eq!(status, 400);
        assert!(message.contains("input `state` of model `recurrent` is kept"), "{message}");
        ask(&client, &step(&json!("a"), false, true, words(1, 1))).ok();
    }
    let (status, message) = refused(&ask(&plain.client(), &once("a", true)));
    assert_eq!(status, 400);
    assert!(message.contains("model `recurrent` keeps no state between requests"), "{message}");
}

/// What a dead worker had heard is lost. Nobody is answered as if it were not, and who begins
/// anew goes on.
#[test]
fn a_lost_worker_loses_its_sequences_and_nobody_is_answered_without_the_state() {
    let folders = folders();
    let mut cluster = three(&folders).start();
    let client = cluster.client();
    let mut ids = (0..).map(|n| format!("sequence {n}"));
    // One at the first worker.
    let lost = ids
        .find(|id| {
            let step = step(&json!(id), true, false, words(0, 0));
            heard(&client.post_json(PATH, &step)).1 == "worker_1"
        })
        .unwrap();
    cluster.worker_mut(1).kill();
    let answer = client.post_json(PATH, &step(&json!(lost), false, false, words(0, 1)));
    assert!([400, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
    // Which goes on at another worker, though its place is at the dead one.
    let mut keeper = Keeper::new(&cluster.worker(2).client());
    let again = format!("{lost} again");
    let begun = wait_for("a sequence begins", LONG, || {
        let answer = client.post_json(PATH, &step(&json!(again), true, false, words(0, 0)));
        (answer.status == 200).then(|| heard(&answer))
    });
    assert_eq!(begun.0, keeper.says(words(0, 0)));
    for n in 1..10 {
        let (output, node) =
            heard(&client.post_json(PATH, &step(&json!(again), false, false, words(0, n))));
        assert_eq!((output, &node), (keeper.says(words(0, n)), &begun.1));
    }
}

/// Neither a worker that is told to stop, nor its return, nor the restart of the gateway costs a
/// sequence that could go on.
#[test]
fn fault_32_sequences_go_on_where_they_are_while_their_worker_drains_and_others_come_back() {
    const SEQUENCES: usize = 12;
    let folders = folders();
    let mut cluster = three(&folders).worker_setting("server.drain_delay=600s").start();
    let client = cluster.client();
    let helper = cluster.worker(2).client();
    // All workers have some.
    let begin = |client: &Client, who: usize, prefix: &str| {
        let (id, mut keeper) = (json!(format!("{prefix} {who}")), Keeper::new(&helper));
        let step = step(&id, true, false, words(who, 0));
        let (output, node) = heard(&client.post_json(PATH, &step));
        assert_eq!(output, keeper.says(words(who, 0)));
        (id, keeper, node)
    };
    let go_on = |client: &Client, begun: &mut [(Value, Keeper, String)], n: usize| {
        for (who, (id, keeper, node)) in begun.iter_mut().enumerate() {
            let (output, by) =
                heard(&client.post_json(PATH, &step(id, false, false, words(who, n))));
            assert_eq!((output, &by), (keeper.says(words(who, n)), &*node), "{who}, step {n}");
        }
    };
    let mut before: Vec<_> = (0..SEQUENCES).map(|who| begin(&client, who, "before")).collect();
    assert!(before.iter().any(|(_, _, node)| node == "worker_1"));
    cluster.worker(1).terminate();
    cluster.wait_until_reachable(2);
    go_on(&client, &mut before, 1);
    let mut during: Vec<_> = (0..SEQUENCES).map(|who| begin(&client, who, "during")).collect();
    assert!(during.iter().all(|(_, _, node)| node != "worker_1"));
    cluster.worker_mut(1).kill();
    cluster.spawn_worker(1);
    cluster.wait_until_reachable(3);
    go_on(&client, &mut during, 1);
    // A gateway that has seen none of it asks for where they are.
    cluster.gateway_mut().kill();
    cluster.start_gateway();
    cluster.wait_until_reachable(3);
    let client = cluster.client();
    go_on(&client, &mut during, 2);
    go_on(&client, &mut during, 3);
    // What was at the worker is gone with it, and its client is told.
    for (id, _, _) in before.iter().filter(|(_, _, node)| node == "worker_1") {
        let (status, message) =
            refused(&client.post_json(PATH, &step(id, false, false, words(0, 2))));
        assert!(status == 400 && message.contains("knows no sequence"), "{status} {message}");
    }
}

/// Requests without a sequence stay what they were, while others step on.
#[test]
fn answers_outside_of_sequences_are_still_kept() {
    let folder = keeping("");
    let cluster = cluster().folders([&folder]).start();
    let client = cluster.client();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                heard(&client.post_json(PATH, &step(&json!(1), n == 0, false, words(1, n))));
                n += 1;
            }
        });
        let (mut one, mut other) = (Keeper::new(&client), Keeper::new(&client));
        for n in 0..20 {
            assert_eq!(one.says(words(2, n)), other.says(words(2, n)));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(cluster.sum("cache_hits"), 20);
}

#[tokio::test]
async fn a_sequence_goes_on_over_grpc() {
    let folder = keeping("");
    let cluster = cluster().folders([&folder]).start();
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    for process in [cluster.worker(1), cluster.gateway()] {
        let mut client = inference(process.address()).await;
        let mut keeper = Keeper::new(&process.client());
        for n in 0..20 {
            let input = |name: &str, datatype: &str, shape: &[i64], contents| InferInputTensor {
                name: name.into(),
                datatype: datatype.into(),
                shape: shape.into(),
                contents: Some(contents),
                ..InferInputTensor::default()
            };
            let floats =
                InferTensorContents { fp32_contents: words(3, n).into(), ..Default::default() };
            let scale = InferTensorContents { int64_contents: vec![2], ..Default::default() };
            let request = ModelInferRequest {
                model_name: "recurrent".into(),
                inputs: vec![
                    input("input", "FP32", &[1, 4], floats),
                    input("scale", "INT64", &[], scale),
                ],
                parameters: [
                    ("sequence_id".to_owned(), parameter(ParameterChoice::Int64Param(7))),
                    ("sequence_start".to_owned(), parameter(ParameterChoice::BoolParam(n == 0))),
                    ("sequence_end".to_owned(), parameter(ParameterChoice::BoolParam(n == 19))),
                ]
                .into(),
                ..ModelInferRequest::default()
            };
            let response = in_time(client.model_infer(request)).await.unwrap().into_inner();
            let [output] = &response.outputs[..] else { panic!("{response:?}") };
            let contents = output.contents.as_ref().expect("typed, as it was asked");
            let expected = keeper.says(words(3, n));
            let expected: Vec<f32> =
                expected.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            assert_eq!(contents.fp32_contents, expected, "step {n}");
        }
    }
}
