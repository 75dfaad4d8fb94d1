//! Outputs are the same wherever the engine writes them.

use std::sync::Arc;

use inferring_types::{DataType, Shape};

use self::onnx::{Message, Size};
use super::*;
use crate::ort::opening::{self, Source};
use crate::ort::{OrtBackend, OrtConfig};
use crate::{Device, LoadOptions};

#[path = "../../../tests/it/onnx.rs"]
#[expect(dead_code, reason = "shared with tests that write more kinds of models")]
mod onnx;

/// Elements in a row: a row is large enough to be written into a room.
const WIDTH: u64 = 1 << 14;

fn session(model: &[u8]) -> OrtSession {
    let config = OrtConfig { device: Device::Cpu, ..OrtConfig::default() };
    let backend = OrtBackend::start(config).unwrap();
    let source = Source::Bytes(model);
    let options = LoadOptions::default();
    let opened = opening::open(&backend.runtime, source, Target::Cpu, &options).unwrap();
    let signature = Signature::of(&opened.engine).unwrap();
    OrtSession::new(opened, signature)
}

fn tensor(datatype: DataType, shape: &[u64]) -> Tensor {
    let elements = shape.iter().product::<u64>();
    let data = (0..elements).flat_map(|i| match datatype {
        DataType::Fp32 => ((i % 251) as f32 - 100.5).to_le_bytes().to_vec(),
        DataType::Fp16 => half::f16::from_f32((i % 251) as f32).to_le_bytes().to_vec(),
        DataType::Int64 => i.cast_signed().to_le_bytes().to_vec(),
        DataType::Bool => vec![u8::from(i % 3 == 0)],
        other => panic!("no test needs {other}"),
    });
    Tensor::new(datatype, shape.into(), data.collect::<Vec<_>>().into()).unwrap()
}

fn numbers(values: &[u64]) -> Tensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    Tensor::new(DataType::Int64, [values.len() as u64].into(), data.into()).unwrap()
}

fn rows(rows: u64) -> Tensor {
    tensor(DataType::Fp32, &[rows, WIDTH])
}

fn of(datatype: DataType, sizes: &[Size]) -> Message {
    onnx::tensor(onnx::element(datatype), sizes)
}

/// `[N,WIDTH]` of that datatype.
fn by_rows(datatype: DataType) -> Message {
    of(datatype, &[Size::Symbol("N"), Size::Fixed(WIDTH)])
}

/// Runs a model on one question after the other, each twice. Every answer must be the one of a
/// session that has not run yet, which writes into memory of the engine's own. Gives whether the
/// outputs of the last question were written into rooms, once it was answered.
fn check(model: &[u8], questions: &[Vec<Tensor>]) -> Vec<bool> {
    let mut session = session(model);
    for question in questions.iter().flat_map(|question| [question, question]) {
        let expected = self::session(model).execute(question).unwrap();
        assert_eq!(session.execute(question).unwrap(), expected);
    }
    let rooms = session.loaded.rooms(questions.last().unwrap());
    rooms.iter().map(Option::is_some).collect()
}

/// `y = operator(x)`, where `y` is declared to have the shape of `x`.
fn unary(operator: &str, datatype: DataType) -> Vec<u8> {
    let y = if operator == "Not" { DataType::Bool } else { datatype };
    onnx::model(
        &[onnx::node(operator, &["x"], &["y"])],
        &[("x", by_rows(datatype))],
        &[("y", by_rows(y))],
    )
}

#[test]
fn an_output_of_known_shape_is_written_into_its_room() {
    for (operator, datatype) in [
        ("Neg", DataType::Fp32),
        ("Neg", DataType::Fp16),
        ("Neg", DataType::Int64),
        ("Not", DataType::Bool),
        ("Identity", DataType::Fp32),
    ] {
        let questions = [1, 5, 2, 64].map(|rows| vec![tensor(datatype, &[rows, WIDTH])]);
        assert_eq!(check(&unary(operator, datatype), &questions), [true], "{operator} {datatype}");
    }
    let none = tensor(DataType::Fp32, &[0, WIDTH]);
    assert_eq!(check(&unary("Neg", DataType::Fp32), &[vec![rows(1)], vec![none]]), [false]);
}

