//! Groups that engines make beside the classes: where an environment has a limit they are builders too, and
//! held below it with them.
//!
//! Looked for now and then, and only few; the rest is held by the environment's limit alone.

use super::watched::{planned, quota};
use boatyard_plan::shares;
use boatyard_sandbox::group::{Group, Quota};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often they are looked for, and their quotas read again: whoever is root inside writes them too.
const LOOK: Duration = Duration::from_secs(2);
/// Most that are looked after.
const MOST: usize = 8;

/// What is known of them.
#[derive(Default)]
pub(super) struct Made {
    looked: Option<Duration>,
    groups: BTreeMap<String, One>,
}

#[derive(Default)]
struct One {
    used: Option<Duration>,
    /// Thousandths of one processor used lately.
    demand: u64,
    stands: Option<Quota>,
}

impl Made {
    /// Looks at them, `passed` after the last time; answers what they used, in the order of
    /// [`Made::hold`]'s quotas. What cannot be read is gone.
    pub(super) fn look(
        &mut self,
        group: &Group,
        now: Duration,
        passed: Option<Duration>,
    ) -> Vec<u64> {
        if self
            .looked
            .is_none_or(|looked| now.saturating_sub(looked) >= LOOK)
        {
            self.looked = Some(now);
            let names = group.cappable().unwrap_or_default();
            self.groups.retain(|name, _| names.contains(name));
            for name in names.into_iter().take(MOST) {
                if let Ok(stands) = group.made_quota(&name) {
                    self.groups.entry(name).or_default().stands = stands;
                }
            }
        }
        self.groups.retain(|name, one| {
            let Ok(used) = group.made_usage(name) else {
                return false;
            };
            let spent = one
                .used
                .replace(used)
                .map(|before| used.saturating_sub(before));
            if let (Some(spent), Some(passed)) = (spent, passed) {
                let millis = spent.as_nanos() * 1000 / passed.as_nanos().max(1);
                one.demand = u64::try_from(millis).unwrap_or(u64::MAX);
            }
            true
        });
        self.groups.values().map(|one| one.demand).collect()
    }

    /// Puts quotas where they are wanted: as many as [`Made::look`] answered, or none.
    pub(super) fn hold(&mut self, group: &Group, wanted: Option<&[shares::Quota]>) {
        for (at, (name, one)) in self.groups.iter_mut().enumerate() {
            let wanted = wanted.and_then(|wanted| wanted.get(at));
            let stands = one.stands.map(planned);
            let differs = match wanted {
                Some(wanted) => shares::differs(wanted, stands.as_ref()),
                None => stands.is_some(),
            };
            if !differs {
                continue;
            }
            let wanted = wanted.copied().map(quota);
            match group.set_made_quota(name, wanted) {
                Ok(()) => one.stands = wanted,
                // It is gone, or of another's making: the next look says.
                Err(error) => tracing::trace!(%error, "a group made inside has no cap"),
            }
        }
    }
}
