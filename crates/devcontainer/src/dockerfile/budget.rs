//! What evaluating one Dockerfile may cost.
//!
//! Owns one number. Expansion can grow text (`ENV A=$A$A`), and what is grown is repeated in every
//! step of a plan; patterns cost time and no text. All of it is charged here in bytes or steps, so
//! that no file is a hang or an exhausted memory, however it is written.

use crate::error::ErrorKind;
use std::cell::Cell;

/// Bytes made and steps taken; about a hundred times what a large Dockerfile needs.
const FUEL: usize = 16 << 20;
/// Longest value of a variable or an argument: what the kernel takes as one.
pub(super) const VALUE_LIMIT: usize = 128 << 10;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(FUEL))
    }
}

impl Budget {
    /// Takes from what is left.
    pub(super) fn charge(&self, cost: usize) -> Result<(), ErrorKind> {
        match self.0.get().checked_sub(cost) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => {
                self.0.set(0);
                Err(ErrorKind::Bounds(
                    "this Dockerfile expands to more than can be handled; use fewer or shorter variables"
                        .into(),
                ))
            }
        }
    }
}
