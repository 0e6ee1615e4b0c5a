//! x
use crate::error::Failure;
use crate::protocol::HostNames;
use crate::spec::{Id, Spec};
pub(crate) fn create(_host: &HostNames, _spec: &Spec, _pid: u32) -> Result<(), Failure> {
    Ok(())
}
pub(crate) fn remove(_host: &HostNames, _id: &Id) -> std::io::Result<()> {
    Ok(())
}
pub(crate) fn list(_host: &HostNames) -> std::io::Result<Vec<String>> {
    Ok(Vec::new())
}
