//! The reference's command line, as data: verbs, flags and what it refuses.
//!
//! Flags that say how the reference drives Docker are taken and have no effect; those of a group
//! are in one struct. What a verb does is in the module of its name.

use clap::{Args, Parser, Subcommand};

/// `devcontainer`.
#[derive(Debug, Parser)]
#[command(name = "devcontainer", version = super::VERSION, about = "Development containers, as the reference command line runs them.", args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create and run an environment.
    Up(Box<Up>),
    /// Set up an existing environment.
    SetUp(Box<SetUp>),
    /// Build an image.
    Build(Box<Build>),
    /// Run the lifecycle commands.
    RunUserCommands(Box<RunUserCommands>),
    /// Show the configuration.
    ReadConfiguration(Box<ReadConfiguration>),
    /// Show current and available versions of Features.
    Outdated(Outdated),
    /// Write the lockfile anew.
    Upgrade(Upgrade),
    /// Features.
    #[command(subcommand)]
    Features(Features),
    /// Templates.
    #[command(subcommand)]
    Templates(Templates),
    /// Run a command in an environment.
    Exec(Box<Exec>),
    /// Stop an environment; everything written is kept.
    Stop(Box<Stop>),
    /// Delete an environment.
    Down(Box<Stop>),
}

/// How a verb logs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Logging {
    /// How much is logged.
    #[arg(long, value_parser = ["info", "debug", "trace"], default_value = "info")]
    pub(crate) log_level: String,
    /// Form of the log.
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    pub(crate) log_format: String,
    /// Columns of the terminal.
    #[arg(long, requires = "terminal_rows")]
    pub(crate) terminal_columns: Option<u16>,
    /// Rows of the terminal.
    #[arg(long, requires = "terminal_columns")]
    pub(crate) terminal_rows: Option<u16>,
    #[command(flatten)]
    pub(crate) ignored: Ignored,
}

/// What verbs that need no environment take.
#[derive(Clone, Debug, Args)]
pub(crate) struct General {
    #[command(flatten)]
    pub(crate) ignored: Ignored,
    /// How much is logged.
    #[arg(long, value_parser = ["info", "debug", "trace"], default_value = "info")]
    pub(crate) log_level: String,
}

/// The same of verbs that may log errors alone.
#[derive(Clone, Debug, Args)]
pub(crate) struct GeneralOrError {
    #[command(flatten)]
    pub(crate) ignored: Ignored,
    /// How much is logged.
    #[arg(long, value_parser = ["error", "info", "debug", "trace"], default_value = "info")]
    pub(crate) log_level: String,
}

/// What drives Docker, and what keeps state elsewhere.
#[derive(Clone, Debug, Args)]
pub(crate) struct Ignored {
    /// Ignored: there is no Docker here.
    #[arg(long)]
    pub(crate) docker_path: Option<String>,
    /// Ignored: there is no Docker here.
    #[arg(long)]
    pub(crate) docker_compose_path: Option<String>,
    /// Ignored: what Boatyard keeps is outside of the environment.
    #[arg(long)]
    pub(crate) container_data_folder: Option<String>,
    /// Ignored: what Boatyard keeps is outside of the environment.
    #[arg(long)]
    pub(crate) container_system_data_folder: Option<String>,
    /// Ignored: what Boatyard keeps is outside of the environment.
    #[arg(long)]
    pub(crate) container_session_data_folder: Option<String>,
    /// Ignored: what Boatyard keeps is in its state directory.
    #[arg(long)]
    pub(crate) user_data_folder: Option<String>,
    /// As in the reference.
    #[arg(long, hide = true)]
    pub(crate) skip_feature_auto_mapping: bool,
    /// Ignored: credentials are sent to their registry alone.
    #[arg(long)]
    pub(crate) oci_auth_hardening: bool,
    /// Ignored: credentials are sent to their registry alone.
    #[arg(long, num_args = 1..)]
    pub(crate) allow_cross_origin_auth_host: Vec<String>,
}

