use std::error::Error;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use inferring_types::NamedTensor;

use super::*;

/// What the corpus's archives may take, decompressed.
const LIMIT: usize = 1 << 20;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/npy")
}

fn file(name: &str) -> Bytes {
    std::fs::read(corpus().join(name)).unwrap().into()
}

fn chain(error: &dyn Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {}", chain(source)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_as_described(what: &str, tensor: &Tensor, description: &Value) {
    assert_eq!(tensor.datatype().name(), description["datatype"], "{what}");
    let shape: Vec<u64> = serde_json::from_value(description["shape"].clone()).unwrap();
    assert_eq!(tensor.shape().dimensions(), shape, "{what}");
    assert_eq!(hexadecimal(tensor.data()), description["data"].as_str().unwrap(), "{what}");
}

#[test]
fn every_file_of_the_corpus_reads_as_numpy_reads_it_or_is_refused() {
    let expected: Value = serde_json::from_slice(&file("expected.json")).unwrap();
    for (name, description) in expected.as_object().unwrap() {
        let read = if name.ends_with(".npz") {
            npz::read(&file(name), LIMIT).map_err(|error| chain(&error))
        } else {
            let tensor = read(&file(name)).map_err(|error| chain(&error));
            tensor.map(|tensor| vec![(String::new(), tensor)])
        };
        match (read, description["error"].as_str()) {
            (Err(error), Some(part)) => assert!(error.contains(part), "{name}: {error}"),
            (Ok(arrays), None) if name.ends_with(".npz") => {
                assert_eq!(arrays.len(), description.as_object().unwrap().len(), "{name}");
                for (array, tensor) in &arrays {
                    assert_as_described(array, tensor, &description[array]);
                }
            }
            (Ok(arrays), None) => assert_as_described(name, &arrays[0].1, description),
            (read, error) => panic!("{name}: {read:?} instead of {error:?}"),
        }
    }
    // No file stands there without a word on it.
    let known = |name: &str| expected.get(name).is_some() || !name.contains(".np");
    for entry in std::fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known(&name), "{name}");
    }
}

#[test]
fn what_numpy_wrote_is_written_back_to_the_byte() {
    for name in ["little_f4", "little_i8", "little_u1", "bool", "bf16", "scalar", "bytes", "empty"]
    {
        let file = file(&format!("{name}.npy"));
        assert_eq!(write(&read(&file).unwrap()).unwrap(), file, "{name}");
    }
}

#[test]
fn elements_in_tensor_order_are_not_copied() {
    let file = file("little_f4.npy");
    let tensor = read(&file).unwrap();
    assert!(file.as_ptr_range().contains(&tensor.data().as_ptr()));
}

#[test]
fn strings_that_the_format_cannot_hold_are_refused() {
    let tensor = |elements: &[&[u8]]| {
        let prefixed = |element: &&[u8]| [&(element.len() as u32).to_le_bytes(), *element].concat();
        let data: Vec<u8> = elements.iter().flat_map(prefixed).collect();
        Tensor::new(DataType::Bytes, [elements.len() as u64].into(), data.into()).unwrap()
    };
    let error = write(&tensor(&[b"a", b"b\0"])).unwrap_err();
    assert_eq!(error, NpyError::EndsWithNul { index: 1 });
    let mut uneven = vec![&b""[..]; 70_000];
    let long = vec![b'x'; 70_000];
    uneven.push(&long);
    let error = write(&tensor(&uneven)).unwrap_err();
    assert_eq!(error, NpyError::TooWide { elements: 70_001, width: 70_000 });
}

/// Any tensor that a file can hold, small.
fn tensors() -> impl Strategy<Value = Tensor> {
    let datatype = prop::sample::select(&DataType::ALL[..]);
    let shape = prop::collection::vec(0u64..4, 0..4);
    (datatype, shape).prop_flat_map(|(datatype, shape)| {
        let elements = shape.iter().product::<u64>() as usize;
        let shape = Shape::new(shape);
        match datatype.element_size() {
            Some(size) => {
                let bytes = prop::collection::vec(any::<u8>(), elements * size);
                let bytes = bytes.prop_map(move |mut bytes| {
                    if datatype == DataType::Bool {
                        bytes.iter_mut().for_each(|byte| *byte &= 1);
                    }
                    bytes
                });
                bytes.prop_map(move |data| (datatype, shape.clone(), data)).boxed()
            }
            None => {
                let element = prop::collection::vec(any::<u8>(), 0..9).prop_map(|mut element| {
                    while element.pop_if(|last| *last == 0).is_some() {}
                    [&(element.len() as u32).to_le_bytes(), &element[..]].concat()
                });
                prop::collection::vec(element, elements)
                    .prop_map(move |list| (datatype, shape.clone(), list.concat()))
                    .boxed()
            }
        }
        .prop_map(|(datatype, shape, data)| Tensor::new(datatype, shape, data.into()).unwrap())
    })
}

proptest! {
    #[test]
    fn a_tensor_reads_back(tensor in tensors()) {
        let file = Bytes::from(write(&tensor).unwrap());
        prop_assert_eq!(read(&file).unwrap(), tensor);
    }

    #[test]
    fn an_archive_reads_back(tensors in prop::collection::vec(tensors(), 0..4)) {
        let named: Vec<_> = tensors
            .into_iter()
            .zip(["x", "a/b:0", "größe 1", "../y"])
            .map(|(tensor, name)| NamedTensor::new(name.into(), tensor))
            .collect();
        let read = npz::read(&npz::write(&named).unwrap(), LIMIT).unwrap();
        let read: Vec<_> = read
            .into_iter()
            .map(|(name, tensor)| NamedTensor::new(name.as_str().into(), tensor))
            .collect();
        prop_assert_eq!(read, named);
    }

    #[test]
    fn no_bytes_make_it_panic(header in "[{}'(), :a-z<>|0-9TFbfSUV]{0,80}", data in any::<Vec<u8>>()) {
        let length = (header.len() as u16).to_le_bytes();
        let file = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), &data].concat();
        let _ = read(&file.into());
        let _ = read(&data.clone().into());
        let _ = npz::read(&data, LIMIT);
    }

    #[test]
    fn no_change_to_a_good_file_makes_it_panic(
        name in prop::sample::select(&["fortran.npy", "big_unicode.npy", "bytes.npy", "stored.npz", "deflated.npz"][..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = file(name).to_vec();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        let _ = npz::read(&file, LIMIT);
        let _ = read(&file.clone().into());
        file.truncate(cut.index(file.len()));
        let _ = npz::read(&file, LIMIT);
        let _ = read(&file.into());
    }
}