#[test]
fn each_output_has_a_room_or_not_for_itself() {
    let model = onnx::model(
        &[
            onnx::node("Neg", &["x"], &["same"]),
            onnx::node("ReduceMax", &["x"], &["small"]).integers("axes", &[1]),
            onnx::node("NonZero", &["x"], &["unknown"]),
            onnx::node("Transpose", &["x"], &["turned"]),
        ],
        &[("x", by_rows(DataType::Fp32))],
        &[
            ("same", by_rows(DataType::Fp32)),
            ("small", of(DataType::Fp32, &[Size::Symbol("N"), Size::Fixed(1)])),
            ("unknown", of(DataType::Int64, &[Size::Fixed(2), Size::Unknown])),
            ("turned", of(DataType::Fp32, &[Size::Fixed(WIDTH), Size::Symbol("N")])),
        ],
    );
    let questions = [vec![rows(2)], vec![rows(3)]];
    assert_eq!(check(&model, &questions), [true, false, false, true]);
}

#[test]
fn a_declaration_that_does_not_hold_costs_no_answer() {
    // Twice the rows that are declared, always.
    let doubled = onnx::model(
        &[onnx::node("Concat", &["x", "x"], &["y"]).attribute("axis", 0)],
        &[("x", by_rows(DataType::Fp32))],
        &[("y", by_rows(DataType::Fp32))],
    );
    assert_eq!(check(&doubled, &[vec![rows(1)], vec![rows(3)]]), [false]);

    // As declared, until an input says otherwise: more rows, or the same elements in another
    // shape.
    for (operator, otherwise) in [("Expand", [3, WIDTH]), ("Reshape", [2, WIDTH / 2])] {
        let declared = onnx::model(
            &[onnx::node(operator, &["x", "shape"], &["y"])],
            &[
                ("x", of(DataType::Fp32, &[Size::Symbol("N"), Size::Symbol("W")])),
                ("shape", of(DataType::Int64, &[Size::Fixed(2)])),
            ],
            &[("y", of(DataType::Fp32, &[Size::Symbol("N"), Size::Symbol("W")]))],
        );
        let kept = vec![rows(1), numbers(&[1, WIDTH])];
        assert_eq!(check(&declared, std::slice::from_ref(&kept)), [true], "{operator}");
        let broken = vec![rows(1), numbers(&otherwise)];
        assert_eq!(check(&declared, &[kept.clone(), broken, kept]), [false], "{operator}");
    }
}

#[test]
fn what_no_operator_writes_is_answered_all_the_same() {
    let values = (0..WIDTH).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<_>>();
    let constant = onnx::constant(onnx::element(DataType::Fp32), &[1, WIDTH], &values);
    let of_constant = |nodes: &[Message], name| {
        onnx::model_with_weights(
            nodes,
            &[("x", by_rows(DataType::Fp32))],
            &[("y", of(DataType::Fp32, &[Size::Fixed(1), Size::Fixed(WIDTH)]))],
            &[constant.clone().text(8, name)],
        )
    };
    // A weight; what is folded into one; an input.
    check(&of_constant(&[], "y"), &[vec![rows(1)], vec![rows(2)]]);
    check(&of_constant(&[onnx::node("Neg", &["w"], &["y"])], "w"), &[vec![rows(1)], vec![rows(2)]]);
    let passed_on = onnx::model(
        &[onnx::node("Neg", &["x"], &["y"])],
        &[("x", by_rows(DataType::Fp32))],
        &[("y", by_rows(DataType::Fp32)), ("x", by_rows(DataType::Fp32))],
    );
    assert_eq!(check(&passed_on, &[vec![rows(1)], vec![rows(2)], vec![rows(3)]]), [true, false]);
}

