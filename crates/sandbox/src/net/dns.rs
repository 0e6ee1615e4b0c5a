//! x
use rustix::event::{PollFd, PollFlags};
use std::os::fd::OwnedFd;
use std::time::Duration;
pub(crate) struct Forwarder<'a> {
    _x: &'a [OwnedFd],
}
impl<'a> Forwarder<'a> {
    pub(crate) fn new(x: &'a [OwnedFd]) -> Self {
        Self { _x: x }
    }
    pub(crate) fn poll_descriptors<'b>(&'b self, _fds: &mut Vec<PollFd<'b>>) {}
    pub(crate) fn timeout(&self) -> Option<Duration> {
        None
    }
    pub(crate) fn serve(&mut self, _ready: &[PollFlags]) {}
}
