//! Tokens: being written.