/// Which configuration.
#[derive(Clone, Debug, Args)]
pub(crate) struct Chosen {
    /// Folder to open; the current one by default.
    #[arg(long)]
    pub(crate) workspace_folder: Option<String>,
    /// Mount the repository around the folder.
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    pub(crate) mount_workspace_git_root: bool,
    /// Mount the common directory of a git worktree too.
    #[arg(long)]
    pub(crate) mount_git_worktree_common_dir: bool,
    /// Label NAME=VALUE that finds the environment; may be repeated.
    #[arg(long, value_parser = id_label)]
    pub(crate) id_label: Vec<String>,
    /// devcontainer.json.
    #[arg(long)]
    pub(crate) config: Option<String>,
    /// File read instead of the devcontainer.json.
    #[arg(long)]
    pub(crate) override_config: Option<String>,
}

/// Which environment and configuration.
#[derive(Clone, Debug, Args)]
pub(crate) struct Found {
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// Id or name of the environment.
    #[arg(long)]
    pub(crate) container_id: Option<String>,
}

/// Dotfiles of a person.
#[derive(Clone, Debug, Args)]
pub(crate) struct Dotfiles {
    /// Repository of dotfiles.
    #[arg(long)]
    pub(crate) dotfiles_repository: Option<String>,
    /// Command that installs the dotfiles.
    #[arg(long)]
    pub(crate) dotfiles_install_command: Option<String>,
    /// Where dotfiles are cloned to; `~/dotfiles` by default.
    #[arg(long)]
    pub(crate) dotfiles_target_path: Option<String>,
}

/// What happens to the lockfile.
#[derive(Clone, Debug, Args)]
pub(crate) struct Lock {
    /// Neither read nor write the lockfile.
    #[arg(long)]
    pub(crate) no_lockfile: bool,
    /// Fail when the lockfile would change.
    #[arg(long)]
    pub(crate) frozen_lockfile: bool,
    /// As in the reference.
    #[arg(long, hide = true)]
    pub(crate) experimental_lockfile: bool,
    /// As in the reference.
    #[arg(long, hide = true)]
    pub(crate) experimental_frozen_lockfile: bool,
}

/// `up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    #[command(flatten)]
    pub(crate) dotfiles: Dotfiles,
    #[command(flatten)]
    pub(crate) lock: Lock,
    /// Ignored: a mount is always consistent.
    #[arg(long, value_parser = ["consistent", "cached", "delegated"], default_value = "cached")]
    pub(crate) workspace_mount_consistency: String,
    /// Whether there is a GPU.
    #[arg(long, value_parser = ["all", "detect", "none"], default_value = "detect")]
    pub(crate) gpu_availability: String,
    /// userEnvProbe when the configuration gives none.
    #[arg(long, value_parser = ["none", "loginInteractiveShell", "interactiveShell", "loginShell"], default_value = "loginInteractiveShell")]
    pub(crate) default_user_env_probe: String,
    /// updateRemoteUserUID when the configuration gives none.
    #[arg(long, value_parser = ["never", "on", "off"], default_value = "on")]
    pub(crate) update_remote_user_uid_default: String,
    /// Delete the environment first, if there is one.
    #[arg(long)]
    pub(crate) remove_existing_container: bool,
    /// Build without a cache.
    #[arg(long)]
    pub(crate) build_no_cache: bool,
    /// Fail when there is no environment.
    #[arg(long)]
    pub(crate) expect_existing_container: bool,
    /// Run no lifecycle command and install no dotfiles.
    #[arg(long)]
    pub(crate) skip_post_create: bool,
    /// Stop after the command that waitFor names.
    #[arg(long)]
    pub(crate) skip_non_blocking_commands: bool,
    /// Stop after updateContentCommand, which runs again.
    #[arg(long)]
    pub(crate) prebuild: bool,
    /// Mount type=bind|volume,source=S,target=T; may be repeated.
    #[arg(long, value_parser = mount)]
    pub(crate) mount: Vec<String>,
    /// Variable NAME=VALUE of commands; may be repeated.
    #[arg(long, value_parser = remote_env)]
    pub(crate) remote_env: Vec<String>,
    /// Image to take cached layers from; may be repeated.
    #[arg(long)]
    pub(crate) cache_from: Vec<String>,
    /// Where the cache is written to.
    #[arg(long)]
    pub(crate) cache_to: Option<String>,
    /// Ignored: the builder is Boatyard’s own.
    #[arg(long, value_parser = ["auto", "never"], default_value = "auto")]
    pub(crate) buildkit: String,
    /// Features beside the configuration’s, as JSON.
    #[arg(long)]
    pub(crate) additional_features: Option<String>,
    /// Do not run postAttachCommand.
    #[arg(long)]
    pub(crate) skip_post_attach: bool,
    /// As in the reference.
    #[arg(long, hide = true)]
    pub(crate) omit_config_remote_env_from_metadata: bool,
    /// JSON file with variables for lifecycle commands alone.
    #[arg(long)]
    pub(crate) secrets_file: Option<String>,
    /// As in the reference.
    #[arg(long, hide = true)]
    pub(crate) omit_syntax_directive: bool,
    /// Show the configuration in the result.
    #[arg(long)]
    pub(crate) include_configuration: bool,
    /// Show the merged configuration in the result.
    #[arg(long)]
    pub(crate) include_merged_configuration: bool,
}