#[test]
fn what_a_loop_or_a_branch_hands_on_is_answered_all_the_same() {
    let boolean = || of(DataType::Bool, &[]);
    let body = onnx::graph(
        &[
            onnx::node("Identity", &["goes"], &["goes_on"]),
            onnx::node("Neg", &["before"], &["after"]),
        ],
        &[
            ("iteration", of(DataType::Int64, &[])),
            ("goes", boolean()),
            ("before", by_rows(DataType::Fp32)),
        ],
        &[("goes_on", boolean()), ("after", by_rows(DataType::Fp32))],
        &[],
    );
    let looping = onnx::model(
        &[onnx::node("Loop", &["rounds", "", "x"], &["y"]).graph_attribute("body", &body)],
        &[("rounds", of(DataType::Int64, &[Size::Fixed(1)])), ("x", by_rows(DataType::Fp32))],
        &[("y", by_rows(DataType::Fp32))],
    );
    let questions = [(1, 1), (3, 2), (0, 2)].map(|(n, r)| vec![numbers(&[n]), rows(r)]);
    check(&looping, &questions);

    let branch =
        |node: Message| onnx::graph(&[node], &[], &[("of_branch", by_rows(DataType::Fp32))], &[]);
    let choosing = onnx::model(
        &[onnx::node("If", &["go"], &["y"])
            .graph_attribute("then_branch", &branch(onnx::node("Neg", &["x"], &["of_branch"])))
            .graph_attribute(
                "else_branch",
                &branch(onnx::node("Identity", &["x"], &["of_branch"])),
            )],
        &[("go", boolean()), ("x", by_rows(DataType::Fp32))],
        &[("y", by_rows(DataType::Fp32))],
    );
    let go = |go: bool| {
        Tensor::new(DataType::Bool, Shape::default(), vec![u8::from(go)].into()).unwrap()
    };
    let questions = [true, false, true].map(|way| vec![go(way), rows(2)]);
    check(&choosing, &questions);
}

#[test]
fn a_run_that_fails_by_itself_does_so_with_a_room_too_and_keeps_it() {
    // An index beyond the table is refused.
    let table = (0..4 * WIDTH).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<_>>();
    let model = onnx::model_with_weights(
        &[onnx::node("Gather", &["table", "index"], &["y"])],
        &[("index", of(DataType::Int64, &[Size::Symbol("N")]))],
        &[("y", by_rows(DataType::Fp32))],
        &[onnx::constant(onnx::element(DataType::Fp32), &[4, WIDTH], &table).text(8, "table")],
    );
    let mut session = session(&model);
    let good = [numbers(&[3, 0])];
    let expected = session.execute(&good).unwrap();
    let error = session.execute(&[numbers(&[9, 0])]).unwrap_err().to_string();
    assert!(error.contains('9') && error.contains("Gather"), "{error}");
    assert_eq!(session.execute(&good).unwrap(), expected);
    assert!(session.loaded.rooms(&good)[0].is_some());
}

#[test]
fn an_answer_outlives_its_session_and_is_not_written_to_again() {
    let mut session = session(&unary("Neg", DataType::Fp32));
    session.execute(&[rows(1)]).unwrap();
    let shared = OrtSession::over(Arc::clone(&session.loaded));
    assert!(shared.loaded.rooms(&[rows(1)])[0].is_some(), "what one has learnt the other knows");
    let first = session.execute(&[rows(2)]).unwrap();
    let copy = first[0].data().to_vec();
    let ones = Tensor::from_f32([2, WIDTH].into(), &vec![1.0; 2 * WIDTH as usize]).unwrap();
    let second = session.execute(&[ones]).unwrap();
    assert_ne!(second[0].data().as_ptr(), first[0].data().as_ptr());
    drop((session, shared, second));
    assert_eq!(first[0].data(), &copy);
}
