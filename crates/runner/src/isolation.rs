//! The seam between the control loops and what isolates.
//!
//! Owns the little that a runner asks of process trees. The real answer is [`Sandboxes`], always;
//! the benchmarks put hosts in its place that start nothing, to load a server with runners that are
//! real up to here. All calls block.
//!
//! Read next: `context`, which calls it.

use boatyard_sandbox::group::{self, Group, Groups};
use boatyard_sandbox::spec::{Bandwidth, Egress, Id, Spec, User};
use boatyard_sandbox::view::View;
use boatyard_sandbox::{EgressReport, Error, Observed, Running, Sandboxes};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Isolated process trees; see the methods of [`Sandboxes`] for what each promises.
pub trait Sandbox: Send + Sync + 'static {
    /// Starts one; its PID 1 runs on return.
    ///
    /// # Errors
    /// When it does not.
    fn start(&self, spec: &Spec) -> Result<Running, Error>;
    /// What one with this state directory does now.
    ///
    /// # Errors
    /// When that cannot be told.
    fn observe(&self, id: &Id, state: &Path) -> Result<Observed, Error>;
    /// Ends everything inside.
    ///
    /// # Errors
    /// When something is left running.
    fn kill(&self, id: &Id, state: &Path) -> Result<(), Error>;
    /// Removes every trace.
    ///
    /// # Errors
    /// When one is left.
    fn remove(&self, id: &Id, state: &Path) -> Result<(), Error>;
    /// What one may reach and was refused; None where nothing was ever said of that.
    ///
    /// # Errors
    /// When that cannot be told.
    fn egress(&self, _id: &Id, _state: &Path) -> Result<Option<EgressReport>, Error> {
        Ok(None)
    }
    /// Changes what one that runs may reach, None for anything.
    ///
    /// # Errors
    /// When that is not in force.
    fn set_egress(&self, _id: &Id, _state: &Path, _policy: Option<&Egress>) -> Result<(), Error> {
        Ok(())
    }
    /// Opens a path of the host with a user's credentials.
    ///
    /// # Errors
    /// When the user may not.
    fn open_as(&self, user: User, path: &Path) -> Result<OwnedFd, Error>;
    /// A folder of the host as a user sees it.
    ///
    /// # Errors
    /// When the user may not.
    fn view(&self, user: User, path: &Path) -> Result<View, Error>;
    /// Limits how fast one that runs speaks to the outside.
    ///
    /// # Errors
    /// When that cannot be done here.
    fn shape(&self, id: &Id, bandwidth: &Bandwidth) -> Result<(), Error> {
        let _ = (id, bandwidth);
        Ok(())
    }
    /// The cgroups of one that runs; None where process trees have none.
    ///
    /// # Errors
    /// When it has no longer any.
    fn group(&self, id: &Id) -> Result<Option<Group>, group::Error> {
        let _ = id;
        Ok(None)
    }
    /// The cgroups of all together; None where process trees have none.
    fn groups(&self) -> Option<Groups> {
        None
    }
}

impl Sandbox for Sandboxes {
    fn start(&self, spec: &Spec) -> Result<Running, Error> {
        Self::start(self, spec)
    }

    fn observe(&self, id: &Id, state: &Path) -> Result<Observed, Error> {
        Self::observe(self, id, state)
    }

    fn kill(&self, id: &Id, state: &Path) -> Result<(), Error> {
        Self::kill(self, id, state)
    }

    fn remove(&self, id: &Id, state: &Path) -> Result<(), Error> {
        Self::remove(self, id, state)
    }

    fn egress(&self, id: &Id, state: &Path) -> Result<Option<EgressReport>, Error> {
        Self::egress(self, id, state)
    }

    fn set_egress(&self, id: &Id, state: &Path, policy: Option<&Egress>) -> Result<(), Error> {
        Self::set_egress(self, id, state, policy)
    }

    fn open_as(&self, user: User, path: &Path) -> Result<OwnedFd, Error> {
        Self::open_as(self, user, path)
    }

    fn view(&self, user: User, path: &Path) -> Result<View, Error> {
        Self::view(self, user, path)
    }

    fn shape(&self, id: &Id, bandwidth: &Bandwidth) -> Result<(), Error> {
        Self::shape(self, id, bandwidth)
    }

    fn group(&self, id: &Id) -> Result<Option<Group>, group::Error> {
        Self::group(self, id).map(Some)
    }

    fn groups(&self) -> Option<Groups> {
        Some(Self::groups(self))
    }
}
