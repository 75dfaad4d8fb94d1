//! Files that change, models that refer to others, and models that are none.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A protobuf message under construction.
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

fn message() -> Message {
    Message::default()
}

/// A tensor in a file, as entries of `external_data`.
fn tensor(name: &str, entries: &[(&str, &str)]) -> Message {
    let tensor = message().number(1, 2).number(2, 1).text(8, name);
    let tensor = entries.iter().fold(tensor, |tensor, (key, value)| {
        tensor.message(13, &message().text(1, key).text(2, value))
    });
    tensor.number(14, 1)
}

fn at(location: &str) -> Message {
    tensor("w", &[("location", location)])
}

/// A model whose graph has this initializer.
fn model_of(tensor: &Message) -> Message {
    message().number(1, 8).message(7, &message().text(2, "g").message(5, tensor))
}

fn references_of(model: &Message) -> References {
    References::of(Cursor::new(&model.0)).unwrap()
}

fn locations(model: &Message) -> Vec<String> {
    let files = references_of(model).files;
    files.into_keys().map(|location| String::from_utf8(location).unwrap()).collect()
}

/// A model in a folder with weights, which holds as many bytes as are said.
fn folder_with(model: &Message, weights: &[(&str, usize)]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, &model.0).unwrap();
    for (name, length) in weights {
        fs::write(folder.path().join(name), vec![7; *length]).unwrap();
    }
    (folder, path)
}

