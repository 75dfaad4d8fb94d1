//! Places each routing key on a worker, so that equal work meets in one cache and a change of
//! membership moves as little as it can.
//!
//! A worker owns points on a circle of 64-bit numbers; a key belongs to the first point at or
//! after it. A point is a hash of the worker's *id* and a counter, never of its position in a
//! list: gateways that learnt of the same workers in another order agree without talking.
//! A heavier worker has the same first points as a light one and further ones behind them, so a
//! raised weight only pulls keys towards it.
//!
//! Past its first owner a key keeps walking round the circle and meets the other workers in an
//! order of its own. A worker's hundreds of arcs end at points of hundreds of different
//! successors, so what it sheds (down, open breaker, overload) spreads over all others instead of
//! falling on one neighbour. And since a worker's absence only takes its points away, the order
//! of the rest stays as it was: a key that failed over comes back to the same place each time.
//!
//! Consistent hashing after Karger et al., "Consistent Hashing and Random Trees" (1997).

use std::iter::FusedIterator;

use inferring_types::{RoutingKey, WorkerId};
use smallvec::{SmallVec, smallvec};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A worker as the ring sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RingMember {
    /// The stable id that its points are made of.
    pub id: WorkerId,
    /// Its share of the keys relative to the other members: above 0, at most
    /// [`HashRing::WEIGHT_MAX`]. The ring honours it to the nearest point.
    pub weight: f64,
}

/// Why members do not make a ring.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RingError {
    /// A member that would own nothing, or a share that no fleet means.
    #[error(
        "weight {weight} of worker `{id}` is not above 0 and at most {max}",
        max = HashRing::WEIGHT_MAX
    )]
    Weight {
        /// The member.
        id: WorkerId,
        /// Its weight as given.
        weight: f64,
    },
    /// Two members under one id: their points would be the same points.
    #[error("worker id `{id}` appears twice")]
    DuplicateId {
        /// The id.
        id: WorkerId,
    },
    /// A ring on which nobody owns a point.
    #[error("a ring takes at least 1 point per worker")]
    NoPoints,
    /// More points than a ring may hold.
    #[error("{points} points exceed the {max} that a ring may hold", max = HashRing::POINTS_MAX)]
    TooManyPoints {
        /// The points that members and weights ask for.
        points: u64,
    },
}

/// An immutable ring over the members it was built from.
///
/// Members are named by their index in that slice: the caller keeps its endpoints in the same
/// order and publishes both together.
#[derive(Debug, Clone, Default)]
pub struct HashRing {
    /// Where the points lie, ascending. Apart from the owners, so that a binary search touches
    /// as few cache lines as it can.
    points: Box<[u64]>,
    /// Who owns each point, as an index into the members.
    owners: Box<[u32]>,
    members: usize,
}

impl HashRing {
    /// Points of a worker of weight 1. The heaviest of 10 workers is then on average 7 % above
    /// its fair share (13 % with 150 points); a ring of 50 workers takes 300 kB.
    pub const DEFAULT_POINTS: u32 = 512;

    /// The largest weight of a member.
    pub const WEIGHT_MAX: f64 = 100.0;

    /// The most points on one ring (48 MiB).
    pub const POINTS_MAX: u64 = 1 << 22;

    /// The version of the placement. Gateways of one fleet must place alike, so whatever changes
    /// where a point lies changes this seed too, and is a breaking change.
    const SEED: u64 = 0x696e_6665_7272_0001;

    /// A ring on which a member of weight 1 owns `points_per_worker` points, and every member at
    /// least one. Without members the ring is empty and has no candidates.
    ///
    /// # Errors
    /// [`RingError`] for a weight out of range, an id given twice, or no or too many points.
    pub fn build(members: &[RingMember], points_per_worker: u32) -> Result<Self, RingError> {
        Self::build_with(members, points_per_worker, point)
    }

