//! `stop` and `down`: what the reference's users ask for and it does not have.
//!
//! `stop` ends the processes and keeps everything written; `down` deletes the environment. Both
//! are done when there is nothing to do, and answer in the reference's form.

use super::args::Stop;
use super::configuration;
use super::environment::{Engine, Identity, id};
use super::log::Log;
use super::result::{self, Problem};
use crate::args::Global;
use crate::failure::Failure;
use serde_json::{Map, Value};
use std::process::ExitCode;

/// Runs either verb.
pub(crate) async fn run(global: &Global, stop: &Stop, delete: bool) -> Result<ExitCode, Failure> {
    let log = Log::begin(&stop.logging);
    let outcome = async {
        let located = match configuration::of_found(&stop.found) {
            Ok(located) => located,
            Err(_) if stop.found.container_id.is_some() => None,
            Err(failure) => return Err(Problem::from(failure)),
        };
        let identity = Identity::found(&stop.found, located.as_ref());
        let engine = Engine::reach(global).await?;
        let mut answer = Map::new();
        if let Some(object) = engine.find(&identity).await? {
            answer.insert("containerId".into(), Value::from(id(&object)));
            if delete {
                engine.delete(&object).await?;
            } else {
                engine.stop(&object).await?;
            }
        }
        Ok(answer)
    };
    result::print(&log, outcome.await)
}
