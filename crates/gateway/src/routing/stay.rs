//! What is kept of a request for as long as a worker is busy with it.

use inferring_policy::LoadSlot;
use inferring_policy::bounded_load::Ride;
use inferring_policy::flights::Seat;

/// A request at a worker, counted until this is dropped.
#[must_use = "a stay that is dropped at once is over"]
pub(crate) struct Stay<'a> {
    counted: Counted<'a>,
    /// Its part in the flight of its key, where that has one.
    seat: Option<Seat<'a>>,
}

/// As what it is counted there.
#[expect(dead_code, reason = "what it holds counts until it is dropped")]
enum Counted<'a> {
    /// Work, within the bound on it.
    Work(LoadSlot<'a>),
    /// One that waits for the run of an equal request.
    Rider(Ride<'a>),
}

impl<'a> Stay<'a> {
    /// It is work, and no other request goes along with it.
    pub(super) fn alone(slot: LoadSlot<'a>) -> Self {
        Self { counted: Counted::Work(slot), seat: None }
    }

    /// It goes along with an equal request.
    pub(super) fn riding(ride: Ride<'a>, seat: Seat<'a>) -> Self {
        Self { counted: Counted::Rider(ride), seat: Some(seat) }
    }

    /// Equal requests go along with it from now on.
    pub(super) fn leads(&mut self, seat: Seat<'a>) {
        self.seat = Some(seat);
    }

    /// The worker has answered it, in whatever way.
    pub(crate) fn end(self) {
        if let Some(seat) = self.seat {
            seat.end();
        }
        drop(self.counted);
    }
}
