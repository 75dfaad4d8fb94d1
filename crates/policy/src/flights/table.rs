//! Which worker each key is under way to, and how many are aboard.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::ManuallyDrop;
use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};

/// The flights, behind locks each of which keeps part of the keys.
///
/// A request holds the lock of its key from the look at the flight until it is aboard, so that of
/// many at once one leads and the others find it. What it needs in between, a worker with room, it
/// gets from the ledger of loads, whose lock is inside this one and never around it.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
}

/// On a cache line of its own: the neighbour is another thread's.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard {
    flights: HashMap<u64, Flight, BuildHasherDefault<Digest>>,
    /// The number of the last flight.
    last: u64,
}

#[derive(Debug)]
struct Flight {
    worker: u64,
    /// Tells it from those of the same key before and after it.
    number: u64,
    aboard: u64,
}

impl Table {
    /// With so many locks, a power of two.
    pub(super) fn new(shards: usize) -> Self {
        assert!(shards.is_power_of_two(), "a mask chooses among them");
        Self { shards: (0..shards).map(|_| Mutex::new(Shard::default())).collect() }
    }

    pub(super) fn turn(&self, key: u64) -> Turn<'_> {
        Turn { shard: self.shard(key), table: self, key }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).flights.len()).sum()
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // The map looks at the lowest bits and at the highest.
        lock(&self.shards[(key >> 32) as usize & (self.shards.len() - 1)])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A map and a number that are changed together where nothing panics in between.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request's moment to find its worker. Nobody else has one for the same key meanwhile, so it
/// is to be short.
#[derive(Debug)]
pub struct Turn<'a> {
    table: &'a Table,
    shard: MutexGuard<'a, Shard>,
    key: u64,
}

impl<'a> Turn<'a> {
    /// The worker that an equal request is under way to.
    pub fn worker(&self) -> Option<u64> {
        self.shard.flights.get(&self.key).map(|flight| flight.worker)
    }

    /// Goes along with the equal request.
    ///
    /// # Errors
    /// The turn, where there is none.
    pub fn ride(mut self) -> Result<Seat<'a>, Self> {
        let Self { table, shard, key } = &mut self;
        let Some(flight) = shard.flights.get_mut(key) else { return Err(self) };
        flight.aboard += 1;
        Ok(Seat { table, key: *key, number: flight.number })
    }

    /// Is asked of `worker`, and who comes goes along. A flight that there was goes on without
    /// being found any more.
    pub fn lead(mut self, worker: u64) -> Seat<'a> {
        let Self { table, shard, key } = &mut self;
        shard.last += 1;
        let number = shard.last;
        shard.flights.insert(*key, Flight { worker, number, aboard: 1 });
        Seat { table, key: *key, number }
    }
}

/// A request's part in a flight. Dropped, it leaves, and the flight ends if it was the last one.
#[derive(Debug)]
#[must_use = "a seat that is dropped at once leaves the flight"]
pub struct Seat<'a> {
    table: &'a Table,
    key: u64,
    number: u64,
}

impl Seat<'_> {
    /// The worker has answered, in whatever way: nobody goes along any more.
    pub fn end(self) {
        let seat = ManuallyDrop::new(self);
        let mut shard = seat.table.shard(seat.key);
        if shard.flights.get(&seat.key).is_some_and(|flight| flight.number == seat.number) {
            shard.flights.remove(&seat.key);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut shard = self.table.shard(self.key);
        let flight = shard.flights.get_mut(&self.key);
        let Some(flight) = flight.filter(|flight| flight.number == self.number) else { return };
        flight.aboard -= 1;
        if flight.aboard == 0 {
            shard.flights.remove(&self.key);
        }
    }
}

/// A key is a digest and needs no other.
#[derive(Debug, Default)]
struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers")
    }
}
