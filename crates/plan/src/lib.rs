//! Pure decisions: (desired, observed, now) → what to do next.
//!
//! Does no I/O and knows no clock: the caller observes the world and passes the time in. A
//! decision is data; whoever applies it makes no choice of its own. Tested by tables.
//!
//! Read next: [`environment`].

pub mod classes;
pub mod disk;
pub mod egress;
pub mod environment;
pub mod garbage;
pub mod io;
pub mod lifecycle;
pub mod memory;
pub mod placement;
pub mod resize;
pub mod services;
pub mod shares;
pub mod slowed;
