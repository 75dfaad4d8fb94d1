//! Rows run apart, and held against the same rows run together.

use std::time::{Duration, Instant};

use inferring_backend::{ExecuteError, Session};
use inferring_types::{RowAxes, Tensor};

use super::Question;
use super::likeness::alike;
use super::samples::{Domain, Pattern};
use crate::rows;

/// One input tensor for each input, or one output tensor for each output.
type Row = Vec<Tensor>;

/// Rows that are compared.
pub(super) const ROWS: usize = 4;

/// Examples that are tried; there may be many, for other purposes.
const EXAMPLES_MAX: usize = 2;

/// Sizes tried for dynamic dimensions that are not rows.
const FREE_SIZES: [u64; 4] = [8, 32, 64, 224];

/// How much time there is.
pub(super) struct Budget {
    begun: Instant,
    limit: Duration,
}

impl Budget {
    pub(super) fn new(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit }
    }

    /// Whether something that takes so long would still end in time.
    fn allows(&self, time: Duration) -> bool {
        self.begun.elapsed().saturating_add(time) <= self.limit
    }

    fn spent(&self) -> String {
        format!("not proved: the check takes longer than {:?}", self.limit)
    }
}

/// Rows that the model runs one by one, and its answers to them.
pub(super) struct Trial {
    /// At least one; fewer than asked for where time ran out.
    rows: Vec<Row>,
    answers: Vec<Row>,
    /// How long the fastest of these runs took.
    fastest: Duration,
}

impl Trial {
    /// Generates `count` rows. If it can be, the answers to them differ.
    ///
    /// # Errors
    /// The model's own, where it runs nothing that was generated.
    pub(super) fn find(
        session: &mut dyn Session,
        question: &Question<'_>,
        axes: &RowAxes,
        count: usize,
        budget: &Budget,
    ) -> Result<Self, ExecuteError> {
        let mut found = Err(ExecuteError("no input could be generated".to_owned()));
        // Wide numbers tell rows apart best. A lone row has nothing to be told from, and to some
        // models whole numbers are sizes: large ones would cost much time and memory.
        let domains = match count {
            1 => [Domain::Narrow, Domain::Wide],
            _ => [Domain::Wide, Domain::Narrow],
        };
        for pattern in patterns(question, axes) {
            for domain in domains {
                let Some(rows) = generate(question, axes, count, pattern, domain) else {
                    continue;
                };
                match Self::run(session, rows, budget) {
                    Ok(trial) if count == 1 || trial.tells_rows_apart() => return Ok(trial),
                    Ok(trial) => found = Ok(trial),
                    Err(error) if found.is_err() => found = Err(error),
                    Err(_) => {}
                }
                if !budget.allows(Duration::ZERO) {
                    return found;
                }
            }
        }
        found
    }

    fn run(
        session: &mut dyn Session,
        rows: Vec<Row>,
        budget: &Budget,
    ) -> Result<Self, ExecuteError> {
        let mut trial = Self { rows: Vec::new(), answers: Vec::new(), fastest: Duration::MAX };
        for row in rows {
            if !trial.rows.is_empty() && !budget.allows(trial.fastest) {
                break;
            }
            let begun = Instant::now();
            trial.answers.push(session.execute(&row)?);
            trial.fastest = trial.fastest.min(begun.elapsed());
            trial.rows.push(row);
        }
        Ok(trial)
    }

    /// A row that the model ran.
    pub(super) fn into_first_row(self) -> Option<Row> {
        self.rows.into_iter().next()
    }

    /// Whether the answers to the rows differ: equal ones could not show whose answer is whose.
    fn tells_rows_apart(&self) -> bool {
        self.answers.iter().any(|answer| *answer != self.answers[0])
    }

