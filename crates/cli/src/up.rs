//! `boatyard up`: from a folder or a URL to a shell.
//!
//! Finds or makes the Environment object, follows its status and shows each step with its time,
//! then opens a shell. Interrupted before a new environment is ready, it deletes what it made.

use crate::api;
use crate::args::{Global, Up};
use crate::connect;
use crate::failure::Failure;
use crate::lifecycle::asked_now;
use boatyard_api::environment::{
    Devcontainer, EnvironmentSpec, GitSource, Phase, Source, Step, StepState, WantedState,
};
use boatyard_api::quantity::{bytes, cpu_millis};
use boatyard_api::{Environment, EnvironmentClass};
use boatyard_devcontainer::{Document, Gpu, HostRequirements, ImageMetadata, LocalContext};
use boatyard_link::verbs::{Prepare, Request};
use boatyard_plan::classes::{Allowed, Required, lacks, smallest};
use boatyard_wire::Process;
use indicatif::{ProgressBar, ProgressStyle};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the server may take to say whether it made an environment, once that is interrupted.
const ANSWER: Duration = Duration::from_secs(5);

/// `boatyard up`.
pub(crate) async fn run(global: &Global, up: Up) -> Result<ExitCode, Failure> {
    let source = source(&up.source)?;
    let mut devcontainer = Devcontainer {
        path: up.config.clone(),
        image: up.image.clone(),
        ..Devcontainer::default()
    };
    let (mut builds, mut required) = (false, None);
    if let Some(folder) = &source.folder {
        let root = folder.subfolder.as_ref().map(|_| folder.path.clone());
        let folder = PathBuf::from(folder.opened());
        if let Some((path, text)) = local_configuration(&folder, up.config.as_deref())? {
            let document =
                Document::parse(&path, &text).map_err(|error| Failure::new(error.to_string()))?;
            devcontainer.local_env = local_variables(&document);
            let context = LocalContext::new(&folder.to_string_lossy());
            let project = crate::compose::project(&document, &context)?;
            if let Some(project) = project {
                builds = true;
                devcontainer.local_env.extend(project.variables);
            }
            initialize(&folder, root.clone(), &document, &devcontainer.local_env)?;
            let mut context = LocalContext::new(&folder.to_string_lossy());
            context.local_env.clone_from(&devcontainer.local_env);
            context.repository_root.clone_from(&root);
            context.image_override.clone_from(&devcontainer.image);
            // What the image asks for besides is judged by the runner.
            let plan = document.run_plan(&context, &ImageMetadata::default()).ok();
            required = plan.and_then(|plan| requirements(&plan.host_requirements));
            let wrong = |error: boatyard_devcontainer::Error| Failure::new(error.to_string());
            builds |= document.dockerfile(&context).map_err(wrong)?.is_some()
                || !document
                    .features(&context)
                    .map_err(wrong)?
                    .features
                    .is_empty();
        }
    }
    let endpoint = connect::endpoint(global).await?;
    let client = endpoint.kube();
    let environments = api::environments(&client, &global.namespace);
    let class_name = match (&up.class, required) {
        (Some(class), _) => Some(class.clone()),
        (None, Some(required)) => Some(class_for(&client, &required).await?),
        (None, None) => None,
    };
    let spec = EnvironmentSpec {
        source,
        devcontainer: (devcontainer != Devcontainer::default()).then_some(devcontainer),
        class_name,
        state: WantedState::Running,
        ..EnvironmentSpec::default()
    };
    // From before there is an environment that it could leave behind.
    let mut interrupt = Interrupt::watch()?;
    let found = tokio::select! {
        found = find_or_prepare(global, &environments, &up, &spec, builds) => found?,
        () = interrupt.came() => {
            return Err(Failure::new("interrupted; no environment was made").code(130));
        }
    };
    let made = found.is_none();
    let name = match found {
        Some(name) => name,
        None => tokio::select! {
            made = make(&environments, &up, spec) => made?,
            () = async {
                interrupt.came().await;
                tokio::time::sleep(ANSWER).await;
            } => {
                return Err(Failure::new("interrupted; whether an environment was made is not known")
                    .hint("look for it: boatyard ls")
                    .code(130));
            }
        },
    };
    let shown = follow(&environments, &name);
    let outcome = tokio::select! {
        outcome = shown => outcome,
        () = interrupt.came() => {
            if made {
                eprintln!("interrupted; deleting {name}");
                environments.delete(&name, &DeleteParams::default()).await?;
                api::follow(&environments, &name, |_| None::<()>).await?;
                return Err(Failure::new("interrupted; nothing was left behind").code(130));
            }
            return Err(Failure::new(format!("interrupted; environment {name} goes on starting")).code(130));
        }
    };
    let object = outcome?;
    let status = object.status.unwrap_or_default();
    let folder = status.workspace_folder.unwrap_or_default();
    eprintln!(
        "environment {name} is running: {folder} as {}",
        status.remote_user.unwrap_or_default()
    );
    crate::hooks::attached(&endpoint, &global.namespace, &name, true).await;
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if up.detach || !interactive {
        eprintln!("open a shell with: boatyard sh {name}");
        return Ok(ExitCode::SUCCESS);
    }
    crate::exec::attach(
        &endpoint,
        &global.namespace,
        &name,
        Process {
            stdin: true,
            ..Process::default()
        },
        true,
    )
    .await
}

