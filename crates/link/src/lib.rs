//! Both ends of an authenticated connection.
//!
//! Owns how a client reaches the API ([`client`]), how a runner's one outbound connection carries
//! many streams ([`tunnel`]), the asynchronous framing of `wire` ([`frames`]), and the material
//! of identity ([`tls`], [`token`]). A client of the same host may be given the far socket itself
//! ([`handover`]). It decides nothing about who may do what: that is the
//! server's authorizer. Losing a connection loses streams, never state.
//!
//! Read next: [`tunnel`].

pub mod client;
pub mod frames;
pub mod handover;
pub mod lifecycle;
pub mod tls;
pub mod token;
pub mod tunnel;
pub mod usage;
pub mod verbs;
