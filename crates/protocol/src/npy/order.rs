//! Elements put into the order in which tensors hold them.

/// Elements of `size` bytes that stand column by column (the first index changes fastest), row by
/// row (the last one does). `data` must hold exactly as many as `dimensions` say.
pub(super) fn rows_first(data: &[u8], dimensions: &[u64], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    if data.is_empty() {
        return out;
    }
    let dimensions: Vec<usize> = dimensions
        .iter()
        .map(|&size| usize::try_from(size).expect("no dimension exceeds the bytes that are there"))
        .collect();
    // Bytes from an element to its neighbour along each dimension.
    let mut steps = Vec::with_capacity(dimensions.len());
    let mut step = size;
    for &length in &dimensions {
        steps.push(step);
        step *= length;
    }
    debug_assert_eq!(step, data.len(), "the caller held the length against the shape");
    let mut index = vec![0; dimensions.len()];
    let mut at = 0;
    while out.len() < data.len() {
        out.extend_from_slice(&data[at..at + size]);
        for axis in (0..dimensions.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < dimensions[axis] {
                break;
            }
            at -= steps[axis] * index[axis];
            index[axis] = 0;
        }
    }
    out
}

/// The bytes of each element of `size` bytes in the opposite order.
pub(super) fn swapped(data: &[u8], size: usize) -> Vec<u8> {
    let mut out = data.to_vec();
    out.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows() {
        // [[0,1,2],[3,4,5]] stands column by column as 0 3 1 4 2 5.
        assert_eq!(rows_first(&[0, 3, 1, 4, 2, 5], &[2, 3], 1), [0, 1, 2, 3, 4, 5]);
        let pairs = [0, 0, 3, 3, 1, 1, 4, 4, 2, 2, 5, 5];
        assert_eq!(rows_first(&pairs, &[2, 3], 2), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert!(rows_first(&[], &[0, 3], 4).is_empty());
        assert_eq!(rows_first(&[0, 4, 2, 6, 1, 5, 3, 7], &[2, 2, 2], 1), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn each_element_is_swapped_by_itself() {
        assert_eq!(swapped(&[1, 2, 3, 4], 2), [2, 1, 4, 3]);
    }
}
