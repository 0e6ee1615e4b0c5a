//! Which level a request is of, and how many seats it takes.
//!
//! Pure over what is known before a request is carried out: who asks for what, and how many objects
//! a list of that kind had to look at before. Levels and the estimate are in the spirit of
//! Kubernetes's API priority and fairness.

use crate::identity::Caller;

/// Priority levels, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Runners say that they live: Leases, and their own Runner; servers relay streams.
    System,
    /// What else runners do.
    Runners,
    /// People and programs, with requests about few objects.
    Interactive,
    /// Requests about many objects.
    Bulk,
    /// Activations of the server's control loops, which nobody asks for by a request.
    Controllers,
    /// Never waits: health, and root of this host through its socket, who must always get in.
    Exempt,
}

impl Level {
    pub(crate) const ALL: [Self; 6] = [
        Self::System,
        Self::Runners,
        Self::Interactive,
        Self::Bulk,
        Self::Controllers,
        Self::Exempt,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Runners => "runners",
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
            Self::Controllers => "controllers",
            Self::Exempt => "exempt",
        }
    }
}

/// Objects that one seat stands for, and most seats of a request, as in Kubernetes.
const OBJECTS_PER_SEAT: usize = 100;
pub(crate) const MOST_SEATS: u32 = 10;

/// What is asked, as far as it decides the level.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
    /// A collection is read (list, or the beginning of a watch) or deleted.
    pub(crate) collection: bool,
    /// Objects that have to be looked at, when it is known.
    pub(crate) objects: Option<usize>,
}

/// Seats for a request that looks at so many objects; of an unknown collection the worst is assumed.
pub(crate) fn seats(objects: Option<usize>) -> u32 {
    let wanted = objects.map(|objects| objects.div_ceil(OBJECTS_PER_SEAT));
    let wanted = wanted.and_then(|wanted| u32::try_from(wanted).ok());
    wanted.unwrap_or(MOST_SEATS).clamp(1, MOST_SEATS)
}

/// Level and seats.
pub(crate) fn classify(caller: &Caller, asked: &Asked<'_>) -> (Level, u32) {
    let seats = if asked.collection {
        seats(asked.objects)
    } else {
        1
    };
    let level = if caller.local.is_some_and(|(uid, _)| uid == 0) {
        Level::Exempt
    } else if seats > 1 {
        Level::Bulk
    } else if caller.is_server() {
        Level::System
    } else if caller.runner_name().is_some() {
        match (asked.group, asked.plural) {
            ("coordination.k8s.io", "leases") | ("boatyard.dev", "runners") => Level::System,
            _ => Level::Runners,
        }
    } else {
        Level::Interactive
    };
    (level, seats)
}

#[cfg(test)]
mod tests {
    //! Levels and seats by table.
    use super::*;

    #[test]
    fn a_heartbeat_is_urgent_a_list_of_everything_is_not_and_root_never_waits() {
        let runner = Caller {
            user: "system:runner:r1".to_owned(),
            groups: vec![crate::identity::RUNNERS.to_owned()],
            local: None,
            good: None,
        };
        let (person, root) = (Caller::local(1000, 1000), Caller::local(0, 0));
        let one = |group, plural| Asked {
            group,
            plural,
            ..Asked::default()
        };
        let lease = one("coordination.k8s.io", "leases");
        let environment = one("boatyard.dev", "environments");
        let list = |objects| Asked {
            collection: true,
            objects,
            ..environment
        };
        for (caller, asked, wanted) in [
            (&runner, lease, (Level::System, 1)),
            (&runner, one("boatyard.dev", "runners"), (Level::System, 1)),
            (&runner, environment, (Level::Runners, 1)),
            (&runner, list(Some(5)), (Level::Runners, 1)),
            (&runner, list(Some(5000)), (Level::Bulk, 10)),
            (&person, lease, (Level::Interactive, 1)),
            (&person, environment, (Level::Interactive, 1)),
            (&person, list(Some(0)), (Level::Interactive, 1)),
            (&person, list(Some(100)), (Level::Interactive, 1)),
            (&person, list(Some(101)), (Level::Bulk, 2)),
            (&person, list(Some(usize::MAX)), (Level::Bulk, 10)),
            (&person, list(None), (Level::Bulk, 10)),
            (&root, list(None), (Level::Exempt, 10)),
        ] {
            assert_eq!(classify(caller, &asked), wanted, "{asked:?}");
        }
    }
}
