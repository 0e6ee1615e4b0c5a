//! Those who work on what was asked come after those who ask.
//!
//! Owns how much of the server runners' reports and control loops get while many requests of people
//! and programs are under way: a few at once, and none of them waits longer than a moment. A burst
//! of creates is accepted first and carried out then; who asks little notices nothing. Heartbeats
//! are neither: nobody holds them back.
//!
//! Read next: [`super`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Requests under way from which on others step back.
const MANY: usize = 16;
/// How many of these others go on.
const FEW: usize = 8;
/// Longest that one of them waits for that.
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Counts {
    asking: AtomicUsize,
    working: AtomicUsize,
    less: Notify,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Courtesy(Arc<Counts>);

/// Something under way; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    counts: Arc<Counts>,
    asks: bool,
}

impl Courtesy {
    /// Somebody asks for something.
    pub(crate) fn ask(&self) -> Turn {
        self.0.asking.fetch_add(1, Ordering::Relaxed);
        self.turn(true)
    }

    /// Waits, but not long, until what is done on behalf of others may go on.
    pub(crate) async fn work(&self) -> Turn {
        if !self.may_work() {
            let waited = tokio::time::timeout(LONGEST, async {
                loop {
                    let less = self.0.less.notified();
                    tokio::pin!(less);
                    less.as_mut().enable();
                    if self.may_work() {
                        return;
                    }
                    less.await;
                }
            });
            drop(waited.await);
        }
        self.0.working.fetch_add(1, Ordering::Relaxed);
        self.turn(false)
    }

    /// Two may see the same free place: that one more works is no harm.
    fn may_work(&self) -> bool {
        self.0.asking.load(Ordering::Relaxed) < MANY || self.0.working.load(Ordering::Relaxed) < FEW
    }

    fn turn(&self, asks: bool) -> Turn {
        Turn {
            counts: self.0.clone(),
            asks,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.asks {
            self.counts.working.fetch_sub(1, Ordering::Relaxed);
            self.counts.less.notify_one();
        } else if self.counts.asking.fetch_sub(1, Ordering::Relaxed) == MANY {
            self.counts.less.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    //! Who goes on beside many, and for how long the others wait.
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn beside_many_who_ask_few_work_and_the_others_wait_a_moment() {
        let courtesy = Courtesy::default();
        let work = || courtesy.work().now_or_never();
        let mut asking: Vec<Turn> = (1..MANY).map(|_| courtesy.ask()).collect();
        let mut working: Vec<Turn> = (0..FEW).map(|_| work().unwrap()).collect();
        working.push(work().expect("few ask"));
        asking.push(courtesy.ask());
        assert!(work().is_none());
        // One place is one's.
        working.truncate(FEW);
        assert!(work().is_none());
        let mut next = Box::pin(courtesy.work());
        assert!((&mut next).now_or_never().is_none());
        working.pop();
        drop(next.now_or_never().expect("a place became free"));
        working.push(work().unwrap());
        // All go on when fewer ask.
        let mut waiting = [0; 3].map(|_| Box::pin(courtesy.work()));
        for waiting in &mut waiting {
            assert!(waiting.now_or_never().is_none());
        }
        asking.pop();
        for waiting in waiting {
            working.push(waiting.now_or_never().expect("fewer ask"));
        }
        // And nobody waits for ever.
        asking.push(courtesy.ask());
        let began = tokio::time::Instant::now();
        working.push(courtesy.work().await);
        assert_eq!(began.elapsed(), LONGEST);
    }
}
