//! The sizes of run that are told apart: each one up to 64 rows, powers of two beyond.
//!
//! A table of every size up to a maximum of thousands would cost more to keep than it says: of
//! 1000 rows or 1010 the times differ by less than they vary.

const EXACT: usize = 64;

/// The place of runs of so many rows in a table of sizes; `rows` of 0 counts as 1.
pub(super) fn index(rows: usize) -> usize {
    if rows <= EXACT {
        rows.max(1) - 1
    } else {
        let doublings = rows.div_ceil(EXACT).checked_next_power_of_two();
        EXACT - 1 + doublings.map_or(usize::BITS - 1, usize::trailing_zeros) as usize
    }
}

/// The most rows of the runs that share a place.
pub(super) fn rows(index: usize) -> usize {
    if index < EXACT { index + 1 } else { EXACT << (index + 1 - EXACT).min(40) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_up_to_64_are_exact_and_larger_ones_are_powers_of_two() {
        for (run, place, represented_by) in [
            (0, 0, 1),
            (1, 0, 1),
            (2, 1, 2),
            (64, 63, 64),
            (65, 64, 128),
            (128, 64, 128),
            (129, 65, 256),
            (4096, 69, 4096),
        ] {
            assert_eq!(index(run), place, "{run} rows");
            assert_eq!(rows(place), represented_by, "{run} rows");
        }
        assert!(index(usize::MAX) < 128);
    }
}
