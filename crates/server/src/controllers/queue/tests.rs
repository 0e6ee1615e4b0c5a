//! The line under a clock that stands still unless it is waited for.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use futures::FutureExt;

const FIRST: Duration = Duration::from_millis(100);

fn queue() -> Queue<&'static str> {
    Queue::new(Backoff {
        first: FIRST,
        most: Duration::from_secs(2),
    })
}

fn now(queue: &Queue<&'static str>) -> Option<&'static str> {
    queue.next().now_or_never().map(|taken| taken.key)
}

#[test]
fn rests_double_up_to_the_most_and_stay_there() {
    let backoff = Backoff {
        first: FIRST,
        most: Duration::from_secs(2),
    };
    let millis: Vec<u128> = (1..8).map(|n| backoff.after(n).as_millis()).collect();
    assert_eq!(millis, [100, 200, 400, 800, 1600, 2000, 2000]);
    for failures in [32, 33, 64, u32::MAX] {
        assert_eq!(backoff.after(failures), backoff.most);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_looked_at_once_however_often_it_is_added() {
    let queue = queue();
    for key in ["a", "b", "a", "a", "b"] {
        queue.add(&key);
    }
    assert_eq!(queue.depth(), 2);
    assert_eq!(now(&queue), Some("a"));
    assert_eq!(now(&queue), Some("b"));
    assert_eq!(now(&queue), None);
}

#[tokio::test(start_paused = true)]
async fn a_key_added_while_it_is_looked_at_comes_again_afterwards_and_only_then() {
    let queue = queue();
    queue.add(&"a");
    assert_eq!(now(&queue), Some("a"));
    queue.add(&"a");
    queue.add(&"a");
    assert_eq!(now(&queue), None, "two activations of a key never overlap");
    queue.done(&"a", Outcome::Done);
    assert_eq!(now(&queue), Some("a"));
    queue.done(&"a", Outcome::Done);
    assert_eq!(now(&queue), None);
    assert!(queue.line().states.is_empty(), "nothing is kept of it");
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_rests_longer_each_time_and_success_forgets() {
    let queue = queue();
    queue.add(&"a");
    let begun = Instant::now();
    for (failures, millis) in [(0, 0), (1, 100), (2, 300), (3, 700), (4, 1500)] {
        let taken = queue.next().await;
        assert_eq!(taken.failures, failures);
        assert_eq!(begun.elapsed().as_millis(), millis);
        queue.done(&"a", Outcome::Failed);
    }
    assert_eq!(queue.next().await.failures, 5);
    queue.done(&"a", Outcome::Done);
    assert!(queue.line().states.is_empty());
    queue.add(&"a");
    assert_eq!(queue.next().await.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_ends_the_rest_but_does_not_forget_the_failures() {
    let queue = queue();
    queue.add(&"a");
    queue.next().await;
    queue.done(&"a", Outcome::Failed);
    queue.add(&"a");
    let taken = queue.next().now_or_never().unwrap();
    assert_eq!(taken.failures, 1);
    queue.done(&"a", Outcome::Done);
    // The rest that was cut short does not bring it again.
    tokio::time::advance(FIRST * 4).await;
    assert_eq!(now(&queue), None);
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_failed_activation_waits_out_the_rest() {
    let queue = queue();
    queue.add(&"a");
    queue.next().await;
    queue.add(&"a");
    let begun = Instant::now();
    queue.done(&"a", Outcome::Failed);
    queue.next().await;
    assert_eq!(begun.elapsed(), FIRST);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_does_not_keep_the_others_waiting() {
    let queue = queue();
    for key in ["bad", "b", "c"] {
        queue.add(&key);
    }
    queue.next().await;
    queue.done(&"bad", Outcome::Failed);
    for wanted in ["b", "c"] {
        assert_eq!(now(&queue), Some(wanted));
        queue.done(&wanted, Outcome::Done);
    }
    assert_eq!(queue.next().await.key, "bad");
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_again_after_the_time_it_asked_for() {
    let queue = queue();
    queue.add(&"a");
    queue.next().await;
    let begun = Instant::now();
    queue.done(&"a", Outcome::After(Duration::from_secs(7)));
    assert_eq!(queue.next().await.failures, 0);
    assert_eq!(begun.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_by_an_addition_and_a_dropped_wait_takes_nothing() {
    let queue = queue();
    let waiting = async { tokio::time::timeout(FIRST, queue.next()).await.is_err() };
    assert!(waiting.await);
    let adding = async {
        tokio::task::yield_now().await;
        queue.add(&"a");
    };
    let (taken, ()) = tokio::join!(queue.next(), adding);
    assert_eq!(taken.key, "a");
}

#[tokio::test(start_paused = true)]
async fn the_time_in_the_line_is_told() {
    let queue = queue();
    queue.add(&"a");
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(queue.next().await.waited, Duration::from_secs(3));
}
