//! What models have done so far.

use std::time::UNIX_EPOCH;

use inferring_types::{BatchSizeStatistics, ModelStatistics, Spent};

use super::inference::{self, InferBatchStatistics, InferStatistics, StatisticDuration};

/// One version's statistics.
pub fn encode_statistics(statistics: &ModelStatistics) -> inference::ModelStatistics {
    let milliseconds = statistics
        .last_inference
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    inference::ModelStatistics {
        name: statistics.name.to_string(),
        version: statistics.version.to_string(),
        last_inference: milliseconds,
        inference_count: statistics.inferences,
        execution_count: statistics.executions,
        inference_stats: Some(InferStatistics {
            success: spent(statistics.success),
            fail: spent(statistics.fail),
            queue: spent(statistics.queue),
            compute_input: spent(statistics.compute_input),
            compute_infer: spent(statistics.compute_infer),
            compute_output: spent(statistics.compute_output),
            cache_hit: spent(statistics.cache_hit),
            cache_miss: spent(statistics.cache_miss),
        }),
        batch_stats: statistics.batches.iter().map(encode_batch).collect(),
    }
}

fn encode_batch(batch: &BatchSizeStatistics) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: spent(batch.compute_input),
        compute_infer: spent(batch.compute_infer),
        compute_output: spent(batch.compute_output),
    }
}

fn spent(spent: Spent) -> Option<StatisticDuration> {
    let ns = u64::try_from(spent.total.as_nanos()).unwrap_or(u64::MAX);
    Some(StatisticDuration { count: spent.count, ns })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inferring_types::ModelVersion;

    use super::*;

    #[test]
    fn times_are_nanoseconds_and_the_last_inference_milliseconds() {
        let mut statistics = ModelStatistics::new("m".parse().unwrap(), ModelVersion::first());
        assert_eq!(encode_statistics(&statistics).last_inference, 0);
        statistics.last_inference = Some(UNIX_EPOCH + Duration::from_secs(2));
        statistics.queue.add(Duration::from_micros(3));
        statistics.of_batch_size(4).compute_infer.add(Duration::from_micros(5));
        let message = encode_statistics(&statistics);
        assert_eq!(message.last_inference, 2000);
        let queue = message.inference_stats.unwrap().queue.unwrap();
        assert_eq!((queue.count, queue.ns), (1, 3000));
        let infer = message.batch_stats[0].compute_infer.unwrap();
        assert_eq!((message.batch_stats[0].batch_size, infer.ns), (4, 5000));
    }
}
