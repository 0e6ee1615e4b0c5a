//! Which runner an environment goes to.

/// A runner as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its lease is fresh.
    pub alive: bool,
    /// An administrator wants no further environments on it.
    pub unschedulable: bool,
    /// How many environments it has.
    pub environments: usize,
}

/// The runner with the fewest environments, by name when equal; or one sentence saying why none.
///
/// # Errors
/// When no runner is alive and schedulable.
pub fn choose(candidates: &[Candidate]) -> Result<String, String> {
    let fit = candidates
        .iter()
        .filter(|candidate| candidate.alive && !candidate.unschedulable);
    match fit.min_by(|a, b| (a.environments, &a.name).cmp(&(b.environments, &b.name))) {
        Some(runner) => Ok(runner.name.clone()),
        None if candidates.is_empty() => Err("no runner has registered; start one".to_owned()),
        None if candidates.iter().any(|candidate| candidate.alive) => {
            Err("every runner is marked unschedulable; allow one to take environments".to_owned())
        }
        None => Err("no runner is alive; start one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    //! By table.
    use super::*;

    fn candidate(name: &str, alive: bool, unschedulable: bool, environments: usize) -> Candidate {
        Candidate {
            name: name.to_owned(),
            alive,
            unschedulable,
            environments,
        }
    }

    #[test]
    fn the_emptiest_living_runner_is_chosen() {
        let runners = [
            candidate("a", true, false, 2),
            candidate("b", true, false, 1),
            candidate("c", false, false, 0),
            candidate("d", true, true, 0),
        ];
        assert_eq!(choose(&runners), Ok("b".to_owned()));
    }

    #[test]
    fn why_none_fits_is_said() {
        for (runners, word) in [
            (vec![], "registered"),
            (vec![candidate("a", false, false, 0)], "alive"),
            (vec![candidate("a", true, true, 0)], "unschedulable"),
        ] {
            assert!(choose(&runners).is_err_and(|why| why.contains(word)));
        }
    }
}
