//! Cases that cannot pass yet, each with its reason. They count as skipped; the environment
//! variable `BOATYARD_PENDING` runs them all the same.

const PENDING: &[(&str, &str)] = &[
    ("build-dockerfile-args-target", "nothing builds images yet"),
    ("build-image-reuse", "nothing builds images yet"),
    (
        "compose-service-runservices",
        "there are no Compose services yet",
    ),
    (
        "devcontainer-id-default-labels",
        "environments of devcontainer up are not there yet",
    ),
    (
        "dotfiles-install-script",
        "environments of devcontainer up are not there yet",
    ),
    (
        "exec-remote-env",
        "environments of devcontainer up are not there yet",
    ),
    (
        "exec-streams-and-exit-code",
        "environments of devcontainer up are not there yet",
    ),
    ("feature-container-env", "nothing builds images yet"),
    ("feature-entrypoints-run", "nothing builds images yet"),
    ("feature-hooks-before-config", "nothing builds images yet"),
    ("feature-install-failure", "nothing builds images yet"),
    ("feature-options-env", "nothing builds images yet"),
    ("feature-user-env", "nothing builds images yet"),
    (
        "label-single-object",
        "nothing builds the images of cases yet",
    ),
    (
        "lifecycle-failure-stops",
        "environments of devcontainer up are not there yet",
    ),
    (
        "lifecycle-order-forms",
        "environments of devcontainer up are not there yet",
    ),
    (
        "lifecycle-prebuild",
        "environments of devcontainer up are not there yet",
    ),
    (
        "lifecycle-second-up",
        "environments of devcontainer up are not there yet",
    ),
    (
        "lifecycle-secrets",
        "environments of devcontainer up are not there yet",
    ),
    (
        "lifecycle-skip-non-blocking",
        "environments of devcontainer up are not there yet",
    ),
    (
        "merge-env-per-variable",
        "nothing builds the images of cases yet",
    ),
    (
        "merge-flags-union",
        "nothing builds the images of cases yet",
    ),
    (
        "merge-host-requirements",
        "nothing builds the images of cases yet",
    ),
    (
        "merge-local-features",
        "nothing builds the images of cases yet",
    ),
    (
        "merge-mounts-by-target",
        "nothing builds the images of cases yet",
    ),
    (
        "mounts-and-workspace",
        "environments of devcontainer up are not there yet",
    ),
    ("registry-feature-and-lockfile", "nothing builds images yet"),
    (
        "registry-resolve-order",
        "Features and Templates of registries are not fetched by the command line yet",
    ),
    (
        "templates-apply",
        "Features and Templates of registries are not fetched by the command line yet",
    ),
    (
        "update-remote-user-uid",
        "environments of devcontainer up are not there yet",
    ),
    ("user-env-probe", "nothing builds the images of cases yet"),
    (
        "users-container-and-remote",
        "environments of devcontainer up are not there yet",
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
