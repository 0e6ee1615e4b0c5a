//! x
use crate::error::Error;
use crate::sandboxes::Options;
pub(crate) fn prepare(_options: &Options) -> Result<(), Error> {
    Ok(())
}
pub(crate) fn teardown(_options: &Options) -> Result<(), Error> {
    Ok(())
}
