//! How a request is answered: by what is known, by what others compute, and by runs of its own.
//!
//! Where a model's rows are independent of each other, each row of a request is looked up by
//! itself, so that of thirty-two rows with thirty known ones two are computed, and runs have no
//! more rows than they may. A request of very many rows is looked up in larger parts: what
//! looking up costs would be more than what it could save.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use inferring_types::{Blame, CacheOutcome, ErrorKind, NamedTensor, ServiceError, Tensor};

use super::parts::Parts;
use super::reply::{Piece, Reply, Took, assemble};
use crate::batcher::{InParts, Order};
use crate::cache::{
    Awaited, Company, Found, Jobs, Landed, Leader, Led, Lookup, OutputAxes, ResultCache, Row,
    Source, Ticket, Urgency,
};
use crate::executor::{Executor, OverLimit};
use crate::system;

/// One request on its way.
pub(super) struct Inquiry<'a> {
    pub(super) cache: &'a Arc<ResultCache>,
    pub(super) executor: &'a Executor,
    pub(super) order: Order,
    /// Whether its answer is for it alone.
    pub(super) alone: bool,
}

impl Inquiry<'_> {
    /// The most rows that are looked up one by one. A look-up takes about a microsecond, all
    /// things counted, and these then a millisecond.
    const LOOKED_UP_MAX: usize = 1024;

    /// The most computations of one request that wait at the same time.
    const JOBS_MAX: usize = 256;

    /// The answer to `inputs`, which are in the model's declared order.
    pub(super) async fn answer(&self, inputs: Vec<NamedTensor>) -> Result<Reply, ServiceError> {
        let Some(axes) = self.executor.batcher.assembly().axes() else {
            return self.answer_whole(inputs).await;
        };
        let count = Parts::rows_of(&inputs, axes);
        if count == 1 {
            return self.answer_whole(inputs).await;
        }
        let row_bytes = Parts::row_bytes_of(&inputs, count) as u64;
        let mut run = self.executor.batcher.rows_of_run(row_bytes);
        loop {
            let size = if count <= Self::LOOKED_UP_MAX && !self.alone { 1 } else { run };
            if count <= size {
                return self.answer_whole(inputs).await;
            }
            let parts = Parts::new(&inputs, axes, count, size, run);
            // Apart, because few requests are such and all would have to make room for it.
            let answer = Box::pin(self.answer_by_parts(&parts, axes.outputs.as_slice().into()));
            match self.in_time(answer).await {
                // It may be that they were too many.
                Err(error) if OverLimit::is_behind(&error) && run > 1 => run = run.min(count) / 2,
                answer => return answer,
            }
        }
    }

    /// Looks up a request as a whole.
    async fn answer_whole(&self, inputs: Vec<NamedTensor>) -> Result<Reply, ServiceError> {
        if self.alone {
            let (ticket, leader) = self.cache.lead_alone(self.urgency());
            return self.compute(inputs, ticket, leader).await;
        }
        let executor = self.executor;
        let key = executor.cache_key(&inputs);
        let (mut company, mut now) = (Company::Any, self.order.accepted);
        loop {
            match self.cache.get_or_lead(company, executor.tenant, key, self.urgency(), now) {
                Lookup::Hit(answer) => {
                    let outputs = answer.outputs.clone();
                    let cache = CacheOutcome::Hit;
                    return Ok(Reply { outputs, cache, took: Took::default() });
                }
                Lookup::Lead(ticket, leader) => {
                    return self.compute(inputs, ticket, leader).await;
                }
                Lookup::Join(ticket, row) => {
                    self.hurry(&ticket);
                    let failure = match self.in_time(async { Ok(ticket.await) }).await? {
                        Ok(landed) => match self.joined(&landed, row) {
                            Some(reply) => return Ok(reply),
                            None => not_kept_apart(),
                        },
                        Err(failure) if failure.is_of_others(1) => failure.error,
                        Err(failure) => return Err(failure.error),
                    };
                    company = company.less().ok_or(failure)?;
                    now = system::now();
                }
            }
        }
    }

    async fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        ticket: Ticket,
        leader: Leader,
    ) -> Result<Reply, ServiceError> {
        let inputs = inputs.into_iter().map(|input| input.tensor).collect();
        self.submit(inputs, self.order, &ticket, leader);
        let answer = self.in_time(ticket.wait()).await?;
        let outputs = answer.outputs.clone();
        Ok(Reply { outputs, cache: CacheOutcome::Computed, took: Took::of(&answer) })
    }

    /// The answer to a request that is one row of another's computation, or all of it; `None` where
    /// the computation does not come apart.
    fn joined(&self, landed: &Landed, row: Row) -> Option<Reply> {
        let Landed { answer, parts } = landed;
        let outputs = match (row, self.executor.batcher.assembly().axes()) {
            (Some(row), Some(axes)) if *parts > 1 => {
                let piece = Piece { answer: answer.clone(), rows: row..row + 1, of: *parts };
                assemble(&[piece], &axes.outputs)?
            }
            _ => answer.outputs.clone(),
        };
        Some(Reply { outputs, cache: CacheOutcome::Joined, took: Took::of(answer) })
    }

    async fn answer_by_parts(
        &self,
        parts: &Parts<'_>,
        axes: Arc<OutputAxes>,
    ) -> Result<Reply, ServiceError> {
        let mut gathering = Gathering::default();
        let mut next = 0;
        while next < parts.len() {
            if next > 0 {
                tokio::task::yield_now().await;
            }
            let end = (next + self.parts_at_once(parts)).min(parts.len());
            self.gather(parts, &axes, next..end, &mut gathering).await?;
            next = end;
        }
        let Gathering { pieces, cache, took, .. } = gathering;
        let outputs = match &pieces[..] {
            // One run of its own gave all of it: then it is the answer, whatever it looks like.
            [all] if cache == CacheOutcome::Computed && all.rows == (0..parts.rows()) => {
                Some(all.answer.outputs.clone())
            }
            _ => assemble(&pieces, &axes),
        };
        match outputs {
            Some(outputs) => Ok(Reply { outputs, cache, took }),
            None => self.answer_together(parts).await,
        }
    }

    /// How many parts are looked up and computed at once.
    fn parts_at_once(&self, parts: &Parts<'_>) -> usize {
        let batcher = &self.executor.batcher;
        let (run, row_bytes) = (parts.rows_of_run(), parts.row_bytes().max(1));
        // All rows that are looked up by themselves are, so that equal ones meet.
        let jobs = match parts.rows_of_part(0).len() {
            1 => Self::JOBS_MAX,
            _ => batcher.parts_at_once(row_bytes as u64, run).min(Self::JOBS_MAX),
        };
        // A request alone does not fill the queue.
        let bytes = self.executor.serving.queue.queue_bytes_max.as_u64() / 4;
        let rows = usize::try_from(bytes).unwrap_or(usize::MAX) / row_bytes;
        let rows = rows.clamp(run, run * jobs);
        (rows / parts.rows_of_part(0).len()).min(Self::LOOKED_UP_MAX)
    }

    /// Finds or computes the answers to some neighbouring parts.
    async fn gather(
        &self,
        parts: &Parts<'_>,
        axes: &Arc<OutputAxes>,
        range: Range<usize>,
        gathering: &mut Gathering,
    ) -> Result<(), ServiceError> {
        let start = range.start;
        let mut places: Vec<Option<Piece>> = vec![None; range.len()];
        let mut asked: Vec<usize> = range.collect();
        let mut company = Company::Any;
        while !asked.is_empty() {
            let Found { sources, awaited } = self.look_up(parts, axes, &asked, company);
            let less = company.less();
            let mut tickets = Vec::with_capacity(awaited.len());
            for Awaited { ticket, led } in awaited {
                let is_led = led.is_some();
                match led {
                    Some(Led { leader, parts: led }) => {
                        let led: Vec<_> = led.into_iter().map(|at| asked[at]).collect();
                        let order = gathering.order(self, parts, asked.len())?;
                        if !self.submit(parts.inputs_of(&led), order, &ticket, leader) {
                            // It was refused, and whoever waits has been told so.
                            return Err(ticket.wait().await.err().unwrap_or_else(given_up));
                        }
                    }
                    None => self.hurry(&ticket),
                }
                tickets.push((ticket, is_led));
            }
            let mut landed: Vec<Option<Landed>> = Vec::with_capacity(tickets.len());
            for (at, (ticket, is_led)) in tickets.into_iter().enumerate() {
                landed.push(match ticket.await {
                    Ok(landed) => {
                        gathering.add(&landed, is_led);
                        Some(landed)
                    }
                    Err(failure)
                        if !is_led
                            && less.is_some()
                            && failure.is_of_others(rows_of(&sources, at)) =>
                    {
                        None
                    }
                    Err(failure) => return Err(failure.error),
                });
            }
            let mut again = Vec::new();
            for (part, source) in asked.into_iter().zip(sources) {
                match piece(source, &landed, parts.rows_of_part(part).len()) {
                    Some(piece) => places[part - start] = Some(piece),
                    None => again.push(part),
                }
            }
            asked = again;
            company = less.unwrap_or(company);
        }
        places.into_iter().flatten().for_each(|piece| piece.add_to(&mut gathering.pieces));
        Ok(())
    }

    /// Looks up some parts, or leads them all where nobody else may have their answers. What
    /// failed with others before is computed apart from them.
    fn look_up(
        &self,
        parts: &Parts<'_>,
        axes: &Arc<OutputAxes>,
        asked: &[usize],
        company: Company,
    ) -> Found {
        let rows = parts.rows_of_part(0).len();
        if self.alone {
            return Found::alone(asked.len(), || self.cache.lead_alone(self.urgency()));
        }
        let keys = parts.keys(&self.executor.key_prefix, asked);
        let parts_max = match (rows, company) {
            (1, Company::Any) => parts.rows_of_run(),
            _ => 1,
        };
        let jobs = Jobs { parts_max, axes, company };
        self.cache.find(self.executor.tenant, &keys, &jobs, self.urgency(), system::now())
    }

    /// Computes all rows in one run of their own: what is known of them, or computed with others,
    /// does not come together.
    async fn answer_together(&self, parts: &Parts<'_>) -> Result<Reply, ServiceError> {
        if parts.rows() > self.executor.batcher.rows_max() {
            return Err(not_kept_apart());
        }
        let (ticket, leader) = self.cache.lead_alone(self.urgency());
        self.submit(parts.all_inputs(), self.order, &ticket, leader);
        let answer = ticket.wait().await?;
        let outputs = answer.outputs.clone();
        Ok(Reply { outputs, cache: CacheOutcome::Computed, took: Took::of(&answer) })
    }

    /// Hands a computation to the model's instances; `false` where it was refused.
    fn submit(&self, inputs: Vec<Tensor>, order: Order, ticket: &Ticket, leader: Leader) -> bool {
        let batcher = &self.executor.batcher;
        let Some(job) = batcher.submit(inputs, order, leader) else {
            return false;
        };
        if let Some(Urgency { class, deadline }) = ticket.queued(job, self.urgency()) {
            batcher.expedite(job, Order { class, deadline, ..order });
        }
        true
    }

    /// Where a joined computation waits in the queue and was less urgent so far, it is so no more.
    fn hurry(&self, ticket: &Ticket) {
        if let Some(job) = ticket.hurried() {
            self.executor.batcher.expedite(job, self.order);
        }
    }

    fn urgency(&self) -> Urgency {
        Urgency { class: self.order.class, deadline: self.order.deadline }
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let deadline = self.order.deadline.at().into();
        tokio::time::timeout_at(deadline, answer).await.unwrap_or_else(|_| {
            Err(ServiceError::deadline_exceeded(
                "the deadline passed before the answer was computed",
            ))
        })
    }
}

