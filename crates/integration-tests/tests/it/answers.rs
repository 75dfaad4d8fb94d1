//! Answers are those of ONNX Runtime, whichever way they are asked for.

use inferring_backend::ort::{Device, OrtBackend, OrtConfig};
use inferring_backend::{Backend as _, LoadOptions};
use inferring_integration_tests::client::Client;
use inferring_integration_tests::models::{self, Case};
use inferring_integration_tests::process::onnxruntime;
use inferring_integration_tests::v2::{self, Message};
use inferring_types::Tensor;
use serde_json::{Value, json};

use crate::cluster;

#[test]
fn every_recorded_case_is_answered_as_onnx_runtime_answered_it() {
    let cases = models::cases();
    let cluster = cluster().models(cases.iter().map(|case| case.path.clone())).start();
    for client in [cluster.worker(1).client(), cluster.client()] {
        for case in &cases {
            asked_plainly(&client, case);
            asked_in_json(&client, case);
            asked_in_binary(&client, case);
        }
    }
}

/// `POST /models/{name}/infer`, for models with one input; the others refuse it. Several outputs
/// come under their names.
fn asked_plainly(client: &Client, case: &Case) {
    let what = format!("{}, plain", case.model);
    let [input, ..] = &case.inputs[..] else { panic!("{what}: no input") };
    let body = json!({"input_data": input.data, "shape": input.shape});
    let answer = client.post_json(&format!("/models/{}/infer", case.model), &body);
    if case.inputs.len() > 1 {
        assert_eq!(answer.status, 400, "{what}");
        assert!(answer.text().contains(&format!("/v2/models/{}/infer", case.model)), "{what}");
        return;
    }
    let document = answer.ok();
    assert_eq!(document["model"], json!(case.model));
    for output in &case.outputs {
        let of_output = |field: &str| match &case.outputs[..] {
            [_] => document[field].clone(),
            _ => document[field][&output.name].clone(),
        };
        output.assert_alike(&what, &of_output("output_data"));
        assert_eq!(of_output("output_shape"), json!(output.shape), "{what}");
    }
}

/// `POST /v2/models/{name}/infer` with tensors in JSON.
fn asked_in_json(client: &Client, case: &Case) {
    let what = format!("{}, JSON", case.model);
    let path = format!("/v2/models/{}/infer", case.model);
    let document = client.post_json(&path, &v2::json_request(case)).ok();
    assert_eq!(document["model_name"], json!(case.model));
    let outputs = outputs_of(&document);
    assert_eq!(outputs.len(), case.outputs.len(), "{what}");
    for (output, expected) in outputs.iter().zip(&case.outputs) {
        assert_eq!(output["name"], json!(expected.name), "{what}");
        assert_eq!(output["datatype"], json!(expected.datatype), "{what}");
        assert_eq!(output["shape"], json!(expected.shape), "{what}");
        expected.assert_alike(&what, &output["data"]);
    }
}

/// `POST /v2/models/{name}/infer` with raw tensors both ways.
fn asked_in_binary(client: &Client, case: &Case) {
    let what = format!("{}, binary", case.model);
    let path = format!("/v2/models/{}/infer", case.model);
    let message = v2::binary_request(case);
    let head_length = (Message::HEAD_LENGTH, message.head_length.as_str());
    let answer = client.post(&path, &[head_length], &message.body);
    let (head, raw) = v2::read_binary(&answer);
    let outputs = outputs_of(&head);
    assert_eq!(outputs.len(), case.outputs.len(), "{what}");
    for ((output, raw), expected) in outputs.iter().zip(&raw).zip(&case.outputs) {
        assert_eq!(output["name"], json!(expected.name), "{what}");
        assert_eq!(output["datatype"], json!(expected.datatype), "{what}");
        assert_eq!(output["shape"], json!(expected.shape), "{what}");
        expected.assert_alike_raw(&what, raw);
    }
}

fn outputs_of(document: &Value) -> &Vec<Value> {
    document["outputs"].as_array().unwrap_or_else(|| panic!("no outputs: {document}"))
}

#[test]
fn answers_are_onnx_runtimes_own_to_the_last_bit() {
    let cluster = cluster().start();
    let client = cluster.client();
    let library = Some(onnxruntime().to_owned());
    let config = OrtConfig { library, device: Device::Cpu, ..OrtConfig::default() };
    let backend = OrtBackend::start(config).unwrap_or_else(|error| panic!("{error}"));
    let mut model = backend.load(&models::iris(), &LoadOptions::default()).unwrap();
    // One after the other, so that each is a run of its own on both sides.
    for n in 0..200_u8 {
        let flower = [0.03, 0.02, 0.035, 0.0125].map(|step| f32::from(n) * step);
        let input = Tensor::from_f32([1, 4].into(), &flower).unwrap();
        let expected = model.session.execute(&[input]).unwrap()[0].to_f32().unwrap();
        let answer = client.post_json("/infer", &json!({ "input_data": flower })).ok();
        let probabilities = answer["output_data"].as_array().unwrap();
        let got: Vec<f32> = probabilities.iter().map(|p| p.as_f64().unwrap() as f32).collect();
        assert_eq!(got, expected, "{flower:?}");
    }
}

#[test]
fn the_first_answer_of_the_readme_has_every_field() {
    let cluster = cluster().start();
    let body = json!({"request_id": "test1", "input_data": models::SETOSA});
    let answer = cluster.client().post_json("/infer", &body).ok();
    assert_eq!(answer["request_id"], "test1");
    let probabilities = answer["output_data"].as_array().unwrap();
    assert!(probabilities[0].as_f64().unwrap() > 0.99, "setosa is the first class: {answer}");
    assert_eq!(probabilities.len(), 3);
    assert!(answer["node_id"].as_str().unwrap().starts_with("worker_"), "{answer}");
    assert_eq!(answer["cached"], false);
    assert!(answer["inference_time_us"].as_u64().unwrap() > 0, "{answer}");
}
