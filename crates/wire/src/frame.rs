//! Framing: `u32` little-endian payload length, one byte of [`Kind`], the payload.
//!
//! A frame longer than [`MAX_PAYLOAD`] is refused before anything is allocated.

/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON [`crate::Request`]; caller → agent, first frame.
    Request = 1,
    /// JSON [`crate::Control`]; caller → agent.
    Control = 2,
    /// Bytes for standard input; caller → agent. An empty payload closes standard input.
    Stdin = 3,
    /// JSON [`crate::Reply`]; agent → caller.
    Reply = 4,
    /// Bytes from standard output; agent → caller.
    Stdout = 5,
    /// Bytes from standard error; agent → caller.
    Stderr = 6,
}
