//! Rows run apart, and held against the same rows run together.

use std::time::{Duration, Instant};

use inferring_backend::{ExecuteError, Session};
use inferring_types::{RowAxes, Tensor, TensorName, TensorSpec};

use super::Question;
use super::likeness::{alike, differ};
use super::samples::{Domain, Pattern, Wanted};
use crate::assembly::{Assembly, Padding, bucket};
use crate::system;

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
        Self { begun: system::now(), limit }
    }

    /// Whether something that takes so long would still end in time.
    fn allows(&self, time: Duration) -> bool {
        system::elapsed(self.begun).saturating_add(time) <= self.limit
    }

    fn spent(&self) -> Doubt {
        Doubt::TakesLong(self.limit)
    }
}

/// Why rows must not, or need not, be thought independent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    #[error("the model ran none of the generated inputs ({0})")]
    NothingRan(ExecuteError),
    #[error("the check takes longer than {0:?}")]
    TakesLong(Duration),
    #[error("the answers to different generated inputs were equal")]
    EqualAnswers,
    #[error("rows together failed to run ({0})")]
    Failed(ExecuteError),
    /// This one is no lack of a proof, but the opposite proved.
    #[error("together they gave other answers than apart")]
    OtherAnswers,
    /// So is this.
    #[error("output `{output}` has shape {together} together, and {apart} apart")]
    OtherShape { output: TensorName, together: String, apart: String },
}

