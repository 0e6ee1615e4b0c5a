//! x
use crate::error::Failure;
use crate::spec::Network;
use std::os::fd::OwnedFd;
pub(crate) fn loopback(_network: &Network) -> Result<Vec<OwnedFd>, Failure> {
    Ok(Vec::new())
}
pub(crate) fn link(_network: &Network) -> Result<(), Failure> {
    Ok(())
}
