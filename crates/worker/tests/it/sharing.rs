//! Equal requests share one computation and its answer; unequal ones never do.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use inferring_backend::fake::FakeBackend;
use inferring_types::{CacheOutcome, ErrorKind, InferenceService as _};
use inferring_worker::{CacheConfig, WorkerConfig};
use proptest::prelude::*;

use crate::fixture::{
    Fixture, PATIENCE, expected, request, row, row_answer, values, within_patience,
};

fn caching(cache: CacheConfig) -> WorkerConfig {
    WorkerConfig { cache, ..WorkerConfig::default() }
}

#[tokio::test]
async fn a_thousand_equal_requests_run_the_model_once() {
    let fixture = Fixture::new();
    fixture.engine.hold();
    let answers: Vec<_> = (0..1000).map(|_| fixture.begin(row(1.0))).collect();
    fixture.engine.release();
    let mut outcomes = Vec::new();
    for answer in answers {
        let answer = within_patience(answer).await;
        assert_eq!(values(&answer), row_answer(1.0));
        outcomes.push(answer.unwrap().served.cache);
    }
    assert_eq!(outcomes[0], CacheOutcome::Computed);
    assert!(outcomes[1..].iter().all(|&outcome| outcome == CacheOutcome::Joined));
    assert_eq!(fixture.rows_of_runs(), [1]);
    let cache = fixture.status().await.cache;
    assert_eq!((cache.misses, cache.joined, cache.hits, cache.entries), (1, 999, 0, 1));
}

/// The same from many threads at once, where nobody is held back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_equal_requests_from_many_threads_run_the_model_once() {
    let fixture = Fixture::new();
    let clients = (0..10_000).map(|_| {
        let worker = fixture.worker.clone();
        tokio::spawn(async move { worker.infer(row(1.0)).await })
    });
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(values(&within_patience(client).await.unwrap()), row_answer(1.0));
    }
    assert_eq!(fixture.rows_of_runs(), [1]);
    let cache = fixture.status().await.cache;
    assert_eq!((cache.misses, cache.joined + cache.hits), (1, 9_999));
}

#[tokio::test]
async fn a_kept_answer_is_the_computed_one_to_the_bit() {
    let fixture = Fixture::new();
    let awkward = [f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY];
    let computed = fixture.ask(request([1, 4], &awkward)).await.unwrap();
    let kept = fixture.ask(request([1, 4], &awkward)).await.unwrap();
    assert_eq!(kept.served.cache, CacheOutcome::Hit);
    assert_eq!(kept.outputs[0].tensor.data(), computed.outputs[0].tensor.data());
    assert!(Arc::ptr_eq(&kept.outputs, &computed.outputs), "shared, not copied");
    let served = kept.served;
    assert_eq!(served.queue_time + served.execution_time, Duration::ZERO);
    assert_eq!(served.batch_size, 0);
    assert_ne!(computed.id, kept.id);
}

#[tokio::test]
async fn zero_and_negative_zero_are_other_content() {
    let fixture = Fixture::new();
    fixture.ask(request([1, 4], &[0.0; 4])).await.unwrap();
    let negative = fixture.ask(request([1, 4], &[-0.0, 0.0, 0.0, 0.0])).await.unwrap();
    assert_eq!(negative.served.cache, CacheOutcome::Computed);
}

/// Bits decide what is equal, and not what they mean: no NaN equals any other number, and yet a
/// request that holds one is known again. A model may look at the bits, too.
#[tokio::test]
async fn fault_31_every_nan_is_content_of_its_own_and_known_again_by_its_bits() {
    let fixture = Fixture::new();
    let bits = [0x7fc0_0000, 0x7fc0_0001, 0xffc0_0000, 0x7f80_0001, 0x7fff_ffff, 0x8000_0000, 0];
    let ask = |bits| fixture.ask(request([1, 4], &[f32::from_bits(bits), 1.0, 2.0, 3.0]));
    let mut computed = Vec::new();
    for pattern in bits {
        let answer = ask(pattern).await;
        assert_eq!(answer.as_ref().unwrap().served.cache, CacheOutcome::Computed, "{pattern:#x}");
        computed.push(values(&answer).into_iter().map(f32::to_bits).collect::<Vec<_>>());
    }
    for (pattern, computed) in bits.into_iter().zip(computed) {
        let answer = ask(pattern).await;
        assert_eq!(answer.as_ref().unwrap().served.cache, CacheOutcome::Hit, "{pattern:#x}");
        let kept: Vec<_> = values(&answer).into_iter().map(f32::to_bits).collect();
        assert_eq!(kept, computed, "{pattern:#x}");
    }
    assert_eq!(fixture.rows_of_runs().len(), bits.len());
}

#[tokio::test]
async fn the_same_bytes_in_other_shapes_are_answered_each_for_itself() {
    let fixture = Fixture::of_any_width(&WorkerConfig::default());
    let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    for width in [1, 2, 3, 6usize] {
        let shape = [(6 / width) as u64, width as u64];
        let answer = fixture.ask(request(shape, &numbers)).await;
        assert_eq!(values(&answer), expected(width, &numbers));
        assert_eq!(answer.unwrap().served.cache, CacheOutcome::Computed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A hash that samples would take the two for equal wherever it does not look.
    #[test]
    fn one_changed_element_anywhere_is_another_request(
        width in 1usize..40_000,
        place in prop_oneof![Just(usize::MAX), any::<usize>()],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::of_any_width(&WorkerConfig::default());
            let mut numbers = vec![0.0; width];
            fixture.ask(request([1, width as u64], &numbers)).await.unwrap();
            numbers[place % width] = 1.0;
            let other = fixture.ask(request([1, width as u64], &numbers)).await;
            assert_eq!(values(&other), expected(width, &numbers));
            assert_eq!(other.unwrap().served.cache, CacheOutcome::Computed);
        });
    }
}

