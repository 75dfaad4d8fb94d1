//! Which lengths are near enough to each other to share a run.
//!
//! Everything in a run is filled up to its longest. Where lengths are from `first` to `last` and
//! `last` is at most 4/3 of `first`, filling is less than a quarter of it: of each row at most
//! `1 - first / last`, and of the longest nothing. So the lengths from 1 on are cut into buckets
//! that grow by that ratio: 1, 2, 3-4, 5-6, 7-9, 10-13, 14-18, 19-25, …

/// The first and the last length of the bucket that `length` is in. Nothing is near to length 0.
pub(crate) fn bucket(length: u64) -> (u64, u64) {
    let (mut first, mut last) = (0, 0);
    while length > last {
        first = last + 1;
        last = first.saturating_add(first / 3);
    }
    (first, last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_lengths_have_small_buckets() {
        let buckets =
            [(0, 0), (1, 1), (2, 2), (3, 4), (5, 6), (7, 9), (10, 13), (14, 18), (19, 25)];
        for (first, last) in buckets {
            for length in first..=last {
                assert_eq!(bucket(length), (first, last));
            }
        }
        assert_eq!(bucket(u64::MAX).1, u64::MAX);
    }

    proptest! {
        #[test]
        fn filling_is_less_than_a_quarter_of_every_run(
            length in prop_oneof![1u64..100, 1u64..1_000_000],
            places in prop::collection::vec((0.0..=1.0f64, 1u64..5), 1..40),
        ) {
            let (first, last) = bucket(length);
            prop_assert!(first <= length && length <= last);
            let rows: Vec<(u64, u64)> = places
                .iter()
                .map(|(place, rows)| (first + ((last - first) as f64 * place) as u64, *rows))
                .collect();
            let longest = rows.iter().map(|(length, _)| *length).max().unwrap();
            let all: u64 = rows.iter().map(|(_, rows)| rows * longest).sum();
            let own: u64 = rows.iter().map(|(length, rows)| rows * length).sum();
            prop_assert!(4 * (all - own) < all, "{} of {all} in {rows:?}", all - own);
        }

        #[test]
        fn buckets_lie_side_by_side(length in 0u64..1_000_000) {
            let (_, last) = bucket(length);
            prop_assert_eq!(bucket(last + 1).0, last + 1);
        }
    }
}
