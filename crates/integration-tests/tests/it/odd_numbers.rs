//! Numbers that equal none or each other, over the network: bits decide which request is which.

use inferring_integration_tests::client::Client;
use inferring_integration_tests::models;
use inferring_integration_tests::v2::{self, Message};
use serde_json::{Value, json};

use crate::cluster;

/// NaNs of several kinds, zeros of both, in the bits of an FP64.
const ODD: [u64; 7] = [
    0x7ff8_0000_0000_0000,
    0x7ff8_0000_0000_0001,
    0xfff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0,
];

/// Asks the model with these elements, raw, in rows of three: what is told of the answer, and its
/// bits.
fn ask(client: &Client, bits: &[u64]) -> (Value, Vec<u8>) {
    let raw: Vec<_> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let head = json!({
        "inputs": [{
            "name": "input",
            "datatype": "FP64",
            "shape": [bits.len() / 3, 3],
            "parameters": { "binary_data_size": raw.len() },
        }],
        "parameters": { "binary_data_output": true },
    });
    let message = Message::new(&head, raw);
    let head_length = (Message::HEAD_LENGTH, message.head_length.as_str());
    let answer = client.post("/v2/models/f64_scale/infer", &[head_length], &message.body);
    let (mut head, mut outputs) = v2::read_binary(&answer);
    (head["parameters"].take(), outputs.remove(0))
}

#[test]
fn fault_31_every_nan_is_a_question_of_its_own_and_its_cached_answer_the_computed_one() {
    let cluster = cluster().models([models::named("f64_scale")]).start();
    for client in [cluster.client(), cluster.worker(1).client()] {
        let questions = ODD.map(|odd| [odd, 1.0_f64.to_bits(), odd]);
        let computed = questions.map(|question| ask(&client, &question));
        for (question, (told, bits)) in questions.into_iter().zip(computed) {
            let (told_again, bits_again) = ask(&client, &question);
            let is_nan = f64::from_bits(question[0]).is_nan();
            let first = f64::from_le_bytes(bits[..8].try_into().unwrap());
            assert_eq!(first.is_nan(), is_nan, "{question:x?}");
            assert_eq!(told["node_id"], told_again["node_id"], "{question:x?}");
            assert_eq!(told_again["cached"], true, "{question:x?}");
            assert_eq!(bits_again, bits, "{question:x?}");
        }
        // The same bits in another shape: two rows, of which each may be known.
        let rows = [[ODD[0]; 3], [ODD[1]; 3]];
        let (_, both) = ask(&client, rows.as_flattened());
        let apart = rows.map(|row| ask(&client, &row).1);
        assert_eq!(both, apart.concat());
    }
    let misses = cluster.sum("cache_misses");
    assert!(misses >= ODD.len() as u64, "{misses} of {} were computed", ODD.len());
}
