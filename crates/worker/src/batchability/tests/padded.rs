//! Models of `ids` and `mask`, INT64 `[N,S]`, to `y`, FP32 `[N,S]`.

use super::*;
use crate::assembly::PaddedInput;

struct Model(fn(rows: &[Row<'_>]) -> Result<Answers, ExecuteError>);

/// Row by row.
type Answers = Vec<Vec<f32>>;

/// One row of the inputs.
struct Row<'a> {
    ids: &'a [i64],
    mask: &'a [i64],
}

impl Session for Model {
    fn run(&mut self, inputs: &[Tensor], _: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        let numbers = |tensor: &Tensor| -> Vec<i64> {
            tensor.data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()
        };
        let (ids, mask) = (numbers(&inputs[0]), numbers(&inputs[1]));
        let [_, length] = inputs[0].shape().dimensions() else { panic!("two dimensions") };
        let length = *length as usize;
        let rows = ids.chunks(length).zip(mask.chunks(length));
        let rows: Vec<_> = rows.map(|(ids, mask)| Row { ids, mask }).collect();
        let answers = (self.0)(&rows)?;
        let shape = [rows.len() as u64, answers[0].len() as u64];
        Ok(vec![Tensor::from_f32(shape.into(), &answers.concat()).unwrap()])
    }
}

/// Each id, and the mean of those that the mask leaves.
fn masked_mean(rows: &[Row<'_>]) -> Answers {
    let answer = |row: &Row<'_>| {
        let left = row.ids.iter().zip(row.mask).filter(|(_, mask)| **mask != 0);
        let mean = left.clone().map(|(id, _)| *id as f32).sum::<f32>() / left.count() as f32;
        row.ids.iter().map(|id| *id as f32 + mean).collect()
    };
    rows.iter().map(answer).collect()
}

fn specs() -> ([TensorSpec; 2], [TensorSpec; 1]) {
    let spec = |name: &str, datatype| TensorSpec {
        name: name.into(),
        datatype,
        shape: ShapeSpec::new([Dimension::Dynamic(None), Dimension::Dynamic(None)]),
    };
    let inputs = [spec("ids", DataType::Int64), spec("mask", DataType::Int64)];
    (inputs, [spec("y", DataType::Fp32)])
}

fn padding() -> Padding {
    let zeros = || Some(PaddedInput { axis: 1, element: vec![0; 8] });
    Padding { inputs: vec![zeros(), zeros()], outputs: vec![Some(1)] }
}

fn answer_with(mode: BatchingMode, padding: Padding, mut model: Model) -> Proof {
    let (inputs, outputs) = specs();
    let question = Question {
        inputs: &inputs,
        outputs: &outputs,
        mode,
        axes: None,
        padding,
        run_rows: 1,
        examples: &[],
        patience: PATIENCE,
    };
    question.answer(&mut model)
}

fn answer(model: Model) -> Proof {
    answer_with(BatchingMode::Auto, padding(), model)
}

#[track_caller]
fn assert_not_padded(proof: &Proof, why: &str) {
    let reason = proof.batching.reason();
    assert!(reason.contains(why), "{reason}");
    assert!(proof.batching.joins_rows(), "rows of one length are joined all the same: {reason}");
    assert_eq!(proof.padding, Padding::none());
}

#[test]
fn lengths_that_a_mask_hides_are_proved() {
    let proof = answer(Model(|rows| Ok(masked_mean(rows))));
    assert_eq!(proof.padding, padding(), "{}", proof.batching.reason());
    assert_eq!(
        proof.batching.reason(),
        "proved at load: rows together gave the same answers as rows apart, and as well where \
         their lengths differ"
    );
}

#[test]
fn lengths_that_change_answers_are_found_out() {
    for (what, model) in [
        (
            "the mean over the whole length",
            Model(|rows| {
                let mask = vec![1; rows[0].ids.len()];
                let rows: Vec<_> =
                    rows.iter().map(|row| Row { ids: row.ids, mask: &mask }).collect();
                Ok(masked_mean(&rows))
            }),
        ),
        (
            "from the end",
            Model(|rows| {
                let mut answers = masked_mean(rows);
                answers.iter_mut().for_each(|answer| answer.reverse());
                Ok(answers)
            }),
        ),
        (
            "an output that is longer than the inputs",
            Model(|rows| {
                let mut answers = masked_mean(rows);
                answers.iter_mut().for_each(|answer| answer.push(0.5));
                Ok(answers)
            }),
        ),
        (
            "a length of which much depends",
            Model(|rows| {
                let length = rows[0].ids.len() as f32;
                let plus = |answer: Vec<f32>| answer.iter().map(|x| x + length).collect();
                Ok(masked_mean(rows).into_iter().map(plus).collect())
            }),
        ),
    ] {
        let proof = answer(model);
        println!("{what}");
        assert_not_padded(
            &proof,
            "as rows apart; not true of rows of different length: together they gave other \
             answers than apart",
        );
    }
}

/// Nothing would be cut off, and a short request get a long answer.
#[test]
fn an_output_that_is_not_said_to_be_padded_is_found_out() {
    let forgotten = Padding { outputs: vec![None], ..padding() };
    let model = || Model(|rows| Ok(masked_mean(rows)));
    let proof = answer_with(BatchingMode::Auto, forgotten.clone(), model());
    assert_not_padded(
        &proof,
        "not true of rows of different length: output `y` has shape [1,9] together, and [1,7] \
         apart; its `padded_axis` may not be named",
    );
    // A declaration is taken at its word.
    let proof = answer_with(BatchingMode::Rows, forgotten.clone(), model());
    assert_eq!(proof.padding, forgotten);
    assert_eq!(answer_with(BatchingMode::Alone, padding(), model()).padding, Padding::none());
}

#[test]
fn lengths_that_a_model_does_not_run_prove_nothing() {
    let proof = answer(Model(|rows| match rows[0].ids.len() {
        length if length.is_power_of_two() => Ok(masked_mean(rows)),
        _ => Err(ExecuteError("a power of two".to_owned())),
    }));
    assert_not_padded(
        &proof,
        "not proved of rows of different length: the model ran none of the generated inputs (a \
         power of two)",
    );
}

/// Answers that are no numbers are equal, whatever is joined.
#[test]
fn answers_that_say_nothing_prove_nothing() {
    let proof = answer(Model(|rows| {
        let answer = |(row, mean): (&Row<'_>, Vec<f32>)| match row.mask.contains(&0) {
            true => mean,
            false => vec![f32::NAN; mean.len()],
        };
        Ok(rows.iter().zip(masked_mean(rows)).map(answer).collect())
    }));
    assert_not_padded(
        &proof,
        "not proved of rows of different length: the answers to different generated inputs were \
         equal",
    );
}