/// What has come of a request so far.
struct Gathering {
    pieces: Vec<Piece>,
    cache: CacheOutcome,
    took: Took,
    /// Its place in the queue, from its first computation on, if it may need several.
    place: Option<InParts>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { pieces: Vec::new(), cache: CacheOutcome::Hit, took: Took::default(), place: None }
    }
}

impl Gathering {
    /// How a computation is ordered of a request some parts of which are computed at once.
    fn order(
        &mut self,
        inquiry: &Inquiry<'_>,
        parts: &Parts<'_>,
        at_once: usize,
    ) -> Result<Order, ServiceError> {
        if parts.rows() <= parts.rows_of_run() {
            return Ok(inquiry.order);
        }
        if self.place.is_none() {
            let bytes = at_once * parts.rows_of_part(0).len() * parts.row_bytes();
            self.place = Some(inquiry.executor.batcher.enter(bytes as u64)?);
        }
        Ok(Order { is_part: true, ..inquiry.order })
    }

    fn add(&mut self, landed: &Landed, is_led: bool) {
        self.took = self.took.or_slower(Took::of(&landed.answer));
        self.cache = match (self.cache, is_led) {
            (CacheOutcome::Computed, _) | (_, true) => CacheOutcome::Computed,
            _ => CacheOutcome::Joined,
        };
    }
}