/// What a configuration asks of its host, as classes have it; None for nothing.
fn requirements(wanted: &HostRequirements) -> Option<Required> {
    let required = Required {
        cpus: wanted.cpus,
        memory: wanted.memory,
        storage: wanted.storage,
        gpu: wanted.gpu == Gpu::Required,
    };
    (required != Required::default()).then_some(required)
}

/// The smallest class that is large enough.
async fn class_for(client: &kube::Client, required: &Required) -> Result<String, Failure> {
    let classes: Api<EnvironmentClass> = Api::all(client.clone());
    let classes = classes.list(&ListParams::default()).await?;
    let allowed = |class: &EnvironmentClass| {
        let resources = &class.spec.resources;
        Allowed {
            cpu_millis: resources.cpu.as_ref().and_then(|cpu| cpu_millis(cpu).ok()),
            memory: resources.memory.as_ref().and_then(|size| bytes(size).ok()),
            disk: resources.disk.as_ref().and_then(|size| bytes(size).ok()),
            gpu: class.spec.has_gpu(),
        }
    };
    let known: Vec<(String, Allowed)> = classes
        .iter()
        .map(|class| (class.name_any(), allowed(class)))
        .collect();
    let offered = known
        .iter()
        .map(|(name, allowed)| (name.as_str(), *allowed));
    smallest(required, offered)
        .map(str::to_owned)
        .ok_or_else(|| {
            let lacking = known.iter().filter_map(|(name, allowed)| {
                Some(format!(
                    "{name}: hostRequirements asks for {}",
                    lacks(required, allowed)?
                ))
            });
            let lacking: Vec<String> = lacking.collect();
            Failure::new(format!(
                "no EnvironmentClass is large enough; {}",
                lacking.join(", ")
            ))
            .hint("make a larger one, or choose one with --class and ask for less")
        })
}

/// What the argument means: a URL with an optional `#branch`, or a folder.
fn source(text: &str) -> Result<Source, Failure> {
    let (location, reference) = text
        .split_once('#')
        .map_or((text, None), |(location, reference)| {
            (location, Some(reference.to_owned()))
        });
    let scp_like = location
        .split_once(':')
        .is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    if location.contains("://") || scp_like {
        return Ok(Source {
            git: Some(GitSource {
                url: location.to_owned(),
                reference,
            }),
            folder: None,
        });
    }
    let path = std::fs::canonicalize(text)
        .map_err(|error| Failure::new(format!("cannot open the folder {text}: {error}")))?;
    if !path.is_dir() {
        return Err(Failure::new(format!("{} is not a folder", path.display()))
            .hint("name the folder that holds the code"));
    }
    let folder = crate::workspace::source(&path)
        .ok_or_else(|| Failure::new("the folder's path is not UTF-8"))?;
    Ok(Source {
        folder: Some(folder),
        git: None,
    })
}