    /// [`HashRing::build`] with another hash, so that tests can make points coincide.
    fn build_with(
        members: &[RingMember],
        points_per_worker: u32,
        point: impl Fn(&WorkerId, u32) -> u64,
    ) -> Result<Self, RingError> {
        let counts = count_points(members, points_per_worker)?;

        // Visiting members by id, and sorting by place alone but stably, settles the order of
        // coinciding points by id: the position in `members` leaves no trace.
        let mut by_id = (0..members.len()).collect::<Vec<usize>>();
        by_id.sort_unstable_by_key(|&index| &members[index].id);
        if let Some(pair) = by_id.windows(2).find(|pair| members[pair[0]].id == members[pair[1]].id)
        {
            return Err(RingError::DuplicateId { id: members[pair[0]].id.clone() });
        }
        let mut placed = Vec::with_capacity(counts.iter().sum::<u32>() as usize);
        for index in by_id {
            let owner = u32::try_from(index).expect("members are fewer than POINTS_MAX");
            let id = &members[index].id;
            placed.extend((0..counts[index]).map(|counter| (point(id, counter), owner)));
        }
        placed.sort_by_key(|&(point, _)| point);

        let (points, owners): (Vec<u64>, Vec<u32>) = placed.into_iter().unzip();
        Ok(Self { points: points.into(), owners: owners.into(), members: members.len() })
    }

    /// Every member once, as an index into the slice the ring was built from, in the order in
    /// which `key` prefers them. Lazy: a caller that stops early pays for what it took.
    pub fn candidates(&self, key: RoutingKey) -> Candidates<'_> {
        Candidates {
            ring: self,
            next_point: self.first_point(key),
            remaining: self.members,
            seen: smallvec![0; self.members.div_ceil(u64::BITS as usize)],
        }
    }

    /// The first of [`HashRing::candidates`]; `None` on an empty ring.
    pub fn primary(&self, key: RoutingKey) -> Option<usize> {
        self.owners.get(self.first_point(key)).map(|&owner| owner as usize)
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.members
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// The index of the first point at or after `key`, wrapping round. A routing key is a hash
    /// with another seed than the points', so it is used as it is.
    fn first_point(&self, key: RoutingKey) -> usize {
        let index = self.points.partition_point(|&point| point < key.0);
        if index == self.points.len() { 0 } else { index }
    }
}

/// The points of each member, once weights and total are checked.
fn count_points(members: &[RingMember], points_per_worker: u32) -> Result<Vec<u32>, RingError> {
    if points_per_worker == 0 {
        return Err(RingError::NoPoints);
    }
    let mut counts = Vec::with_capacity(members.len());
    let mut total = 0;
    for &RingMember { ref id, weight } in members {
        // Written so that NaN falls out as well.
        if !(weight > 0.0 && weight <= HashRing::WEIGHT_MAX) {
            return Err(RingError::Weight { id: id.clone(), weight });
        }
        let count = (f64::from(points_per_worker) * weight).round().max(1.0) as u64;
        total += count;
        counts.push(count as u32);
    }
    if total > HashRing::POINTS_MAX {
        return Err(RingError::TooManyPoints { points: total });
    }
    // Only past the check above is it certain that no count was cut to 32 bits.
    Ok(counts)
}

/// One point of the worker `id`: XXH3 over the id and a 32-bit counter.
///
/// The counter has a fixed width, so no two pairs of id and counter hash the same bytes.
fn point(id: &WorkerId, counter: u32) -> u64 {
    let mut bytes = SmallVec::<[u8; 64]>::from_slice(id.as_str().as_bytes());
    bytes.extend_from_slice(&counter.to_le_bytes());
    xxh3_64_with_seed(&bytes, HashRing::SEED)
}

/// The members in the order in which one key prefers them.
///
/// Walking to the last of N equal members passes about N·ln N points. Up to 128 members nothing
/// is allocated.
#[derive(Debug, Clone)]
pub struct Candidates<'a> {
    ring: &'a HashRing,
    next_point: usize,
    remaining: usize,
    /// One bit per member: whether it was returned.
    seen: SmallVec<[u64; 2]>,
}

impl Candidates<'_> {
    /// Marks a member as returned; whether it was new.
    fn insert(&mut self, member: usize) -> bool {
        let word = &mut self.seen[member / u64::BITS as usize];
        let bit = 1 << (member % u64::BITS as usize);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.remaining == 0 {
            return None;
        }
        // Ends within one turn: every member owns a point, and `remaining` of them are unseen.
        loop {
            let member = self.ring.owners[self.next_point] as usize;
            self.next_point += 1;
            if self.next_point == self.ring.owners.len() {
                self.next_point = 0;
            }
            if self.insert(member) {
                self.remaining -= 1;
                return Some(member);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Candidates<'_> {}
impl FusedIterator for Candidates<'_> {}

#[cfg(test)]
mod balance;
#[cfg(test)]
mod tests;
