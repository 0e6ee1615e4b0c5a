//! TLS: being written.
