//! Memory in which the joined inputs of runs lie, one run after the other.
//!
//! A run of several large requests needs as much memory for its inputs as they have together. From
//! the system it comes cleared, page by page: for eight images of 600 KB each that took a fifteenth
//! of the time of their run. So an instance uses what it has again, and gives it back when there is
//! nothing to do: then nobody waits for pages, and what an unusual run needed is not kept.

use bytes::BytesMut;

/// Memory for the inputs of a run, by the place of each.
#[derive(Debug, Default)]
pub(crate) struct Room(Vec<BytesMut>);

impl Room {
    /// Blocks as large as this come from the system and go back to it; smaller ones are kept by the
    /// allocator, for whoever needs them next.
    const LARGE: usize = 4 << 20;

    /// The memory of the input in that place.
    pub(super) fn of_input(&mut self, place: usize) -> &mut BytesMut {
        if self.0.len() <= place {
            self.0.resize_with(place + 1, BytesMut::new);
        }
        &mut self.0[place]
    }

    /// Gives back what is worth it, if there is any and `is_idle` agrees, which is asked only then.
    pub(crate) fn give_back_if(&mut self, is_idle: impl FnOnce() -> bool) {
        // A run that is over lets go of its inputs: only then there is anything to see here.
        let is_large = |buffer: &mut BytesMut| buffer.try_reclaim(Self::LARGE);
        if self.0.iter_mut().any(is_large) && is_idle() {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use inferring_types::{DataType, Tensor};

    use super::*;
    use crate::grid::{self, Axes};

    /// Two rows of so many bytes in all, joined in that room.
    fn joined(room: &mut Room, bytes: usize) -> Tensor {
        let row = |value: u8| {
            let data = vec![value; bytes / 2];
            Tensor::new(DataType::Uint8, [1, bytes as u64 / 2].into(), data.into()).unwrap()
        };
        let rows = [row(1), row(2)];
        let axes = Axes { rows: 0, length: None };
        let tensor = grid::join(rows.iter(), axes, &[], room.of_input(0));
        assert_eq!(tensor.data()[..], [vec![1; bytes / 2], vec![2; bytes / 2]].concat());
        tensor
    }

    #[test]
    fn memory_is_used_again_once_the_run_is_over() {
        let mut room = Room::default();
        let first = joined(&mut room, 2 << 20);
        let second = joined(&mut room, 2 << 20);
        let place = second.data().as_ptr();
        assert_ne!(first.data().as_ptr(), place, "the first run is not over");
        drop((first, second));
        for bytes in [1 << 10, 2 << 20] {
            assert_eq!(joined(&mut room, bytes).data().as_ptr(), place, "{bytes} bytes");
        }
        assert_eq!(joined(&mut room, 4 << 20).data().len(), 4 << 20);
    }

    #[test]
    fn large_memory_is_given_back_when_there_is_nothing_to_do() {
        let mut room = Room::default();
        drop(joined(&mut room, 1 << 10));
        room.give_back_if(|| unreachable!("it is small"));
        drop(joined(&mut room, Room::LARGE));
        room.give_back_if(|| false);
        assert_eq!(room.0.len(), 1);
        room.give_back_if(|| true);
        assert!(room.0.is_empty());
    }
}
