//! Which inputs may differ in length between requests that share a run.

/// What is done about lengths that differ; by default nothing, and only requests of equal
/// lengths share runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Padding {}

impl Padding {
    /// Only requests of equal lengths share runs.
    pub(crate) fn none() -> Self {
        Self::default()
    }
}
