//! What models have done, as a JSON document: what `GET /v2/models/stats` answers, and what a
//! gateway reads from its workers. The form is the statistics extension's, with two members more:
//! `batching` tells why runs left the queue, `cost_curves` what runs are reckoned to take.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inferring_types::{
    BatchSizeStatistics, BatchStatus, CostCurve, CostPoint, ModelStatistics, ServiceError, Spent,
};
use serde::{Deserialize, Serialize};

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatisticsDocument {
    model_stats: Vec<OneModel>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OneModel {
    name: String,
    version: String,
    /// Milliseconds since 1970; 0 for never.
    last_inference: u64,
    inference_count: u64,
    execution_count: u64,
    inference_stats: InferenceStats,
    #[serde(default)]
    batch_stats: Vec<BatchStats>,
    #[serde(default)]
    batching: BatchingDocument,
    #[serde(default)]
    cost_curves: Vec<CostCurveDocument>,
}

/// Runs by why they left the queue, and requests by why they never ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct BatchingDocument {
    full: u64,
    idle: u64,
    deadline: u64,
    delay: u64,
    dropped: u64,
    refused: u64,
    interrupted: u64,
    queued: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CostCurveDocument {
    row_bytes: u64,
    points: Vec<CostPointDocument>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct CostPointDocument {
    rows: u64,
    /// With three digits behind the point: a small model's run takes but a few.
    microseconds: f64,
    runs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InferenceStats {
    success: SpentDocument,
    fail: SpentDocument,
    queue: SpentDocument,
    compute_input: SpentDocument,
    compute_infer: SpentDocument,
    compute_output: SpentDocument,
    cache_hit: SpentDocument,
    cache_miss: SpentDocument,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BatchStats {
    batch_size: u64,
    compute_input: SpentDocument,
    compute_infer: SpentDocument,
    compute_output: SpentDocument,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SpentDocument {
    count: u64,
    ns: u64,
}

impl From<&[ModelStatistics]> for StatisticsDocument {
    fn from(models: &[ModelStatistics]) -> Self {
        Self { model_stats: models.iter().map(OneModel::from).collect() }
    }
}

impl TryFrom<StatisticsDocument> for Vec<ModelStatistics> {
    type Error = ServiceError;

    fn try_from(document: StatisticsDocument) -> Result<Self, ServiceError> {
        document.model_stats.into_iter().map(ModelStatistics::try_from).collect()
    }
}

impl From<&ModelStatistics> for OneModel {
    fn from(model: &ModelStatistics) -> Self {
        let since_1970 = model.last_inference.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let milliseconds = since_1970.map_or(0, |since| since.as_millis());
        Self {
            name: model.name.to_string(),
            version: model.version.to_string(),
            last_inference: u64::try_from(milliseconds).unwrap_or(u64::MAX),
            inference_count: model.inferences,
            execution_count: model.executions,
            inference_stats: InferenceStats {
                success: model.success.into(),
                fail: model.fail.into(),
                queue: model.queue.into(),
                compute_input: model.compute_input.into(),
                compute_infer: model.compute_infer.into(),
                compute_output: model.compute_output.into(),
                cache_hit: model.cache_hit.into(),
                cache_miss: model.cache_miss.into(),
            },
            batch_stats: model.batches.iter().map(BatchStats::from).collect(),
            batching: (&model.batching).into(),
            cost_curves: model.curves.iter().map(CostCurveDocument::from).collect(),
        }
    }
}

impl TryFrom<OneModel> for ModelStatistics {
    type Error = ServiceError;

    fn try_from(model: OneModel) -> Result<Self, ServiceError> {
        let malformed = |what: &str| {
            ServiceError::failed(format!("a worker sent statistics with a malformed {what}"))
        };
        let stats = model.inference_stats;
        let last = UNIX_EPOCH.checked_add(Duration::from_millis(model.last_inference));
        Ok(Self {
            name: model.name.parse().map_err(|_| malformed("name"))?,
            version: model.version.parse().map_err(|_| malformed("version"))?,
            last_inference: last.filter(|&at| at > SystemTime::UNIX_EPOCH),
            inferences: model.inference_count,
            executions: model.execution_count,
            success: stats.success.into(),
            fail: stats.fail.into(),
            queue: stats.queue.into(),
            compute_input: stats.compute_input.into(),
            compute_infer: stats.compute_infer.into(),
            compute_output: stats.compute_output.into(),
            cache_hit: stats.cache_hit.into(),
            cache_miss: stats.cache_miss.into(),
            batches: model.batch_stats.into_iter().map(BatchSizeStatistics::from).collect(),
            batching: BatchStatus {
                batches: model.execution_count,
                rows: model.inference_count,
                ..model.batching.into()
            },
            curves: model.cost_curves.into_iter().map(CostCurve::from).collect(),
        })
    }
}

impl From<&BatchSizeStatistics> for BatchStats {
    fn from(batch: &BatchSizeStatistics) -> Self {
        Self {
            batch_size: batch.batch_size,
            compute_input: batch.compute_input.into(),
            compute_infer: batch.compute_infer.into(),
            compute_output: batch.compute_output.into(),
        }
    }
}

impl From<BatchStats> for BatchSizeStatistics {
    fn from(batch: BatchStats) -> Self {
        Self {
            batch_size: batch.batch_size,
            compute_input: batch.compute_input.into(),
            compute_infer: batch.compute_infer.into(),
            compute_output: batch.compute_output.into(),
        }
    }
}

impl From<&BatchStatus> for BatchingDocument {
    fn from(status: &BatchStatus) -> Self {
        let BatchStatus {
            full, idle, deadline, delay, dropped, refused, interrupted, queued, ..
        } = *status;
        Self { full, idle, deadline, delay, dropped, refused, interrupted, queued }
    }
}

impl From<BatchingDocument> for BatchStatus {
    fn from(document: BatchingDocument) -> Self {
        let BatchingDocument { full, idle, deadline, delay, dropped, refused, interrupted, queued } =
            document;
        let none = Self::default();
        Self { full, idle, deadline, delay, dropped, refused, interrupted, queued, ..none }
    }
}

impl From<&CostCurve> for CostCurveDocument {
    fn from(curve: &CostCurve) -> Self {
        let point = |&CostPoint { rows, time, runs }: &CostPoint| CostPointDocument {
            rows,
            microseconds: time.as_nanos() as f64 / 1e3,
            runs,
        };
        Self { row_bytes: curve.row_bytes, points: curve.points.iter().map(point).collect() }
    }
}

impl From<CostCurveDocument> for CostCurve {
    fn from(document: CostCurveDocument) -> Self {
        let point = |CostPointDocument { rows, microseconds, runs }| CostPoint {
            rows,
            time: Duration::from_nanos((microseconds * 1e3).round() as u64),
            runs,
        };
        let points = document.points.into_iter().map(point).collect();
        Self { row_bytes: document.row_bytes, points }
    }
}

impl From<Spent> for SpentDocument {
    fn from(spent: Spent) -> Self {
        Self { count: spent.count, ns: u64::try_from(spent.total.as_nanos()).unwrap_or(u64::MAX) }
    }
}

impl From<SpentDocument> for Spent {
    fn from(document: SpentDocument) -> Self {
        Self { count: document.count, total: Duration::from_nanos(document.ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_read_back() {
        let spent = |count| Spent { count, total: Duration::from_nanos(1234 * count) };
        let mut busy = ModelStatistics::new("iris".parse().unwrap(), "2".parse().unwrap());
        busy.last_inference = Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        (busy.inferences, busy.executions) = (10, 4);
        (busy.success, busy.fail, busy.queue) = (spent(1), spent(2), spent(3));
        busy.compute_input = spent(4);
        busy.compute_infer = spent(5);
        busy.compute_output = spent(6);
        (busy.cache_hit, busy.cache_miss) = (spent(7), spent(8));
        busy.of_batch_size(3).compute_infer = spent(9);
        busy.batching = BatchStatus {
            batches: busy.executions,
            rows: busy.inferences,
            full: 1,
            idle: 2,
            deadline: 3,
            delay: 4,
            dropped: 5,
            refused: 6,
            interrupted: 7,
            queued: 8,
        };
        let point = |rows, nanos| CostPoint { rows, time: Duration::from_nanos(nanos), runs: rows };
        busy.curves = vec![
            CostCurve { row_bytes: 16, points: vec![point(1, 14_812), point(4, 20_000)] },
            CostCurve { row_bytes: 4096, points: vec![point(1, 3_600_000_000_001)] },
        ];
        let idle = ModelStatistics::new("m".parse().unwrap(), "1".parse().unwrap());
        let all = vec![busy, idle];
        let text = serde_json::to_string(&StatisticsDocument::from(&all[..])).unwrap();
        assert!(text.starts_with(r#"{"model_stats":[{"name":"iris","version":"2","#), "{text}");
        assert!(text.contains(r#""success":{"count":1,"ns":1234}"#), "{text}");
        for expected in [
            r#""batching":{"full":1,"idle":2,"deadline":3,"delay":4,"dropped":5,"refused":6,"#,
            r#""cost_curves":[{"row_bytes":16,"points":[{"rows":1,"microseconds":14.812,"runs":1}"#,
        ] {
            assert!(text.contains(expected), "{text}");
        }
        let document: StatisticsDocument = serde_json::from_str(&text).unwrap();
        assert_eq!(Vec::try_from(document).unwrap(), all);
    }
}
