//! `boatyard devcontainer` against conformance cases: what a script written for the reference
//! command line sees.
//!
//! Each case is a JSON file: files of a workspace, a command that calls `devcontainer`, and what
//! must come of it. `given` holds those recorded against the reference command line 0.89, `more`
//! what the specification says beside. A case's name is its test's name.
//!
//! Read next: `case` (the format), `place` (where a case runs), `registry`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests"
)]

mod case;
mod expect;
mod pending;
mod place;
mod registry;

use case::Case;
use place::Place;

/// Runs one case; says so when it cannot pass yet.
fn run(file: &str) {
    let case = Case::read(file);
    let all = std::env::var_os("BOATYARD_PENDING").is_some();
    if let Some(reason) = pending::reason(&case.name).filter(|_| !all) {
        println!("skipped: {reason}");
        return;
    }
    let registry = case.registry.as_ref();
    let port = registry.map(|registry| registry.port);
    let server = registry.map(|_| registry::Server::bind());
    let case = case.at(port.zip(server.as_ref().map(registry::Server::port)));
    let place = Place::of(&case);
    place.write_files(&case);
    let _serving = server.map(|server| {
        let artifacts = &case.registry.as_ref().unwrap().artifacts;
        server.serve(&place.workspace(), artifacts)
    });
    for image in &case.images {
        place.build(image);
    }
    let ran = place.run(&case);
    let wrong = expect::judge(&case.expect, &ran);
    let told: Vec<String> = place.logs();
    assert!(
        wrong.is_empty(),
        "{}: {}\n  {}\nexit {}\n--- stdout\n{}\n--- stderr\n{}\n{}",
        case.name,
        case.why,
        wrong.join("\n  "),
        ran.code,
        ran.stdout,
        ran.stderr,
        told.join("\n")
    );
}

macro_rules! cases {
    ($folder:ident: $($name:ident)*) => {
        mod $folder {
            $(#[test]
            fn $name() {
                super::run(&format!("{}/{}", stringify!($folder), stringify!($name).replace('_', "-")));
            })*

            /// Every file of the folder is a test.
            #[test]
            fn none_is_left_out() {
                let mut named: Vec<String> =
                    [$(stringify!($name)),*].map(|name| name.replace('_', "-")).into();
                named.sort();
                assert_eq!(super::case::names(stringify!($folder)), named);
            }
        }
    };
}

cases!(given:
    build_dockerfile_args_target
    build_image_reuse
    compose_service_runservices
    devcontainer_id_default_labels
    discovery_dotdir_wins
    dotfiles_install_script
    error_no_config
    exec_remote_env
    exec_streams_and_exit_code
    feature_container_env
    feature_entrypoints_run
    feature_hooks_before_config
    feature_install_failure
    feature_options_env
    feature_user_env
    jsonc_comments_trailing_commas
    label_single_object
    lifecycle_failure_stops
    lifecycle_order_forms
    lifecycle_prebuild
    lifecycle_second_up
    lifecycle_secrets
    lifecycle_skip_non_blocking
    merge_env_per_variable
    merge_flags_union
    merge_host_requirements
    merge_local_features
    merge_mounts_by_target
    mounts_and_workspace
    order_cycle_fails
    order_depends_on_transitive
    order_installs_after_chain
    order_override_pulls_forward
    override_config_content
    registry_feature_and_lockfile
    registry_resolve_order
    templates_apply
    update_remote_user_uid
    user_env_probe
    users_container_and_remote
    vars_localenv_defaults
    vars_localenv_without_name
    vars_paths_nested
    workspace_git_root
);

cases!(more:
    build_compose
    config_flag_file
    config_missing_file
    discovery_dotfile
    discovery_named_folder
    discovery_several_is_an_error
    down_deletes
    exec_arguments_stay
    exec_before_up
    exec_remote_env_flag
    exec_signal
    exec_without_configuration
    features_configuration_local
    features_generate_docs
    features_info_json
    features_info_missing
    features_package
    features_package_keeps_output
    features_test
    features_test_duplicate
    flag_choice
    flag_forms
    flag_unknown
    id_label_alone
    id_label_malformed
    initialize_failure
    initialize_runs_here
    json_error_has_its_place
    json_not_an_object
    legacy_editor_settings
    lifecycle_failed_hook_is_retried
    lifecycle_parallel
    lifecycle_parallel_failure
    lifecycle_prebuild_result
    lifecycle_remote_env_flag
    lifecycle_skip_post_create
    lifecycle_wait_for
    order_missing_local
    order_none
    order_same_feature_two_options
    outdated_table
    outdated_versions
    override_config_alone
    secrets_unreadable
    set_up_by_id
    stop_keeps_everything
    templates_apply_features
    templates_metadata
    up_by_label
    up_compose_second
    up_expect_existing
    up_in_a_repository
    up_includes_configuration
    up_mount_flag
    up_remove_existing
    up_without_configuration
    upgrade_writes_the_lockfile
    user_env_probe_interactive
    values_are_kept
    workspace_compose
    workspace_folder_alone
    workspace_mount_empty
    workspace_without_a_mount
);