/// The devcontainer.json the runner will find too, as the caller sees it.
fn local_configuration(
    folder: &Path,
    wanted: Option<&str>,
) -> Result<Option<(String, String)>, Failure> {
    let mut candidates: Vec<String> = boatyard_devcontainer::FIXED_CANDIDATES
        .iter()
        .map(|path| (*path).to_owned())
        .collect();
    if let Ok(entries) = std::fs::read_dir(folder.join(".devcontainer")) {
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        candidates.extend(
            names
                .iter()
                .map(|name| format!(".devcontainer/{name}/devcontainer.json")),
        );
    }
    candidates.extend(wanted.map(str::to_owned));
    candidates.retain(|candidate| folder.join(candidate).is_file());
    let found = boatyard_devcontainer::discover(&candidates, wanted)
        .map_err(|error| Failure::from_error(&error))?;
    let Some(path) = found else { return Ok(None) };
    let text = std::fs::read_to_string(folder.join(&path))
        .map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?;
    Ok(Some((path, text)))
}

/// Values of the variables the file asks for with `${localEnv:NAME}`, and of no others.
fn local_variables(document: &Document) -> BTreeMap<String, String> {
    let names = document.local_env_names().into_iter();
    let known = names.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
    known.collect()
}

/// Runs `initializeCommand` here, as the caller, as the specification asks.
#[allow(
    clippy::disallowed_methods,
    reason = "initializeCommand is a command of the caller's own repository, run as the caller"
)]
pub(crate) fn initialize(
    folder: &Path,
    root: Option<String>,
    document: &Document,
    local_env: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let mut context = LocalContext::new(&folder.to_string_lossy());
    context.repository_root = root;
    context.local_env.clone_from(local_env);
    let commands = document
        .initialize(&context)
        .map_err(|error| Failure::new(error.to_string()))?;
    for command in commands {
        eprintln!("initializeCommand: {}", command.argv.join(" "));
        let Some((program, arguments)) = command.argv.split_first() else {
            continue;
        };
        let status = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            // Standard output is for what programs read.
            .stdout(std::io::stderr())
            .status();
        let status = status.map_err(|error| {
            Failure::new(format!("initializeCommand cannot run {program}: {error}"))
        })?;
        if !status.success() {
            return Err(Failure::new(format!("initializeCommand failed: {status}"))
                .hint("it runs on this machine, before the environment is made"));
        }
    }
    Ok(())
}

/// Makes the images of an environment to be, for everybody to see, and answers the name of the one
/// it is of: its own step then finds all of them made, and what cannot be built leaves no
/// environment. For who may not ask the runner, the environment's own step builds.
pub(crate) async fn prepare(global: &Global, wanted: Prepare) -> Result<Option<String>, Failure> {
    if global.server.is_some() {
        return Ok(None);
    }
    let request = Request::Prepare(Box::new(wanted));
    let answer = crate::build::build(global, &request).await?;
    Ok(answer.map(|(reference, _)| reference))
}

/// Who this verb is among those that write an environment's spec.
const MANAGER: &str = "boatyard-up";