    /// Holds several joint runs against the rows' own answers.
    ///
    /// # Errors
    /// Why rows must not, or need not, be thought independent.
    pub(super) fn compare(
        &self,
        session: &mut dyn Session,
        axes: &RowAxes,
        budget: &Budget,
    ) -> Result<(), String> {
        if self.rows.len() < ROWS {
            return Err(budget.spent());
        }
        if !self.tells_rows_apart() {
            return Err("not proved: the answers to different generated inputs were equal".into());
        }
        for order in self.orders() {
            // A joint run may take as long as its rows do apart.
            if !budget.allows(self.fastest.saturating_mul(order.len() as u32)) {
                return Err(budget.spent());
            }
            let together = session
                .execute(&self.joint(&order, axes))
                .map_err(|error| format!("not proved: rows together failed to run ({error})"))?;
            for (index, (joint, axis)) in together.iter().zip(&axes.outputs).enumerate() {
                let apart = order.iter().map(|&row| &self.answers[row][index]);
                if !holds_each(joint, *axis, apart, order.len()) {
                    return Err("rows influence each other: together they gave other answers \
                                than apart"
                        .into());
                }
            }
        }
        Ok(())
    }

    fn joint(&self, order: &[usize], axes: &RowAxes) -> Row {
        let input = |(index, axis): (usize, &Option<usize>)| match axis {
            Some(axis) => rows::join(order.iter().map(|&row| &self.rows[row][index]), *axis),
            None => self.rows[0][index].clone(),
        };
        axes.inputs.iter().enumerate().map(input).collect()
    }

    /// Which rows run together: all in order, all in another order, and fewer, so that
    /// neighbours, places and numbers all change. Where runs are quick and rows small, also as
    /// many as a large batch has: rows of a series may reach further than to the next ones.
    fn orders(&self) -> Vec<Vec<usize>> {
        const PATIENCE: Duration = Duration::from_millis(250);
        const MANY: u32 = 64;
        const BYTES_MAX: usize = 16 << 20;
        let mut orders = vec![vec![0, 1, 2, 3], vec![2, 0, 3, 1], vec![3, 2]];
        let row_bytes: usize = self.rows[0].iter().map(|input| input.data().len()).sum();
        if self.fastest * MANY <= PATIENCE && row_bytes * MANY as usize <= BYTES_MAX {
            let mut random = fastrand::Rng::with_seed(0x0dd_ba11);
            orders.push((0..MANY).map(|_| random.usize(..ROWS)).collect());
        }
        orders
    }
}

/// What is tried, in this order: inputs like the examples, then any that are declared.
fn patterns<'a>(
    question: &Question<'a>,
    axes: &RowAxes,
) -> impl Iterator<Item = Pattern<'a>> + use<'a> {
    let any_free = question.inputs.iter().zip(&axes.inputs).any(|(spec, axis)| {
        let mut dimensions = spec.shape.dimensions().iter().enumerate();
        dimensions.any(|(place, size)| Some(place) != *axis && size.fixed().is_none())
    });
    let sizes = if any_free { &FREE_SIZES[..] } else { &FREE_SIZES[..1] };
    let examples = question.examples.iter().take(EXAMPLES_MAX);
    let examples = examples.map(|example| Pattern::Like(example));
    examples.chain(sizes.iter().map(|&size| Pattern::Declared(size)))
}

/// Rows of inputs. Those of an input that has none are the same throughout.
fn generate(
    question: &Question<'_>,
    axes: &RowAxes,
    count: usize,
    pattern: Pattern<'_>,
    domain: Domain,
) -> Option<Vec<Row>> {
    let mut random = fastrand::Rng::with_seed(0x1f_e221);
    let mut rows: Vec<Row> = Vec::with_capacity(count);
    for row in 0..count {
        let mut tensors = Row::with_capacity(question.inputs.len());
        for (input, axis) in question.inputs.iter().enumerate().zip(&axes.inputs) {
            tensors.push(match (rows.first(), axis) {
                (Some(first), None) => first[input.0].clone(),
                _ => pattern.generate(input, *axis, row, domain, &mut random)?,
            });
        }
        rows.push(tensors);
    }
    Some(rows)
}

/// Whether an output of a joint run holds the answers of each of `rows` rows: its part along
/// `axis`, or where the output has no rows, all of it.
fn holds_each<'a>(
    joint: &Tensor,
    axis: Option<usize>,
    mut apart: impl Iterator<Item = &'a Tensor>,
    rows: usize,
) -> bool {
    let Some(axis) = axis else {
        return apart.all(|alone| alike(joint, alone));
    };
    let parts = rows::split(joint, axis, &vec![1; rows]);
    parts.is_some_and(|parts| parts.iter().zip(apart).all(|(part, alone)| alike(part, alone)))
}
