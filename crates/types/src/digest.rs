//! Digests of content, and where equal work meets.

use std::fmt;
use std::hash::Hasher as _;

use xxhash_rust::xxh3::Xxh3;

use crate::{DataType, ModelName, NamedTensor, SequenceId};

/// A 256-bit cryptographic digest (BLAKE3): equal digests mean equal content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// The digest as 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits, as [`fmt::Display`] writes them.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Builds a [`ContentDigest`] over parts, each framed by its length, so that no two different
/// lists of parts run together into the same bytes.
#[derive(Debug, Clone, Default)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// A hasher for one purpose; digests of different purposes never collide.
    pub fn new(purpose: &str) -> Self {
        let mut hasher = Self::default();
        hasher.part(purpose.as_bytes());
        hasher
    }

    /// Adds one part.
    pub fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The digest of everything added so far.
    pub fn finish(&self) -> ContentDigest {
        ContentDigest(*self.0.finalize().as_bytes())
    }
}

/// Where on the ring a request belongs: 64 bits over model and inputs (XXH3, fixed seed).
///
/// Every gateway computes the same key for the same work, so equal requests meet at one worker.
/// It only chooses a place; what is equal, the worker decides by keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingKey(pub u64);

impl RoutingKey {
    /// Changing how keys are made moves every key; the seed then changes with it.
    const SEED: u64 = 1;

    /// The key of a request for `model` with `inputs` in declared order.
    pub fn of(model: &ModelName, inputs: &[NamedTensor]) -> Self {
        let mut hasher = Xxh3::with_seed(Self::SEED);
        hasher.update(model.as_str().as_bytes());
        for input in inputs {
            let tensor = &input.tensor;
            hasher.write_u64(datatype_code(tensor.datatype()));
            for &dimension in tensor.shape().dimensions() {
                hasher.write_u64(dimension);
            }
            tensor.segments().iter().for_each(|segment| hasher.update(segment));
        }
        Self(hasher.digest())
    }

    /// The key of all requests of a sequence: its state is at one worker.
    pub fn of_sequence(model: &ModelName, sequence: &SequenceId) -> Self {
        let mut hasher = Xxh3::with_seed(Self::SEED);
        for name in [model.as_str(), sequence.as_str()] {
            hasher.write_u64(name.len() as u64);
            hasher.update(name.as_bytes());
        }
        Self(hasher.digest())
    }
}

/// A number per datatype that must stay as it is: all gateways reckon with the same.
fn datatype_code(datatype: DataType) -> u64 {
    match datatype {
        DataType::Bool => 1,
        DataType::Uint8 => 2,
        DataType::Uint16 => 3,
        DataType::Uint32 => 4,
        DataType::Uint64 => 5,
        DataType::Int8 => 6,
        DataType::Int16 => 7,
        DataType::Int32 => 8,
        DataType::Int64 => 9,
        DataType::Fp16 => 10,
        DataType::Bf16 => 11,
        DataType::Fp32 => 12,
        DataType::Fp64 => 13,
        DataType::Bytes => 14,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Shape, Tensor};

    #[test]
    fn the_sequences_of_models_have_keys_of_their_own() {
        let of = |model: &str, id: &str| {
            RoutingKey::of_sequence(&model.parse().unwrap(), &id.parse().unwrap())
        };
        assert_eq!(of("m", "7"), of("m", "7"));
        assert!(of("m", "7") != of("m", "8") && of("m", "17") != of("m1", "7"));
    }

    #[test]
    fn hexadecimal_reads_back() {
        let digest = ContentDigest::of(b"content");
        assert_eq!(ContentDigest::from_hex(&digest.to_string()), Some(digest));
    }

    proptest! {
        #[test]
        fn one_changed_bit_anywhere_changes_the_routing_key(
            values in prop::collection::vec(any::<u8>(), 1..300),
            position in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let of = |data: Vec<u8>| {
                let shape = Shape::from([data.len() as u64]);
                let tensor = Tensor::new(DataType::Uint8, shape, data.into()).unwrap();
                let input = NamedTensor::new("x".into(), tensor);
                RoutingKey::of(&"m".parse().unwrap(), &[input])
            };
            let mut changed = values.clone();
            changed[position.index(values.len())] ^= 1 << bit;
            prop_assert_ne!(of(values), of(changed));
        }
    }
}
