//! A builder of its own, without a daemon: an image store with a base image, and sandboxes that no
//! other test uses.
//!
//! Dropped, it takes back what it changed on the host.

use crate::archive;
use boatyard_image::build::{Alone, BuildProgress, Builder, Event, Outcome, Policy};
use boatyard_image::{Images, Quiet, Reference};
use boatyard_sandbox::{Options, Sandboxes};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What a build told.
#[derive(Default)]
pub struct Noted {
    /// How each step ended.
    pub outcomes: Mutex<Vec<Outcome>>,
    /// What processes printed.
    pub output: Mutex<Vec<u8>>,
}

impl BuildProgress for Noted {
    fn event(&self, event: Event) {
        match event {
            Event::Ended { outcome, .. } => self.outcomes.lock().unwrap().push(outcome),
            Event::Output { bytes, .. } => self.output.lock().unwrap().extend(bytes),
            Event::Began { .. } | Event::Note { .. } => {}
        }
    }
}

impl Noted {
    /// The output as text.
    ///
    /// # Panics
    /// When it is none.
    pub fn text(&self) -> String {
        String::from_utf8(self.output.lock().unwrap().clone()).unwrap()
    }
}

/// The builder and what it builds with.
pub struct Yard {
    /// For the test's own files.
    pub folder: tempfile::TempDir,
    /// With the image `base:1`.
    pub images: Images,
    /// Where steps run.
    pub sandboxes: Sandboxes,
    /// Builds.
    pub builder: Builder,
}

impl Yard {
    /// Makes one whose base image has members of a configuration.
    ///
    /// # Panics
    /// When not root.
    pub async fn new(config: &serde_json::Value) -> Yard {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = std::process::id() % 0xffff * 0x100 + number;
        let folder = tempfile::Builder::new()
            .prefix("boatyard-build-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let sandboxes = Sandboxes::open(Options {
            executable: crate::daemon::binary(),
            cgroup_root: format!("boatyard-build-{unique:x}"),
            table: format!("boatyard_build_{unique:x}"),
            state_dir: folder.path().join("host"),
            network: false,
            ..Options::default()
        })
        .unwrap();
        let options = boatyard_image::Options::default();
        let images = Images::open(&folder.path().join("images"), options).unwrap();
        let path = folder.path().join("base.tar");
        archive::write(&path, "base:1", config);
        let name = Reference::parse("base:1").unwrap();
        images
            .import(&path, Some(&name), Arc::new(Quiet))
            .await
            .unwrap();
        let agent = boatyard_runner::agent::install(folder.path()).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let base = 0x3000_0000 + (unique % 128) * 64 * boatyard_sandbox::spec::ID_RANGE;
        let builder = Builder::open(
            images.clone(),
            Arc::new(Alone::new(sandboxes.clone(), base)),
            agent,
            Policy::default(),
        )
        .unwrap();
        Yard {
            folder,
            images,
            sandboxes,
            builder,
        }
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let _ = self.sandboxes.teardown_host();
    }
}
