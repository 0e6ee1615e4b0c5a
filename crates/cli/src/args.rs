//! The command line, as data. Man pages and completions are generated from these types.
//!
//! What a verb does is in the module of its noun; nothing here acts.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Development environments on your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "boatyard",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where the API is and which namespace is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Namespace of the environments.
    #[arg(long, short = 'n', global = true, env = "BOATYARD_NAMESPACE", default_value = boatyard_api::DEFAULT_NAMESPACE)]
    pub(crate) namespace: String,
    /// A server elsewhere, as `host:port`; without it, this machine's own.
    #[arg(long, global = true, env = "BOATYARD_SERVER")]
    pub(crate) server: Option<String>,
    /// File with the token for `--server`.
    #[arg(long, global = true, env = "BOATYARD_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificate authority of `--server`.
    #[arg(long, global = true, env = "BOATYARD_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Runner whose images and host are meant.
    #[arg(
        long = "on",
        global = true,
        env = "BOATYARD_RUNNER",
        default_value = "local"
    )]
    pub(crate) runner: String,
    #[command(flatten)]
    pub(crate) local: Local,
}

/// Where this machine's own server keeps things.
#[derive(Clone, Debug, Args)]
pub(crate) struct Local {
    /// Unix socket of this machine's server.
    #[arg(
        long,
        global = true,
        env = "BOATYARD_SOCKET",
        default_value = "/run/boatyard/boatyard.sock"
    )]
    pub(crate) socket: PathBuf,
    /// State of this machine's server and runner.
    #[arg(
        long,
        global = true,
        env = "BOATYARD_STATE_DIR",
        default_value = "/var/lib/boatyard"
    )]
    pub(crate) state_dir: PathBuf,
    /// Name of this host's cgroups and firewall table; differs only where two runners share a host.
    #[arg(
        long,
        global = true,
        env = "BOATYARD_HOST_PREFIX",
        default_value = "boatyard",
        hide = true
    )]
    pub(crate) host_prefix: String,
    /// First address and id range this host's runner uses; differs only where two share a host.
    #[arg(
        long,
        global = true,
        env = "BOATYARD_FIRST_SLOT",
        default_value_t = 0,
        hide = true
    )]
    pub(crate) first_slot: u32,
    /// Leave processes in the share of the processor they were started in: for comparing.
    #[arg(long, global = true, hide = true)]
    pub(crate) no_fair_shares: bool,
}

/// `boatyard build`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Build {
    /// Folder that the Dockerfile copies from, or a git repository's URL.
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// The Dockerfile; without it, the folder's `Dockerfile`.
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// Name of the image; may be given several times.
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// Stage to build; the last without it.
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Build argument, as `NAME=value`; `NAME` alone takes the variable's value.
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// Further context, as `NAME=FOLDER`, `NAME=URL.git#REF` or `NAME=docker-image://REFERENCE`.
    #[arg(long = "build-context", value_name = "NAME=FOLDER")]
    pub(crate) build_contexts: Vec<String>,
    /// Secret, as `id=ID,src=FILE` or `id=ID,env=VARIABLE`.
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub(crate) secrets: Vec<String>,
    /// SSH agent for steps that mount it: `default` takes that of SSH_AUTH_SOCK.
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// Do every step again.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Image in a registry whose steps may be used, as `--cache-to` wrote it.
    #[arg(long, value_name = "NAME|type=registry,ref=NAME")]
    pub(crate) cache_from: Vec<String>,
    /// Where in a registry to keep the steps, for other machines.
    #[arg(long, value_name = "NAME|type=registry,ref=NAME")]
    pub(crate) cache_to: Option<String>,
    /// What it is built for; only this machine's platform is.
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// File that the image is written to as well, as `type=oci,dest=FILE` or `type=docker,dest=FILE`.
    #[arg(short, long, value_name = "type=TYPE,dest=FILE")]
    pub(crate) output: Vec<String>,
    /// Send the image to the registries of its names.
    #[arg(long, requires = "tags")]
    pub(crate) push: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Open an environment for a folder or a repository, and a shell in it.
    Up(Up),
    /// List environments.
    Ls(Ls),
    /// Show what environments use, and why each is slowed, live.
    Top(Top),
    /// Run a command in an environment.
    Exec(Exec),
    /// Open a shell in an environment.
    Sh(Sh),
    /// Show the output of an environment's lifecycle commands.
    Logs {
        /// Environment.
        name: String,
    },
    /// Run an environment's lifecycle commands that are left, and those of attaching, and show their output.
    Hooks(Hooks),
    /// Stop environments; everything written is kept.
    Stop(Names),
    /// Start stopped environments.
    Start(Names),
    /// Stop and start environments, reading their configuration anew.
    Restart(Names),
    /// Delete environments and everything written in them.
    Rm(Rm),
    /// Show everything about an object.
    Describe {
        /// Kind, as `environment`, or the name of an environment.
        kind: String,
        /// Name; absent when the first argument is an environment's name.
        name: Option<String>,
    },
    /// Show objects of any kind.
    Get(Get),
    /// Create or change objects from files.
    Apply {
        /// YAML or JSON file; `-` is standard input.
        #[arg(short, long = "filename", required = true)]
        filename: Vec<PathBuf>,
    },
    /// Build an image from a Dockerfile.
    Build(Build),
    /// Images of this machine's runner.
    #[command(subcommand)]
    Image(Image),
    /// Check whether this host has what environments need.
    Doctor {
        #[command(flatten)]
        output: Output,
    },
    /// Print what this machine's environments use as Prometheus reads it (administrators).
    Metrics,
    /// Run server and runner of this machine in one process.
    Daemon(Daemon),
    /// Run a server alone, for runners elsewhere.
    Server(Server),
    /// Run a runner of a server elsewhere.
    Runner(Runner),
    /// Print a fresh token with which a runner joins; an earlier one of that name is forgotten.
    Token {
        /// Name of the runner.
        runner: String,
    },
    /// Undo what the daemon changed on this host (firewall, forwarding, cgroups), once it has ended
    /// and no environment is left.
    Teardown,
    /// Print a kubeconfig for this machine's server.
    Kubeconfig,
    /// The reference's command line for development containers, by its verbs and flags.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Devcontainer {
        /// Verb and arguments; `--help` shows them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder.
    Man {
        /// Folder.
        directory: PathBuf,
    },
}

