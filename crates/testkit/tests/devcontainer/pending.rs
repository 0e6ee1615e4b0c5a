//! Cases that cannot pass yet, each with its reason. They count as skipped; the environment
//! variable `BOATYARD_PENDING` runs them all the same.

const PENDING: &[(&str, &str)] = &[
    (
        "build-dockerfile-args-target",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "build-image-reuse",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "compose-service-runservices",
        "environments have no Compose services yet",
    ),
    (
        "feature-container-env",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "feature-entrypoints-run",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "feature-hooks-before-config",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "feature-install-failure",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "feature-options-env",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "feature-user-env",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "label-single-object",
        "there is no `boatyard build` that makes the image",
    ),
    (
        "merge-env-per-variable",
        "there is no `boatyard build` that makes the image",
    ),
    (
        "merge-flags-union",
        "there is no `boatyard build` that makes the image",
    ),
    (
        "merge-host-requirements",
        "there is no `boatyard build` that makes the image",
    ),
    (
        "merge-local-features",
        "there is no `boatyard build` that makes the image",
    ),
    (
        "merge-mounts-by-target",
        "there is no `boatyard build` that makes the image",
    ),
    (
        "registry-feature-and-lockfile",
        "environments are not built from Dockerfiles and Features yet",
    ),
    (
        "update-remote-user-uid",
        "the remote user keeps the image's id inside; files outside are the developer's",
    ),
    (
        "user-env-probe",
        "there is no `boatyard build` that makes the image",
    ),
    (
        "users-container-and-remote",
        "the first process is the agent, whatever containerUser says",
    ),
];

/// Why a case cannot pass yet.
pub(crate) fn reason(name: &str) -> Option<&'static str> {
    let found = PENDING.iter().find(|(pending, _)| *pending == name);
    found.map(|(_, reason)| *reason)
}

#[test]
fn every_row_is_a_case() {
    let names = [crate::case::names("given"), crate::case::names("more")].concat();
    for (name, _) in PENDING {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
