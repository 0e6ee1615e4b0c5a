//! The EnvironmentClasses as they are now, for what applies to environments that run.
//!
//! One watch for the whole runner. A start asks for its class itself (`objects`): what is known here
//! may be a moment old.

use boatyard_api::{EnvironmentClass, EnvironmentClassSpec};
use futures::TryStreamExt;
use kube::api::Api;
use kube::runtime::watcher;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// By name; None until they were read once.
pub(crate) type Known = Option<Arc<BTreeMap<String, EnvironmentClassSpec>>>;

/// Follows them until dropped.
pub(crate) async fn follow(client: kube::Client, known: watch::Sender<Known>) {
    let classes: Api<EnvironmentClass> = Api::all(client);
    let stream = watcher::watcher(classes, watcher::Config::default());
    tokio::pin!(stream);
    let mut listed = BTreeMap::new();
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(class))) => {
                listed.extend(class.metadata.name.map(|name| (name, class.spec)));
            }
            Ok(Some(watcher::Event::InitDone)) => {
                known.send_replace(Some(Arc::new(std::mem::take(&mut listed))));
            }
            Ok(Some(watcher::Event::Apply(class))) => {
                let Some(name) = class.metadata.name else {
                    continue;
                };
                change(&known, |classes| {
                    classes.insert(name, class.spec);
                });
            }
            Ok(Some(watcher::Event::Delete(class))) => {
                let name = class.metadata.name.unwrap_or_default();
                change(&known, |classes| {
                    classes.remove(&name);
                });
            }
            Ok(None) => return,
            Err(error) => {
                tracing::info!(
                    error = crate::failure::chain(&error),
                    "the watch of classes ended; watching again"
                );
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        }
    }
}

fn change(
    known: &watch::Sender<Known>,
    change: impl FnOnce(&mut BTreeMap<String, EnvironmentClassSpec>),
) {
    known.send_modify(|known| {
        change(Arc::make_mut(known.get_or_insert_default()));
    });
}
