//! Where jobs are kept while they wait, each in a place that stays its own.
//!
//! Queues order places, not jobs: a job is moved twice, in and out, however often the order
//! around it changes.

use std::time::Instant;

/// A job that waits, as its scheduler knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobId {
    place: Place,
    /// A place is used again; a name is not.
    generation: u32,
}

pub(super) type Place = u32;

impl JobId {
    pub(super) fn place(self) -> Place {
        self.place
    }
}

/// A job that waits, and what is known of it.
#[derive(Debug)]
pub(super) struct Waiting<J> {
    pub(super) job: J,
    pub(super) rows: usize,
    pub(super) bytes: u64,
    pub(super) lane: usize,
    pub(super) class: usize,
    pub(super) enqueued: Instant,
    /// By when it should be answered; its place in the queue.
    pub(super) due: Instant,
    /// After which an answer is of no use.
    pub(super) deadline: Instant,
    /// From when on it has been overtaken for too long.
    pub(super) patient_until: Instant,
    /// Whether it runs though it is reckoned to be too late, to find out whether that is so.
    pub(super) probe: bool,
    /// Whether its request has the place.
    pub(super) is_part: bool,
}

#[derive(Debug)]
pub(super) struct Jobs<J> {
    places: Vec<(u32, Option<Waiting<J>>)>,
    free: Vec<Place>,
}

impl<J> Jobs<J> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    pub(super) fn insert(&mut self, waiting: Waiting<J>) -> JobId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as Place
        });
        let (generation, slot) = &mut self.places[place as usize];
        *slot = Some(waiting);
        JobId { place, generation: *generation }
    }

    /// The place of a job that still waits.
    pub(super) fn place(&self, id: JobId) -> Option<Place> {
        let (generation, slot) = self.places.get(id.place as usize)?;
        (*generation == id.generation && slot.is_some()).then_some(id.place)
    }

    pub(super) fn get(&self, place: Place) -> &Waiting<J> {
        self.places[place as usize].1.as_ref().expect("queues hold places of waiting jobs")
    }

    pub(super) fn get_mut(&mut self, place: Place) -> &mut Waiting<J> {
        self.places[place as usize].1.as_mut().expect("queues hold places of waiting jobs")
    }

    pub(super) fn remove(&mut self, place: Place) -> Waiting<J> {
        let (generation, slot) = &mut self.places[place as usize];
        *generation = generation.wrapping_add(1);
        self.free.push(place);
        slot.take().expect("queues hold places of waiting jobs")
    }
}
