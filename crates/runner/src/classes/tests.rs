//! Questions that many ask at once.

use super::*;
use std::cell::{Cell, RefCell};
use tokio::sync::Notify;

fn class(description: &str) -> EnvironmentClassSpec {
    EnvironmentClassSpec {
        description: Some(description.to_owned()),
        ..EnvironmentClassSpec::default()
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_ask_at_once_ask_twice() {
    let (questions, asked) = (Questions::default(), Cell::new(0));
    let answers = futures::future::join_all((0..50).map(|_| {
        questions.ask("small", async {
            asked.set(asked.get() + 1);
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(class("small"))
        })
    }));
    // Another class waits for none of them.
    let other = questions.ask("large", async { Ok(class("large")) });
    let (answers, other) = tokio::join!(answers, other);
    assert!(answers.iter().all(|answer| *answer == Ok(class("small"))));
    assert_eq!(other, Ok(class("large")));
    // The one that was first, and one for all who came while it was answered.
    assert_eq!(asked.get(), 2);
    assert!(questions.open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_what_was_asked_for_before() {
    let questions = Questions::default();
    let (now, answer) = (RefCell::new("old"), Notify::new());
    let early = questions.ask("small", async {
        let read = class(*now.borrow());
        answer.notified().await;
        Ok(read)
    });
    let late = async {
        // The other has asked already when the class changes.
        tokio::task::yield_now().await;
        *now.borrow_mut() = "new";
        let late = questions.ask("small", async { Ok(class(*now.borrow())) });
        let (late, ()) = tokio::join!(late, async { answer.notify_one() });
        late
    };
    let (early, late) = tokio::join!(early, late);
    assert_eq!(early, Ok(class("old")));
    assert_eq!(late, Ok(class("new")));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_shared_and_one_that_gives_up_leaves_the_question_to_others() {
    let questions = Questions::default();
    let refused = || Failed::transient("ServerSilent", "no answer");
    let began = tokio::time::Instant::now();
    let silent = async || {
        tokio::time::sleep(Duration::from_secs(15)).await;
        Err(refused())
    };
    let gives_up = tokio::time::timeout(
        Duration::from_secs(1),
        questions.ask("small", async { silent().await }),
    );
    let others = futures::future::join_all(
        (0..50).map(|_| questions.ask("small", async { silent().await })),
    );
    let (gave_up, others) = tokio::join!(gives_up, others);
    assert!(gave_up.is_err());
    assert!(others.iter().all(|answer| *answer == Err(refused())));
    // One deadline and not fifty.
    assert!(
        began.elapsed() <= Duration::from_secs(31),
        "{:?}",
        began.elapsed()
    );
    assert!(questions.open().is_empty());
}