/// Applies what is wanted of an environment that is there, and restarts it when that differs from
/// what it was made of, when it failed, or when it is to be built again.
async fn take_up(
    global: &Global,
    environments: &Api<Environment>,
    up: &Up,
    (found, mut spec): (&Environment, EnvironmentSpec),
    builds: bool,
) -> Result<(), Failure> {
    let name = found.name_any();
    let params = PatchParams::apply(MANAGER).force();
    // What nobody asks for now stays as it is.
    spec.class_name = spec.class_name.or_else(|| found.spec.class_name.clone());
    spec.restarted_at.clone_from(&found.spec.restarted_at);
    let object = |spec: &EnvironmentSpec| {
        let spec = serde_json::to_value(spec)?;
        let (version, kind) = ("boatyard.dev/v1", "Environment");
        Ok(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}))
    };
    let wrong = |error: serde_json::Error| Failure::from_error(&error);
    let as_wanted = Patch::Apply(object(&spec).map_err(wrong)?);
    let tried = params.clone().dry_run();
    let will = environments.patch(&name, &tried, &as_wanted).await?;
    let failed = found
        .status
        .as_ref()
        .is_some_and(|status| status.phase == Phase::Failed);
    let anew = failed || up.rebuild || will.spec.devcontainer != found.spec.devcontainer;
    if !anew && will.spec == found.spec {
        return Ok(());
    }
    if anew {
        if builds {
            let wanted = Prepare {
                spec: will.spec.clone(),
                opened_only: false,
                no_cache: false,
                cache_from: Vec::new(),
                cache_to: None,
            };
            let prepared = prepare(global, wanted).await;
            let hint = format!("mend it and say `boatyard up` again; {name} stays as it was");
            prepared.map_err(|failure| failure.hint(hint))?;
        }
        spec.restarted_at = Some(asked_now());
    }
    let as_wanted = Patch::Apply(object(&spec).map_err(wrong)?);
    environments.patch(&name, &params, &as_wanted).await?;
    Ok(())
}

/// Whether the user interrupted since this was made.
struct Interrupt {
    signal: Signal,
    came: bool,
}

impl Interrupt {
    fn watch() -> Result<Self, Failure> {
        Ok(Self {
            signal: signal(SignalKind::interrupt())?,
            came: false,
        })
    }

    /// Waits for it; at once when it came before.
    async fn came(&mut self) {
        if !self.came {
            self.signal.recv().await;
            self.came = true;
        }
    }
}

/// The environment of this source, asked to run; None when there is none and what it needs is there.
async fn find_or_prepare(
    global: &Global,
    environments: &Api<Environment>,
    up: &Up,
    spec: &EnvironmentSpec,
    builds: bool,
) -> Result<Option<String>, Failure> {
    let all = environments.list(&ListParams::default()).await?;
    let same = |object: &&Environment| {
        object.spec.source == spec.source
            && object.metadata.deletion_timestamp.is_none()
            && up
                .name
                .as_ref()
                .is_none_or(|name| *name == object.name_any())
    };
    if let Some(found) = all.iter().find(same) {
        take_up(global, environments, up, (found, spec.clone()), builds).await?;
        return Ok(Some(found.name_any()));
    }
    if builds {
        let wanted = Prepare {
            spec: spec.clone(),
            opened_only: false,
            no_cache: false,
            cache_from: Vec::new(),
            cache_to: None,
        };
        let hint = "mend it and say `boatyard up` again; no environment was made";
        let prepared = prepare(global, wanted).await;
        prepared.map_err(|failure| failure.hint(hint))?;
    }
    Ok(None)
}

