//! What every store does, as tests over a factory of stores.
