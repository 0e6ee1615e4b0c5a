//! Placement: being written.
