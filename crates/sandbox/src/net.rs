//! The private network of a sandbox.
//!
//! A routed point-to-point veth per sandbox, no bridge: the host end has no address, the inside
//! end has a /32, and both sides know each other by permanent neighbour entries, so that nothing
//! on the link can be spoofed by ARP. The host's firewall is one static table whose rules match
//! the interfaces' name prefix; starting a sandbox without an egress policy changes no rule.
//!
//! [`host`] prepares the host once; [`outside`] makes the veth and the host's route, run by the
//! monitor; [`inside`] configures the environment's own namespace, run by init; [`dns`] answers
//! names, run by the monitor for its life; [`egress`] keeps the policy of a sandbox that has one, by
//! [`netfilter`]. A new connection to a sandbox is possible from the host
//! itself only. [`links`] joins the sandboxes of one environment to each other by veths of their
//! own, of which the host has no end. [`shape`] limits how fast one speaks, and [`uplink`] shares what
//! the host's way out carries, where that is asked for; both are made of what is in [`tc`].
//!
//! Crash behaviour: a veth goes with the namespace of its inner end; one that stays is removed by
//! name, which is made from the id.

pub(crate) mod dns;
pub(crate) mod egress;
pub(crate) mod host;
pub(crate) mod inside;
pub(crate) mod links;
mod netfilter;
mod netlink;
pub(crate) mod outside;
pub(crate) mod shape;
mod tc;
pub(crate) mod uplink;

/// Hardware address of every host end.
const OUTSIDE_MAC: [u8; 6] = [0x02, 0x62, 0x79, 0, 0, 1];
/// Hardware address of every inside end.
const INSIDE_MAC: [u8; 6] = [0x02, 0x62, 0x79, 0, 0, 2];
/// Index of the inside end in its namespace: the first after loopback.
const INSIDE_INDEX: u32 = 2;
