//! What a runner does next for one environment.
//!
//! [`next`] looks at what is wanted and what was seen and names one action; the runner performs
//! it, observes again and asks again. Every action is idempotent, so it does not matter at which
//! instruction the previous attempt was killed. Nothing here knows how an action is done.
//!
//! Order of a start: allocate → source → configure → image → resolve → sandbox → agent → services
//! → session → lifecycle commands. Which service is next is [`crate::services`]'.

use jiff::{SignedDuration, Timestamp};

/// What is wanted of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// It runs. `restart` is the spec's `restartedAt`.
    Running {
        /// Changing it restarts once and forgets a failure.
        restart: Option<String>,
    },
    /// Nothing runs, everything is kept.
    Stopped,
    /// Nothing of it remains.
    Gone,
}

/// What the runner saw on its disk and in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// An id range and an address are recorded.
    pub allocated: bool,
    /// The source is in place.
    pub source: bool,
    /// The devcontainer.json was read and names an image.
    pub configured: bool,
    /// All layers of the image are present.
    pub image: bool,
    /// The run plan has been made from configuration and image.
    pub resolved: bool,
    /// The process tree.
    pub sandbox: SandboxSeen,
    /// Services of the environment that are not up yet, or that nobody looks after.
    pub services_left: bool,
    /// The agent has the session's defaults (user, folder, variables).
    pub session: bool,
    /// Lifecycle commands that the runner has to run and are not done in this incarnation, in order.
    pub hooks_left: Vec<Hook>,
    /// The last failure, if the step it belongs to has not succeeded since.
    pub failure: Option<Failure>,
    /// Value of `restartedAt` honoured last.
    pub restarted_at: Option<String>,
    /// Something of the environment is on disk (also half-removed state).
    pub on_disk: bool,
    /// Its disk is mounted.
    pub mounted: bool,
}

/// State of the process tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxSeen {
    /// None, and nothing left of one.
    #[default]
    Absent,
    /// Runs; whether its agent answers.
    Running {
        /// The agent answered just now.
        agent: bool,
    },
    /// It ended, or its start was cut off; remains may be there.
    Ended,
}

/// A lifecycle command, in the specification's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Once, after creation.
    OnCreate,
    /// Once, after creation, and when content changes.
    UpdateContent,
    /// Once, after creation, with the user's secrets.
    PostCreate,
    /// Once: the owner's dotfiles are installed.
    Dotfiles,
    /// At every start.
    PostStart,
    /// Each time somebody attaches.
    PostAttach,
}

impl Hook {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::OnCreate,
        Self::UpdateContent,
        Self::PostCreate,
        Self::Dotfiles,
        Self::PostStart,
        Self::PostAttach,
    ];

    /// The property's name in devcontainer.json, or `dotfiles`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnCreate => "onCreateCommand",
            Self::UpdateContent => "updateContentCommand",
            Self::PostCreate => "postCreateCommand",
            Self::Dotfiles => "dotfiles",
            Self::PostStart => "postStartCommand",
            Self::PostAttach => "postAttachCommand",
        }
    }

    /// Whether it runs once in an environment's life rather than at every start.
    #[must_use]
    pub fn once(self) -> bool {
        self <= Self::Dotfiles
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }
}

/// A failed step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// How many times in a row.
    pub count: u32,
    /// Whether trying again can help without anybody changing anything.
    pub transient: bool,
    /// It was a lifecycle command: what runs goes on, and the next start tries it again.
    pub hook: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Record an id range and an address.
    Allocate,
    /// Fetch or check the source.
    FetchSource,
    /// Read the devcontainer.json.
    Configure,
    /// Make all layers of the image present.
    FetchImage,
    /// Make the run plan.
    Resolve,
    /// Start the sandbox.
    StartSandbox,
    /// Wait until the agent answers.
    AwaitAgent,
    /// Bring the environment's services up, in order.
    RaiseServices,
    /// Probe the user's variables and give the agent the session's defaults.
    PrepareSession,
    /// Run a lifecycle command to its end.
    RunHook(Hook),
    /// End all processes, gently first.
    StopSandbox,
    /// Clear away what an ended sandbox left.
    CleanSandbox,
    /// Note that a restart was honoured and forget the failure.
    Forget,
    /// Remove everything on disk and the allocations.
    Remove,
    /// Let go of the API object.
    Release,
    /// Nothing until this time, or until something changes.
    WaitUntil(Timestamp),
    /// Nothing until something changes.
    Idle,
}

/// First pause after a transient failure; doubles each time.
const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(2);
/// Longest pause.
const BACKOFF_LAST: SignedDuration = SignedDuration::from_mins(5);

/// Decides what to do next.
#[must_use]
pub fn next(want: &Want, seen: &Seen, now: Timestamp) -> Action {
    match want {
        Want::Gone => match seen.sandbox {
            SandboxSeen::Running { .. } => Action::StopSandbox,
            SandboxSeen::Ended => Action::CleanSandbox,
            SandboxSeen::Absent if seen.on_disk => Action::Remove,
            SandboxSeen::Absent => Action::Release,
        },
        Want::Stopped => match seen.sandbox {
            SandboxSeen::Running { .. } => Action::StopSandbox,
            SandboxSeen::Ended => Action::CleanSandbox,
            SandboxSeen::Absent if seen.mounted => Action::CleanSandbox,
            SandboxSeen::Absent => Action::Idle,
        },
        Want::Running { restart } => running(restart.as_ref(), seen, now),
    }
}

fn running(restart: Option<&String>, seen: &Seen, now: Timestamp) -> Action {
    if seen.allocated && restart.is_some() && restart != seen.restarted_at.as_ref() {
        return match seen.sandbox {
            SandboxSeen::Running { .. } => Action::StopSandbox,
            SandboxSeen::Ended => Action::CleanSandbox,
            SandboxSeen::Absent => Action::Forget,
        };
    }
    let stays = |failure: &&Failure| {
        !failure.hook || matches!(seen.sandbox, SandboxSeen::Running { agent: true })
    };
    if let Some(failure) = seen.failure.as_ref().filter(stays) {
        if !failure.transient {
            return Action::Idle;
        }
        let due = failure
            .at
            .saturating_add(backoff(failure.count))
            .unwrap_or(Timestamp::MAX);
        if due > now {
            return Action::WaitUntil(due);
        }
    }
    match seen.sandbox {
        SandboxSeen::Ended => Action::CleanSandbox,
        SandboxSeen::Running { agent: false } => Action::AwaitAgent,
        SandboxSeen::Running { agent: true } if seen.services_left => Action::RaiseServices,
        SandboxSeen::Running { agent: true } if !seen.session => Action::PrepareSession,
        SandboxSeen::Running { agent: true } => seen
            .hooks_left
            .first()
            .map_or(Action::Idle, |hook| Action::RunHook(*hook)),
        SandboxSeen::Absent if !seen.allocated => Action::Allocate,
        SandboxSeen::Absent if !seen.source => Action::FetchSource,
        SandboxSeen::Absent if !seen.configured => Action::Configure,
        SandboxSeen::Absent if !seen.image => Action::FetchImage,
        SandboxSeen::Absent if !seen.resolved => Action::Resolve,
        SandboxSeen::Absent => Action::StartSandbox,
    }
}

/// Pause after the `count`th failure in a row.
#[must_use]
pub fn backoff(count: u32) -> SignedDuration {
    let doublings = count.saturating_sub(1).min(16);
    BACKOFF_FIRST
        .checked_mul(1 << doublings)
        .unwrap_or(BACKOFF_LAST)
        .min(BACKOFF_LAST)
}

#[cfg(test)]
mod tests;
