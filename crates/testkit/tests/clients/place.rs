//! A server of a test's own, with a folder for the test's files beside its state.

use boatyard_api::Environment;
use boatyard_link::client::{Address, Endpoint};
use boatyard_testkit::{Ran, Server};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// See the module.
pub(crate) struct Place {
    pub(crate) server: Server,
    directory: tempfile::TempDir,
}

impl Place {
    /// Starts the server.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("boatyard-clients-")
            .tempdir()
            .unwrap();
        Self {
            server: Server::start(directory.path(), &[]),
            directory,
        }
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file of the test's own, and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.server.state().join("admin.kubeconfig")
    }

    /// A client of our own with the administrator's token. To be asked for within a runtime.
    pub(crate) fn kube(&self) -> kube::Client {
        client_of(&self.server)
    }

    /// The server is away and comes back having deleted the environment `a` and changed `c` so often
    /// that it remembers neither.
    pub(crate) fn forgets_history(&mut self) {
        self.server.kill();
        let kubeconfig = std::fs::read(self.kubeconfig()).unwrap();
        // Where no client of the test's looks.
        let elsewhere = Server::start(self.folder(), &[]);
        std::thread::scope(|scope| scope.spawn(|| overwhelm(&elsewhere)).join().unwrap());
        drop(elsewhere);
        std::fs::write(self.kubeconfig(), kubeconfig).unwrap();
        self.server.again();
    }

    /// Runs a `boatyard` command.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Ran {
        let mut command = self.server.boatyard(arguments);
        command.stdin(Stdio::null()).output().unwrap().into()
    }
}

fn client_of(server: &Server) -> kube::Client {
    let (token, authority) = server.credentials();
    let endpoint = Endpoint {
        address: Address::Tls {
            authority: server.address().to_string(),
            config: boatyard_link::tls::client_config(&authority).unwrap(),
        },
        token: Some(token.into()),
    };
    endpoint.kube()
}

/// Deletes the environment `a`, and writes more versions of `c` than the history has room for.
fn overwhelm(server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let api: Api<Environment> = Api::namespaced(client_of(server), "default");
        api.delete("a", &DeleteParams::default()).await.unwrap();
        // More than is kept of the last seconds, however fast they come.
        for number in 0..240 {
            let filler = format!("{number:03}").repeat(80_000);
            let body = serde_json::json!({"metadata": {"annotations": {"filler": filler}}});
            let patch = Patch::Merge(body);
            api.patch("c", &PatchParams::default(), &patch)
                .await
                .unwrap();
        }
    });
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.server.log()).unwrap_or_default();
            println!("--- the server's log ---\n{log}");
        }
    }
}
