//! Tokens that are refused, taken and replaced.

use super::*;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_token_is_good_until_the_server_refuses_it_and_again_once_it_is_taken_or_replaced() {
    let token = Token::from("first");
    token.good().await;
    let first = token.now();
    let waits = async |waiting: &mut (dyn Future<Output = ()> + Unpin)| {
        let waited = tokio::time::timeout(Duration::from_secs(1), waiting).await;
        waited.is_err()
    };
    assert!(waits(&mut Box::pin(token.refused())).await);
    // Who waits already is told, and all clones know.
    let clone = token.clone();
    tokio::join!(clone.refused(), async {
        token.answered(&first, true);
    });
    assert!(token.clone().is_refused());
    assert!(waits(&mut Box::pin(token.good())).await);
    token.answered(&first, false);
    token.good().await;

    token.answered(&first, true);
    token.replace("second");
    token.good().await;
    assert_eq!(&*token.now(), "second");
    // An answer that was on its way when it was replaced.
    token.answered(&first, true);
    token.good().await;
    token.answered(&token.now(), true);
    token.refused().await;
    assert!(!format!("{token:?}").contains("second"));
}
