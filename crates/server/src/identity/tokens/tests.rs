//! Tokens of two servers on one store, and tokens that nobody has.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use boatyard_store::sqlite::{Options, SqliteStore};

async fn within<F: Future>(future: F) -> F::Output {
    let waited = tokio::time::timeout(Duration::from_secs(20), future).await;
    waited.expect("it took too long")
}

fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(folder.path().join("store.db"));
    (folder, Arc::new(SqliteStore::open(options).unwrap()))
}

#[tokio::test]
async fn what_was_begun_with_a_token_ends_when_it_is_replaced_or_removed_elsewhere() {
    let (_folder, store) = store();
    let (here, there) = (
        Tokens::open(store.clone()).await.unwrap(),
        Tokens::open(store.clone()).await.unwrap(),
    );
    let shutdown = CancellationToken::new();
    let following = here.follow(shutdown.clone());
    let test = async {
        let first = there.mint(Bearer::Runner("r1")).await.unwrap();
        let other = there.mint(Bearer::Runner("r2")).await.unwrap();
        // Minted elsewhere a moment ago.
        let caller = here.caller(&first).await.unwrap().unwrap();
        let bystander = here.caller(&other).await.unwrap().unwrap();
        assert_eq!(caller.runner_name(), Some("r1"));
        let second = there.mint(Bearer::Runner("r1")).await.unwrap();
        within(caller.forgotten()).await;
        assert_eq!(here.caller(&first).await.unwrap(), None);
        let caller = here.caller(&second).await.unwrap().unwrap();
        crate::identity::remove(&*store, &of_runner("r1"))
            .await
            .unwrap();
        within(caller.forgotten()).await;
        assert_eq!(here.caller(&second).await.unwrap(), None);
        // Again is as good, and nothing is to be removed of who never had one.
        crate::identity::remove(&*store, &of_runner("r1"))
            .await
            .unwrap();
        let still = std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::pin!(bystander.forgotten()).poll(context))
        });
        assert!(still.await.is_pending(), "another runner's is good");
        assert!(here.caller(&other).await.unwrap().is_some());
        shutdown.cancel();
    };
    tokio::join!(following, test);
}

#[tokio::test]
async fn tokens_that_nobody_has_share_few_looks_into_the_store() {
    let (_folder, store) = store();
    let tokens = Tokens::open(store).await.unwrap();
    let began = Instant::now();
    // All at once: the first looks, and one more look is of all others.
    let looks = (0..500).map(|number| {
        let tokens = tokens.clone();
        async move { tokens.caller(&format!("byt_{number}")).await.unwrap() }
    });
    let found = futures::future::join_all(looks).await;
    assert!(found.iter().all(Option::is_none));
    assert!(began.elapsed() < PACE * 50, "{:?}", began.elapsed());
    // One after another: paced.
    let began = Instant::now();
    for number in 0..4 {
        assert_eq!(tokens.caller(&format!("byt_{number}")).await.unwrap(), None);
    }
    assert!(began.elapsed() >= PACE * 3, "{:?}", began.elapsed());
}