/// What rows are to be tried.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) question: &'a Question<'a>,
    /// Where rows lie.
    pub(super) axes: &'a RowAxes,
    /// Rows differ in length where this says that they may.
    pub(super) padding: &'a Padding,
    pub(super) count: usize,
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
    /// Generates rows. If it can be, the answers to them differ.
    ///
    /// # Errors
    /// The model's own, where it runs nothing that was generated.
    pub(super) fn find(
        session: &mut dyn Session,
        search: Search<'_>,
        domains: &[Domain],
        budget: &Budget,
    ) -> Result<Self, ExecuteError> {
        let mut found = Err(ExecuteError("no input could be generated".to_owned()));
        for pattern in search.patterns() {
            for &domain in domains {
                let Some(rows) = search.generate(pattern, domain) else {
                    continue;
                };
                match Self::run(session, rows, budget) {
                    Ok(trial) if search.count == 1 || trial.tells_rows_apart() => {
                        return Ok(trial);
                    }
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
            let begun = system::now();
            trial.answers.push(session.execute(&row)?);
            trial.fastest = trial.fastest.min(system::elapsed(begun));
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
        let first = &self.answers[0];
        self.answers.iter().any(|answer| answer.iter().zip(first).any(|(a, b)| differ(a, b)))
    }

    /// Holds several runs that `assembly` makes of the rows against the rows' own answers.
    ///
    /// # Errors
    /// [`Doubt`].
    pub(super) fn compare(
        &self,
        session: &mut dyn Session,
        assembly: &Assembly,
        outputs: &[TensorSpec],
        budget: &Budget,
    ) -> Result<(), Doubt> {
        if self.rows.len() < ROWS {
            return Err(budget.spent());
        }
        if !self.tells_rows_apart() {
            return Err(Doubt::EqualAnswers);
        }
        for order in self.orders() {
            // A joint run may take as long as its rows do apart.
            if !budget.allows(self.fastest.saturating_mul(order.len() as u32)) {
                return Err(budget.spent());
            }
            let jobs: Vec<&[Tensor]> = order.iter().map(|&row| &self.rows[row][..]).collect();
            let together =
                session.execute(&assembly.join(&jobs, jobs.len())).map_err(Doubt::Failed)?;
            // Answers that cannot be told apart are others.
            let together = assembly.split(together, &jobs, jobs.len(), outputs);
            let together = together.map_err(|_| Doubt::OtherAnswers)?;
            for (together, row) in together.iter().zip(order) {
                hold_against(together, &self.answers[row], outputs)?;
            }
        }
        Ok(())
    }

    /// Which rows run together: all in order, all in another order, and fewer, so that
    /// neighbours, places and numbers all change. Where runs are quick and rows small, also as
    /// many as a large batch has: rows of a series may reach further than to the next ones.
    fn orders(&self) -> Vec<Vec<usize>> {
        const PATIENCE: Duration = Duration::from_millis(250);
        const MANY: u32 = 64;
        const BYTES_MAX: usize = 16 << 20;
        let mut orders = vec![vec![0, 1, 2, 3], vec![2, 0, 3, 1], vec![3, 2]];
        let row_bytes: usize = self.rows[0].iter().map(Tensor::size_bytes).sum();
        if self.fastest * MANY <= PATIENCE && row_bytes * MANY as usize <= BYTES_MAX {
            let mut random = fastrand::Rng::with_seed(0x0dd_ba11);
            orders.push((0..MANY).map(|_| random.usize(..ROWS)).collect());
        }
        orders
    }
}

/// Holds what a row was answered in company against what it was answered apart.
fn hold_against(
    together: &[Tensor],
    apart: &[Tensor],
    outputs: &[TensorSpec],
) -> Result<(), Doubt> {
    for ((together, apart), spec) in together.iter().zip(apart).zip(outputs) {
        if together.shape() != apart.shape() {
            let [together, apart] = [together, apart].map(|tensor| tensor.shape().to_string());
            return Err(Doubt::OtherShape { output: spec.name.clone(), together, apart });
        }
        if !alike(together, apart) {
            return Err(Doubt::OtherAnswers);
        }
    }
    Ok(())
}

impl<'a> Search<'a> {
    /// What is tried, in this order: inputs like the examples, then any that are declared.
    fn patterns(self) -> impl Iterator<Item = Pattern<'a>> {
        let any_free = self.question.inputs.iter().zip(&self.axes.inputs).any(|(spec, axis)| {
            let mut dimensions = spec.shape.dimensions().iter().enumerate();
            dimensions.any(|(place, size)| Some(place) != *axis && size.fixed().is_none())
        });
        let sizes = if any_free { &FREE_SIZES[..] } else { &FREE_SIZES[..1] };
        let examples = self.question.examples.iter().take(EXAMPLES_MAX);
        let examples = examples.map(|example| Pattern::Like(example));
        examples.chain(sizes.iter().map(|&size| Pattern::Declared(size)))
    }

    /// Rows of inputs. Those of an input that has none are the same throughout. `None` where
    /// they are too large, or are to differ in length and cannot.
    fn generate(self, pattern: Pattern<'_>, domain: Domain) -> Option<Vec<Row>> {
        let lengths = match self.padding.is_any() {
            true => Some(self.lengths(pattern)?),
            false => None,
        };
        let mut random = fastrand::Rng::with_seed(0x1f_e221);
        let mut rows: Vec<Row> = Vec::with_capacity(self.count);
        for row in 0..self.count {
            let mut tensors = Row::with_capacity(self.question.inputs.len());
            let inputs = self.question.inputs.iter().zip(&self.axes.inputs).enumerate();
            for (place, (spec, &axis)) in inputs {
                let length = lengths.map(|lengths| lengths[row % lengths.len()]);
                let padded = self.padding.of_input(place).zip(length);
                let wanted = Wanted { place, spec, rows: axis, padded };
                tensors.push(match (rows.first(), axis) {
                    (Some(first), None) => first[place].clone(),
                    _ => pattern.generate(wanted, row, domain, &mut random)?,
                });
            }
            rows.push(tensors);
        }
        Some(rows)
    }

    /// Lengths that may share a run, the shortest and the longest among them.
    fn lengths(self, pattern: Pattern<'_>) -> Option<[u64; ROWS]> {
        let (first, last) = bucket(match pattern {
            Pattern::Declared(free_size) => free_size,
            Pattern::Like(example) => self.padding.length(example),
        });
        let between = first.midpoint(last);
        (first < last).then_some([first, last, between, first])
    }
}
