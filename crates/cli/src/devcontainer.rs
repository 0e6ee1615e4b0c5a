//! `boatyard devcontainer …`: in the place of the reference's command line.
//!
//! Also what this program is when it is called by the name `devcontainer`. Owns the reference's
//! verbs: what they are called, what they take, the JSON on standard output and the exit codes.
//! What an environment is and does is not decided here: verbs read files as the caller and speak
//! to the API as any client does. Logs go to standard error.
//!
//! Read next: `args`, `configuration`, `environment`, then the verbs: `up`, `exec`, `commands`,
//! `read`, `features`, `templates`.

mod args;
mod build;
mod commands;
mod configuration;
mod environment;
mod exec;
mod features;
mod lock;
mod log;
mod publishing;
mod read;
mod registry;
mod result;
mod stop;
mod templates;
mod testing;
mod up;

use crate::args::Global;
use crate::failure::Failure;
use args::{Cli, Verb};
use boatyard_image::collection::Kind;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser};
use std::ffi::OsString;
use std::process::ExitCode;

/// The reference's version whose command line this is.
pub(crate) const VERSION: &str = "0.89.0";
/// The name of the reference's program.
const NAME: &str = "devcontainer";

/// Whether this program was called by the reference's name.
pub(crate) fn is_called_for() -> bool {
    let name = std::env::args_os().next().map(std::path::PathBuf::from);
    name.is_some_and(|name| name.file_name().is_some_and(|name| name == NAME))
}

/// Runs a verb.
pub(crate) async fn run(global: &Global, arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    let arguments = std::iter::once(NAME.into()).chain(plain(&arguments));
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    match cli.verb {
        Verb::ReadConfiguration(read) => read::run(global, &read).await,
        Verb::Up(up) => up::run(global, &up).await,
        Verb::Build(asked) => build::run(global, &asked).await,
        Verb::SetUp(asked) => commands::set_up(global, &asked).await,
        Verb::RunUserCommands(asked) => commands::run_user_commands(global, &asked).await,
        Verb::Exec(exec) => exec::run(global, &exec).await,
        Verb::Stop(stop) => stop::run(global, &stop, false).await,
        Verb::Down(stop) => stop::run(global, &stop, true).await,
        Verb::Features(args::Features::ResolveDependencies(resolve)) => {
            features::resolve(&resolve).await
        }
        Verb::Features(args::Features::Info(info)) => features::info(&info).await,
        Verb::Features(args::Features::Package(package)) => publishing::package(&package),
        Verb::Features(args::Features::Publish(asked)) => {
            publishing::publish(&asked, Kind::Feature).await
        }
        Verb::Features(args::Features::GenerateDocs(asked)) => {
            publishing::docs(&asked, Kind::Feature)
        }
        Verb::Templates(args::Templates::Publish(asked)) => {
            publishing::publish(&asked, Kind::Template).await
        }
        Verb::Templates(args::Templates::GenerateDocs(asked)) => {
            publishing::docs(&asked, Kind::Template)
        }
        Verb::Templates(args::Templates::Apply(apply)) => templates::apply(&apply).await,
        Verb::Templates(args::Templates::Metadata(asked)) => templates::metadata(&asked).await,
        Verb::Outdated(asked) => lock::outdated(&asked).await,
        Verb::Upgrade(asked) => lock::upgrade(&asked).await,
        Verb::Features(args::Features::Test(asked)) => testing::run(global, &asked).await,
    }
}

/// Help and version are as asked for; anything else ends with 1, as the reference does.
fn refused(error: &clap::Error) -> Result<ExitCode, Failure> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let message = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            crate::output::print(&error.to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            let given = text(ContextKind::InvalidArg).or(text(ContextKind::InvalidSubcommand));
            let given = given.unwrap_or_default();
            format!("Unknown argument: {}", given.trim_start_matches('-'))
        }
        // The sentence of whoever judged the value.
        ErrorKind::ValueValidation => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
        }
        _ => error
            .to_string()
            .trim_start_matches("error: ")
            .trim_end()
            .to_owned(),
    };
    Err(Failure::new(message).hint("`devcontainer VERB --help` shows what a verb takes"))
}

/// Arguments as clap takes them. The reference's parser knows `--flag true`, `--flag=false` and
/// `--camelCase`; what follows `exec`'s program is that program's.
fn plain(arguments: &[OsString]) -> Vec<OsString> {
    let mut command = &Cli::command();
    let root = command.clone();
    command = &root;
    let mut plain = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(text) = argument.to_str() else {
            plain.push(argument.clone());
            continue;
        };
        let Some(long) = text.strip_prefix("--") else {
            let deeper = (!text.starts_with('-')).then(|| command.find_subcommand(text));
            plain.push(argument.clone());
            match deeper.flatten() {
                Some(deeper) => command = deeper,
                None if command.get_name() == "exec" && !text.starts_with('-') => {
                    plain.extend(rest.cloned());
                    break;
                }
                None => {}
            }
            continue;
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (kebab(name), Some(value.to_owned())),
            None => (kebab(long), None),
        };
        let known = command
            .get_arguments()
            .find(|known| known.get_long() == Some(&name));
        let Some(known) = known else {
            plain.push(argument.clone());
            if long.is_empty() {
                plain.extend(rest.cloned());
                break;
            }
            continue;
        };
        let takes = matches!(known.get_action(), ArgAction::Set | ArgAction::Append);
        let optional = known
            .get_num_args()
            .is_some_and(|count| count.min_values() == 0);
        let boolean = !takes || optional;
        let mut value = value;
        if boolean && value.is_none() {
            let next = rest.next_if(|next| *next == "true" || *next == "false");
            value = next.map(|next| next.to_string_lossy().into_owned());
        }
        match value {
            Some(value) if !takes => {
                if value != "false" {
                    plain.push(format!("--{name}").into());
                }
            }
            Some(value) => plain.push(format!("--{name}={value}").into()),
            None => {
                plain.push(format!("--{name}").into());
                // Its value, whatever it looks like.
                if takes && !optional {
                    plain.extend(rest.next().cloned());
                }
            }
        }
    }
    plain
}

/// `workspaceFolder` → `workspace-folder`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests;