/// `set-up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SetUp {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(flatten)]
    pub(crate) dotfiles: Dotfiles,
    /// devcontainer.json.
    #[arg(long)]
    pub(crate) config: Option<String>,
    /// userEnvProbe when the configuration gives none.
    #[arg(long, value_parser = ["none", "loginInteractiveShell", "interactiveShell", "loginShell"], default_value = "loginInteractiveShell")]
    pub(crate) default_user_env_probe: String,
    /// Run no lifecycle command and install no dotfiles.
    #[arg(long)]
    pub(crate) skip_post_create: bool,
    /// Stop after the command that waitFor names.
    #[arg(long)]
    pub(crate) skip_non_blocking_commands: bool,
    /// Variable NAME=VALUE of commands; may be repeated.
    #[arg(long, value_parser = remote_env)]
    pub(crate) remote_env: Vec<String>,
    /// Show the configuration in the result.
    #[arg(long)]
    pub(crate) include_configuration: bool,
    /// Show the merged configuration in the result.
    #[arg(long)]
    pub(crate) include_merged_configuration: bool,
    /// Id or name of the environment.
    #[arg(long)]
    pub(crate) container_id: String,
}

/// `build`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(flatten)]
    pub(crate) lock: Lock,
    /// Folder to open; the current one by default.
    #[arg(long)]
    pub(crate) workspace_folder: Option<String>,
    /// devcontainer.json.
    #[arg(long)]
    pub(crate) config: Option<String>,
    /// Build without a cache.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Name of the image; may be repeated.
    #[arg(long)]
    pub(crate) image_name: Vec<String>,
    /// Image to take cached layers from; may be repeated.
    #[arg(long)]
    pub(crate) cache_from: Vec<String>,
    /// Where the cache is written to.
    #[arg(long)]
    pub(crate) cache_to: Option<String>,
    /// Ignored: the builder is Boatyard’s own.
    #[arg(long, value_parser = ["auto", "never"], default_value = "auto")]
    pub(crate) buildkit: String,
    /// Platforms to build for.
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Push the image to its registry.
    #[arg(long)]
    pub(crate) push: bool,
    /// Label NAME=VALUE of the image; may be repeated.
    #[arg(long)]
    pub(crate) label: Vec<String>,
    /// Where the image goes instead of the local store.
    #[arg(long)]
    pub(crate) output: Option<String>,
    /// Features beside the configuration’s, as JSON.
    #[arg(long)]
    pub(crate) additional_features: Option<String>,
    /// As in the reference.
    #[arg(long, hide = true)]
    pub(crate) skip_persisting_customizations_from_features: bool,
    /// As in the reference.
    #[arg(long, hide = true)]
    pub(crate) omit_syntax_directive: bool,
    /// As in the reference, which ignores it.
    pub(crate) path: Option<String>,
}

/// `run-user-commands`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunUserCommands {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(flatten)]
    pub(crate) found: Found,
    #[command(flatten)]
    pub(crate) dotfiles: Dotfiles,
    /// userEnvProbe when the configuration gives none.
    #[arg(long, value_parser = ["none", "loginInteractiveShell", "interactiveShell", "loginShell"], default_value = "loginInteractiveShell")]
    pub(crate) default_user_env_probe: String,
    /// Stop after the command that waitFor names.
    #[arg(long)]
    pub(crate) skip_non_blocking_commands: bool,
    /// Stop after updateContentCommand, which runs again.
    #[arg(long)]
    pub(crate) prebuild: bool,
    /// Stop before the dotfiles.
    #[arg(long)]
    pub(crate) stop_for_personalization: bool,
    /// Variable NAME=VALUE of commands; may be repeated.
    #[arg(long, value_parser = remote_env)]
    pub(crate) remote_env: Vec<String>,
    /// Do not run postAttachCommand.
    #[arg(long)]
    pub(crate) skip_post_attach: bool,
    /// JSON file with variables for lifecycle commands alone.
    #[arg(long)]
    pub(crate) secrets_file: Option<String>,
}