fn reason(path: &Path) -> String {
    match ModelFiles::read(path) {
        Ok(_) => panic!("it was accepted"),
        Err(LoadError::Refused { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_digest_of_a_model_by_itself_is_the_one_of_its_bytes() {
    let model = model_of(&message().text(8, "w").bytes(9, &[7; 200_000]));
    let (_folder, path) = folder_with(&model, &[]);
    let files = ModelFiles::read(&path).unwrap();
    assert_eq!(files.digest, ContentDigest::of(&model.0));
    assert_eq!(files.size_bytes, model.0.len() as u64);
    assert_eq!(files.random_operator, None);
}

#[test]
fn digest_and_size_cover_the_weights_beside_the_model() {
    let model = model_of(&at("weights.bin"));
    let (folder, path) = folder_with(&model, &[("weights.bin", 8), ("other.bin", 8)]);
    let before = ModelFiles::read(&path).unwrap();
    assert_eq!(before.size_bytes, model.0.len() as u64 + 8);
    assert_eq!(before.digest, ModelFiles::read(&path).unwrap().digest);
    fs::write(folder.path().join("other.bin"), "changed").unwrap();
    assert_eq!(before.digest, ModelFiles::read(&path).unwrap().digest);
    fs::write(folder.path().join("weights.bin"), [8; 8]).unwrap();
    assert_ne!(before.digest, ModelFiles::read(&path).unwrap().digest);
}

#[test]
fn a_file_that_was_replaced_or_written_to_is_noticed() {
    let (folder, path) = folder_with(&model_of(&at("weights.bin")), &[("weights.bin", 8)]);
    let weights = folder.path().join("weights.bin");
    for file in [&path, &weights] {
        let files = ModelFiles::read(&path).unwrap();
        assert!(files.are_unchanged());
        let copy = folder.path().join("copy");
        fs::copy(file, &copy).unwrap();
        fs::rename(&copy, file).unwrap();
        assert!(!files.are_unchanged(), "{} was replaced", file.display());
    }
    let files = ModelFiles::read(&path).unwrap();
    fs::write(&weights, "longer than before").unwrap();
    assert!(!files.are_unchanged());
    let files = ModelFiles::read(&path).unwrap();
    fs::remove_file(&weights).unwrap();
    assert!(!files.are_unchanged());
}

#[test]
fn weights_are_found_wherever_a_model_may_have_tensors() {
    let node = |attribute: &Message| message().text(4, "If").message(5, attribute);
    let graph = |field, part: &Message| message().message(7, &message().message(field, part));
    let sparse = |field| message().message(field, &at("w"));
    let subgraph = message().message(5, &at("w"));
    let nested = message().message(1, &node(&message().message(6, &subgraph)));
    for (place, model) in [
        ("an initializer", graph(5, &at("w"))),
        ("values of a sparse initializer", graph(15, &sparse(1))),
        ("indices of a sparse initializer", graph(15, &sparse(2))),
        ("an attribute", graph(1, &node(&message().message(5, &at("w"))))),
        ("a list of tensors", graph(1, &node(&message().message(10, &at("w"))))),
        ("a sparse attribute", graph(1, &node(&message().message(22, &sparse(1))))),
        ("a list of sparse tensors", graph(1, &node(&message().message(23, &sparse(2))))),
        ("a graph in a graph", graph(1, &node(&message().message(6, &subgraph)))),
        ("a list of graphs", graph(1, &node(&message().message(11, &subgraph)))),
        ("a graph in a graph in a graph", graph(1, &node(&message().message(6, &nested)))),
        (
            "a node of a function",
            message().message(25, &message().message(7, &node(&message().message(5, &at("w"))))),
        ),
        (
            "a default of a function",
            message().message(25, &message().message(11, &message().message(5, &at("w")))),
        ),
    ] {
        assert_eq!(locations(&model), ["w"], "{place}");
    }
}

#[test]
fn what_a_parser_would_merge_is_found_as_well() {
    // The place in one half of a tensor, the mark that it is in force in the other.
    let entry = message().text(1, "location").text(2, "w");
    let halves =
        message().message(5, &message().message(13, &entry)).message(5, &message().number(14, 1));
    let model = message().message(7, &message().message(1, &message().message(5, &halves)));
    assert_eq!(locations(&model), ["w"]);
    // The last value of a field counts.
    let entry = message().text(1, "key").text(2, "a").text(1, "location").text(2, "b");
    let model = model_of(&message().message(13, &entry));
    assert_eq!(locations(&model), ["b"]);
}

#[test]
fn the_end_of_the_last_tensor_is_known_whether_or_not_its_length_is_said() {
    let place = |name, offset, length| {
        tensor(name, &[("location", "w"), ("offset", offset), ("length", length)])
    };
    // Five elements of four bits each, their sizes as one list of numbers.
    let location = message().text(1, "location").text(2, "u");
    let packed = message().bytes(1, &[1, 5]).number(2, 22).text(8, "packed").message(13, &location);
    let graph = message()
        .message(5, &place("first", "0", "8"))
        .message(5, &place("last", "4096", "100"))
        .message(5, &place("odd", "-1", "x"))
        .message(5, &tensor("whole", &[("location", "v"), ("offset", "16")]))
        .message(5, &packed);
    let found = references_of(&message().message(7, &graph)).files;
    let expected = [
        ("u", Extent { end: 3, tensor: "packed".to_owned() }),
        ("v", Extent { end: 24, tensor: "whole".to_owned() }),
        ("w", Extent { end: 4196, tensor: "last".to_owned() }),
    ];
    assert_eq!(found, BTreeMap::from(expected.map(|(name, extent)| (name.into(), extent))));
}

#[test]
fn operators_that_draw_random_numbers_are_found() {
    for (operator, random) in
        [("RandomNormal", true), ("Multinomial", true), ("Add", false), ("", false)]
    {
        let node = message().text(1, "RandomNormal").text(4, operator);
        let model = message().message(7, &message().message(1, &node));
        let expected = random.then_some(operator);
        assert_eq!(references_of(&model).random_operator, expected);
    }
}

#[test]
fn locations_outside_of_the_folder_are_refused() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("outside.bin"), [7; 8]).unwrap();
    let outside = folder.path().join("outside.bin");
    let inside = folder.path().join("models");
    fs::create_dir(&inside).unwrap();
    let model = inside.join("model.onnx");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, inside.join("link.bin")).unwrap();
        std::os::unix::fs::symlink(folder.path(), inside.join("up")).unwrap();
    }
    let absolute = outside.to_str().unwrap();
    let linked = format!(
        "is a link that leads out of the model's folder, to `{}`",
        outside.canonicalize().unwrap().display()
    );
    for (location, problem) in [
        ("../outside.bin", "leads out of the model's folder"),
        ("a/../../outside.bin", "leads out of the model's folder"),
        ("..", "leads out of the model's folder"),
        (absolute, "leads out of the model's folder"),
        ("", "is empty: it must name a file"),
        ("a\0b", "names no file"),
        ("*/_ORT_MEM_ADDR_/*", "names no file"),
        ("absent.bin", "does not exist"),
        ("link.bin", &linked),
        ("up/outside.bin", &linked),
    ] {
        fs::write(&model, model_of(&at(location)).0).unwrap();
        let expected = format!("its tensor `w` lies in the file `{location}`, which {problem}");
        assert_eq!(reason(&model), expected);
    }
    fs::write(&model, model_of(&at(".")).0).unwrap();
    assert!(reason(&model).contains("which cannot be read"), "{}", reason(&model));
    fs::write(&model, model_of(&at(&"a".repeat(4097))).0).unwrap();
    assert!(reason(&model).contains("too long"), "{}", reason(&model));
}