/// Makes an environment; answers its name.
async fn make(
    environments: &Api<Environment>,
    up: &Up,
    spec: EnvironmentSpec,
) -> Result<String, Failure> {
    let wanted = up
        .name
        .clone()
        .unwrap_or_else(|| default_name(&spec.source));
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    for number in 1..100 {
        let name = if number == 1 {
            wanted.clone()
        } else {
            format!("{wanted}-{number}")
        };
        // Not applied: that would take over the environment of another source by its name.
        match environments
            .create(&params, &Environment::new(&name, spec.clone()))
            .await
        {
            Ok(_) => return Ok(name),
            Err(kube::Error::Api(status))
                if status.reason == "AlreadyExists" && up.name.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(
        Failure::new(format!("the name {wanted} and ninety-nine more are taken"))
            .hint("give --name"),
    )
}

/// A name in the API's grammar from the folder's or repository's.
pub(crate) fn default_name(source: &Source) -> String {
    let base = match (&source.folder, &source.git) {
        (Some(folder), _) => folder.opened(),
        (None, Some(git)) => {
            let url = git.url.trim_end_matches('/');
            url.trim_end_matches(".git").to_owned()
        }
        (None, None) => "environment".to_owned(),
    };
    let last = base.rsplit(['/', ':']).next().unwrap_or(&base);
    let clean: String = last
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(50)
        .collect();
    let clean = clean.trim_matches('-');
    if clean.is_empty() {
        "environment".to_owned()
    } else {
        clean.to_owned()
    }
}

/// Shows the steps as they are reported until the environment runs or fails.
async fn follow(environments: &Api<Environment>, name: &str) -> Result<Environment, Failure> {
    let mut shown = Shown::new();
    let outcome = api::follow(environments, name, |object| {
        let steps = object
            .status
            .as_ref()
            .map(|status| status.steps.as_slice())
            .unwrap_or_default();
        shown.steps(steps);
        if let Some(superseded) = api::superseded(object, WantedState::Running) {
            return Some(Err(superseded));
        }
        match api::phase(object) {
            Some(Phase::Running) => Some(Ok(object.clone())),
            Some(Phase::Failed) => Some(Err(Failure::new(api::message(object)).hint(format!(
                "what was printed: boatyard logs {name}; mend it and say `boatyard up` again, or delete it: boatyard rm {name}"
            )))),
            Some(Phase::Pending) | None => {
                shown.note(
                    &object
                        .status
                        .as_ref()
                        .and_then(|status| status.message.clone())
                        .unwrap_or_else(|| "waiting for a runner".into()),
                );
                None
            }
            Some(_) => None,
        }
    })
    .await;
    shown.end();
    match outcome? {
        Some(outcome) => outcome,
        None => Err(Failure::new(format!(
            "environment {name} was deleted meanwhile"
        ))),
    }
}

/// Steps on the terminal: a moving line for the one under way, a lasting line for each done.
struct Shown {
    bar: Option<ProgressBar>,
    done: Vec<(String, Option<u64>)>,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            done: Vec::new(),
        }
    }

    fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            let key = (step.name.clone(), step.duration_millis);
            if step.state == StepState::Running {
                self.note(&step.name);
                continue;
            }
            if self.done.contains(&key) {
                continue;
            }
            self.done.push(key);
            let mark = if step.state == StepState::Failed {
                "failed"
            } else {
                "ok"
            };
            let time = step
                .duration_millis
                .map(crate::output::millis)
                .unwrap_or_default();
            let message = step.message.as_deref().unwrap_or_default();
            let line = format!("{mark:<6} {:<22} {time:>8}  {message}", step.name);
            match &self.bar {
                Some(bar) => bar.suspend(|| eprintln!("{}", line.trim_end())),
                None => eprintln!("{}", line.trim_end()),
            }
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    //! What arguments mean.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use boatyard_api::environment::FolderSource;

    #[test]
    fn urls_and_branches_are_told_from_folders() {
        let git = source("https://example.org/a/tool.git#next")
            .unwrap()
            .git
            .unwrap();
        assert_eq!(
            (git.url.as_str(), git.reference.as_deref()),
            ("https://example.org/a/tool.git", Some("next"))
        );
        assert_eq!(
            source("git@example.org:a/tool").unwrap().git.unwrap().url,
            "git@example.org:a/tool"
        );
        assert!(source("/").unwrap().folder.is_some());
        assert!(source("/no/such/folder").is_err());
    }

    #[test]
    fn names_are_derived_in_the_grammar() {
        let folder = |path: &str| Source {
            folder: Some(FolderSource {
                path: path.into(),
                subfolder: None,
            }),
            git: None,
        };
        assert_eq!(
            default_name(&folder("/home/x/My Project_2")),
            "my-project-2"
        );
        assert_eq!(default_name(&folder("/")), "environment");
        let git = Source {
            git: Some(GitSource {
                url: "git@example.org:a/Tool.git".into(),
                reference: None,
            }),
            folder: None,
        };
        assert_eq!(default_name(&git), "tool");
    }

    #[test]
    fn only_variables_asked_for_are_sent() {
        let text = r#"{"image": "${localEnv:PATH}", "name": "${localEnv:NO_SUCH_VARIABLE:x}"}"#;
        let found = local_variables(&Document::parse("devcontainer.json", text).unwrap());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["PATH"]);
    }
}
