mod padded;

use inferring_types::{DataType, ShapeSpec};

use super::*;

/// Doubles what it is given, and counts its runs.
struct Doubling {
    runs: usize,
}

impl Session for Doubling {
    fn run(&mut self, inputs: &[Tensor], _: &Run) -> Result<Vec<Tensor>, ExecuteError> {
        self.runs += 1;
        let doubled: Vec<f32> = inputs[0].to_f32().unwrap().iter().map(|x| 2.0 * x).collect();
        Ok(vec![Tensor::from_f32(inputs[0].shape().clone(), &doubled).unwrap()])
    }
}

fn answer(mode: BatchingMode, patience: Duration) -> (Proof, usize) {
    let shape = ShapeSpec::new([Dimension::Dynamic(None), Dimension::Fixed(2)]);
    let specs = [TensorSpec { name: "x".into(), datatype: DataType::Fp32, shape }];
    let mut session = Doubling { runs: 0 };
    let (axes, padding, examples) = (None, Padding::none(), &[][..]);
    let question = Question {
        inputs: &specs,
        outputs: &specs,
        mode,
        axes,
        padding,
        run_rows: 1,
        examples,
        patience,
    };
    (question.answer(&mut session), session.runs)
}

/// However slow a model is, one run of it is awaited: it tells bad inputs from a broken
/// session later.
#[test]
fn a_check_that_runs_out_of_time_proves_nothing_and_knows_a_good_input() {
    let (proof, runs) = answer(BatchingMode::Auto, Duration::ZERO);
    assert_eq!(proof.batching.reason(), "not proved: the check takes longer than 0ns");
    assert!(!proof.batching.joins_rows());
    assert_eq!(proof.known_good.unwrap().len(), 1);
    assert_eq!(runs, 1);
    let (proof, runs) = answer(BatchingMode::Auto, PATIENCE);
    assert!(proof.batching.joins_rows() && runs > 4, "{proof:?}");
}

#[test]
fn what_is_declared_takes_one_run() {
    for mode in [BatchingMode::Rows, BatchingMode::Alone] {
        let (proof, runs) = answer(mode, Duration::ZERO);
        assert_eq!(proof.batching.joins_rows(), mode == BatchingMode::Rows);
        assert!(proof.known_good.is_some());
        assert_eq!(runs, 1);
    }
}

/// Then a run of one row would fail, and nothing be known that the model runs.
#[test]
fn what_is_known_to_run_has_as_many_rows_as_runs_have() {
    let shape = ShapeSpec::new([Dimension::Dynamic(None), Dimension::Fixed(2)]);
    let specs = [TensorSpec { name: "x".into(), datatype: DataType::Fp32, shape }];
    let question = Question {
        inputs: &specs,
        outputs: &specs,
        mode: BatchingMode::Rows,
        axes: None,
        padding: Padding::none(),
        run_rows: 4,
        examples: &[],
        patience: PATIENCE,
    };
    struct OfFour;
    impl Session for OfFour {
        fn run(&mut self, inputs: &[Tensor], _: &Run) -> Result<Vec<Tensor>, ExecuteError> {
            match inputs[0].shape().dimensions() {
                [4, 2] => Ok(inputs.to_vec()),
                _ => Err(ExecuteError("four rows".to_owned())),
            }
        }
    }
    let known_good = question.answer(&mut OfFour).known_good.unwrap();
    let numbers = known_good[0].to_f32().unwrap();
    assert_eq!(known_good[0].shape(), &[4, 2].into());
    assert!(numbers.chunks(2).all(|row| row == &numbers[..2]));
}
