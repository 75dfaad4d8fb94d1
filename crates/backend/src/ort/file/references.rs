//! What a model file says about itself that the engine does not tell: the files that its weights
//! lie in, and whether it draws random numbers.
//!
//! The numbers of the fields are those of `onnx.proto`
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>). Tensors occur as initializers,
//! dense and sparse, and as attributes of nodes, in the main graph, in graphs within it and in
//! functions. The graphs of `training_info` are left out: no engine for inference reads them.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::wire::{Content, Message, Reader, Span, WireError};

/// What a model refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct References {
    /// Where weights lie outside of the model file, as the model names it.
    pub(super) files: BTreeMap<Vec<u8>, Extent>,
    /// An operator that draws random numbers.
    pub(super) random_operator: Option<&'static str>,
}

/// How much of a file the weights in it take, and the tensor that lies at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// The end of the last tensor, in bytes.
    pub(super) end: u64,
    /// That tensor's name.
    pub(super) tensor: String,
}

/// Why the references of a model cannot be read.
#[derive(Debug)]
pub(super) enum ReferenceError {
    /// It is no model.
    Wire(WireError),
    /// It says something that is not accepted.
    Refused(String),
}

impl From<WireError> for ReferenceError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// A model with every weight in a file of its own has some thousands.
const FILES_MAX: usize = 1 << 16;
/// As long as a path may be.
const LOCATION_LENGTH_MAX: usize = 4096;
/// Longer names are left out of messages.
const NAME_LENGTH_MAX: usize = 256;

/// Operators that give other values in each run, of ONNX and of the engine's own.
const RANDOM_OPERATORS: [&str; 7] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Sampling",
];

impl References {
    /// Reads them from a model file.
    ///
    /// # Errors
    /// It is no protobuf message, or says something that is not accepted.
    pub(super) fn of(stream: impl Read + Seek) -> Result<Self, ReferenceError> {
        let (reader, model) = Reader::new(stream)?;
        let mut walk = Walk { reader, found: Self::default() };
        walk.model(model)?;
        Ok(walk.found)
    }
}

struct Walk<R> {
    reader: Reader<R>,
    found: References,
}

type Walked = Result<(), ReferenceError>;

impl<R: Read + Seek> Walk<R> {
    /// Calls `visit` with each field that holds bytes, and passes over the others. Whatever
    /// `visit` leaves alone it must pass over itself.
    fn fields(
        &mut self,
        message: Message,
        mut visit: impl FnMut(&mut Self, u64, Span) -> Walked,
    ) -> Walked {
        while let Some((number, content)) = self.reader.field(message)? {
            if let Content::Bytes(span) = content {
                visit(self, number, span)?;
            }
        }
        Ok(())
    }

    fn model(&mut self, model: Message) -> Walked {
        self.fields(model, |walk, number, span| match number {
            7 => walk.graph(span),
            25 => walk.function(span),
            _ => Ok(walk.reader.skip(span)?),
        })
    }

    fn graph(&mut self, span: Span) -> Walked {
        let graph = self.reader.enter(span)?;
        self.fields(graph, |walk, number, span| match number {
            1 => walk.node(span),
            5 => walk.tensor(span),
            15 => walk.sparse_tensor(span),
            _ => Ok(walk.reader.skip(span)?),
        })
    }

    fn function(&mut self, span: Span) -> Walked {
        let function = self.reader.enter(span)?;
        self.fields(function, |walk, number, span| match number {
            7 => walk.node(span),
            11 => walk.attribute(span),
            _ => Ok(walk.reader.skip(span)?),
        })
    }

    fn node(&mut self, span: Span) -> Walked {
        let node = self.reader.enter(span)?;
        self.fields(node, |walk, number, span| match number {
            4 => walk.operator(span),
            5 => walk.attribute(span),
            _ => Ok(walk.reader.skip(span)?),
        })
    }

    fn operator(&mut self, span: Span) -> Walked {
        let name = self.reader.take(span, NAME_LENGTH_MAX)?.unwrap_or_default();
        let random = RANDOM_OPERATORS.into_iter().find(|random| random.as_bytes() == name);
        self.found.random_operator = self.found.random_operator.or(random);
        Ok(())
    }

