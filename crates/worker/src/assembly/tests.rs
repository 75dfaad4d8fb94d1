mod padded;

use inferring_types::{DataType, Shape, ShapeSpec};

use super::*;

fn floats(shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    Tensor::from_f32(shape.into(), values).unwrap()
}

fn scalar(value: i64) -> Tensor {
    let bytes = value.to_le_bytes().to_vec();
    Tensor::new(DataType::Int64, Shape::default(), bytes.into()).unwrap()
}

fn specs(names: &[&str]) -> Vec<TensorSpec> {
    let spec = |name: &&str| TensorSpec {
        name: (*name).into(),
        datatype: DataType::Fp32,
        shape: ShapeSpec::any_rank(),
    };
    names.iter().map(spec).collect()
}

/// Rows on the second axis of the second input, and none in the third.
fn recurrent() -> Assembly {
    let axes = RowAxes { inputs: vec![Some(0), Some(1), None], outputs: vec![Some(1), None] };
    Assembly::of_rows(axes, Padding::none())
}

/// Inputs of [`recurrent`] whose rows hold this number.
fn step(rows: u64, number: f32) -> Vec<Tensor> {
    let rows_of = |per_row: u64| vec![number; (rows * per_row) as usize];
    vec![floats([rows, 2], &rows_of(2)), floats([2, rows, 1], &rows_of(2)), scalar(16)]
}

#[test]
fn jobs_are_joined_along_their_own_axes_and_split_back() {
    let assembly = recurrent();
    let (one, two) = (step(1, 1.0), step(2, 2.0));
    let jobs = [&one[..], &two[..]];
    let joint = assembly.join(&jobs, 3);
    assert_eq!(joint[0], floats([3, 2], &[1.0, 1.0, 2.0, 2.0, 2.0, 2.0]));
    assert_eq!(joint[1], floats([2, 3, 1], &[1.0, 2.0, 2.0, 1.0, 2.0, 2.0]));
    assert_eq!(joint[2], scalar(16));
    let outputs = vec![joint[1].clone(), scalar(7)];
    let split = assembly.split(outputs, &jobs, 3, &specs(&["y", "z"])).unwrap();
    assert_eq!(split, [[one[1].clone(), scalar(7)], [two[1].clone(), scalar(7)]]);
}

#[test]
fn a_run_is_filled_up_with_its_last_row_and_nobody_gets_those_rows() {
    let assembly = recurrent();
    for (jobs, last) in [
        (vec![step(1, 1.0), step(2, 2.0)], 2.0),
        (vec![step(2, 1.0), step(1, 3.0), step(0, 9.0)], 3.0),
        (vec![step(3, 5.0)], 5.0),
    ] {
        let jobs: Vec<&[Tensor]> = jobs.iter().map(|job| &job[..]).collect();
        let joint = assembly.join(&jobs, 5);
        assert_eq!(joint[0].shape(), &[5, 2].into());
        assert_eq!(joint[0].to_f32().unwrap()[6..], [last; 4]);
        assert_eq!(joint[1].shape(), &[2, 5, 1].into());
        let outputs = vec![joint[1].clone(), scalar(7)];
        let split = assembly.split(outputs, &jobs, 5, &specs(&["y", "z"])).unwrap();
        let expected: Vec<_> = jobs.iter().map(|job| vec![job[1].clone(), scalar(7)]).collect();
        assert_eq!(split, expected);
    }
}

#[test]
fn the_inputs_of_a_job_that_takes_the_whole_run_are_its_own() {
    let job = step(3, 1.0);
    for assembly in [recurrent(), Assembly::alone()] {
        let joint = assembly.join(&[&job], assembly.rows(&job));
        assert!(joint.iter().zip(&job).all(|(a, b)| a.data().as_ptr() == b.data().as_ptr()));
        // Whatever they look like, the outputs are the job's.
        let outputs = vec![scalar(1), scalar(2)];
        let split = assembly.split(outputs.clone(), &[&job], assembly.rows(&job), &[]).unwrap();
        assert_eq!(split, [outputs]);
    }
}

#[test]
fn there_is_no_row_to_repeat_where_there_is_no_row() {
    let none = step(0, 0.0);
    let joint = recurrent().join(&[&none, &none], 4);
    assert_eq!(joint[0].shape(), &[0, 2].into());
    let outputs = vec![joint[1].clone(), scalar(7)];
    let split = recurrent().split(outputs, &[&none, &none], 4, &specs(&["y", "z"])).unwrap();
    assert_eq!(split[1][0], none[1]);
}

#[test]
fn an_output_whose_rows_are_nobodys_is_refused() {
    let (one, two) = (step(1, 1.0), step(2, 2.0));
    let outputs = vec![floats([2, 2], &[0.0; 4]), scalar(7)];
    let error = recurrent().split(outputs, &[&one, &two], 3, &specs(&["y", "z"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output `y` has shape [2,2] for 3 rows: the model does not keep rows apart"
    );
}

#[test]
fn keys_are_equal_where_requests_may_share_a_run() {
    let assembly = recurrent();
    let key = |inputs: &[Tensor]| assembly.key(inputs);
    let step = step(2, 1.0);
    assert_eq!(key(&step), key(&self::step(5, 2.0)));
    let other_rate = [step[0].clone(), step[1].clone(), scalar(8)];
    let other_width = [floats([2, 3], &[0.0; 6]), step[1].clone(), scalar(16)];
    // As many numbers, and the same when they are written one behind the other.
    let other_rank = [step[0].clone(), floats([2, 2], &[0.0; 4]), scalar(16)];
    for other in [&other_rate[..], &other_width, &other_rank] {
        assert_ne!(key(&step), key(other));
    }
    assert_eq!(Assembly::alone().key(&step), Assembly::alone().key(&other_width));
}

#[test]
fn rows_and_their_bytes_are_counted() {
    let job = step(3, 1.0);
    assert_eq!(recurrent().rows(&job), 3);
    assert_eq!(recurrent().row_bytes(&job), 8 + 8 + 8);
    assert_eq!(Assembly::alone().rows(&job), 1);
    assert_eq!(Assembly::alone().row_bytes(&job), 24 + 24 + 8);
    assert_eq!(recurrent().row_bytes(&step(0, 1.0)), 8);
    let many = Tensor::new(DataType::Fp32, [1 << 40, 0].into(), bytes::Bytes::new()).unwrap();
    assert_eq!(recurrent().rows(&[many]), u32::MAX as usize);
}
