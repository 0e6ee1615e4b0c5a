//! Which lifecycle commands run, and how far: the specification's order and its options.
//!
//! A pure function of what is asked and what was done. What a command is and whether one is defined
//! is the runner's to know; that a failed one ends the rest is [`crate::environment`]'s.

use crate::environment::Hook;

/// What a caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The last one to run.
    pub until: Option<Hook>,
    /// Ends after `updateContentCommand`, which runs again.
    pub prebuild: bool,
    /// Ends after `waitFor`'s.
    pub skip_non_blocking: bool,
    /// Without `postAttachCommand`.
    pub skip_post_attach: bool,
    /// Ends before `postStartCommand`.
    pub stop_for_personalization: bool,
}

/// How far a sequence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// To the end.
    Done,
    /// To `waitFor`.
    SkipNonBlocking,
    /// To `updateContentCommand`.
    Prebuild,
    /// To the dotfiles.
    StopForPersonalization,
    /// To the one named.
    Until,
}

/// What is to run, in order, and how far that goes. `wait_for` is None for `initializeCommand`, which
/// runs at the caller's; `done` says which need not run again in this start of the environment.
#[must_use]
pub fn sequence(
    asked: &Asked,
    wait_for: Option<Hook>,
    done: impl Fn(Hook) -> bool,
) -> (Vec<Hook>, Ending) {
    // The nearest end counts; of equal ones the specification's tools name the first here.
    let mut ends = Vec::new();
    if asked.skip_non_blocking {
        ends.push((wait_for, Ending::SkipNonBlocking));
    }
    if asked.prebuild {
        ends.push((Some(Hook::UpdateContent), Ending::Prebuild));
    }
    if asked.stop_for_personalization {
        ends.push((Some(Hook::Dotfiles), Ending::StopForPersonalization));
    }
    if asked.until.is_some() {
        ends.push((asked.until, Ending::Until));
    }
    let nearest = ends.into_iter().min_by_key(|(last, _)| *last);
    let (last, ending) = nearest.unwrap_or((Some(Hook::PostAttach), Ending::Done));
    let runs = |hook: &Hook| match hook {
        Hook::PostAttach => !asked.skip_post_attach,
        Hook::UpdateContent => asked.prebuild || !done(*hook),
        hook => !done(*hook),
    };
    let hooks = Hook::ALL
        .into_iter()
        .filter(|hook| Some(*hook) <= last)
        .filter(runs);
    (hooks.collect(), ending)
}

#[cfg(test)]
mod tests;
