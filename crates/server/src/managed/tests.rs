//! Sets, merging and ownership.
