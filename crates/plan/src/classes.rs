//! Which EnvironmentClass is large enough for what a configuration asks of its host.
//!
//! A class without a limit gives what its runner has, which is not known here: it is enough, and the
//! last one chosen.

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Required {
    /// Processors.
    pub cpus: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes on disk.
    pub storage: Option<u64>,
    /// A GPU.
    pub gpu: bool,
}

/// What a class allows; None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes on disk.
    pub disk: Option<u64>,
    /// Has a GPU.
    pub gpu: bool,
}

/// What a class lacks, in words; None when it is large enough.
#[must_use]
pub fn lacks(required: &Required, allowed: &Allowed) -> Option<String> {
    let mut lacking = Vec::new();
    if let (Some(cpus), Some(millis)) = (required.cpus, allowed.cpu_millis)
        && cpus.saturating_mul(1000) > millis
    {
        let given = format!("{}.{:03}", millis / 1000, millis % 1000);
        let given = given.trim_end_matches('0').trim_end_matches('.').to_owned();
        lacking.push(format!("{cpus} processors, and it has {given}"));
    }
    for (wanted, given, what) in [
        (required.memory, allowed.memory, "of memory"),
        (required.storage, allowed.disk, "on disk"),
    ] {
        if let (Some(wanted), Some(given)) = (wanted, given)
            && wanted > given
        {
            let (wanted, given) = (wanted >> 20, given >> 20);
            lacking.push(format!("{wanted} MiB {what}, and it has {given}"));
        }
    }
    if required.gpu && !allowed.gpu {
        lacking.push("a GPU, and it has none".to_owned());
    }
    (!lacking.is_empty()).then(|| lacking.join("; "))
}

/// The smallest class that is large enough, of names and limits: without a GPU, then by memory, then
/// processors, then disk, then name.
#[must_use]
pub fn smallest<'a>(
    required: &Required,
    classes: impl IntoIterator<Item = (&'a str, Allowed)>,
) -> Option<&'a str> {
    let enough = classes
        .into_iter()
        .filter(|(_, allowed)| lacks(required, allowed).is_none());
    let size = |allowed: &Allowed| {
        (
            allowed.gpu,
            allowed.memory.unwrap_or(u64::MAX),
            allowed.cpu_millis.unwrap_or(u64::MAX),
            allowed.disk.unwrap_or(u64::MAX),
        )
    };
    enough
        .min_by_key(|(name, allowed)| (size(allowed), *name))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    //! Sizes against wishes.
    use super::*;

    #[test]
    fn the_smallest_class_that_is_large_enough_is_chosen_and_what_lacks_is_said() {
        let gib = |count: u64| Some(count << 30);
        let class = |cpu: Option<u64>, memory| Allowed {
            cpu_millis: cpu,
            memory,
            disk: memory.map(|bytes| bytes * 4),
            gpu: false,
        };
        let classes = [
            ("huge", class(None, None)),
            ("large", class(Some(8000), gib(16))),
            ("small", class(Some(1500), gib(2))),
            ("medium", class(Some(4000), gib(8))),
        ];
        let wish = |cpus, memory| Required {
            cpus,
            memory,
            storage: None,
            gpu: false,
        };
        let stored = |storage| Required {
            storage,
            ..Required::default()
        };
        for (required, name) in [
            (wish(None, None), "small"),
            (wish(Some(2), None), "medium"),
            (wish(Some(2), gib(9)), "large"),
            (wish(Some(16), None), "huge"),
            (stored(gib(8)), "small"),
            (stored(gib(9)), "medium"),
        ] {
            assert_eq!(smallest(&required, classes), Some(name), "{required:?}");
        }
        assert_eq!(smallest(&wish(Some(16), None), classes[1..].to_vec()), None);
        // Who asks for no GPU leaves those that have one to who does.
        let drawing = Allowed {
            gpu: true,
            ..class(Some(1000), gib(1))
        };
        let classes = [&classes[1..], &[("drawing", drawing)]].concat();
        assert_eq!(smallest(&wish(None, None), classes.clone()), Some("small"));
        let mut required = wish(None, None);
        required.gpu = true;
        assert_eq!(smallest(&required, classes.clone()), Some("drawing"));
        assert_eq!(
            lacks(&required, &classes[0].1).as_deref(),
            Some("a GPU, and it has none")
        );
        assert_eq!(
            lacks(&wish(Some(2), gib(4)), &classes[1].1).as_deref(),
            Some("2 processors, and it has 1.5; 4096 MiB of memory, and it has 2048")
        );
        assert_eq!(
            lacks(&stored(gib(10)), &classes[1].1).as_deref(),
            Some("10240 MiB on disk, and it has 8192")
        );
    }
}