#[tokio::test]
async fn who_came_first_may_leave_and_the_others_are_answered() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    let first = fixture.begin(row(1.0));
    let others: Vec<_> = (0..3).map(|_| fixture.begin(row(1.0))).collect();
    drop(first);
    fixture.engine.release();
    busy.await.unwrap();
    for other in others {
        assert_eq!(values(&within_patience(other).await), row_answer(1.0));
    }
    assert_eq!(fixture.runs(), 2);
    assert_eq!(fixture.status().await.batches.dropped, 0);
}

#[tokio::test]
async fn work_that_all_have_left_never_runs_and_can_be_asked_for_again() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    drop([(); 3].map(|()| fixture.begin(row(1.0))));
    fixture.engine.release();
    busy.await.unwrap();
    // One instance takes batches in order: once this is answered, the other was dropped.
    fixture.ask(row(2.0)).await.unwrap();
    assert_eq!(fixture.rows_of_runs(), [1, 1]);
    assert_eq!(fixture.status().await.batches.dropped, 1);
    let again = fixture.ask(row(1.0)).await;
    assert_eq!(values(&again), row_answer(1.0));
    assert_eq!(again.unwrap().served.cache, CacheOutcome::Computed);
}

#[tokio::test]
async fn who_asks_again_for_abandoned_work_in_the_queue_takes_it_over() {
    let fixture = Fixture::new();
    let busy = fixture.occupy();
    drop(fixture.begin(row(1.0)));
    let again = fixture.begin(row(1.0));
    fixture.engine.release();
    busy.await.unwrap();
    assert_eq!(values(&within_patience(again).await), row_answer(1.0));
    assert_eq!(fixture.runs(), 2);
}

#[tokio::test]
async fn an_error_is_shared_by_who_waited_and_never_kept() {
    let fixture = Fixture::new();
    fixture.engine.hold();
    let answers: Vec<_> = (0..3).map(|_| fixture.begin(row(1.0))).collect();
    assert!(fixture.engine.wait_until_running(1, PATIENCE));
    fixture.engine.fail_next(u64::MAX);
    fixture.engine.release();
    for answer in answers {
        assert_eq!(within_patience(answer).await.unwrap_err().kind(), ErrorKind::Internal);
    }
    let cache = fixture.status().await.cache;
    assert_eq!((cache.misses, cache.joined, cache.entries), (1, 2, 0));
    fixture.engine.fail_next(0);
    let answer = fixture.ask(row(1.0)).await;
    assert_eq!(values(&answer), row_answer(1.0));
    assert_eq!(answer.unwrap().served.cache, CacheOutcome::Computed);
}

#[tokio::test]
async fn without_a_cache_equal_requests_in_flight_still_share_a_run() {
    let fixture = Fixture::with(
        &FakeBackend::new(),
        &caching(CacheConfig { entries: 0, ..CacheConfig::default() }),
    );
    fixture.engine.hold();
    let answers = [(); 2].map(|()| fixture.begin(row(1.0)));
    fixture.engine.release();
    for answer in answers {
        assert_eq!(values(&within_patience(answer).await), row_answer(1.0));
    }
    assert_eq!(fixture.runs(), 1);
    assert_eq!(fixture.ask(row(1.0)).await.unwrap().served.cache, CacheOutcome::Computed);
    assert_eq!(fixture.runs(), 2);
}

#[tokio::test]
async fn an_answer_that_is_too_old_is_computed_anew() {
    let at_once = CacheConfig { time_to_live: Some(Duration::ZERO), ..CacheConfig::default() };
    let fixture = Fixture::with(&FakeBackend::new(), &caching(at_once));
    for _ in 0..3 {
        let answer = fixture.ask(row(1.0)).await;
        assert_eq!(values(&answer), row_answer(1.0));
        assert_eq!(answer.unwrap().served.cache, CacheOutcome::Computed);
    }
    assert_eq!(fixture.status().await.cache.entries, 0, "what is too old goes away");
}

#[tokio::test]
async fn the_cache_stays_within_its_bounds_and_counts_what_it_puts_out() {
    for (entries, bytes) in [(5, ByteSize::gib(1)), (1000, ByteSize::kib(4))] {
        let config = caching(CacheConfig { entries, bytes, ..CacheConfig::default() });
        let fixture = Fixture::with(&FakeBackend::new(), &config);
        for n in 0..50u8 {
            fixture.ask(row(f32::from(n))).await.unwrap();
        }
        let cache = fixture.status().await.cache;
        assert_eq!((cache.entries_max, cache.bytes_max), (entries as u64, bytes.as_u64()));
        assert!(cache.entries <= cache.entries_max && cache.bytes <= cache.bytes_max);
        assert!(cache.entries >= 5, "room is used: {cache:?}");
        assert_eq!(cache.entries + cache.evictions, 50);
    }
}