/// `up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Folder, or URL of a git repository with an optional `#branch`.
    #[arg(default_value = ".")]
    pub(crate) source: String,
    /// Name of the environment; by default the folder's or repository's.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Image to use instead of the configured or default one.
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// devcontainer.json, relative to the source.
    #[arg(long)]
    pub(crate) config: Option<String>,
    /// EnvironmentClass.
    #[arg(long)]
    pub(crate) class: Option<String>,
    /// Reads the configuration again, builds what changed, and restarts the environment with it;
    /// what was written inside stays.
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Do not open a shell.
    #[arg(long, short)]
    pub(crate) detach: bool,
}

/// `ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Of every namespace.
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Of every namespace.
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
    /// Once, rather than until interrupted; so it is where there is no terminal.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Kind: `environments`, `environmentclasses`, `runners`, `events`, `namespaces`, `leases`.
    pub(crate) kind: String,
    /// Name; all when absent.
    pub(crate) name: Option<String>,
    /// Of every namespace.
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
    /// Label selector.
    #[arg(long, short = 'l')]
    pub(crate) selector: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// How listings are printed.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Output {
    /// Format.
    #[arg(long = "output", short = 'o', value_enum)]
    pub(crate) format: Option<Format>,
}

/// Formats of listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// A table with every column.
    Wide,
    /// `kind/name` lines.
    Name,
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Environment.
    pub(crate) name: String,
    /// User inside; the configured one by default.
    #[arg(long, short)]
    pub(crate) user: Option<String>,
    /// Working directory inside; the workspace by default.
    #[arg(long, short)]
    pub(crate) workdir: Option<String>,
    /// Variable `NAME=value`; may be repeated.
    #[arg(long, short)]
    pub(crate) env: Vec<String>,
    /// Use a terminal inside even when standard input is none here.
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Use no terminal inside.
    #[arg(long, short = 'T', conflicts_with = "tty")]
    pub(crate) no_tty: bool,
    /// Program and arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// `sh`.
#[derive(Debug, Args)]
pub(crate) struct Sh {
    /// Environment.
    pub(crate) name: String,
    /// User inside; the configured one by default.
    #[arg(long, short)]
    pub(crate) user: Option<String>,
}