/// `read-configuration`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReadConfiguration {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(flatten)]
    pub(crate) found: Found,
    /// Show the Features in the result.
    #[arg(long)]
    pub(crate) include_features_configuration: bool,
    /// Show the merged configuration in the result.
    #[arg(long)]
    pub(crate) include_merged_configuration: bool,
    /// Features beside the configuration’s, as JSON.
    #[arg(long)]
    pub(crate) additional_features: Option<String>,
}

/// `exec`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(flatten)]
    pub(crate) found: Found,
    /// userEnvProbe when the configuration gives none.
    #[arg(long, value_parser = ["none", "loginInteractiveShell", "interactiveShell", "loginShell"], default_value = "loginInteractiveShell")]
    pub(crate) default_user_env_probe: String,
    /// Variable NAME=VALUE of commands; may be repeated.
    #[arg(long, value_parser = remote_env)]
    pub(crate) remote_env: Vec<String>,
    /// Program and arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// `stop` and `down`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(flatten)]
    pub(crate) found: Found,
}

/// `outdated`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Outdated {
    #[command(flatten)]
    pub(crate) logging: Logging,
    /// Folder to open; the current one by default.
    #[arg(long)]
    pub(crate) workspace_folder: Option<String>,
    /// devcontainer.json.
    #[arg(long)]
    pub(crate) config: Option<String>,
    /// Form of the output.
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    pub(crate) output_format: String,
}

/// `upgrade`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) general: GeneralOrError,
    /// Folder to open; the current one by default.
    #[arg(long)]
    pub(crate) workspace_folder: Option<String>,
    /// devcontainer.json.
    #[arg(long)]
    pub(crate) config: Option<String>,
    /// Show the lockfile instead of writing it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Feature whose version is written into the configuration.
    #[arg(long, short, hide = true, requires = "target_version")]
    pub(crate) feature: Option<String>,
    /// The version.
    #[arg(long, short = 'v', hide = true, requires = "feature")]
    pub(crate) target_version: Option<String>,
}

/// `features`.
#[derive(Debug, Subcommand)]
pub(crate) enum Features {
    /// Test Features.
    Test(FeaturesTest),
    /// Pack Features.
    Package(Package),
    /// Pack and publish Features.
    Publish(Publish),
    /// Show what a registry says of a Feature.
    Info(Info),
    /// Show the order in which a configuration's Features are installed.
    ResolveDependencies(Resolve),
    /// Write the documentation of Features.
    GenerateDocs(Docs),
}

/// `templates`.
#[derive(Debug, Subcommand)]
pub(crate) enum Templates {
    /// Put a Template's files into a folder.
    Apply(Apply),
    /// Pack and publish Templates.
    Publish(Publish),
    /// Show what a registry says of a Template.
    Metadata(TemplateMetadata),
    /// Write the documentation of Templates.
    GenerateDocs(Docs),
}

/// `features test`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FeaturesTest {
    #[command(flatten)]
    pub(crate) general: General,
    /// Folder with `src` and `test`.
    pub(crate) target: Option<String>,
    /// Folder with `src` and `test`.
    #[arg(long, short, default_value = ".")]
    pub(crate) project_folder: String,
    /// Features to test; all by default.
    #[arg(long, short, num_args = 1.., conflicts_with = "global_scenarios_only")]
    pub(crate) features: Vec<String>,
    /// Only scenarios whose name contains this.
    #[arg(long, conflicts_with = "skip_scenarios")]
    pub(crate) filter: Option<String>,
    /// Only scenarios of `test/_global`.
    #[arg(long, conflicts_with = "skip_scenarios")]
    pub(crate) global_scenarios_only: bool,
    /// No scenarios.
    #[arg(long)]
    pub(crate) skip_scenarios: bool,
    /// No test.sh.
    #[arg(long)]
    pub(crate) skip_autogenerated: bool,
    /// No duplicate.sh.
    #[arg(long)]
    pub(crate) skip_duplicated: bool,
    /// Choose options of duplicate.sh by chance.
    #[arg(long)]
    pub(crate) permit_randomization: bool,
    /// Base image of tests that are no scenarios.
    #[arg(long, short = 'i', default_value = "ubuntu:focal")]
    pub(crate) base_image: String,
    /// User of tests that are no scenarios.
    #[arg(long, short = 'u')]
    pub(crate) remote_user: Option<String>,
    /// Keep the environments.
    #[arg(long)]
    pub(crate) preserve_test_containers: bool,
    /// Say less.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// `features package`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Package {
    #[command(flatten)]
    pub(crate) general: General,
    /// A Feature's folder, or the folder of several.
    #[arg(default_value = ".")]
    pub(crate) target: String,
    /// Folder to write to.
    #[arg(long, short, default_value = "./output")]
    pub(crate) output_folder: String,
    /// Delete that folder first.
    #[arg(long, short)]
    pub(crate) force_clean_output_folder: bool,
}

