use std::ops::Range;

use inferring_types::NamedTensor;
use proptest::prelude::*;

use super::*;

fn integers(shape: impl Into<Shape>, values: &[i64]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(DataType::Int64, shape.into(), data.into()).unwrap()
}

fn padded(axis: usize, element: &[u8]) -> Option<PaddedInput> {
    Some(PaddedInput { axis, element: element.to_vec() })
}

/// Ids and a mask; one output of that length, and one without.
fn embedding() -> Assembly {
    let padding = Padding {
        inputs: vec![padded(1, &9i64.to_le_bytes()), padded(1, &0i64.to_le_bytes())],
        outputs: vec![Some(1), None],
    };
    Assembly::of_rows(RowAxes::first(2, 2), padding)
}

/// One row of [`embedding`].
fn sentence(ids: &[i64]) -> Vec<Tensor> {
    let length = ids.len() as u64;
    vec![integers([1, length], ids), integers([1, length], &vec![1; ids.len()])]
}

#[test]
fn a_run_is_as_long_as_its_longest_and_answers_are_as_long_as_their_requests() {
    let (short, long) = (sentence(&[1, 2, 3]), sentence(&[4, 5, 6, 7]));
    let jobs = [&short[..], &long];
    let joint = embedding().join(&jobs, 3);
    assert_eq!(joint[0], integers([3, 4], &[1, 2, 3, 9, 4, 5, 6, 7, 4, 5, 6, 7]));
    assert_eq!(joint[1], integers([3, 4], &[1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1]));
    let outputs = vec![joint[0].clone(), floats([3, 1], &[0.1, 0.2, 0.3])];
    let split = embedding().split(outputs, &jobs, 3, &specs(&["y", "z"])).unwrap();
    assert_eq!(split[0], [short[0].clone(), floats([1, 1], &[0.1])]);
    assert_eq!(split[1], [long[0].clone(), floats([1, 1], &[0.2])]);
    let outputs = vec![floats([3, 5], &[0.0; 15]), floats([3, 1], &[0.0; 3])];
    let error = embedding().split(outputs, &jobs, 3, &specs(&["y", "z"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output `y` has shape [3,5] for 3 rows of length 4 along axis 1: the model does not \
         keep rows apart"
    );
}

/// Then an output may be of any length: nothing has to be cut off.
#[test]
fn nothing_is_filled_up_where_all_are_equally_long() {
    let job = sentence(&[1, 2, 3]);
    let jobs = [&job[..], &job];
    assert_eq!(embedding().join(&jobs, 2)[0], integers([2, 3], &[1, 2, 3, 1, 2, 3]));
    let outputs = vec![floats([2, 5], &[0.0; 10]), floats([2, 1], &[0.0; 2])];
    let split = embedding().split(outputs, &jobs, 2, &specs(&["y", "z"])).unwrap();
    assert_eq!(split[1][0], floats([1, 5], &[0.0; 5]));
}

#[test]
fn lengths_of_one_bucket_share_a_lane_and_are_reckoned_alike() {
    let of = |length: usize| {
        let inputs = sentence(&vec![1; length]);
        (embedding().key(&inputs), embedding().row_bytes(&inputs))
    };
    assert_eq!(of(14), of(18));
    assert_ne!(of(18).0, of(19).0);
    assert_eq!(of(15).1, 2 * 18 * 8);
    assert_eq!(of(0).1, 0);
    let rows_of_three = |lengths: [u64; 2]| {
        let [ids, mask] = lengths.map(|n| integers([3, n], &vec![1; 3 * n as usize]));
        (embedding().key(&[ids.clone(), mask.clone()]), embedding().row_bytes(&[ids, mask]))
    };
    assert_eq!(rows_of_three([16, 16]), of(14));
}

#[test]
fn a_requests_own_inputs_must_be_equally_long() {
    let check = |ids: u64, mask: u64| {
        let named = |name: &str, length: u64| {
            let values = vec![1; 2 * length as usize];
            NamedTensor::new(name.into(), integers([2, length], &values))
        };
        embedding().check(&[named("ids", ids), named("mask", mask)])
    };
    assert!(check(3, 3).is_ok() && check(0, 0).is_ok());
    assert_eq!(
        check(3, 4).unwrap_err().to_string(),
        "inputs that are padded must be equally long: `ids` has shape [2,3] (its length is \
         along axis 1), `mask` [2,4] (along axis 1)"
    );
}

#[test]
fn what_answers_depend_on_is_in_the_fingerprint() {
    let plain = Assembly::of_rows(RowAxes::first(2, 2), Padding::none());
    assert_ne!(plain.fingerprint(), embedding().fingerprint());
    assert_ne!(plain.fingerprint(), Assembly::alone().fingerprint());
}

/// The elements, each by its bytes.
fn elements(tensor: &Tensor) -> Vec<Vec<u8>> {
    match tensor.datatype().element_size() {
        Some(size) => tensor.data().chunks(size).map(<[u8]>::to_vec).collect(),
        None => tensor.strings().map(<[u8]>::to_vec).collect(),
    }
}

/// The places of all elements of a shape, in the order in which they lie in memory.
fn places(shape: &Shape) -> Vec<Vec<u64>> {
    shape.dimensions().iter().fold(vec![vec![]], |places, &size| {
        let extend = |place: Vec<u64>| {
            (0..size).map(move |index| place.iter().copied().chain([index]).collect())
        };
        places.into_iter().flat_map(extend).collect()
    })
}

/// Every element of the whole, from the definition.
fn expected(jobs: &[Tensor], [rows, length]: [usize; 2], joint: &Shape) -> Vec<Option<Vec<u8>>> {
    let element = |mut place: Vec<u64>| {
        let mut ranges = jobs.iter().scan(0, |from, job| {
            let range: Range<u64> = *from..*from + job.shape().dimensions()[rows];
            *from = range.end;
            Some((job, range))
        });
        let (job, range) = ranges.find(|(_, range)| range.contains(&place[rows]))?;
        place[rows] -= range.start;
        if place[length] >= job.shape().dimensions()[length] {
            return None;
        }
        let all = places(job.shape());
        Some(elements(job)[all.iter().position(|other| *other == place).unwrap()].clone())
    };
    places(joint).into_iter().map(element).collect()
}

fn tensor(datatype: DataType, sizes: &[u64], first: &mut u32) -> Tensor {
    let shape = Shape::from(sizes);
    let mut data = Vec::new();
    for _ in 0..shape.elements().unwrap() {
        *first += 1;
        match datatype {
            DataType::Bytes => {
                let text = "x".repeat(*first as usize % 3) + &first.to_string();
                data.extend((text.len() as u32).to_le_bytes());
                data.extend(text.bytes());
            }
            _ => data.extend(first.to_le_bytes()),
        }
    }
    Tensor::new(datatype, shape, data.into()).unwrap()
}

proptest! {
    #[test]
    fn every_element_is_in_its_place_and_comes_back(
        datatype in prop_oneof![Just(DataType::Uint32), Just(DataType::Bytes)],
        mut sizes in prop::collection::vec(1u64..4, 2..5),
        axes in (0usize..4, 0usize..4),
        jobs in prop::collection::vec((0u64..4, 0u64..6), 1..6),
        spare in 0usize..3,
        segment in 1usize..100,
    ) {
        let (rows, length) = (axes.0 % sizes.len(), axes.1 % sizes.len());
        prop_assume!(rows != length);
        let mut first = 0;
        let tensors: Vec<Tensor> = jobs
            .iter()
            .map(|&(row_count, length_of_job)| {
                (sizes[rows], sizes[length]) = (row_count, length_of_job);
                rows::in_segments(&tensor(datatype, &sizes, &mut first), segment)
            })
            .collect();
        let filling: &[u8] = if datatype == DataType::Bytes { b"\x01\0\0\0-" } else { &[255; 4] };
        let axes = RowAxes { inputs: vec![Some(rows)], outputs: vec![Some(rows)] };
        let padding =
            Padding { inputs: vec![padded(length, filling)], outputs: vec![Some(length)] };
        let assembly = Assembly::of_rows(axes, padding);
        let jobs: Vec<&[Tensor]> = tensors.iter().map(std::slice::from_ref).collect();
        let own_rows = jobs.iter().map(|job| assembly.rows(job)).sum::<usize>();
        let run_rows = if own_rows == 0 { 0 } else { own_rows + spare };

        let joint = assembly.join(&jobs, run_rows).remove(0);
        let last = last_row(tensors.iter(), rows);
        let all: Vec<Tensor> = tensors
            .iter()
            .cloned()
            .chain(last.into_iter().flat_map(|row| vec![row; run_rows - own_rows]))
            .collect();
        let empty = if datatype == DataType::Bytes { &filling[4..] } else { filling };
        let expected = expected(&all, [rows, length], joint.shape());
        let expected: Vec<_> =
            expected.into_iter().map(|e| e.unwrap_or_else(|| empty.to_vec())).collect();
        prop_assert_eq!(elements(&joint), expected);
        prop_assert_eq!(joint.shape().dimensions()[rows], run_rows as u64);

        let split = assembly.split(vec![joint], &jobs, run_rows, &specs(&["y"])).unwrap();
        prop_assert_eq!(split.concat(), tensors);
    }
}