/// `hooks`.
#[derive(Debug, Args)]
pub(crate) struct Hooks {
    /// Environment.
    pub(crate) name: String,
    /// The last command to run, for example `postCreateCommand`.
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// End after updateContentCommand, which runs again.
    #[arg(long)]
    pub(crate) prebuild: bool,
    /// End after the command that waitFor names.
    #[arg(long)]
    pub(crate) skip_non_blocking: bool,
    /// Leave postAttachCommand out.
    #[arg(long)]
    pub(crate) skip_post_attach: bool,
    /// JSON file of variables for the commands alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets_file: Option<PathBuf>,
    /// Repository of dotfiles to install: a URL, a path inside, or owner/name on GitHub.
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) dotfiles: Option<String>,
    /// Program in the dotfiles to run.
    #[arg(long, value_name = "PROGRAM", requires = "dotfiles")]
    pub(crate) dotfiles_install: Option<String>,
    /// Where the dotfiles are cloned to; ~/dotfiles by default.
    #[arg(long, value_name = "PATH", requires = "dotfiles")]
    pub(crate) dotfiles_target: Option<String>,
}

/// Names of environments.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Environments.
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// Do not wait until it is done.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// `rm`.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[command(flatten)]
    pub(crate) names: Names,
    /// Do not ask, and do not fail when there is none.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// `image`.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// List images.
    Ls {
        #[command(flatten)]
        output: Output,
    },
    /// Pull an image from its registry.
    Pull {
        /// Image.
        reference: String,
    },
    /// Make a base image from the distribution's mirror, without a registry.
    Bootstrap {
        /// `debian:bookworm` and its like.
        reference: String,
        /// Package to add; may be repeated.
        #[arg(long = "include")]
        packages: Vec<String>,
        /// Do nothing when the image is there.
        #[arg(long)]
        if_missing: bool,
    },
    /// Import an OCI layout or a docker archive.
    Import {
        /// File or folder; `-` is standard input.
        path: PathBuf,
        /// Name to give it.
        #[arg(long)]
        tag: Option<String>,
    },
    /// Export an image.
    Export {
        /// Image.
        reference: String,
        /// File to write; `-` is standard output.
        path: PathBuf,
        /// Form.
        #[arg(long, value_enum, default_value = "oci")]
        format: Archive,
    },
    /// Give an image a further name.
    Tag {
        /// Image.
        reference: String,
        /// Further name.
        tag: String,
    },
    /// Remove a name of an image.
    Rm {
        /// Images.
        #[arg(required = true)]
        references: Vec<String>,
    },
    /// Remove layers that nothing uses.
    Prune {
        /// Of what builds keep for later, how much stays: what was used last, as
        /// `10Gi`. Without it 20Gi; what was not used for a week never does.
        #[arg(long, value_name = "SIZE", value_parser = crate::sizes::bytes)]
        keep_cache: Option<u64>,
    },
}

/// Form of an exported image.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Archive {
    /// Tar of an OCI image layout.
    Oci,
    /// What `docker save` writes.
    Docker,
}

/// `server`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Server {
    #[command(subcommand)]
    pub(crate) verb: Option<ServerVerb>,
    /// Listen for TLS connections here.
    #[arg(long, required = true)]
    pub(crate) listen: Option<SocketAddr>,
    /// Further name or address in its certificate; may be repeated.
    #[arg(long = "name")]
    pub(crate) names: Vec<String>,
    /// `host:port` at which other servers on the same store reach this one; by default `--listen`.
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    #[command(flatten)]
    pub(crate) database: Database,
}

/// `server`: what is done with its store.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerVerb {
    /// Write everything the running server stores into a file; it holds keys and is for root alone.
    Backup {
        /// File; it must not exist.
        file: PathBuf,
    },
    /// Put a backup into a new store, before a server is started on it.
    Restore {
        /// What `backup` wrote.
        file: PathBuf,
        #[command(flatten)]
        database: Database,
    },
    /// Read and check the whole store of a server that does not run, or on a database.
    Check {
        #[command(flatten)]
        database: Database,
    },
}

/// Where a server keeps its objects.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Database {
    /// PostgreSQL database to keep everything in, for several servers, as
    /// `postgres://USER@HOST1,HOST2/NAME?sslmode=verify-full`; without it, a file in --state-dir.
    #[arg(
        long = "database",
        env = "BOATYARD_DATABASE",
        hide_env_values = true,
        conflicts_with = "database_file"
    )]
    pub(crate) address: Option<String>,
    /// File with the address of the database, so that its password is on no command line.
    #[arg(id = "database_file", long = "database-file")]
    pub(crate) file: Option<PathBuf>,
}