/// `features publish` and `templates publish`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    pub(crate) general: General,
    /// Folder of one or of several.
    #[arg(default_value = ".")]
    pub(crate) target: String,
    /// Registry.
    #[arg(long, short, default_value = "ghcr.io")]
    pub(crate) registry: String,
    /// `OWNER/REPOSITORY` below which they are published.
    #[arg(long, short)]
    pub(crate) namespace: String,
}

/// `features info`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) general: General,
    /// Form of the output.
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    pub(crate) output_format: String,
    /// What to show.
    #[arg(value_parser = ["manifest", "tags", "dependencies", "verbose"])]
    pub(crate) mode: String,
    /// Feature.
    pub(crate) feature: String,
}

/// `features resolve-dependencies`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    pub(crate) general: GeneralOrError,
    /// Folder to open; the current one by default.
    #[arg(long)]
    pub(crate) workspace_folder: Option<String>,
}

/// `features generate-docs` and `templates generate-docs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Docs {
    #[command(flatten)]
    pub(crate) general: General,
    /// Folder with `src`.
    #[arg(long, short, default_value = ".")]
    pub(crate) project_folder: String,
    /// Registry.
    #[arg(long, short, default_value = "ghcr.io")]
    pub(crate) registry: String,
    /// `OWNER/REPOSITORY` below which they are published.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    /// Owner on GitHub.
    #[arg(long, default_value = "")]
    pub(crate) github_owner: String,
    /// Repository on GitHub.
    #[arg(long, default_value = "")]
    pub(crate) github_repo: String,
}

/// `templates apply`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) general: General,
    /// Folder to write to; the current one by default.
    #[arg(long, short)]
    pub(crate) workspace_folder: Option<String>,
    /// Template.
    #[arg(long, short)]
    pub(crate) template_id: String,
    /// Its options, as JSON.
    #[arg(long, short = 'a', default_value = "{}")]
    pub(crate) template_args: String,
    /// Features to add, as JSON.
    #[arg(long, short, default_value = "[]")]
    pub(crate) features: String,
    /// Ignored: nothing is kept elsewhere.
    #[arg(long)]
    pub(crate) tmp_dir: Option<String>,
    /// Paths of the Template to leave out, as JSON; a folder's end in `/*`.
    #[arg(long, default_value = "[]")]
    pub(crate) omit_paths: String,
}

/// `templates metadata`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TemplateMetadata {
    #[command(flatten)]
    pub(crate) general: General,
    /// Template.
    pub(crate) template_id: String,
}

fn id_label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        _ => Err("Unmatched argument format: id-label must match <name>=<value>".to_owned()),
    }
}

fn remote_env(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("Unmatched argument format: remote-env must match <name>=<value>".to_owned()),
    }
}

fn mount(text: &str) -> Result<String, String> {
    let mut fields = text.split(',').map(|field| field.split_once('='));
    let mut field = |name: &str| match fields.next() {
        Some(Some((key, value))) if key == name && !value.is_empty() => Some(value),
        _ => None,
    };
    let kind = field("type").is_some_and(|kind| matches!(kind, "bind" | "volume"));
    let places = field("source").is_some() && field("target").is_some();
    let external = match fields.next() {
        None => true,
        Some(Some(("external", "true" | "false"))) => fields.next().is_none(),
        Some(_) => false,
    };
    if kind && places && external {
        return Ok(text.to_owned());
    }
    Err("Unmatched argument format: mount must match type=<bind|volume>,source=<source>,target=<target>[,external=<true|false>]".to_owned())
}