    fn attribute(&mut self, span: Span) -> Walked {
        let attribute = self.reader.enter(span)?;
        self.fields(attribute, |walk, number, span| match number {
            5 | 10 => walk.tensor(span),
            6 | 11 => walk.graph(span),
            22 | 23 => walk.sparse_tensor(span),
            _ => Ok(walk.reader.skip(span)?),
        })
    }

    fn sparse_tensor(&mut self, span: Span) -> Walked {
        let sparse = self.reader.enter(span)?;
        self.fields(sparse, |walk, number, span| match number {
            1 | 2 => walk.tensor(span),
            _ => Ok(walk.reader.skip(span)?),
        })
    }

    /// A tensor's place counts whether or not `data_location` says that it is in force: parts of
    /// one tensor may be spread over several messages, which a parser merges.
    fn tensor(&mut self, span: Span) -> Walked {
        let tensor = self.reader.enter(span)?;
        let (mut place, mut name) = (Place::default(), Vec::new());
        let (mut elements, mut element_type) = (1_u64, 0);
        while let Some(field) = self.reader.field(tensor)? {
            match field {
                (1, Content::Number(size)) => elements = elements.saturating_mul(size),
                (1, Content::Bytes(packed)) => {
                    let sizes = self.reader.enter(packed)?;
                    while let Some(size) = self.reader.number(sizes)? {
                        elements = elements.saturating_mul(size);
                    }
                }
                (2, Content::Number(number)) => element_type = number,
                (8, Content::Bytes(span)) => {
                    name = self.reader.take(span, NAME_LENGTH_MAX)?.unwrap_or_default();
                }
                (13, Content::Bytes(span)) => self.place(span, &mut place)?,
                (_, Content::Bytes(span)) => self.reader.skip(span)?,
                (_, Content::Number(_)) => {}
            }
        }
        let length = match place.length {
            // As long as its elements are together.
            0 => elements.saturating_mul(bits_of(element_type)).div_ceil(8),
            length => length,
        };
        for location in place.locations {
            self.refer(location, place.offset.saturating_add(length), &name)?;
        }
        Ok(())
    }

    /// One entry of a tensor's `external_data`: a key and a value.
    fn place(&mut self, span: Span, place: &mut Place) -> Walked {
        let entry = self.reader.enter(span)?;
        let (mut key, mut value) = (Vec::new(), Some(Vec::new()));
        self.fields(entry, |walk, number, span| match number {
            1 => {
                key = walk.reader.take(span, NAME_LENGTH_MAX)?.unwrap_or_default();
                Ok(())
            }
            2 => {
                value = walk.reader.take(span, LOCATION_LENGTH_MAX)?;
                Ok(())
            }
            _ => Ok(walk.reader.skip(span)?),
        })?;
        match (&*key, value) {
            (b"location", Some(location)) => place.locations.push(location),
            (b"location", None) => {
                let refusal = "the name of a file that weights lie in is too long for a path";
                return Err(ReferenceError::Refused(refusal.to_owned()));
            }
            (b"offset", Some(offset)) => place.offset = number(&offset),
            (b"length", Some(length)) => place.length = number(&length),
            _ => {}
        }
        Ok(())
    }

    fn refer(&mut self, location: Vec<u8>, end: u64, tensor: &[u8]) -> Walked {
        if !self.found.files.contains_key(&location) && self.found.files.len() == FILES_MAX {
            let refusal = format!("its weights lie in more than {FILES_MAX} files");
            return Err(ReferenceError::Refused(refusal));
        }
        let extent = self.found.files.entry(location).or_default();
        if extent.tensor.is_empty() || end > extent.end {
            extent.tensor = String::from_utf8_lossy(tensor).into_owned();
        }
        extent.end = extent.end.max(end);
        Ok(())
    }
}

/// What `external_data` says of one tensor.
#[derive(Debug, Default)]
struct Place {
    /// One, in a well-formed model.
    locations: Vec<Vec<u8>>,
    offset: u64,
    length: u64,
}

/// How long an element of that type is; 0 for one that is not known.
fn bits_of(element_type: u64) -> u64 {
    match element_type {
        25 | 26 => 2,
        21..=23 => 4,
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        _ => 0,
    }
}

/// A decimal number. What is none counts as 0: the engine tells it, and here it only serves to
/// find a file that is too short.
fn number(text: &[u8]) -> u64 {
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
