//! Values that no output may show: replaced wherever they stand, however the output is cut up.
//!
//! What could be the beginning of one is held back until more comes; the longest value bounds how
//! much that is.

/// What stands in a value's place.
const MASK: &[u8] = b"********";

/// Masks a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    /// Longest first, so that a value that contains another counts.
    values: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Mask {
    pub(crate) fn new(mut values: Vec<Vec<u8>>) -> Self {
        values.retain(|value| !value.is_empty());
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self {
            values,
            held: Vec::new(),
        }
    }

    pub(crate) fn is_needed(&self) -> bool {
        !self.values.is_empty()
    }

    /// What of it, and of what was held back, can be shown now.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        self.shown(false)
    }

    /// The rest.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        self.shown(true)
    }

    fn shown(&mut self, ended: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = self.held.get(at..).unwrap_or_default();
            let open = |value: &&Vec<u8>| value.len() > rest.len() && value.starts_with(rest);
            if !ended && self.values.iter().any(|value| open(&value)) {
                break;
            }
            match self.values.iter().find(|value| rest.starts_with(value)) {
                Some(value) => {
                    shown.extend_from_slice(MASK);
                    at += value.len();
                }
                None => {
                    shown.extend(rest.first());
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
        shown
    }
}

#[cfg(test)]
mod tests {
    //! Values, whole and cut.
    use super::*;

    #[test]
    fn values_are_masked_however_the_output_is_cut() {
        let text = b"a secret, a secretive one, sec, and tok\nen at the end: secre";
        let expected = b"a ********, a ********ive one, sec, and ******** at the end: secre";
        for size in 1..text.len() {
            let mut mask = Mask::new(vec![b"secret".to_vec(), b"tok\nen".to_vec(), Vec::new()]);
            let mut shown = Vec::new();
            for piece in text.chunks(size) {
                shown.extend(mask.feed(piece));
            }
            shown.extend(mask.end());
            assert_eq!(
                String::from_utf8_lossy(&shown),
                String::from_utf8_lossy(expected),
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn a_value_within_a_longer_one_leaves_nothing_of_it() {
        let mut mask = Mask::new(vec![b"ab".to_vec(), b"abcd".to_vec()]);
        let mut shown = mask.feed(b"abcd ab abc");
        shown.extend(mask.end());
        assert_eq!(shown, b"******** ******** ********c");
    }
}