/// `runner`; the server is `--server`, `--token-file` and `--ca-file`.
#[derive(Debug, Args)]
pub(crate) struct Runner {
    /// Name of its Runner object.
    #[arg(long)]
    pub(crate) name: String,
    /// Endpoint to use for a registry, as `docker.io=http://127.0.0.1:5000`; may be repeated.
    #[arg(long = "mirror", env = "BOATYARD_MIRRORS", value_delimiter = ',')]
    pub(crate) mirrors: Vec<String>,
    #[command(flatten)]
    pub(crate) devices: Devices,
    #[command(flatten)]
    pub(crate) uplink: Uplink,
    #[command(flatten)]
    pub(crate) garbage: Garbage,
}

/// Devices of a runner's host.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// Folder with descriptions of devices (Container Device Interface); may be repeated, and a
    /// later one stands over an earlier.
    #[arg(
        long = "cdi-dir",
        env = "BOATYARD_CDI_DIRS",
        value_delimiter = ':',
        default_values = boatyard_runner::cdi::DIRECTORIES
    )]
    pub(crate) directories: Vec<PathBuf>,
    /// Swap in compressed memory (zram) for so much, such as 4Gi: what environments hold that idle goes
    /// there while the host is short of memory. Once made, it stays until the host is started anew.
    #[arg(long, value_name = "SIZE", env = "BOATYARD_ZRAM", value_parser = crate::sizes::bytes)]
    pub(crate) zram: Option<u64>,
}

/// What a runner's host has of the way to the outside.
#[derive(Debug, Args)]
pub(crate) struct Uplink {
    /// Bits a second that this host can send to the outside, as 50M: environments share that equally,
    /// small packets first. Without it nobody waits here, and who sends most has most.
    #[arg(long, value_name = "RATE", env = "BOATYARD_UPLINK_EGRESS", value_parser = crate::sizes::rate)]
    pub(crate) uplink_egress: Option<u64>,
    /// Bits a second that it can receive, likewise.
    #[arg(long, value_name = "RATE", env = "BOATYARD_UPLINK_INGRESS", value_parser = crate::sizes::rate)]
    pub(crate) uplink_ingress: Option<u64>,
}

/// When a runner removes cache that nobody uses: layers and mounts that only builds would use
/// again, images made up for environments, and pulled images.
#[derive(Debug, Args)]
pub(crate) struct Garbage {
    /// Percent of the state directory's file system from which on unused cache is removed, what
    /// was used longest ago first.
    #[arg(long, env = "BOATYARD_GC_HIGH", value_name = "PERCENT", default_value_t = 85,
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) gc_high: u8,
    /// Percent down to which it is removed then.
    #[arg(long, env = "BOATYARD_GC_LOW", value_name = "PERCENT", default_value_t = 80,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) gc_low: u8,
    /// Size that builds' cache may have, however much room there is, as `10Gi`.
    #[arg(long, env = "BOATYARD_GC_CACHE", value_name = "SIZE", default_value = "20Gi", value_parser = crate::sizes::bytes)]
    pub(crate) gc_cache: u64,
    /// How long builds' cache stays unused, as `36h` or `7d`.
    #[arg(long, env = "BOATYARD_GC_CACHE_AGE", value_name = "TIME", default_value = "7d", value_parser = crate::sizes::duration)]
    pub(crate) gc_cache_age: Duration,
    /// How long pulled images stay unused; without it for as long as there is room.
    #[arg(long, env = "BOATYARD_GC_IMAGE_AGE", value_name = "TIME", value_parser = crate::sizes::duration)]
    pub(crate) gc_image_age: Option<Duration>,
    /// What was used within this time stays, however full the disk is.
    #[arg(long, env = "BOATYARD_GC_MIN_AGE", value_name = "TIME", default_value = "10m", value_parser = crate::sizes::duration)]
    pub(crate) gc_min_age: Duration,
    /// Between two looks at the disk.
    #[arg(long, env = "BOATYARD_GC_INTERVAL", value_name = "TIME", default_value = "1m", value_parser = crate::sizes::duration)]
    pub(crate) gc_interval: Duration,
}

/// `daemon`.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// Also listen for TLS connections here.
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// Leave the terminal's session; used when `up` starts the daemon.
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
    /// Endpoint to use for a registry, as `docker.io=http://127.0.0.1:5000`; may be repeated.
    #[arg(long = "mirror", env = "BOATYARD_MIRRORS", value_delimiter = ',')]
    pub(crate) mirrors: Vec<String>,
    #[command(flatten)]
    pub(crate) devices: Devices,
    #[command(flatten)]
    pub(crate) uplink: Uplink,
    #[command(flatten)]
    pub(crate) garbage: Garbage,
}