#[cfg(unix)]
#[test]
fn links_within_the_folder_and_beside_a_linked_model_are_followed() {
    use std::os::unix::fs::symlink;
    let model = model_of(&at("sub/weights.bin"));
    let (folder, path) = folder_with(&model, &[("content.bin", 8)]);
    fs::create_dir(folder.path().join("sub")).unwrap();
    symlink("../content.bin", folder.path().join("sub/weights.bin")).unwrap();
    assert_eq!(ModelFiles::read(&path).unwrap().size_bytes, model.0.len() as u64 + 8);

    // As hubs keep them: names in one folder, content in another.
    let names = TempDir::new().unwrap();
    symlink(&path, names.path().join("model.onnx")).unwrap();
    fs::create_dir(names.path().join("sub")).unwrap();
    symlink(folder.path().join("content.bin"), names.path().join("sub/weights.bin")).unwrap();
    let files = ModelFiles::read(&names.path().join("model.onnx")).unwrap();
    assert_eq!(files.digest, ModelFiles::read(&path).unwrap().digest);
}

#[test]
fn weights_that_end_too_early_are_told() {
    let place = [("location", "weights.bin"), ("offset", "4"), ("length", "8")];
    let (folder, path) = folder_with(&model_of(&tensor("w", &place)), &[("weights.bin", 11)]);
    let expected = "its tensor `w` lies in the file `weights.bin`, which is too short: it has 11 \
                    bytes, and the tensor ends at 12";
    assert_eq!(reason(&path), expected);
    fs::write(folder.path().join("weights.bin"), [7; 12]).unwrap();
    assert!(ModelFiles::read(&path).is_ok());
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let folder = TempDir::new().unwrap();
    let kind = |path: &Path| match ModelFiles::read(path) {
        Err(LoadError::Read { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(folder.path()), io::Error::from(io::ErrorKind::IsADirectory).to_string());
    assert!(kind(&folder.path().join("absent")).contains("No such file"));
    assert_eq!(kind(Path::new("/dev/null")), "not a regular file");
}

/// Reads what should be a model. Nothing may panic, loop or read beyond the end.
fn survive(bytes: &[u8]) {
    let _ = References::of(Cursor::new(bytes));
}

#[test]
fn no_truncation_and_no_damage_ends_the_process() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration-tests/models");
    let models = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let models = models.filter(|path| path.extension().is_some_and(|end| end == "onnx"));
    let mut models = models.map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    assert!(models.len() >= 13);
    let place = [("location", "weights.bin"), ("offset", "4"), ("length", "8")];
    models.push(model_of(&tensor("w", &place)).0);
    let mut random = 1_u64;
    for model in &models {
        // Of the large ones, some lengths out of all.
        let step = model.len() / 2_000 + 1;
        for length in (0..model.len()).step_by(step) {
            survive(&model[..length]);
        }
        for _ in 0..2_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut damaged = model.clone();
            let position = (random >> 33) as usize % damaged.len();
            damaged[position] = (random >> 20) as u8;
            survive(&damaged);
        }
    }
}

#[test]
fn malformed_messages_are_told_with_their_place() {
    let deep = (0..102).fold(message(), |inner, depth| match depth % 3 {
        0 => message().message(6, &inner),
        1 => message().message(5, &inner),
        _ => message().message(1, &inner),
    });
    for (bytes, problem) in [
        (&b"\x3a\x05ab"[..], "a field that goes on behind the end, at byte 0"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a field that goes on behind the end"),
        (b"\x08\x01\x80", "a number that does not end, at byte 2"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "a number that does not end, at byte 1"),
        (b"\x02\x00", "a field without a number, at byte 0"),
        (b"\x80\x80\x80\x80\x80\x80\x01\x00", "a field without a number, at byte 0"),
        (b"\x0b", "a field of no known kind, at byte 0"),
        (b"\x0d\x00\x00", "a number that is cut off, at byte 1"),
        (b"\x09\x00\x00", "a number that is cut off, at byte 1"),
        (b"<!DOCTYPE html>", "a field of no known kind, at byte 0"),
    ] {
        let (_folder, path) = folder_with(&Message(bytes.to_vec()), &[]);
        let reason = reason(&path);
        let expected = format!("it is no ONNX model, or damaged: {problem}");
        assert!(reason.starts_with(&expected), "{reason}");
    }
    let (_folder, path) = folder_with(&message().message(7, &deep), &[]);
    assert!(reason(&path).contains("messages nested too deeply"), "{}", reason(&path));
    let (_folder, path) = folder_with(&message(), &[]);
    assert_eq!(reason(&path), "the file is empty");
}
