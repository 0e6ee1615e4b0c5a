//! Cases that cannot pass yet, each with its reason. They count as skipped; the environment
//! variable `BOATYARD_PENDING` runs them all the same.

const PENDING: &[(&str, &str)] = &[
    (
        "build-dockerfile-args-target",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "build-image-reuse",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "compose-service-runservices",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "devcontainer-id-default-labels",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "discovery-dotdir-wins",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "dotfiles-install-script",
        "there is no `boatyard devcontainer` yet",
    ),
    ("error-no-config", "there is no `boatyard devcontainer` yet"),
    ("exec-remote-env", "there is no `boatyard devcontainer` yet"),
    (
        "exec-streams-and-exit-code",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "feature-container-env",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "feature-entrypoints-run",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "feature-hooks-before-config",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "feature-install-failure",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "feature-options-env",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "feature-user-env",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "jsonc-comments-trailing-commas",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "label-single-object",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "lifecycle-failure-stops",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "lifecycle-order-forms",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "lifecycle-prebuild",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "lifecycle-second-up",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "lifecycle-secrets",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "lifecycle-skip-non-blocking",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "merge-env-per-variable",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "merge-flags-union",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "merge-host-requirements",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "merge-local-features",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "merge-mounts-by-target",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "mounts-and-workspace",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "order-cycle-fails",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "order-depends-on-transitive",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "order-installs-after-chain",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "order-override-pulls-forward",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "override-config-content",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "registry-feature-and-lockfile",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "registry-resolve-order",
        "there is no `boatyard devcontainer` yet",
    ),
    ("templates-apply", "there is no `boatyard devcontainer` yet"),
    (
        "update-remote-user-uid",
        "there is no `boatyard devcontainer` yet",
    ),
    ("user-env-probe", "there is no `boatyard devcontainer` yet"),
    (
        "users-container-and-remote",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "vars-localenv-defaults",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "vars-localenv-without-name",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "vars-paths-nested",
        "there is no `boatyard devcontainer` yet",
    ),
    (
        "workspace-git-root",
        "there is no `boatyard devcontainer` yet",
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