/// The part of an answer that is the answer to a part of so many rows; `None` where it has not
/// landed.
fn piece(source: Source, landed: &[Option<Landed>], rows: usize) -> Option<Piece> {
    match source {
        Source::Kept(answer) => Some(Piece { answer, rows: 0..rows, of: rows }),
        Source::Awaited(at, row) => {
            let Landed { answer, parts } = landed[at].as_ref()?;
            let answer = answer.clone();
            Some(match row {
                Some(row) => Piece { answer, rows: row..row + 1, of: *parts },
                None => Piece { answer, rows: 0..rows, of: rows },
            })
        }
    }
}

/// How many rows of a computation the request asks for; where all of it is meant, 1.
fn rows_of(sources: &[Source], computation: usize) -> usize {
    let rows = sources.iter().filter_map(|source| match source {
        Source::Awaited(at, row) if *at == computation => Some(*row),
        _ => None,
    });
    rows.collect::<HashSet<Row>>().len()
}

fn not_kept_apart() -> ServiceError {
    ServiceError::new(
        ErrorKind::Internal,
        Blame::Server,
        "the model does not keep rows apart, though it is said to: answers to rows do not make an \
         answer to the request",
    )
}

fn given_up() -> ServiceError {
    ServiceError::unavailable("the worker gave up the computation")
}
