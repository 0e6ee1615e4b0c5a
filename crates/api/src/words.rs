//! Words of the API that more than one component must spell the same.
//!
//! Only names live here; what they mean for a decision is in `plan`.

/// Finalizer a runner puts on an environment bound to it: while it stands, something of the
/// environment may still exist on the runner's disk or in its kernel.
pub const FINALIZER_RUNNER: &str = "boatyard.dev/runner";

/// Annotation holding the absolute folder an environment was opened from, as the user typed it.
pub const ANNOTATION_OPENED_FROM: &str = "boatyard.dev/opened-from";

/// Namespace of the Leases by which runners prove they are alive.
pub const NAMESPACE_RUNNERS: &str = "boatyard-runners";

/// Namespace of the servers' own objects.
pub const NAMESPACE_SYSTEM: &str = "boatyard-system";

/// Lease in [`NAMESPACE_SYSTEM`] of the server that runs the controllers.
pub const LEASE_CONTROLLERS: &str = "controllers";

/// Name of the class used when an environment names none.
pub const DEFAULT_CLASS: &str = "default";

/// Condition types of an Environment's status.
pub mod condition {
    /// The environment is running and its lifecycle commands up to `waitFor` have succeeded.
    pub const READY: &str = "Ready";
    /// A runner has been chosen.
    pub const SCHEDULED: &str = "Scheduled";
    /// The devcontainer.json (or the default in its absence) was read and is supported.
    pub const CONFIGURED: &str = "Configured";
    /// The image's layers are on the runner.
    pub const IMAGE_PRESENT: &str = "ImagePresent";
    /// The sandbox runs and its agent answers.
    pub const SANDBOX_RUNNING: &str = "SandboxRunning";
    /// The disk is nearly full; there is none without a limit.
    pub const DISK_PRESSURE: &str = "DiskPressure";
    /// The lifecycle commands have succeeded.
    pub const LIFECYCLE_COMPLETE: &str = "LifecycleComplete";
}
